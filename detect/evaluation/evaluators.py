"""Runs a model over a split and scores it."""

import numpy as np
import tensorflow as tf

from detect.data.augment import Augment
from detect.data.classification_stream import ClassificationStream
from detect.data.dataset import ClassificationDataset, DetectionDataset
from detect.data.pipeline import DetectionStream
from detect.evaluation.classification import ClassificationScores, score_classification
from detect.evaluation.coco import CocoEvaluator, Scores
from detect.evaluation.interface import Detect, Value, Workers
from detect.geometry.frame import Frame


class Alone:
    """One process with one device: the default of `detect.evaluation.interface.Workers`."""

    shard = (0, 1)

    def gather(self, value: Value) -> list[Value]:
        """The value alone."""
        return [value]

    def inference(self, detect: Detect) -> Detect:
        """`detect` as a graph function."""
        traced = isinstance(detect, tf.types.experimental.PolymorphicFunction)
        return detect if traced else tf.function(detect, autograph=False)


class DetectionEvaluator:
    """Scores a detector on one split, in pixels of the image files.

    detect: image [B, H, W, 3] of the frame, uint8 (float32 where its mode is `zoo`) -> detections in pixels of the
        frame (`detect.modeling.nms`).
    frame: it resizes images to the network's input and converts boxes.
    threads: those that decode images.
    workers: the processes that share the split; each of them gets the scores of all images.
    exact: whether the detector sees the levels of `zoo` between two whole ones; a file that takes uint8 does not.
    """

    def __init__(
        self,
        detect: Detect,
        frame: Frame,
        dataset: DetectionDataset,
        split: str,
        batch_size: int,
        threads: int,
        workers: Workers | None = None,
        exact: bool = True,
    ):
        self.dataset, self.examples, self.frame = dataset, dataset.splits[split], frame
        self.workers = workers or Alone()
        self.stream = DetectionStream(
            self.examples,
            size=frame.size,
            batch_size=batch_size,
            augment=Augment(),
            threads=threads,
            shuffle=False,
            shard=self.workers.shard,
            resize=frame.mode,
            exact=exact,
        )
        self.detect = self.workers.inference(detect)

    def __call__(self) -> tuple[Scores, CocoEvaluator]:
        """Returns the scores, and the evaluator with the detections of every image."""
        own = CocoEvaluator(self.examples, self.dataset.classes)
        for batch in self.stream.evaluate_batches():
            found = {name: value.numpy() for name, value in self.detect(batch["image"]).items()}
            for row, index in enumerate(batch["index"]):
                if index >= 0:
                    example, count = self.examples[index], found["count"][row]
                    boxes, scores, classes = (found[name][row, :count] for name in ("boxes", "scores", "classes"))
                    inside = self.frame.found(boxes, scores, classes, example.height, example.width)
                    own.add(example.id, *inside)
        parts = self.workers.gather(own.detections)
        if len(parts) == 1:
            return own.result(), own
        whole = CocoEvaluator(self.examples, self.dataset.classes)
        for name, detections in (pair for part in parts for pair in part.items()):
            whole.add(name, *detections)
        return whole.result(), whole


class ClassificationEvaluator:
    """Scores a classifier on one split."""

    def __init__(
        self,
        detect: Detect,
        size: tuple[int, int],
        dataset: ClassificationDataset,
        split: str,
        batch_size: int,
        threads: int,
        workers: Workers | None = None,
    ):
        self.dataset, self.examples = dataset, dataset.splits[split]
        self.workers = workers or Alone()
        self.stream = ClassificationStream(
            self.examples,
            num_classes=dataset.num_classes,
            size=size,
            batch_size=batch_size,
            augment=Augment(),
            threads=threads,
            balanced=False,
            shard=self.workers.shard,
        )
        self.detect = self.workers.inference(detect)

    def __call__(self) -> ClassificationScores:
        """Top-1, per-class accuracy and confusion of the split."""
        labels, predictions = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        for batch in self.stream.evaluate_batches():
            real = batch["index"] >= 0
            probabilities = self.detect(batch["image"])["probabilities"].numpy()
            labels.append(batch["label"][real])
            predictions.append(probabilities.argmax(axis=1)[real])
        parts = self.workers.gather([np.concatenate(labels), np.concatenate(predictions)])
        truth, found = (np.concatenate(values) for values in zip(*parts, strict=True))
        return score_classification(truth, found, self.dataset.classes)
