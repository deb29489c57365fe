"""Whether two detectors that should be the same find the same boxes, however rounding decides the ties."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from detect.evaluation.sqnr import SAME, relative, sqnr

SHOWN = 20  # best detections of a frame that are compared
NEAR = 1e-3  # of the frame's longer side: how far apart the boxes of a pair may be
PARTNERS = 0.95  # least share of the detections that are in a pair
Frame = tuple[np.ndarray, np.ndarray, np.ndarray]


def agreement(reference: Sequence[Frame], found: Sequence[Frame], side: float, shown: int = SHOWN) -> dict[str, float]:
    """Compares the best detections of each frame by pairs: the same class, and the box at the same place.

    Two boxes of nearly equal scores, or an overlap at the threshold, are a tie that float rounding decides: suppression
    then keeps the other box, and another one further down. So a few detections may be without a partner, and the scores
    are compared in pairs, not in order.

    reference, found: (boxes [n, 4], scores [n], classes [n]) of each frame, best first.
    side: of the frame, in the unit of the boxes. shown: how many of each frame's best are compared.
    Returns `partners`, the share of the best detections of both sides that are in a pair, and of the scores of the
    pairs `largest_score_difference`, `relative` and `sqnr_db`.
    """
    sought, pairs = 0, []
    for a, b in zip(reference, found, strict=True):
        for ours, theirs, order in ((a, b, 1), (b, a, -1)):
            best = tuple(part[:shown] for part in ours)
            sought += len(best[1])
            pairs += [pair[::order] for pair in _pairs(best, theirs, NEAR * side)]
    wanted, got = np.array(pairs, np.float64).reshape(-1, 2).T
    return {
        "partners": len(pairs) / sought if sought else 1.0,
        "largest_score_difference": float(np.abs(got - wanted).max(initial=0)),
        "relative": relative(wanted, got),
        "sqnr_db": sqnr(wanted, got),
    }


def _pairs(ours: tuple[np.ndarray, ...], theirs: Frame, near: float) -> list[tuple[float, float]]:
    """The scores of those of our detections that are among theirs, beside the scores that they have there."""
    pairs = []
    for box, score, kind in zip(*ours, strict=True):
        candidates = np.flatnonzero(theirs[2] == kind)
        distances = np.abs(theirs[0][candidates] - box).max(axis=1)
        if len(candidates) and distances.min() <= near:  # NaN is not
            pairs.append((float(score), float(theirs[1][candidates[distances.argmin()]])))
    return pairs


def disagreement(found: dict[str, Any]) -> str | None:
    """What is wrong where `agreement` is less than float rounding and ties explain."""
    if found["partners"] < PARTNERS:
        return (
            f"{found['partners']:.0%} of its best detections and the run's are found by both; at least {PARTNERS:.0%} "
            "is legal"
        )
    if not SAME.holds(found["sqnr_db"], found["relative"]):
        return (
            f"its scores have {found['sqnr_db']:.1f} dB and {found['relative']:.1e}: SQNR to the run's, and the "
            f"largest difference over the largest; legal are {SAME}"
        )
    return None
