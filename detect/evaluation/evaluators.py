"""Runs a model over a split and scores it."""

import numpy as np
import tensorflow as tf

from detect.data.augment import Augment
from detect.data.dataset import ClassificationDataset, DetectionDataset
from detect.data.pipeline import ClassificationStream, DetectionStream
from detect.evaluation.classification import ClassificationScores, score_classification
from detect.evaluation.coco import CocoEvaluator, Scores
from detect.evaluation.interface import Detect
from detect.geometry.frame import Frame


def traced(detect: Detect) -> Detect:
    """`detect` as a graph function. One that already is a graph function is returned as it is, so that evaluators which
    get the same one share its graphs."""
    graph: Detect = (
        detect
        if isinstance(detect, tf.types.experimental.PolymorphicFunction)
        else tf.function(detect, autograph=False)
    )
    return graph


class DetectionEvaluator:
    """Scores a detector on one split, in pixels of the image files.

    detect: image [B, H, W, 3] of the frame, uint8 (float32 where its mode is `zoo`) -> detections in pixels of the
        frame (`detect.modeling.nms`).
    frame: it resizes images to the network's input and converts boxes.
    """

    def __init__(
        self, detect: Detect, frame: Frame, dataset: DetectionDataset, split: str, batch_size: int, threads: int = 2
    ):
        self.dataset, self.examples, self.frame = dataset, dataset.splits[split], frame
        self.stream = DetectionStream(
            self.examples,
            size=frame.size,
            batch_size=batch_size,
            augment=Augment(),
            threads=threads,
            shuffle=False,
            resize=frame.mode,
            exact=True,
        )
        self.detect = traced(detect)

    def __call__(self) -> tuple[Scores, CocoEvaluator]:
        """Returns the scores, and the evaluator with the detections of every image."""
        evaluator = CocoEvaluator(self.examples, self.dataset.classes)
        for batch in self.stream.evaluate_batches():
            found = {name: value.numpy() for name, value in self.detect(batch["image"]).items()}
            for row, index in enumerate(batch["index"]):
                if index >= 0:
                    example, count = self.examples[index], found["count"][row]
                    boxes, scores, classes = (found[name][row, :count] for name in ("boxes", "scores", "classes"))
                    inside = self.frame.found(boxes, scores, classes, example.height, example.width)
                    evaluator.add(example.id, *inside)
        return evaluator.result(), evaluator


class ClassificationEvaluator:
    """Scores a classifier on one split."""

    def __init__(
        self,
        detect: Detect,
        size: tuple[int, int],
        dataset: ClassificationDataset,
        split: str,
        batch_size: int,
        threads: int = 2,
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
        self.detect = traced(detect)

    def __call__(self) -> ClassificationScores:
        """Top-1, per-class accuracy and confusion of the split."""
        labels, predictions = [], []
        for batch in self.stream.evaluate_batches():
            real = batch["index"] >= 0
            probabilities = self.detect(batch["image"])["probabilities"].numpy()
            labels.append(batch["label"][real])
            predictions.append(probabilities.argmax(axis=1)[real])
        return score_classification(np.concatenate(labels), np.concatenate(predictions), self.dataset.classes)
