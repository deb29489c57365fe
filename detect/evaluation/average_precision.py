"""AP of ranked detections, with a weight for each image: 1 for each is COCO's AP, other weights are resamples.

A resample that holds an image w times has the AP of a list in which each of its detections and boxes stands w times
(equal scores stand side by side). So a bootstrap needs no second matching and no sorting, only weighted sums.
"""

from dataclasses import dataclass

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
"""The grids of COCO's AP."""
AT_ONCE = 20_000_000  # numbers of the largest array


@dataclass(frozen=True)
class Ranked:
    """The detections of one class, best score first, matched at T IoU thresholds.

    images: int [n], the place of each detection's image in the split. hits: bool [T, n]. counted: bool [T, n], False
    where COCO ignores a detection, in a crowd region. boxes: int [images], the true boxes of each image without crowds.
    """

    images: np.ndarray
    hits: np.ndarray
    counted: np.ndarray
    boxes: np.ndarray

    def ap(self, weights: np.ndarray) -> np.ndarray:
        """AP at each threshold, float64 [R, T], NaN where no image with a box has a weight.

        weights: int [R, images], how often each of R resamples holds each image.
        """
        step = max(1, AT_ONCE // max(1, len(self.images), weights.shape[1]))
        parts = [self._ap(weights[start : start + step]) for start in range(0, len(weights), step)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.hits)))

    def _ap(self, weights: np.ndarray) -> np.ndarray:
        there = np.flatnonzero(self.boxes)
        boxes = weights[:, there] @ np.asarray(self.boxes, np.int64)[there]
        of_detection = weights[:, self.images]
        everyone = np.cumsum(of_detection, axis=1, dtype=np.int32)
        needed = _needed(boxes)
        result = np.empty((len(weights), len(self.hits)))
        for place, (hits, counted) in enumerate(zip(self.hits, self.counted, strict=True)):
            at, ignored = np.flatnonzero(hits), np.flatnonzero(~counted)
            left_out = np.cumsum(of_detection[:, ignored], axis=1, dtype=np.int32)
            left_out = np.pad(left_out, ((0, 0), (1, 0)))[:, np.searchsorted(ignored, at)]
            shown, true = everyone[:, at] - left_out, np.cumsum(of_detection[:, at], axis=1, dtype=np.int64)
            result[:, place] = _interpolated(true, shown, needed)
        result[boxes == 0] = np.nan
        return result


def average_precision(hits: np.ndarray, boxes: int, recalls: np.ndarray = RECALLS) -> float:
    """COCO's AP at one IoU threshold: the mean over 101 recalls of the highest precision at that recall or more.

    hits: bool [n], best score first. boxes: how many there are, at least 1. recalls: float64 [k], ascending.
    """
    true = np.cumsum(hits)[None, hits]
    shown = np.flatnonzero(hits)[None] + 1
    return float(_interpolated(true, shown, _needed(np.array([boxes]), recalls))[0])


def _needed(boxes: np.ndarray, recalls: np.ndarray = RECALLS) -> np.ndarray:
    """The fewest hits with a recall of each of `recalls` or more, int [R, k], as COCO's comparison of floats has it."""
    most = np.maximum(boxes, 1)[:, None]
    guess = np.ceil(recalls * most).astype(np.int64)
    guess += guess / most < recalls  # the product is rounded, and may be a little too small or too large
    fewest: np.ndarray = guess - ((guess - 1) / most >= recalls) * (guess > 0)
    return fewest


def _interpolated(true: np.ndarray, shown: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """AP [R] from the counts at each hit: true [R, m] and shown [R, m] detections so far; needed: `_needed`."""
    rows, hits = true.shape
    if not hits:
        return np.zeros(rows)
    precision = true / np.maximum(shown, 1)  # a hit of an image without a weight repeats the value before it, or is 0
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.concatenate([envelope, np.zeros((rows, 1))], axis=1)
    # One search for all rows: each row's counts are moved above those of the rows before it.
    above = (int(true.max()) + int(needed.max()) + 2) * np.arange(rows, dtype=np.int64)[:, None]
    flat = np.searchsorted((true + above).ravel(), (needed + above).ravel(), side="left")
    place = np.minimum(flat.reshape(needed.shape) - hits * np.arange(rows)[:, None], hits)
    result: np.ndarray = np.take_along_axis(envelope, place, axis=1).mean(axis=1)
    return result
