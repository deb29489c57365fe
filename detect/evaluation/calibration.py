"""From scores to probabilities: of the detections with a calibrated score of .7, seven of ten are right.

Temperature scaling (Guo et al. 2017) with a bias (Platt 1999): a detector's false positives shift all scores, which a
temperature alone can't mend. The order of the detections stays, and so does AP.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST = 0.05
"""Detections with a lower score are not looked at: there are very many, and nobody sees them."""
FEWEST = 20  # detections that a fit needs, and right and wrong ones among them
BINS = 10
STEEPEST = 100.0  # legal slopes are up to this, and biases as well
EDGE = 1e-7  # scores are kept so far from 0 and 1


@dataclass(frozen=True)
class Calibration:
    """probability = sigmoid(slope * logit(score) + bias). 1 / slope is the temperature.

    error_before, error_after: the expected calibration error on the images of the fit, with BINS bins (`error`).
    """

    slope: float
    bias: float
    error_before: float
    error_after: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Scores [n] in 0..1 to probabilities [n], float32."""
        return sigmoid(self.slope * logit(scores) + self.bias).astype(np.float32)

    @classmethod
    def fit(cls, scores: np.ndarray, hits: np.ndarray) -> "Calibration | None":
        """The maximum likelihood for scores [n] with hits bool [n]; None if too few are right or wrong.

        Newton's method on a convex function of two variables, with a little weight decay, so that scores that separate
        right from wrong fully have a solution.
        """
        seen = scores >= LEAST
        x, y = logit(scores[seen]), hits[seen].astype(float)
        if len(y) < FEWEST or not 0 < y.sum() < len(y):
            return None
        inputs = np.stack([x, np.ones_like(x)], axis=1)
        start, decay = np.array([1.0, 0.0]), 1e-3
        found = start.copy()
        for _ in range(100):
            p = sigmoid(inputs @ found)
            gradient = inputs.T @ (p - y) + decay * (found - start)
            curvature = (inputs * (p * (1 - p))[:, None]).T @ inputs + decay * np.eye(2)
            step = np.linalg.solve(curvature, gradient)
            found -= step * min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-12))
            if np.abs(step).max() < 1e-9:
                break
        slope, bias = (float(v) for v in found)
        if not 0 < slope <= STEEPEST or abs(bias) > STEEPEST:  # scores that say the contrary of what is right
            return None
        after = sigmoid(slope * x + bias)
        return cls(slope, bias, error(scores[seen], hits[seen]), error(after, hits[seen]))

    @classmethod
    def read(cls, said: object) -> "Calibration | None":
        """The calibration in a JSON value; None for null. Raises ValueError, which says what is legal."""
        if said is None:
            return None
        names = tuple(cls.__dataclass_fields__)
        values: list[Any] = [said.get(name) if isinstance(said, Mapping) else None for name in names]
        if not all(type(v) in (int, float) and math.isfinite(v) and abs(v) <= STEEPEST for v in values):
            raise ValueError(f"its calibration must have {', '.join(names)}, numbers of at most {STEEPEST:g}")
        if not values[0] > 0:
            raise ValueError("its calibration must have a slope above 0")
        return cls(*(float(v) for v in values))


def reliability(scores: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each of the BINS equal parts of 0..1 with a detection: mean score, share of hits, and count."""
    place = np.minimum((np.asarray(scores, float) * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    there = count > 0
    mean = np.bincount(place, scores, BINS)[there] / count[there]
    share = np.bincount(place, hits.astype(float), BINS)[there] / count[there]
    return mean, share, count[there]


def error(scores: np.ndarray, hits: np.ndarray) -> float:
    """The expected calibration error: the mean distance of score and share of hits over bins, by their counts."""
    mean, share, count = reliability(scores, hits)
    return float((np.abs(mean - share) * count).sum() / max(count.sum(), 1))


def logit(scores: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) in float64."""
    kept = np.clip(np.asarray(scores, np.float64), EDGE, 1 - EDGE)
    result: np.ndarray = np.log(kept / (1 - kept))
    return result


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) in float64, without overflow."""
    result: np.ndarray = 0.5 * (1 + np.tanh(0.5 * np.asarray(x, np.float64)))
    return result
