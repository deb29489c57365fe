"""A trained detector as a Python object: `Detector.load(run_or_file)(images)`."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from omegaconf import OmegaConf

from detect import stages
from detect.data.augment import resize
from detect.data.pipeline import read_image
from detect.errors import WeightsError
from detect.serving import DETECTOR_JSON
from detect.start import SAVED_CLASSES, SAVED_CONFIG
from detect.weights import checkpoint

Image = np.ndarray | str | Path
BATCH = 8


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first.

    boxes: float32 [n, 4], [ymin, xmin, ymax, xmax] in pixels of that image; scores: float32 [n];
    classes: int32 [n] from 1; names: the n class names.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]


class Detector:
    """Finds objects in images of any size.

    classes: the class names, in order. size: (height, width) of the network's input frame.
    detect: uint8 [B, height, width, 3] -> detections in pixels of the frame (`detect.postprocess`).
    """

    def __init__(self, detect: Any, classes: Sequence[str], size: Sequence[int], name: str):
        self.classes, self.size, self.name = tuple(classes), (int(size[0]), int(size[1])), name
        self._detect = tf.function(detect)

    @classmethod
    def load(cls, path: str | Path) -> "Detector":
        """From a run folder (its best checkpoint) or an exported SavedModel folder.

        Raises WeightsError for anything else, and for a run that has no best checkpoint yet.
        """
        folder = Path(path).expanduser()
        if (folder / "saved_model.pb").exists():
            return cls._from_saved_model(folder)
        if (folder / SAVED_CONFIG).exists():
            return cls._from_run(folder)
        raise WeightsError(f"{path}: neither a run folder (with {SAVED_CONFIG}) nor a SavedModel (with saved_model.pb)")

    @classmethod
    def _from_run(cls, folder: Path) -> "Detector":
        best = folder / "detector" / "best"
        if not checkpoint.exists(best):
            raise WeightsError(f"{folder}: no detector/best yet: the run has not reached its first evaluation")
        classes = json.loads((folder / SAVED_CLASSES).read_text())
        architecture = stages.build_detector(OmegaConf.load(folder / SAVED_CONFIG), len(classes))
        checkpoint.load(architecture.model, best)
        detector = cls(architecture.detect, classes, architecture.size, str(folder))
        detector.architecture = architecture
        return detector

    @classmethod
    def _from_saved_model(cls, folder: Path) -> "Detector":
        try:
            about = json.loads((folder / DETECTOR_JSON).read_text())
        except (OSError, ValueError) as error:
            raise WeightsError(f"{folder}: {DETECTOR_JSON}, which names the classes, can't be read: {error}") from error
        module = tf.saved_model.load(str(folder))
        signature, size = module.signatures["serving_default"], about["size"]
        frame = tf.constant([*size, *size], tf.float32)

        def detect(image):
            found = signature(tf.cast(image, tf.uint8))
            return {
                "boxes": found["detection_boxes"] * frame,
                "scores": found["detection_scores"],
                "classes": tf.cast(found["detection_classes"], tf.int32),
                "count": tf.cast(found["num_detections"], tf.int32),
            }

        detector = cls(detect, about["classes"], size, str(folder))
        detector.module = module  # keeps the variables alive
        return detector

    def __call__(self, images: Image | Iterable[Image], score: float = 0.0) -> list[Detections]:
        """images: paths, or uint8 [H, W, 3] RGB arrays of any sizes. Leaves out what scores below `score`."""
        if isinstance(images, str | Path) or (isinstance(images, np.ndarray) and images.ndim == 3):
            images = [images]
        images = list(images)
        found: list[Detections] = []
        for start in range(0, len(images), BATCH):
            found += self._batch([_array(image) for image in images[start : start + BATCH]], score)
        return found

    def _batch(self, images: list[np.ndarray], score: float) -> list[Detections]:
        frames = np.stack([resize(image, self.size) for image in images])
        outputs = {name: value.numpy() for name, value in self._detect(frames).items()}
        result = []
        for row, image in enumerate(images):
            kept = outputs["scores"][row, : outputs["count"][row]] >= score
            scale = np.array([image.shape[0] / self.size[0], image.shape[1] / self.size[1]] * 2, np.float32)
            classes = outputs["classes"][row, : len(kept)][kept]
            result.append(
                Detections(
                    boxes=outputs["boxes"][row, : len(kept)][kept] * scale,
                    scores=outputs["scores"][row, : len(kept)][kept],
                    classes=classes,
                    names=tuple(self.classes[c - 1] for c in classes),
                )
            )
        return result


def _array(image: Image) -> np.ndarray:
    if isinstance(image, str | Path):
        return read_image(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 [H, W, 3] in RGB, this is {image.dtype} {list(image.shape)}")
    return image
