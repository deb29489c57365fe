"""Confusion matrix of a detector, with missed boxes and false positives."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from detect.evaluation.matching import NOTHING, Detections, greedy_match, in_crowd
from detect.geometry.boxes import iou

if TYPE_CHECKING:
    from detect.data.examples import Example


def confusion_matrix(
    examples: "Sequence[Example]",
    detections: Detections,
    num_classes: int,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.5,
) -> np.ndarray:
    """Counts the pairs of true and predicted class over a split.

    examples: the split, boxes [n, 4] yxyx in pixels of the image file. detections: by image id, as in
    `CocoEvaluator.detections`; an image without an entry has none.
    Returns int64 [C + 1, C + 1]: rows truth, columns prediction, 0 is the background. Row 0 counts false positives
    without a box, column 0 counts missed boxes, and [0, 0] is 0. Every box except crowd regions is counted once in
    rows 1..C.

    Detections with a score of at least `score_threshold` are matched by descending score (equal scores in the given
    order). Each matches the free box of *any class* with the highest IoU of at least `iou_threshold`, because the
    matrix must show confused classes; matching within classes shows only misses. A detection without a match is not
    counted if at least `iou_threshold` of its area is in a crowd region.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for example in examples:
        boxes, scores, classes = detections.get(example.id, NOTHING)
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= score_threshold]
        boxes, classes = boxes[order], classes[order]
        truth, truth_classes = example.boxes[~example.crowd], example.classes[~example.crowd]
        match = greedy_match(iou(boxes, truth), iou_threshold)
        found = match >= 0
        made_up = ~found & ~in_crowd(boxes, example.boxes[example.crowd], iou_threshold)
        np.add.at(matrix, (truth_classes[match[found]], classes[found]), 1)
        np.add.at(matrix, (np.zeros_like(classes[made_up]), classes[made_up]), 1)
        missed = np.delete(truth_classes, match[found])
        np.add.at(matrix, (missed, np.zeros_like(missed)), 1)
    return matrix
