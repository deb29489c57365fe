"""A trained detector as a Python object: `Detector.load(run_or_file)(images)`."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from detect.config.trust import trusting
from detect.data import given_images
from detect.data.dataset import Example
from detect.data.given_images import pixels
from detect.errors import ConfigError, WeightsError, first_few
from detect.evaluation.coco import CocoEvaluator, Scores
from detect.evaluation.thresholds import FALLBACK, Shipped
from detect.geometry.frame import Frame
from detect.modeling import nms
from detect.reporting.progress import ProgressLine
from detect.runs.folder import DETECTOR, DETECTOR_JSON, TFLITE_MODEL, RunFolder
from detect.tflite import detection_output, package
from detect.training.finished import load_architecture
from detect.weights import claims, saved_model

Found = tuple[np.ndarray, np.ndarray, np.ndarray]
Find = Callable[[list[np.ndarray]], list[Found]]
BATCH = 8


@dataclass(frozen=True)
class Detections:
    """The detections of one image, best first.

    boxes: float32 [n, 4], [ymin, xmin, ymax, xmax] in pixels of that image; scores: float32 [n];
    classes: int32 [n] from 1; names: the n class names.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]


class Detector:
    """Finds objects in images of any size.

    classes: the class names, in order. category_ids: their numbers in the user's own files; None is 1..C.
    size: (height, width) of the network's input frame.
    find: a list of uint8 [H, W, 3] images -> (boxes [n, 4] in pixels of the image, scores [n], classes [n]) of each.
    architecture: the meta-architecture, if the detector comes from a run.
    threshold: the scores from which its detections are shown; None if nothing was stored.
    """

    def __init__(
        self,
        find: Find,
        classes: Sequence[str],
        size: Sequence[int],
        name: str,
        architecture: Any = None,
        category_ids: Sequence[int] | None = None,
        threshold: Shipped | None = None,
    ):
        self.classes, self.size, self.name = tuple(classes), (int(size[0]), int(size[1])), name
        self.category_ids = tuple(category_ids or range(1, len(self.classes) + 1))
        self.architecture, self.threshold = architecture, threshold
        self._find = find

    @classmethod
    def load(
        cls,
        path: str | Path,
        stage: str | None = None,
        trust: Sequence[str] = (),
        class_agnostic: bool | None = None,
    ) -> "Detector":
        """Loads the best checkpoint of a run folder, an exported SavedModel folder, or an exported TFLite file or its
        folder.

        stage: for a run: `detector`, the float stage, or `quantized`; None is the last stage of the run.
        trust: for a run: your own modules that its configuration names.
        class_agnostic: whether boxes compete with those of all classes; None is as trained or exported.
        Raises WeightsError for any other path, and for a run that has no best checkpoint yet; ConfigError if the
        suppression can't be changed, because it is inside a file.
        """
        folder = Path(path).expanduser()
        if folder.is_file():
            return cls._from_tflite(folder, class_agnostic)
        if (folder / TFLITE_MODEL).exists():
            return cls._from_tflite(folder / TFLITE_MODEL, class_agnostic)
        if (folder / "saved_model.pb").exists():
            return cls._from_saved_model(folder, class_agnostic)
        if RunFolder(folder).is_run:
            with trusting(trust):
                return cls._from_run(RunFolder(folder), stage, class_agnostic)
        raise WeightsError(
            f"{path}: this is neither a run folder (with config.yaml) nor an export of `detect export`: a SavedModel "
            "(with saved_model.pb) or a TFLite file"
        )

    @classmethod
    def _from_run(cls, run: RunFolder, stage: str | None, class_agnostic: bool | None) -> "Detector":
        stage = stage or run.last_stage() or DETECTOR
        architecture, classes = load_architecture(run, stage), run.class_names()
        if class_agnostic is not None:
            nms.set_class_agnostic(architecture.postprocess, class_agnostic)
        threshold = run.threshold(stage)
        detect, frame = (
            tf.function(architecture.detect, autograph=False),
            Frame(architecture.size, architecture.resize, exact=True),
        )

        def find(images: list[np.ndarray]) -> list[Found]:
            outputs = {n: v.numpy() for n, v in detect(np.stack([frame.fit(image) for image in images])).items()}
            rows = zip(*(outputs[name] for name in ("boxes", "scores", "classes", "count")), strict=True)
            return [
                frame.found(boxes[:count], scores[:count], kinds[:count], *image.shape[:2])
                for image, (boxes, scores, kinds, count) in zip(images, rows, strict=True)
            ]

        return cls(find, classes, frame.size, str(run.path), architecture, run.category_ids(), threshold)

    @classmethod
    def _from_saved_model(cls, folder: Path, class_agnostic: bool | None) -> "Detector":
        try:
            about = json.loads((folder / DETECTOR_JSON).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise WeightsError(f"{folder}: {DETECTOR_JSON}, which names the classes, can't be read: {error}") from error
        claims.check_description(about, f"{folder}/{DETECTOR_JSON}")
        try:
            threshold = Shipped.read(about.get("threshold"), len(about["classes"]))
        except ValueError as error:
            raise WeightsError(f"{folder}/{DETECTOR_JSON}: {error}") from error
        _refuse_other_suppression(folder, bool(about.get("class_agnostic")), class_agnostic)
        saved_model.check(folder, about.get("sha256"))
        try:
            module = tf.saved_model.load(str(folder))
            ends = module.signatures[saved_model.SIGNATURE].structured_outputs
        except Exception as error:  # a damaged graph may raise anything
            raise WeightsError(f"{folder}: TensorFlow can't load this SavedModel: {_line(error)}") from error
        if missing := sorted(set(detection_output.OUTPUTS) - set(ends)):
            raise WeightsError(f"{folder}: the SavedModel does not give {', '.join(missing)}")

        def find(images: list[np.ndarray]) -> list[Found]:
            try:
                return [_serve(module, image) for image in images]
            except (tf.errors.OpError, ValueError, TypeError, IndexError) as error:
                raise WeightsError(f"{folder}: the SavedModel can't be run: {_line(error)}") from error

        ids = about.get("category_ids")
        return cls(find, about["classes"], about["size"], str(folder), category_ids=ids, threshold=threshold)

    @classmethod
    def _from_tflite(cls, file: Path, class_agnostic: bool | None) -> "Detector":
        """Loads a file into ai-edge-litert, with as many threads as the machine has cores."""
        runner, settings = package.open_file(file, os.cpu_count() or 1)
        if settings.nms != "none":
            _refuse_other_suppression(file, settings.class_agnostic, class_agnostic)
        elif class_agnostic is not None:
            settings = replace(settings, class_agnostic=class_agnostic)
        frame = Frame(settings.size, settings.resize, exact=True)

        def find(images: list[np.ndarray]) -> list[Found]:
            found = (detection_output.detections(settings, runner(frame.fit(image))) for image in images)
            return [frame.found(*one, *image.shape[:2]) for one, image in zip(found, images, strict=True)]

        ids, threshold = settings.category_ids, settings.threshold
        return cls(find, settings.classes, settings.size, str(file), category_ids=ids, threshold=threshold)

    def __call__(self, images: Any, score: float = 0.0) -> list[Detections]:
        """images: one or several, of any sizes: paths, a folder, PIL images, uint8 arrays and tensors in RGB or grey.

        Leaves out detections below `score`. Raises DataError, naming the image, for anything else.
        """
        images, found = given_images.listed(images), list[Detections]()
        for start in range(0, len(images), BATCH):
            batch = [pixels(image, f"image {start + k}") for k, image in enumerate(images[start : start + BATCH])]
            for boxes, scores, classes in self._find(batch):
                if len(classes) and not 1 <= classes.min() <= classes.max() <= len(self.classes):
                    odd = {int(c) for c in classes} - set(range(1, len(self.classes) + 1))
                    raise WeightsError(f"{self.name}: it finds class {min(odd)}; legal are 1 to {len(self.classes)}")
                kept = scores >= score
                names = tuple(self.classes[c - 1] for c in classes[kept])
                found.append(Detections(boxes[kept], scores[kept], classes[kept], names))
        return found

    def shown(self, found: Detections, score: float | str) -> np.ndarray:
        """Which detections are shown, bool [n]. score: a number, `auto` for the threshold that was stored with the
        detector, or `per_class` for those of its classes; without one both are FALLBACK."""
        if not isinstance(score, str):
            return np.asarray(found.scores >= score)
        if self.threshold is None:
            return np.asarray(found.scores >= FALLBACK)
        return np.asarray(found.scores >= self.threshold.lowest(found.classes, score == "per_class"))

    def showing(self, score: float | str) -> str:
        """What `shown` does, for the console."""
        if not isinstance(score, str):
            return f"detections with a score of {score:g} or more"
        if self.threshold is None:
            return f"detections with a score of {FALLBACK:g} or more: no threshold was stored with {self.name}"
        origin = f"highest F1 on {self.threshold.split}"
        if score == "auto":
            return f"detections with a score of {self.threshold.score:.3f} or more: {origin}"
        pairs = zip(self.classes, self.threshold.per_class, strict=True)
        told = first_few([f"{n} {self.threshold.score if s is None else s:.3f}" for n, s in pairs])
        return f"detections with a score of its class or more: {told}; {origin}"

    def calibrated(self) -> "Detector":
        """The same detector with probabilities in place of scores. Raises ConfigError if none were fitted."""
        stored = self.threshold
        if stored is None or stored.calibration is None:
            raise ConfigError(f"calibrated=true: no calibration was stored with {self.name}; legal is false")
        to_probability = stored.calibration

        def find(images: list[np.ndarray]) -> list[Found]:
            return [(boxes, to_probability(scores), kinds) for boxes, scores, kinds in self._find(images)]

        moved = [None if s is None else float(to_probability(np.array(s))) for s in (stored.score, *stored.per_class)]
        threshold = replace(stored, score=moved[0] or 0.0, per_class=tuple(moved[1:]), calibration=None)
        ids = self.category_ids
        return Detector(find, self.classes, self.size, self.name, self.architecture, ids, threshold)

    def evaluate(self, examples: Sequence[Example]) -> tuple[Scores, CocoEvaluator]:
        """Scores the detector on the images of a split; returns the scores, and the evaluator with all detections."""
        evaluator, progress = CocoEvaluator(examples, self.classes), ProgressLine("evaluate", len(examples), 30.0)
        for start in range(0, len(examples), BATCH):
            batch = examples[start : start + BATCH]
            for example, found in zip(batch, self([e.path for e in batch]), strict=True):
                evaluator.add(example.id, found.boxes, found.scores, found.classes)
            progress.update(start + len(batch), {})
        progress.close()
        return evaluator.result(), evaluator


def _serve(module: Any, image: np.ndarray) -> Found:
    outputs = module.signatures["serving_default"](tf.constant(image[np.newaxis]))
    count = detection_output.as_count(outputs["num_detections"].numpy(), outputs["detection_scores"].shape[1])
    boxes, scores, classes = (outputs[f"detection_{n}"][0, :count].numpy() for n in ("boxes", "scores", "classes"))
    return boxes * np.array(image.shape[:2] * 2, np.float32), scores, classes.astype(np.int32)


def _refuse_other_suppression(path: Path, inside: bool, asked: bool | None) -> None:
    if asked is not None and asked != inside:
        said = str(asked).lower()
        raise ConfigError(
            f"class_agnostic={said}: {path} has its suppression inside, with class_agnostic={str(inside).lower()}; "
            f"export the run again: detect export run=RUN class_agnostic={said}"
        )


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
