"""Means over seeds with 95% intervals (Student's t), and differences paired by seed."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import nctdtrinc, stdtrit

LEVEL, POWER = 0.95, 0.8
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A mean of `count` values. half: half of the width of its 95% interval; None for a single value."""

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
    def deviation(self) -> float | None:
        """The sample deviation of the values; None for a single value."""
        return None if self.half is None else self.half / float(half_width(1.0, self.count))

    @property
    def resolved(self) -> bool:
        """For a difference: whether 0 is outside of the interval. A single pair is never resolved."""
        return self.low > 0 or self.high < 0


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean, and t(.975, n - 1) s / sqrt(n) with the sample deviation s (n - 1 degrees); None without values."""
    if not len(values):
        return None
    count = len(values)
    half = None if count < 2 else float(half_width(np.std(values, ddof=1), count))
    return Estimate(float(np.mean(values)), half, count)


def paired(first: Mapping[Key, float], second: Mapping[Key, float]) -> Estimate | None:
    """Mean of first - second over the keys that both have; None without a common key.

    A key names a shared setting (a seed). Pairing removes the noise that both values of a pair share.
    """
    return estimate([value - second[key] for key, value in first.items() if key in second])


def half_width(deviation: ArrayLike, count: np.ndarray | int) -> np.ndarray:
    """Half of the width of a mean's interval, from sample deviation and count; NaN for a count below 2."""
    count = np.asarray(count, float)
    quantile = stdtrit(np.where(count > 1, count - 1, np.nan), 0.5 + LEVEL / 2)
    return quantile * deviation / np.sqrt(count)


def detectable(deviation: float, count: int) -> float:
    """The true mean whose interval excludes 0 in 80% of samples of `count` values, from their deviation.

    It is the noncentrality of a t-test at that power, times deviation / sqrt(count). count: at least 2.
    """
    quantile = stdtrit(count - 1, 0.5 + LEVEL / 2)
    return float(nctdtrinc(count - 1, 1 - POWER, quantile)) * deviation / math.sqrt(count)


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low end and high end of the interval for each column of values [n, points]; a NaN is a missing value.

    For a column with one value, the three are equal. For a column without values, they are NaN.
    """
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0)
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    squares = (np.where(known, values - mean, 0) ** 2).sum(axis=0)
    half = np.nan_to_num(half_width(np.sqrt(squares / np.maximum(count - 1, 1)), count))
    return mean, mean - half, mean + half


def median_time(times: Sequence[float]) -> float | None:
    """The median time; a run that never reaches the score has an infinite time. None if the median is infinite."""
    middle = float(np.median(times)) if len(times) else math.inf
    return middle if math.isfinite(middle) else None
