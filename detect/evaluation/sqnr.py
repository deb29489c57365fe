"""The difference between two results of the same computation, and its limits if only float rounding differs.

Kernels for another instruction set, number of threads or framework add the same products in another order. The
resulting difference depends on the machine, and grows with the number and the size of the terms. So the limits are
relative to the result, not absolute.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike


def decibels(signal: float, noise: float) -> float:
    """10 log10 of the ratio of two energies; infinite without noise, else -infinite without signal."""
    if not noise:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else -float("inf")


def sqnr(reference: ArrayLike, found: ArrayLike) -> float:
    """Signal to quantisation noise in dB: the energy of `reference` over that of the difference, for equal shapes."""
    reference, found = np.asarray(reference, np.float64), np.asarray(found, np.float64)
    return decibels(float(np.sum(np.square(reference))), float(np.sum(np.square(found - reference))))


def relative(reference: ArrayLike, found: ArrayLike) -> float:
    """The largest difference over the largest value of `reference`; infinite if only `found` is not 0."""
    reference, found = np.asarray(reference, np.float64), np.asarray(found, np.float64)
    largest, difference = np.abs(reference).max(initial=0), np.abs(found - reference).max(initial=0)
    if not difference:
        return 0.0
    return float(difference / largest) if largest else float("inf")


@dataclass(frozen=True)
class Limit:
    """Limits for two results: the smallest SQNR in dB, and the largest difference over the largest value.

    The first detects errors in all values, the second an error in one value of a thousand.
    """

    sqnr_db: float
    relative: float

    def holds(self, sqnr_db: float, relative: float) -> bool:
        """True if the figures are within the limits; False for NaN."""
        return sqnr_db >= self.sqnr_db and relative <= self.relative

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    def __str__(self) -> str:
        return f"an SQNR of at least {self.sqnr_db:g} dB and a difference of at most {self.relative:g}"


# float32 rounds at 2^-24, which is 150 dB. Fifty layers with sums of 2000 products cost at most 50 dB, and an
# ill-conditioned network costs tens of dB more. A wrong layer, padding or scale results in less than 40 dB.
SAME = Limit(60.0, 1e-3)
# float16 kernels are rounded at 2^-11, which is 74 dB per layer. If the noise of fifty layers adds up, 57 dB remain.
# The rest is for the network's condition, as above.
SAME_IN_FLOAT16 = Limit(40.0, 1e-2)
