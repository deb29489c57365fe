"""Exports a trained detector: `detect export run=RUN`. A SavedModel or a TFLite file, measured as it is written."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.errors import InstantiationException

from detect.cli.main import verb
from detect.data.subset import evenly_spread
from detect.errors import ConfigError, DataError
from detect.evaluation import agreement, sqnr
from detect.files import write_json
from detect.runs.dataset import dataset_of
from detect.runs.folder import DETECTOR, EXPORT, RunFolder

if TYPE_CHECKING:
    from detect.data.dataset import DetectionDataset
    from detect.detector import Detector
    from detect.geometry.frame import Frame

log = logging.getLogger("detect")
MODEL, LABELS, ANCHORS = "model.tflite", "labels.txt", "anchors.csv"
PHOTOGRAPHS = "photographs of scikit-image"
SCORING_BATCH = 8
Images = list[np.ndarray]


@verb("export")
def main(cfg) -> None:
    """Writes the model and what was measured of it."""
    write(cfg)


def write(cfg) -> Path:
    """Writes the model, compares it with the run on real images, and leaves the figures in export.json.

    Returns the folder. Raises ConfigError for options that do not go together and a file that differs from the run.
    """
    if not cfg.run:
        raise ConfigError("export: name a run folder: run=RUN")
    check(cfg)
    check_stage(cfg)
    folder = Path(cfg.output or Path(cfg.run) / default_name(cfg))
    if folder.exists() and not cfg.overwrite:
        raise ConfigError(f"output={folder} exists; name another folder or give overwrite=true")
    from detect.detector import Detector  # imports TensorFlow

    logging.getLogger("tensorflow").setLevel("ERROR")
    detector = Detector.load(cfg.run, "quantized" if cfg.quantization == "qat" else "detector")
    if detector.architecture is None:
        raise ConfigError(f"run={cfg.run}: an exported model can't be exported again; name the run folder")
    (saved_model if cfg.format == "saved_model" else tflite)(cfg, detector, folder)
    return folder


def check(cfg) -> None:
    """Raises ConfigError for settings that do not go together, before TensorFlow is imported."""
    if str(cfg.output or "").endswith(".tflite"):
        raise ConfigError(f"output={cfg.output}: name a folder; the file in it is called {MODEL}")
    if cfg.format == "saved_model":
        legal = {"quantization": ("none", "qat"), "nms": (None, "in_graph"), "input": (None,), "heads": (None,)}
        given = [f"{key}={cfg[key]}" for key, values in legal.items() if cfg[key] not in values]
        if given:
            raise ConfigError(f"{', '.join(given)} is for format=tflite; a SavedModel is float, with its NMS inside")
    elif cfg.batch not in (1, None) or (cfg.batch is None and cfg.nms not in (None, "none")):
        told = "null" if cfg.batch is None else cfg.batch
        raise ConfigError(f"batch={told}: legal are 1, and with nms=none null (any number); a SavedModel takes any")


def check_stage(cfg) -> None:
    """Raises ConfigError where a run lacks the stage that is to be exported, naming what has it."""
    if not RunFolder(Path(cfg.run)).is_run:
        return  # loading it tells
    saved = RunFolder(Path(cfg.run)).saved_config()
    quantize = saved.get("quantize") or {}
    if cfg.quantization == "qat":
        if not quantize.get("enabled"):
            raise ConfigError(
                f"quantize=qat: {cfg.run} never trained with fake quantisation. Go on from it, with its data set, "
                f"backbone and detector: detect train quantize=int8 init={cfg.run} init.scope=detector"
            )
    elif quantize.get("enabled") and not quantize.get("float_stage", True):
        mend = "train one without quantize.float_stage=false"
        if saved.init.get("scope") == "detector" and saved.init.get("path"):
            mend = f"name the run that it started from: run={saved.init.path}"
        told = f"quantize={cfg.quantization}: {cfg.run} has no float detector, for stage 2 was left out"
        raise ConfigError(f"{told}; {mend}")


def default_name(cfg) -> str:
    """The folder within the run's: `saved_model` or `tflite`, and what makes the file another one."""
    if cfg.format == "saved_model":
        return "saved_model_qat" if cfg.quantization == "qat" else "saved_model"
    batch = "" if cfg.batch else "any_batch"
    parts = [cfg.quantization, "per_tensor" if cfg.weights == "per_tensor" else "", cfg.nms or "none", batch]
    return "_".join(["tflite", *(part for part in parts if part not in ("", "none"))])


def saved_model(cfg, detector: "Detector", folder: Path) -> None:
    """A SavedModel with resize, input scaling and suppression inside. Of `qat` it is the evaluation graph, in float."""
    from detect.detector import Detector
    from detect.export import saved_model as serving
    from detect.export.tflite import accuracy, operators
    from detect.export.tflite import parity as checks
    from detect.geometry.frame import Frame
    from detect.runs import provenance

    architecture, dataset = detector.architecture, data_of(cfg, detector.classes)
    source, frames, _ = images_of(cfg, dataset, Frame(architecture.size, architecture.resize))
    with tempfile.TemporaryDirectory() as place:
        new = Path(place) / "saved_model"
        serving.save(architecture, detector.classes, detector.name, new)
        shipped = Detector.load(new)
        report: dict[str, Any] = {
            "format": "saved_model",
            "options": {"quantize": cfg.quantization, "batch": None},
            "bytes": sum(file.stat().st_size for file in new.rglob("*") if file.is_file()),
            "operators": operators.of_saved_model(new),
            "parity": {"source": source, "frames": len(frames)} | parity(cfg, detector, shipped, frames),
            "scores": score(cfg, dataset, shipped, architecture),
            "latency_ms": checks.timed(lambda: shipped(photographs()[0]), cfg.timings),
            "settings": {"classes": detector.classes, "size": architecture.size, "resize": architecture.resize}
            | {"suppression": vars(architecture.postprocess)},
        }
        judge(cfg, disagreement(report["parity"]))
        shutil.copytree(new, folder, dirs_exist_ok=True)
    write_beside(folder, detector.classes, report | provenance.collect())
    log.info("scores differ by %.1e of the largest from the run's", report["parity"]["relative"])
    if report["scores"]:
        log.info(accuracy.line(report["scores"]))
    if problem := accuracy.complaint(report["scores"], cfg.quantization):
        log.warning("%s: the resize inside rounds some pixels otherwise", problem)
    log.info("size %.1f MB, latency of one photograph %.1f ms", report["bytes"] / 1e6, report["latency_ms"])


def tflite(cfg, detector: "Detector", folder: Path) -> None:
    """A TFLite file, its labels, and export.json."""
    from detect.detector import Detector
    from detect.export.tflite import accuracy, package
    from detect.export.tflite.metadata import Settings
    from detect.geometry.frame import Frame
    from detect.runs import provenance
    from detect.training import finished

    architecture = detector.architecture
    options = package.Options(cfg.quantization, cfg.weights, cfg.nms or "none", cfg.input, cfg.heads, cfg.batch)
    settings = Settings.of(architecture, detector.classes, options.nms)
    dataset = data_of(cfg, detector.classes)
    source, real, training = images_of(cfg, dataset, Frame(architecture.size, architecture.resize, exact=True))
    plain = package.Options(nms=options.nms, batch=options.batch)
    in_float = finished.float_twin(RunFolder(Path(cfg.run))) if options.quantize == "qat" else architecture
    reference = package.build(in_float.model, settings, plain)
    file = reference if options == plain else package.build(architecture.model, settings, options, training)
    report = package.report(file, reference, architecture.model, settings, options, real, cfg.timings)
    report["parity"]["source"] = source
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / MODEL).write_bytes(file.content)
        report["scores"] = score(cfg, dataset, Detector.load(place), architecture)
    judge(cfg, package.disagreement(report["parity"]), accuracy.complaint(report["scores"], options.quantize))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(file.content)
    np.savetxt(folder / ANCHORS, settings.anchors, "%.9g", ",", header="ymin,xmin,ymax,xmax", comments="")
    about = {"format": "tflite", "representative": len(training), **report, **provenance.collect()}
    about["versions"] |= {"ai-edge-litert": provenance.version("ai-edge-litert")}
    write_beside(folder, detector.classes, about)
    for line in package.table(report):
        log.info(line)


def judge(cfg, *problems: str | None) -> None:
    """Raises ConfigError for a file beyond its limits; `strict=false` warns only."""
    found = "; ".join(problem for problem in problems if problem)
    if found and cfg.strict:
        raise ConfigError(f"not written: {found}; strict=false writes the file all the same")
    if found:
        log.warning(found)


def write_beside(folder: Path, classes: Sequence[str], report: dict[str, Any]) -> None:
    """The class names and `export.json`."""
    (folder / LABELS).write_text("\n".join(classes) + "\n", encoding="utf-8")
    write_json(folder / EXPORT, report)
    log.info("wrote %s", folder)


def data_of(cfg, classes: Sequence[str]) -> "DetectionDataset | None":
    """The run's own data set; None, with a warning, where it is gone or has other classes now.

    Only `ptq`, which takes its ranges from it, must have it: raises DataError.
    """
    saved = RunFolder(Path(cfg.run)).saved_config()
    try:
        dataset = dataset_of(saved, decode=False)
        if dataset.classes != tuple(classes):
            raise DataError(f"the run was trained on {list(classes)}, its data set now has {list(dataset.classes)}")
        return dataset
    except (DataError, InstantiationException) as error:
        reason = error.__cause__ if isinstance(error, InstantiationException) else error
        if not isinstance(reason, DataError):
            raise
        if cfg.quantization == "ptq":
            raise reason from None
        log.warning("the run's data set can't be used: nothing is scored, and photographs are compared: %s", reason)
        return None


def images_of(cfg, dataset: "DetectionDataset | None", frame: "Frame") -> tuple[str, Images, Images]:
    """Where the compared images are from, those images, and the representative set, all as the network sees them."""
    from detect.data.pipeline import read_image
    from detect.export.tflite.convert import representative

    if dataset is None:
        return PHOTOGRAPHS, [frame.fit(image) for image in photographs()], []

    def frames(split: str, count: int) -> Images:
        return [frame.fit(read_image(example.path)) for example in evenly_spread(dataset.splits[split], count)]

    split = next((name for name in ("val", "test", "train") if dataset.splits[name]), None)
    if split is None:
        raise DataError(f"data set {dataset.name}: no images to compare the file with")
    training = frames("train", cfg.representative) if cfg.quantization == "ptq" else []
    if cfg.quantization == "ptq":
        representative(training)  # which refuses an empty set, before the long work
    return f"{split} of {dataset.name}", frames(split, cfg.compared), training


def score(cfg, dataset: "DetectionDataset | None", shipped: "Detector", architecture: Any) -> dict[str, Any] | None:
    """The twelve figures of run and file on the same images of test, else val; None without any.

    architecture: what the file was made of. Beside a fake-quantised one, `float` is the run's float stage, or the same
    weights without rounding where it has none; `float_stage` tells.
    """
    from detect.evaluation.evaluators import DetectionEvaluator
    from detect.export.tflite.accuracy import compared
    from detect.geometry.frame import Frame
    from detect.training import finished
    from detect.weights import checkpoint

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


def photographs() -> Images:
    """Three that ship with scikit-image."""
    from skimage import data

    return [data.chelsea(), data.coffee(), data.astronaut()]


def parity(cfg, detector: "Detector", exported: "Detector", frames: Images) -> dict[str, Any]:
    """How far the best detections agree, on images that are frames already, and the limit of that.

    A fake-quantised graph has none: where a value lies between two steps, the noise of float32 decides.
    """
    ours, theirs = ([(one.boxes, one.scores, one.classes) for one in side(frames)] for side in (detector, exported))
    limit = None if cfg.quantization == "qat" else {"partners": agreement.PARTNERS, **sqnr.SAME.to_dict()}
    return agreement.agreement(ours, theirs, max(detector.size)) | {"limit": limit}


def disagreement(found: dict[str, Any]) -> str | None:
    """What is wrong where a SavedModel's detections are further from the run's than they may be."""
    return None if found["limit"] is None else agreement.disagreement(found)


if __name__ == "__main__":
    main()
