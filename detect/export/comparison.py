"""Compares an exported model with its run: the best detections in pairs, and AP on the same images."""

from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from detect.data.dataset import DetectionDataset
from detect.data.subset import evenly_spread
from detect.detector import Detector
from detect.environment import usable_cores
from detect.evaluation import agreement
from detect.evaluation.evaluators import DetectionEvaluator
from detect.export.images import Images
from detect.files import expanded
from detect.geometry.frame import Frame
from detect.modeling import interface
from detect.runs.dataset import scorable
from detect.runs.folder import DETECTOR, RunFolder
from detect.tflite.accuracy import compared
from detect.training import finished
from detect.weights import checkpoint

SCORING_BATCH = 8


class Parity(agreement.Agreement):
    """The agreement of a SavedModel with its run. limit: the limit of each figure that has one."""

    limit: dict[str, float]


def score(
    cfg: DictConfig, dataset: DetectionDataset | None, shipped: Detector, architecture: interface.Detector
) -> dict[str, Any] | None:
    """COCO's twelve metrics of run and file, on the same images of test, or else of val; None if neither has a box.

    Both see the same images: of whole levels if the file takes uint8 (`sees_levels`).
    architecture: the network of the file. If it is fake-quantised, the result also has `float`: the run's float stage,
    or the same weights without rounding if the run has no float stage. `float_stage` tells which.
    """

    split = next((name for name in ("test", "val") if dataset and scorable(dataset, name)), None)
    if dataset is None or split is None or not cfg.scored:
        return None
    examples = tuple(evenly_spread(dataset.splits[split], cfg.scored))
    same = replace(dataset, splits={name: examples if name == split else () for name in dataset.splits})
    networks, origin = {"run": architecture}, {}
    if cfg.quantization == "qat":
        run = RunFolder(expanded(cfg.run))
        own = checkpoint.exists(run.stage(DETECTOR).best)
        origin = {"float_stage": "detector" if own else "quantized"}
        networks["float"] = finished.load_architecture(run, DETECTOR) if own else finished.float_twin(run)
        if cfg.class_agnostic is not None:
            networks["float"].postprocess.class_agnostic = cfg.class_agnostic
    figures = {}
    for name, network in networks.items():
        frame, exact = Frame(network.size, network.resize), sees_levels(cfg)
        evaluator = DetectionEvaluator(network.detect, frame, same, split, SCORING_BATCH, usable_cores(), exact=exact)
        figures[name] = evaluator()[0].summary
    figures["file"] = shipped.evaluate(same, split)[0].summary
    return compared(split, len(examples), figures) | origin


def sees_levels(cfg: DictConfig) -> bool:
    """Whether the exported model sees the levels between two whole ones, which the resize `zoo` gives: a SavedModel
    resizes itself, and a TFLite file may take float32. All others take uint8."""
    return cfg.format == "saved_model" or cfg.input == "float32"


def parity(cfg: DictConfig, detector: Detector, exported: Detector, frames: Images) -> Parity:
    """The agreement of the best detections on images that have the size of the frame, and its limit.

    The scores of a fake-quantised graph have no limit, and half of its boxes may have moved.
    """
    ours, theirs = ([(one.boxes, one.scores, one.classes) for one in side(frames)] for side in (detector, exported))
    limit = agreement.ROUNDED if cfg.quantization == "qat" else agreement.LIMIT
    return {**agreement.agreement(ours, theirs, max(detector.size)), "limit": limit}


def disagreement(found: Parity) -> str | None:
    """The problem, if a SavedModel's detections differ from those of the run by more than the limit."""
    return agreement.disagreement(found, found["limit"])
