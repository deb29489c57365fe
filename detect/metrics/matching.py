"""Matching of detections to ground truth, and the ranking of detections that precision and recall come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detect.boxes import area, intersection, iou

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


def in_crowd(boxes: np.ndarray, crowds: np.ndarray, threshold: float) -> np.ndarray:
    """Which boxes [n, 4] lie in one of the crowd regions [m, 4] with at least `threshold` of their own area: bool [n].

    It is COCO's measure for crowds: a detection need not cover the region, only lie in it.
    """
    return (intersection(boxes, crowds) >= threshold * np.maximum(area(boxes), 1e-9)[:, None]).any(axis=1)


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
    examples: "Sequence[Example]",
    detections: Detections,
    classes: Sequence[str],
    threshold: float = 0.5,
) -> dict[str, Ranking]:
    """Which detections of each class are hits at one IoU threshold, matched within image and class as COCO does."""
    scores: list[list[np.ndarray]] = [[] for _ in classes]
    hits: list[list[np.ndarray]] = [[] for _ in classes]
    boxes = np.zeros(len(classes), int)
    for example in examples:
        np.add.at(boxes, example.classes[~example.crowd] - 1, 1)
        found = detections.get(example.id)
        if found is None:
            continue
        order = np.argsort(-found[1], kind="stable")
        found_boxes, found_scores, found_classes = (part[order] for part in found)
        for kind in np.unique(found_classes).tolist():
            mine = np.flatnonzero(found_classes == kind)[:MOST_DETECTIONS]
            there = example.classes == kind
            hit, keep = _hits(found_boxes[mine], example.boxes[there], example.crowd[there], threshold)
            scores[kind - 1].append(found_scores[mine][keep])
            hits[kind - 1].append(hit[keep])
    rankings = {}
    for index, name in enumerate(classes):
        score = np.concatenate([np.zeros(0, np.float32), *scores[index]])
        hit = np.concatenate([np.zeros(0, bool), *hits[index]])
        order = np.argsort(-score, kind="stable")
        rankings[name] = Ranking(score[order], hit[order], int(boxes[index]))
    return rankings


def _hits(boxes: np.ndarray, truth: np.ndarray, crowd: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """For detections of one class, best first: which found a box, and which count at all (not lost in a crowd)."""
    hit = greedy_match(iou(boxes, truth[~crowd]), threshold) >= 0
    return hit, hit | ~in_crowd(boxes, truth[crowd], threshold)
