"""Matches detections to the ground truth, and ranks them for precision and recall."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detect.geometry.boxes import area, intersection, iou

if TYPE_CHECKING:
    from detect.data.examples import Example

# image id -> boxes float32 [n, 4] yxyx in pixels of the image file, scores float32 [n], classes int32 [n] in 1..C
Detections = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
NOTHING = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
MOST_DETECTIONS = 100  # per image and class, as in COCO


@dataclass(frozen=True)
class Ranking:
    """All detections of one class at IoU .5, best score first, without those in a crowd region.

    scores: float32 [n], descending. hits: bool [n], True if the detection matches a box. boxes: number of true boxes.
    """

    scores: np.ndarray
    hits: np.ndarray
    boxes: int


def in_crowd(boxes: np.ndarray, crowds: np.ndarray, threshold: float, allowed: np.ndarray | bool = True) -> np.ndarray:
    """bool [n]: True for boxes [n, 4] with at least `threshold` of their own area in one of the crowd regions [m, 4].

    This is COCO's rule for crowds: a detection must be in the region but need not cover it. allowed: bool [n, m], the
    pairs to compare.
    """
    if not len(crowds):
        return np.zeros(len(boxes), bool)
    shares = intersection(boxes, crowds, float) / np.maximum(area(boxes, float), 1e-9)[:, None]
    inside: np.ndarray = (shares * allowed >= threshold).any(axis=1)
    return inside


def greedy_match(similarity: np.ndarray, threshold: float) -> np.ndarray:
    """Match every row, in order, to its most similar free column of at least the threshold: int64 [n], -1 for none.

    Of equally similar columns it takes the last, as COCO does.
    """
    free = similarity.copy()
    match = np.full(len(similarity), -1)
    for row in np.flatnonzero((similarity >= threshold).any(axis=1)):
        column = free.shape[1] - 1 - int(free[row, ::-1].argmax())
        if free[row, column] >= threshold:
            match[row] = column
            free[:, column] = -1
    return match


def paired(
    example: "Example", found: tuple[np.ndarray, np.ndarray, np.ndarray], threshold: float, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs the detections (boxes, scores, classes) of one image with its boxes of *any class*.

    Detections with a score of at least `level` are matched by descending score (equal scores in the given order). Each
    matches the free box outside of crowd regions with the highest IoU of at least `threshold`.
    Returns scores [n], classes [n], the class of each one's box [n], and the classes of the boxes without a detection
    [m]. The class of a box is 0 for a detection without one, and -1 if that detection is in a crowd region.
    """
    boxes, scores, classes = found
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= level]
    boxes, scores, classes = boxes[order], scores[order], classes[order]
    labels = example.classes[~example.crowd]
    match = greedy_match(iou(boxes, example.boxes[~example.crowd]), threshold)
    hit = match >= 0
    truth = np.where(in_crowd(boxes, example.boxes[example.crowd], threshold), -1, 0)
    truth[hit] = labels[match[hit]]
    return scores, classes, truth, np.delete(labels, match[hit])


def rank(examples: "Sequence[Example]", detections: Detections, classes: Sequence[str]) -> dict[str, Ranking]:
    """Ranks the detections of each class and marks the hits at IoU .5, by image and class as COCO does."""
    parts = [(np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, bool))]
    boxes = np.zeros(len(classes) + 1, int)
    for example in examples:
        np.add.at(boxes, example.classes[~example.crowd], 1)
        if example.id in detections:
            scores, kinds, hits, counted = matched(example, *detections[example.id], [0.5])
            parts.append((scores[counted[0]], kinds[counted[0]], hits[0, counted[0]]))
    scores, kinds, hits = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(-scores, kind="stable")
    scores, kinds, hits = scores[order], kinds[order], hits[order]
    return {
        name: Ranking(scores[kinds == kind], hits[kinds == kind], int(boxes[kind]))
        for kind, name in enumerate(classes, 1)
    }


def matched(
    example: "Example", boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, thresholds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores [n], classes [n], hits bool [T, n] and counted bool [T, n] of the detections of one image, best first.

    Of each class, the MOST_DETECTIONS best are there. counted: False for those that COCO ignores at a threshold.
    """
    order = np.argsort(-scores, kind="stable")
    if len(order) > MOST_DETECTIONS:
        of_class = classes[order][:, None] == np.unique(classes)
        place = (np.cumsum(of_class, axis=0) * of_class).max(axis=1)  # 1 for the best of its class
        order = order[place <= MOST_DETECTIONS]
    boxes, scores, classes = boxes[order], scores[order], classes[order]
    same = classes[:, None] == example.classes
    real = ~example.crowd
    shared, crowds = iou(boxes, example.boxes[real], float) * same[:, real], example.boxes[~real]
    hits = np.array([greedy_match(shared, threshold) >= 0 for threshold in thresholds]).reshape(
        len(thresholds), len(boxes)
    )
    ignored = np.array([in_crowd(boxes, crowds, threshold, same[:, ~real]) for threshold in thresholds])
    return scores, classes, hits, hits | ~ignored.reshape(len(thresholds), len(boxes))
