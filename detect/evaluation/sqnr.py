"""How near two results of the same computation are, and how near float rounding alone leaves them.

Kernels of another instruction set, another number of threads or another framework add up the same products in another
order. What that changes depends on the machine, and grows with the sums and with the size of what is summed; so it is
judged in proportion to the result, and never by an absolute number.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


def decibels(signal: float, noise: float) -> float:
    """10 log10 of the ratio of two energies; infinite without noise, and -infinite where there is nothing else."""
    if not noise:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else -float("inf")


def sqnr(reference: Any, found: Any) -> float:
    """Signal to quantisation noise in dB: the energy of `reference` over that of the difference; of one shape."""
    reference, found = np.asarray(reference, np.float64), np.asarray(found, np.float64)
    return decibels(float(np.sum(np.square(reference))), float(np.sum(np.square(found - reference))))


def relative(reference: Any, found: Any) -> float:
    """The largest difference over the largest value of `reference`; infinite where there is nothing but difference."""
    reference, found = np.asarray(reference, np.float64), np.asarray(found, np.float64)
    largest, difference = np.abs(reference).max(initial=0), np.abs(found - reference).max(initial=0)
    if not difference:
        return 0.0
    return float(difference / largest) if largest else float("inf")


@dataclass(frozen=True)
class Limit:
    """What two results must keep to: least SQNR in dB, and the largest difference over the largest value.

    The first notices what is wrong everywhere, the second what is wrong in one value of a thousand.
    """

    sqnr_db: float
    relative: float

    def holds(self, sqnr_db: float, relative: float) -> bool:
        """Whether figures keep to it; NaN does not."""
        return sqnr_db >= self.sqnr_db and relative <= self.relative

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    def __str__(self) -> str:
        return f"an SQNR of at least {self.sqnr_db:g} dB and a difference of at most {self.relative:g}"


# float32 rounds at 2^-24, which is 150 dB. A sum of 2000 products and fifty layers of them cost at most 50 dB, and an
# ill-conditioned network tens more; a wrong layer, padding or scale leaves less than 40.
SAME = Limit(60.0, 1e-3)
# Kernels of float16 are rounded at 2^-11: 74 dB a layer. The noise of fifty layers, were it all to reach the end,
# leaves 57, and what is beyond that is the network's own condition, as above.
SAME_IN_FLOAT16 = Limit(40.0, 1e-2)
