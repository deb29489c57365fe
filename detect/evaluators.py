"""Runs a model over a split and scores it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from detect.data.augment import Augment
from detect.data.dataset import ClassificationDataset, DetectionDataset, Example
from detect.data.pipeline import ClassificationStream, DetectionStream
from detect.metrics.classification import ClassificationScores, score_classification
from detect.metrics.coco import CocoEvaluator, Scores


class DetectionEvaluator:
    """Scores a detector on one split, in pixels of the image files.

    detect: uint8 [B, H, W, 3] at `size` -> detections in pixels of the frame (`detect.postprocess`).
    """

    def __init__(self, detect: Any, size, dataset: DetectionDataset, split: str, batch_size: int, threads: int = 2):
        self.dataset, self.examples, self.size = dataset, dataset.splits[split], size
        self.stream = DetectionStream(
            self.examples, size=size, batch_size=batch_size, augment=Augment(), threads=threads, shuffle=False
        )
        self.detect = tf.function(detect)

    def __call__(self) -> tuple[Scores, CocoEvaluator]:
        """Returns the scores, and the evaluator that holds every image's detections."""
        evaluator = CocoEvaluator(self.examples, self.dataset.classes)
        for batch in self.stream.evaluate_batches():
            found = {name: value.numpy() for name, value in self.detect(batch["image"]).items()}
            for row, index in enumerate(batch["index"]):
                if index >= 0:
                    example = self.examples[index]
                    count = found["count"][row]
                    boxes = to_image_pixels(found["boxes"][row, :count], example, self.size)
                    evaluator.add(example.id, boxes, found["scores"][row, :count], found["classes"][row, :count])
        return evaluator.result(), evaluator


class ClassificationEvaluator:
    """Scores a classifier on one split."""

    def __init__(
        self, detect: Any, size, dataset: ClassificationDataset, split: str, batch_size: int, threads: int = 2
    ):
        self.dataset, self.examples = dataset, dataset.splits[split]
        self.stream = ClassificationStream(
            self.examples,
            num_classes=dataset.num_classes,
            size=size,
            batch_size=batch_size,
            augment=Augment(),
            threads=threads,
            balanced=False,
        )
        self.detect = tf.function(detect)

    def __call__(self) -> ClassificationScores:
        """Top-1, per-class accuracy and confusion of the split."""
        labels, predictions = [], []
        for batch in self.stream.evaluate_batches():
            real = batch["index"] >= 0
            probabilities = self.detect(batch["image"])["probabilities"].numpy()
            labels.append(batch["label"][real])
            predictions.append(probabilities.argmax(axis=1)[real])
        return score_classification(np.concatenate(labels), np.concatenate(predictions), self.dataset.classes)


def to_image_pixels(boxes: np.ndarray, example: Example, size: Sequence[int]) -> np.ndarray:
    """Boxes [n, 4] of a frame of `size` (height, width) as pixels of the example's image file."""
    scale = np.array([example.height / size[0], example.width / size[1]] * 2, np.float32)
    return boxes * scale
