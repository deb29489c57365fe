"""Confusion matrix of a detector, with missed boxes and false positives."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from detect.evaluation.matching import NOTHING, Detections, paired

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

    Detections with a score of at least `score_threshold` are matched as in `paired`, with boxes of any class, because
    the matrix must show confused classes; matching within classes shows only misses. A detection without a match is not
    counted if at least `iou_threshold` of its area is in a crowd region.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for example in examples:
        found = detections.get(example.id, NOTHING)
        _, classes, truth, missed = paired(example, found, iou_threshold, score_threshold)
        np.add.at(matrix, (truth[truth >= 0], classes[truth >= 0]), 1)
        matrix[:, 0] += np.bincount(missed, minlength=num_classes + 1)
    return matrix
