"""Confusion matrix of a detector: which class was taken for which, what was missed and what was made up."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from detect.evaluation.matching import NOTHING, Detections, greedy_match, in_crowd
from detect.geometry.boxes import iou

if TYPE_CHECKING:
    from detect.data.dataset import Example


def confusion_matrix(
    examples: "Sequence[Example]",
    detections: Detections,
    num_classes: int,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.5,
) -> np.ndarray:
    """Count truth against prediction over a split.

    examples: the split, boxes [n, 4] yxyx in pixels of the image file. detections: by image id, as
    `CocoEvaluator.detections` holds them; an image without an entry has none.
    Returns int64 [C + 1, C + 1]: rows truth, columns prediction, 0 the background. Row 0 counts detections where
    nothing is, column 0 boxes that were not found; [0, 0] stays 0. Every box that is no crowd region is counted once
    in rows 1..C.

    Detections from `score_threshold` up are taken by descending score (equal scores in the order given). Each takes
    the free box of highest IoU from `iou_threshold` up *whatever its class*, as the matrix is to show which class was
    mistaken for which; matching within classes could only show misses. A detection that matches no box but lies in a
    crowd region by half or more is not counted.
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
