"""Writes a trained detector in one of four formats, with its measurements: `detect export run=RUN`."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from detect.data.dataset import DetectionDataset
from detect.detector import Detector
from detect.errors import ConfigError, printable
from detect.evaluation.agreement import NOTHING
from detect.evaluation.scored_files import FILE, SCORES
from detect.export import comparison, images
from detect.export import saved_model as graph
from detect.export.description import describe
from detect.export.options import ANCHORS, LABELS, of_tflite
from detect.files import expanded, read_json, write_json
from detect.geometry.frame import Frame
from detect.modeling.interface import Suppression
from detect.portable.packages import MODEL, WRITES
from detect.runs import provenance
from detect.runs.folder import DETECTOR, EXPORT, QUANTIZED, TFLITE_MODEL, RunFolder
from detect.runs.stage_folder import summary_of
from detect.studies import run_page
from detect.tflite import accuracy, operators, package, parity
from detect.tflite.metadata import Settings
from detect.training import finished

log = logging.getLogger("detect")


def write(cfg: DictConfig, folder: Path) -> None:
    """Writes the model, compares it with the run on real images, and writes the figures into export.json. The page of
    the run shows it.

    Raises ConfigError for a model that differs from the run by more than its limits.
    """
    logging.getLogger("tensorflow").setLevel("ERROR")
    stage = QUANTIZED if cfg.quantization == "qat" else DETECTOR
    detector = Detector.load(cfg.run, stage, class_agnostic=cfg.class_agnostic)
    WRITERS[cfg.format](cfg, detector, folder)
    run_page.refresh(folder)


def write_saved_model(cfg: DictConfig, detector: Detector, folder: Path) -> None:
    """Writes a SavedModel with resize, input scaling and suppression inside; `qat`: the evaluation graph in float."""

    architecture, dataset = detector.architecture, images.data_of(cfg)
    source, frames, _ = images.images_of(cfg, dataset, Frame(architecture.size, architecture.resize))
    with tempfile.TemporaryDirectory() as place:
        new = Path(place) / "saved_model"
        graph.save(architecture, detector.classes, detector.name, new, detector.category_ids, detector.threshold)
        compared = (dataset, source, frames)
        report = {"operators": operators.of_saved_model(new)} | measured(cfg, detector, new, compared)
        put(new, folder)
    write_beside(cfg, folder, detector.classes, {**report, **provenance.collect()})
    if problem := accuracy.complaint(report["scores"], cfg.quantization):
        log.warning("%s: the resize inside the file rounds some pixels differently", problem)
    tell(report)


def write_portable(cfg: DictConfig, detector: Detector, folder: Path) -> None:
    """Writes an ONNX file or an OpenVINO model with decoding and suppression inside; it takes frames."""
    from detect.portable import convert  # optional packages

    architecture, dataset = detector.architecture, images.data_of(cfg)
    source, frames, _ = images.images_of(cfg, dataset, Frame(architecture.size, architecture.resize))
    about = describe(architecture, detector.classes, detector.name, detector.category_ids, detector.threshold)
    content = convert.to_onnx(architecture, about, cfg.format)
    with tempfile.TemporaryDirectory() as place:
        new = Path(place) / cfg.format
        new.mkdir()
        if cfg.format == "onnx":
            (new / MODEL["onnx"]).write_bytes(content)
        else:
            convert.write_openvino(content, about, new)
        compared = (dataset, source, frames)
        report = {"operators": convert.operators(content)} | measured(cfg, detector, new, compared)
        judge(cfg, accuracy.complaint(report["scores"], cfg.quantization))
        put(new, folder)
    about_run = provenance.collect()
    about_run["versions"] |= {name: provenance.version(name) for name in WRITES[cfg.format]}
    write_beside(cfg, folder, detector.classes, {**report, **about_run})
    tell(report)


Compared = tuple[DetectionDataset | None, str, images.Images]
"""The data set of a run, or None; and the source of the compared frames, and these frames."""


def measured(cfg: DictConfig, detector: Detector, new: Path, compared: Compared) -> dict[str, Any]:
    """The figures in `export.json` of a model with decoding and suppression, which is in the folder `new`.

    Raises ConfigError for a model that differs from the run by more than its limit.
    """
    architecture, (dataset, source, frames) = detector.architecture, compared
    shipped, photograph = Detector.load(new), images.photographs()[0]
    agreement = comparison.parity(cfg, detector, shipped, frames)
    judge(cfg, comparison.disagreement(agreement))  # before the long work of scoring
    return {
        "format": cfg.format,
        "options": {"quantize": cfg.quantization, "batch": None, "class_agnostic": cfg.class_agnostic},
        "bytes": sum(file.stat().st_size for file in new.rglob("*") if file.is_file()),
        "parity": {"source": source, "frames": len(frames), **agreement},
        "scores": comparison.score(cfg, dataset, shipped, architecture),
        "latency_ms": parity.timed(lambda: shipped(photograph), cfg.timings),
        "settings": {"classes": detector.classes, "size": architecture.size, "resize": architecture.resize}
        | {"suppression": {name: getattr(architecture.postprocess, name) for name in Suppression.__annotations__}},
    }


def tell(report: dict[str, Any]) -> None:
    """The figures of `measured`, for the console."""
    if report["parity"]["partners"] is None:
        log.warning(NOTHING)
    log.info("scores differ by %.1e of the largest from the run's", report["parity"]["relative"])
    if report["scores"]:
        log.info(accuracy.line(report["scores"]))
    log.info("size %.1f MB, latency of one photograph %.1f ms", report["bytes"] / 1e6, report["latency_ms"])


def write_tflite(cfg: DictConfig, detector: Detector, folder: Path) -> None:
    """Writes a TFLite file, its labels, and export.json."""

    architecture = detector.architecture
    options = of_tflite(cfg)
    settings = Settings.of(architecture, detector.classes, options.nms, detector.category_ids, detector.threshold)
    dataset = images.data_of(cfg)
    exact = comparison.sees_levels(cfg)
    frame = Frame(architecture.size, architecture.resize, exact)
    source, real, training = images.images_of(cfg, dataset, frame)
    plain = package.Options(nms=options.nms, batch=options.batch)
    in_float = finished.float_twin(RunFolder(expanded(cfg.run))) if options.quantize == "qat" else architecture
    reference = package.build(in_float.model, settings, plain)
    file = reference if options == plain else package.build(architecture.model, settings, options, training)
    report = package.report(file, reference, architecture.model, settings, options, real, cfg.timings)
    problems = package.unfit(report["targets"], cfg.target), package.disagreement(report["parity"])
    judge(cfg, *problems)  # before the long work of scoring
    report["parity"]["source"] = source
    with tempfile.TemporaryDirectory() as place:
        new = Path(place)
        (new / TFLITE_MODEL).write_bytes(file.content)
        report["scores"] = comparison.score(cfg, dataset, Detector.load(place), architecture)
        judge(cfg, accuracy.complaint(report["scores"], options.quantize))
        np.savetxt(new / ANCHORS, settings.anchors, "%.9g", ",", header="ymin,xmin,ymax,xmax", comments="")
        put(new, folder)
    report["options"]["class_agnostic"] = cfg.class_agnostic
    about = {"format": "tflite", "representative": len(training), **report, **provenance.collect()}
    about["versions"] |= {"ai-edge-litert": provenance.version("ai-edge-litert")}
    write_beside(cfg, folder, detector.classes, about)
    for line in package.table(report):
        log.info(line)


def put(new: Path, folder: Path) -> None:
    """Moves a finished model into the folder of the export, where its files replace those of an earlier one.

    They are copied into a folder inside it first: a disk that is full leaves the earlier model whole, and the folder
    may be the only one of its disk that can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as place:
        copied = shutil.copytree(new, Path(place) / "new")
        for file in [path for path in copied.rglob("*") if path.is_file()]:
            target = folder / file.relative_to(copied)
            target.parent.mkdir(exist_ok=True)
            file.replace(target)


def judge(cfg: DictConfig, *problems: str | None) -> None:
    """Raises ConfigError for a file beyond its limits; with `strict=false` it only warns."""
    found = "; ".join(problem for problem in problems if problem)
    if found and cfg.strict:
        raise ConfigError(f"the file is not written: {found}; strict=false writes it anyway")
    if found:
        log.warning(found)


def scored_folders(folder: Path) -> list[Path]:
    """The folders in which `detect evaluate` wrote scores of the model in a folder, not of a renamed one beside it."""
    files = [file for file in sorted(folder.glob(f"evaluation*/*{SCORES}")) if not read_json(file).get(FILE)]
    return list(dict.fromkeys(file.parent for file in files))


def write_beside(cfg: DictConfig, folder: Path, classes: Sequence[str], report: dict[str, Any]) -> None:
    """Writes the class names and `export.json` beside the model; `steps` are those of the run, which may be extended
    later. Scores of a model that was there before go away."""
    for scored in scored_folders(folder) if (folder / EXPORT).exists() else ():
        log.info("removed %s, the scores of the earlier model", scored)
        if scored.is_symlink():
            scored.unlink()
        else:
            shutil.rmtree(scored)
    (folder / LABELS).write_text("\n".join(map(printable, classes)) + "\n", encoding="utf-8")
    run = summary_of(RunFolder(expanded(cfg.run)).summary, {}) or {}
    write_json(folder / EXPORT, {**report, "steps": run.get("steps")})
    log.info("wrote %s", folder)


WRITERS = {
    "saved_model": write_saved_model,
    "tflite": write_tflite,
    "onnx": write_portable,
    "openvino": write_portable,
}
"""What writes each format."""
