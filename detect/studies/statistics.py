"""Means over seeds with their 95% intervals, and differences paired by seed: Student's t."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A mean of `count` values and half the width of its 95% interval; one value has none: `half` is None."""

    mean: float
    half: float | None
    count: int

    @property
    def low(self) -> float:
        return self.mean - (math.inf if self.half is None else self.half)

    @property
    def high(self) -> float:
        return self.mean + (math.inf if self.half is None else self.half)

    @property
    def resolved(self) -> bool:
        """As a difference: whether its interval lies on one side of 0. One pair resolves nothing."""
        return self.low > 0 or self.high < 0


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean, and t(.975, n - 1) s / sqrt(n) with the sample's own s (n - 1 below); None without values."""
    if not len(values):
        return None
    count = len(values)
    half = None if count < 2 else float(half_width(np.std(values, ddof=1), count))
    return Estimate(float(np.mean(values)), half, count)


def paired(first: Mapping[Key, float], second: Mapping[Key, float]) -> Estimate | None:
    """Mean of first - second over the keys that both have; None where they have none in common.

    A key names what the two share (a seed): pairing takes the noise out that both of a pair have.
    """
    return estimate([value - second[key] for key, value in first.items() if key in second])


def half_width(deviation: Any, count: np.ndarray | int) -> np.ndarray:
    """Half of the interval of a mean from sample deviation and count; NaN for a count below 2."""
    count = np.asarray(count, float)
    quantile = stdtrit(np.where(count > 1, count - 1, np.nan), 0.5 + LEVEL / 2)
    return quantile * deviation / np.sqrt(count)


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low and high end of the interval of each column of values [n, points]; NaN is no value.

    A column with one value is a band without width; one without any is NaN.
    """
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0)
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    squares = (np.where(known, values - mean, 0) ** 2).sum(axis=0)
    half = np.nan_to_num(half_width(np.sqrt(squares / np.maximum(count - 1, 1)), count))
    return mean, mean - half, mean + half


def median_time(times: Sequence[float]) -> float | None:
    """The median; a run that never got there has taken infinitely long. None where half of them did not."""
    middle = float(np.median(times)) if len(times) else math.inf
    return middle if math.isfinite(middle) else None
