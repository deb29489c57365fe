"""Opens what holds a trained detector: a run folder, a SavedModel, a TFLite, ONNX or OpenVINO file."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from detect import environment
from detect.errors import ConfigError, WeightsError, one_line
from detect.evaluation.thresholds import Shipped
from detect.files import tensorflow_reads
from detect.geometry.frame import Frame
from detect.portable import runner as portable
from detect.portable.packages import MODEL
from detect.runs.folder import DETECTOR, DETECTOR_JSON, TFLITE_MODEL, RunFolder
from detect.tflite import detection_output, package
from detect.tflite.options import OUTPUTS
from detect.training.finished import load_architecture
from detect.weights import checkpoint, claims, saved_model

log = logging.getLogger("detect")
Found = tuple[np.ndarray, np.ndarray, np.ndarray]
Find = Callable[[list[np.ndarray]], list[Found]]
PORTABLE = (".onnx", ".xml")


@dataclass(frozen=True)
class Loaded:
    """A detector that was opened; `detect.detector.Detector` explains its parts."""

    find: Find
    classes: Sequence[str]
    size: Sequence[int]
    name: str
    architecture: Any = None
    category_ids: Sequence[int] | None = None
    threshold: Shipped | None = None
    class_agnostic: bool = False


def load(folder: Path, stage: str | None, class_agnostic: bool | None, threads: int | None) -> Loaded:
    """Opens a run folder, an export, or the folder of one; see `Detector.load`."""
    count = threads or environment.usable_cores()
    file = next((folder / name for name in (TFLITE_MODEL, *MODEL.values()) if (folder / name).is_file()), folder)
    exported = file.is_file() or (folder / "saved_model.pb").exists()
    if exported and stage is not None:
        raise ConfigError(f"stage={stage}: {folder} is an exported model, which has one stage; leave stage out")
    if file.is_file():
        return (_portable if file.suffix in PORTABLE else _tflite)(file, count, class_agnostic)
    if exported:
        return _saved_model(folder, class_agnostic)
    if RunFolder(folder).is_run:
        return _run(RunFolder(folder), stage, class_agnostic)
    raise WeightsError(
        f"{folder}: this is neither a run folder (with config.yaml) nor an export of `detect export`: a SavedModel "
        "(with saved_model.pb), or a TFLite, ONNX or OpenVINO file"
    )


def _run(run: RunFolder, stage: str | None, class_agnostic: bool | None) -> Loaded:
    stage = stage or _usable_stage(run)
    architecture, classes = load_architecture(run, stage), run.class_names()
    threshold = run.threshold(stage)
    if threshold is not None:
        threshold = replace(threshold, class_agnostic=bool(architecture.postprocess.class_agnostic))
    if class_agnostic is not None:
        architecture.postprocess.class_agnostic = class_agnostic
    detect = tf.function(architecture.detect, autograph=False)
    frame = Frame(architecture.size, architecture.resize, exact=True)

    def find(images: list[np.ndarray]) -> list[Found]:
        frames = np.stack([frame.fit(image) for image in images])
        with environment.fusing(len(images)):
            outputs = {n: v.numpy() for n, v in detect(frames).items()}
        rows = zip(*(outputs[name] for name in ("boxes", "scores", "classes", "count")), strict=True)
        return [
            frame.found(boxes[:count], scores[:count], kinds[:count], *image.shape[:2])
            for image, (boxes, scores, kinds, count) in zip(images, rows, strict=True)
        ]

    together = bool(architecture.postprocess.class_agnostic)
    return Loaded(find, classes, frame.size, str(run.path), architecture, run.category_ids(), threshold, together)


def _usable_stage(run: RunFolder) -> str:
    """The last stage of a run; or the float stage, if the last one is not yet evaluated."""
    last = run.last_stage() or DETECTOR
    if checkpoint.exists(run.stage(last).best) or not checkpoint.exists(run.stage(DETECTOR).best):
        return last
    log.info("%s: the stage %s has no weights yet, so this is the stage %s", run.path, last, DETECTOR)
    return DETECTOR


def _saved_model(folder: Path, class_agnostic: bool | None) -> Loaded:
    if not tensorflow_reads(folder):
        raise WeightsError(f"{folder}: TensorFlow can't read a SavedModel whose path contains [ or \\")
    try:
        about = json.loads((folder / DETECTOR_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{folder}: {DETECTOR_JSON}, which names the classes, can't be read: {error}") from error
    claims.check_description(about, f"{folder}/{DETECTOR_JSON}")
    threshold = _threshold(about, folder / DETECTOR_JSON)
    _refuse_other_suppression(folder, bool(about.get("class_agnostic")), class_agnostic)
    saved_model.check(folder, about.get("sha256"))
    try:
        module = tf.saved_model.load(str(folder))
        ends = module.signatures[saved_model.SIGNATURE].structured_outputs
    except Exception as error:  # a damaged graph may raise anything
        raise WeightsError(f"{folder}: TensorFlow can't load this SavedModel: {one_line(error)}") from error
    if missing := sorted(set(OUTPUTS) - set(ends)):
        raise WeightsError(f"{folder}: the SavedModel does not give {', '.join(missing)}")

    def find(images: list[np.ndarray]) -> list[Found]:
        try:
            return [_serve(module, image) for image in images]
        except (tf.errors.OpError, ValueError, TypeError, IndexError) as error:
            raise WeightsError(f"{folder}: the SavedModel can't be run: {one_line(error)}") from error

    return _of_a_file(find, about, folder, threshold)


def _portable(file: Path, threads: int, class_agnostic: bool | None) -> Loaded:
    """Loads an ONNX file into onnxruntime, or an OpenVINO model."""
    model = portable.open_file(file, threads)
    _refuse_other_suppression(file, bool(model.about.get("class_agnostic")), class_agnostic)
    frame = Frame(model.size, model.about["resize"], exact=True)
    scale = np.array(frame.size * 2, np.float32)

    def find(images: list[np.ndarray]) -> list[Found]:
        frames = np.stack([np.rint(frame.fit(image)).astype(np.uint8) for image in images])
        try:
            outputs = model.run(frames)
        except Exception as error:  # each library has errors of its own
            raise WeightsError(f"{file}: it can't be run: {one_line(error)}") from error
        return [
            frame.found(boxes * scale, scores, classes, *image.shape[:2])
            for image, (boxes, scores, classes) in zip(images, _rows(outputs), strict=True)
        ]

    return _of_a_file(find, model.about, file, _threshold(model.about, file))


def _tflite(file: Path, threads: int, class_agnostic: bool | None) -> Loaded:
    """Loads a file into ai-edge-litert."""
    runner, settings = package.open_file(file, threads)
    if settings.nms != "none":
        _refuse_other_suppression(file, settings.class_agnostic, class_agnostic)
    elif class_agnostic is not None:
        settings = replace(settings, class_agnostic=class_agnostic)
    frame = Frame(settings.size, settings.resize, exact=True)

    def find(images: list[np.ndarray]) -> list[Found]:
        found = (detection_output.detections(settings, runner(frame.fit(image))) for image in images)
        return [frame.found(*one, *image.shape[:2]) for one, image in zip(found, images, strict=True)]

    return _of_a_file(find, vars(settings), file, settings.threshold)


def _of_a_file(find: Find, about: Mapping[str, Any], place: Path, threshold: Shipped | None) -> Loaded:
    """The detector of an exported model. about: its description."""
    ids, together = about.get("category_ids"), bool(about.get("class_agnostic"))
    return Loaded(find, about["classes"], about["size"], str(place), None, ids, threshold, together)


def _threshold(about: dict[str, Any], place: Path) -> Shipped | None:
    """The thresholds in a description. place: of the description, for messages."""
    try:
        return Shipped.read(about.get("threshold"), len(about["classes"]))
    except ValueError as error:
        raise WeightsError(f"{place}: {error}") from error


def _serve(module: Any, image: np.ndarray) -> Found:
    with environment.fusing(1):
        outputs = module.signatures["serving_default"](tf.constant(image[None]))
    boxes, scores, classes = _rows({name: value.numpy() for name, value in outputs.items()})[0]
    return boxes * np.array(image.shape[:2] * 2, np.float32), scores, classes


def _rows(outputs: dict[str, np.ndarray]) -> list[Found]:
    """The detections of each image in the outputs of a SavedModel, ONNX or OpenVINO, as shares of the frame."""
    rows = []
    for index, told in enumerate(outputs["num_detections"]):
        count = detection_output.as_count(told, outputs["detection_scores"].shape[1])
        boxes, scores, classes = (outputs[f"detection_{n}"][index, :count] for n in ("boxes", "scores", "classes"))
        rows.append((boxes, scores, classes.astype(np.int32)))
    return rows


def _refuse_other_suppression(path: Path, inside: bool, asked: bool | None) -> None:
    if asked is not None and asked != inside:
        said = str(asked).lower()
        raise ConfigError(
            f"class_agnostic={said}: {path} has its suppression inside, with class_agnostic={str(inside).lower()}; "
            f"export the run again with class_agnostic={said}"
        )
