"""Matching of detections to ground truth, and the ranking of detections that precision and recall come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detect.geometry.boxes import area, intersection, iou

if TYPE_CHECKING:
    from detect.data.dataset import Example

# image id -> boxes float32 [n, 4] yxyx in pixels of the image file, scores float32 [n], classes int32 [n] in 1..C
Detections = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
NOTHING = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
MOST_DETECTIONS = 100  # per image and class, as COCO counts them


@dataclass(frozen=True)
class Ranking:
    """All detections of one class at IoU .5, best score first; those that fall on a crowd region are left out.

    scores: float32 [n], descending. hits: bool [n], true where the detection found a box. boxes: the number to find.
    """

    scores: np.ndarray
    hits: np.ndarray
    boxes: int


def in_crowd(boxes: np.ndarray, crowds: np.ndarray, threshold: float, allowed: np.ndarray | bool = True) -> np.ndarray:
    """Which boxes [n, 4] lie in one of the crowd regions [m, 4] with at least `threshold` of their own area: bool [n].

    It is COCO's measure for crowds: a detection need not cover the region, only lie in it. allowed: bool [n, m], which
    pairs count.
    """
    if not len(crowds):
        return np.zeros(len(boxes), bool)
    shared = intersection(boxes, crowds) * allowed
    return (shared >= threshold * np.maximum(area(boxes), 1e-9)[:, None]).any(axis=1)


def greedy_match(similarity: np.ndarray, threshold: float) -> np.ndarray:
    """Give every row, in order, its most similar column that is free and reaches the threshold: int64 [n], -1 for none.

    Of equally similar columns the first is taken, so the result depends on the order of the input alone.
    """
    free = similarity.copy()
    match = np.full(len(similarity), -1)
    for row in np.flatnonzero((similarity >= threshold).any(axis=1)):
        column = int(free[row].argmax())
        if free[row, column] >= threshold:
            match[row] = column
            free[:, column] = -1
    return match


def rank(
    examples: "Sequence[Example]", detections: Detections, classes: Sequence[str], threshold: float = 0.5
) -> dict[str, Ranking]:
    """Which detections of each class are hits at one IoU threshold, matched within image and class as COCO does."""
    parts = [(np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, bool))]
    boxes = np.zeros(len(classes) + 1, int)
    for example in examples:
        np.add.at(boxes, example.classes[~example.crowd], 1)
        if example.id in detections:
            parts.append(_hits(example, *detections[example.id], threshold))
    scores, kinds, hits = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(-scores, kind="stable")
    scores, kinds, hits = scores[order], kinds[order], hits[order]
    return {
        name: Ranking(scores[kinds == kind], hits[kinds == kind], int(boxes[kind]))
        for kind, name in enumerate(classes, 1)
    }


def _hits(
    example: "Example", boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, classes and hits of the detections of one image that count, best first."""
    order = np.argsort(-scores, kind="stable")
    if len(order) > MOST_DETECTIONS:
        of_class = classes[order][:, None] == np.unique(classes)
        place = (np.cumsum(of_class, axis=0) * of_class).max(axis=1)  # 1 for the best of its class
        order = order[place <= MOST_DETECTIONS]
    boxes, scores, classes = boxes[order], scores[order], classes[order]
    same = classes[:, None] == example.classes
    real = ~example.crowd
    hit = greedy_match(iou(boxes, example.boxes[real]) * same[:, real], threshold) >= 0
    keep = hit | ~in_crowd(boxes, example.boxes[~real], threshold, same[:, ~real])
    return scores[keep], classes[keep], hit[keep]
