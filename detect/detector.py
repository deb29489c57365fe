"""A trained detector as a Python object: `Detector.load(run_or_file)(images)`."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from detect.config.trust import trusting
from detect.data.dataset import Example
from detect.data.image_file import read_image
from detect.errors import WeightsError
from detect.evaluation.coco import CocoEvaluator, Scores
from detect.geometry import tiles
from detect.geometry.frame import Frame
from detect.portable import runner as portable
from detect.portable.packages import MODEL
from detect.reporting.progress import ProgressLine
from detect.runs.folder import DETECTOR, DETECTOR_JSON, TFLITE_MODEL, RunFolder
from detect.tflite import detection_output, package
from detect.training.finished import load_architecture
from detect.weights import claims, saved_model

Image = np.ndarray | str | Path
Found = tuple[np.ndarray, np.ndarray, np.ndarray]
Find = Callable[[list[np.ndarray]], list[Found]]
BATCH = 8
PORTABLE = (".onnx", ".xml")


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
    """

    def __init__(
        self,
        find: Find,
        classes: Sequence[str],
        size: Sequence[int],
        name: str,
        architecture: Any = None,
        category_ids: Sequence[int] | None = None,
    ):
        self.classes, self.size, self.name = tuple(classes), (int(size[0]), int(size[1])), name
        self.category_ids = tuple(category_ids or range(1, len(self.classes) + 1))
        self.architecture = architecture
        self._find = find

    @classmethod
    def load(
        cls, path: str | Path, stage: str | None = None, trust: Sequence[str] = (), threads: int | None = None
    ) -> "Detector":
        """Loads the best checkpoint of a run folder, or an export: a SavedModel folder, a TFLite or ONNX file, an
        OpenVINO model (`.xml`), or the folder of one.

        stage: for a run: `detector`, the float stage, or `quantized`; None is the last stage of the run.
        trust: for a run: your own modules that its configuration names.
        threads: of an exported file; None is the number of cores. A SavedModel uses those of TensorFlow.
        Raises WeightsError for any other path, and for a run that has no best checkpoint yet.
        """
        folder, count = Path(path).expanduser(), threads or os.cpu_count() or 1
        file = next((folder / name for name in (TFLITE_MODEL, *MODEL.values()) if (folder / name).is_file()), folder)
        if file.is_file():
            return (cls._from_portable if file.suffix in PORTABLE else cls._from_tflite)(file, count)
        if (folder / "saved_model.pb").exists():
            return cls._from_saved_model(folder)
        if RunFolder(folder).is_run:
            with trusting(trust):
                return cls._from_run(RunFolder(folder), stage)
        raise WeightsError(
            f"{path}: this is neither a run folder (with config.yaml) nor an export of `detect export`: a SavedModel "
            "(with saved_model.pb), or a TFLite, ONNX or OpenVINO file"
        )

    @classmethod
    def _from_run(cls, run: RunFolder, stage: str | None) -> "Detector":
        architecture, classes = load_architecture(run, stage or run.last_stage() or DETECTOR), run.class_names()
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

        return cls(find, classes, frame.size, str(run.path), architecture, run.category_ids())

    @classmethod
    def _from_saved_model(cls, folder: Path) -> "Detector":
        try:
            about = json.loads((folder / DETECTOR_JSON).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise WeightsError(f"{folder}: {DETECTOR_JSON}, which names the classes, can't be read: {error}") from error
        claims.check_description(about, f"{folder}/{DETECTOR_JSON}")
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

        return cls(find, about["classes"], about["size"], str(folder), category_ids=about.get("category_ids"))

    @classmethod
    def _from_portable(cls, file: Path, threads: int) -> "Detector":
        """Loads an ONNX file into onnxruntime, or an OpenVINO model."""
        model = portable.open_file(file, threads)
        frame = Frame(model.size, model.about["resize"], exact=True)
        scale = np.array(frame.size * 2, np.float32)

        def find(images: list[np.ndarray]) -> list[Found]:
            frames = np.stack([np.rint(frame.fit(image)).astype(np.uint8) for image in images])
            try:
                outputs = model.run(frames)
            except Exception as error:  # each library has errors of its own
                raise WeightsError(f"{file}: it can't be run: {_line(error)}") from error
            return [
                frame.found(boxes * scale, scores, classes, *image.shape[:2])
                for image, (boxes, scores, classes) in zip(images, _rows(outputs), strict=True)
            ]

        about = model.about
        return cls(find, about["classes"], frame.size, str(file), category_ids=about.get("category_ids"))

    @classmethod
    def _from_tflite(cls, file: Path, threads: int) -> "Detector":
        """Loads a file into ai-edge-litert."""
        runner, settings = package.open_file(file, threads)
        frame = Frame(settings.size, settings.resize, exact=True)

        def find(images: list[np.ndarray]) -> list[Found]:
            found = (detection_output.detections(settings, runner(frame.fit(image))) for image in images)
            return [frame.found(*one, *image.shape[:2]) for one, image in zip(found, images, strict=True)]

        return cls(find, settings.classes, settings.size, str(file), category_ids=settings.category_ids)

    def __call__(
        self, images: Image | Iterable[Image], score: float = 0.0, tile: int | str | None = None
    ) -> list[Detections]:
        """images: paths, or uint8 [H, W, 3] RGB arrays of any sizes. Leaves out detections below `score`.

        tile: cuts large images into tiles of this side, or `auto` (`detect.geometry.tiles`), beside the whole image.
        """
        if isinstance(images, str | Path) or (isinstance(images, np.ndarray) and images.ndim == 3):
            images = [images]
        images, found = list(images), []
        for start in range(0, len(images), BATCH):
            batch = [_array(image) for image in images[start : start + BATCH]]
            for boxes, scores, classes in self._found(batch, tile):
                if len(classes) and not 1 <= classes.min() <= classes.max() <= len(self.classes):
                    odd = {int(c) for c in classes} - set(range(1, len(self.classes) + 1))
                    raise WeightsError(f"{self.name}: it finds class {min(odd)}; legal are 1 to {len(self.classes)}")
                kept = scores >= score
                names = tuple(self.classes[c - 1] for c in classes[kept])
                found.append(Detections(boxes[kept], scores[kept], classes[kept], names))
        return found

    def _found(self, images: list[np.ndarray], tile: int | str | None) -> list[Found]:
        if tile is None:
            return self._find(images)
        return [self._tiled(image, tiles.side_of(tile, image.shape, self.size)) for image in images]

    def _tiled(self, image: np.ndarray, side: int | None) -> Found:
        """The detections of one image and of its tiles, joined."""
        if side is None:
            return self._find([image])[0]
        height, width = image.shape[:2]
        windows = [(0, 0, height, width), *tiles.places(height, width, side)]
        parts: list[Found] = []
        for start in range(0, len(windows), BATCH):
            crops = [np.ascontiguousarray(image[t:b, x:r]) for t, x, b, r in windows[start : start + BATCH]]
            parts += self._find(crops)
        return tiles.joined(parts, windows)

    def evaluate(self, examples: Sequence[Example], tile: int | str | None = None) -> tuple[Scores, CocoEvaluator]:
        """Scores the detector on the images of a split; returns the scores, and the evaluator with all detections."""
        evaluator, progress = CocoEvaluator(examples, self.classes), ProgressLine("evaluate", len(examples), 30.0)
        for start in range(0, len(examples), BATCH):
            batch = examples[start : start + BATCH]
            for example, found in zip(batch, self([e.path for e in batch], tile=tile), strict=True):
                evaluator.add(example.id, found.boxes, found.scores, found.classes)
            progress.update(start + len(batch), {})
        progress.close()
        return evaluator.result(), evaluator


def _serve(module: Any, image: np.ndarray) -> Found:
    outputs = module.signatures["serving_default"](tf.constant(image[np.newaxis]))
    ((boxes, scores, classes),) = _rows({name: value.numpy() for name, value in outputs.items()})
    return boxes * np.array(image.shape[:2] * 2, np.float32), scores, classes


def _rows(outputs: dict[str, np.ndarray]) -> list[Found]:
    """The detections of each image in the outputs of a SavedModel, ONNX or OpenVINO, as shares of the frame."""
    rows = []
    for index, told in enumerate(outputs["num_detections"]):
        count = detection_output.as_count(told, outputs["detection_scores"].shape[1])
        boxes, scores, classes = (outputs[f"detection_{n}"][index, :count] for n in ("boxes", "scores", "classes"))
        rows.append((boxes, scores, classes.astype(np.int32)))
    return rows


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _array(image: Image) -> np.ndarray:
    if isinstance(image, str | Path):
        return read_image(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 [H, W, 3] in RGB, but this is {image.dtype} {list(image.shape)}")
    return image
