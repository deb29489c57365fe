"""How near an exported model is to its run: the best detections in pairs, and AP on the same images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from detect.data.dataset import DetectionDataset
from detect.data.subset import evenly_spread
from detect.detector import Detector
from detect.evaluation import agreement, sqnr
from detect.evaluation.evaluators import DetectionEvaluator
from detect.export.images import Images
from detect.geometry.frame import Frame
from detect.runs.folder import DETECTOR, RunFolder
from detect.tflite.accuracy import compared
from detect.training import finished
from detect.weights import checkpoint

SCORING_BATCH = 8


class Parity(agreement.Agreement):
    """How far a SavedModel agrees with its run, and the limit of each figure; None where there is none."""

    limit: dict[str, float] | None


def score(
    cfg: DictConfig, dataset: DetectionDataset | None, shipped: Detector, architecture: Any
) -> dict[str, Any] | None:
    """The twelve figures of run and file on the same images of test, else val; None without any.

    architecture: what the file was made of. Beside a fake-quantised one, `float` is the run's float stage, or the same
    weights without rounding where it has none; `float_stage` tells.
    """

    split = next((name for name in ("test", "val") if dataset and dataset.splits[name]), None)
    if dataset is None or split is None or not cfg.scored:
        return None
    examples = tuple(evenly_spread(dataset.splits[split], cfg.scored))
    same = replace(dataset, splits={name: examples if name == split else () for name in dataset.splits})
    networks, origin = {"run": architecture}, {}
    if cfg.quantization == "qat":
        run = RunFolder(Path(cfg.run))
        own = checkpoint.exists(run.stage(DETECTOR).best)
        origin = {"float_stage": "detector" if own else "quantized"}
        networks["float"] = finished.load_architecture(run, DETECTOR) if own else finished.float_twin(run)
    figures = {}
    for name, network in networks.items():
        evaluator = DetectionEvaluator(network.detect, Frame(network.size, network.resize), same, split, SCORING_BATCH)
        figures[name] = evaluator()[0].summary
    figures["file"] = shipped.evaluate(examples)[0].summary
    return compared(split, len(examples), figures) | origin


def parity(cfg: DictConfig, detector: Detector, exported: Detector, frames: Images) -> Parity:
    """How far the best detections agree, on images that are frames already, and the limit of that.

    A fake-quantised graph has none: where a value lies between two steps, the noise of float32 decides.
    """
    ours, theirs = ([(one.boxes, one.scores, one.classes) for one in side(frames)] for side in (detector, exported))
    limit = None if cfg.quantization == "qat" else {"partners": agreement.PARTNERS, **sqnr.SAME.to_dict()}
    return {**agreement.agreement(ours, theirs, max(detector.size)), "limit": limit}


def disagreement(found: Parity) -> str | None:
    """What is wrong where a SavedModel's detections are further from the run's than they may be."""
    return None if found["limit"] is None else agreement.disagreement(found)
