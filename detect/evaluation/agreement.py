"""Tests if two detectors that should be equal find the same boxes, except for ties that rounding decides."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from detect.evaluation.sqnr import SAME, relative, sqnr

SHOWN = 20  # number of best detections of a frame that are compared
NEAR = 1e-3  # largest distance of the boxes of a pair, as a share of the frame's longer side
LIMIT = {"partners": 0.95, **SAME.to_dict()}  # partners: smallest share of the detections that must be in a pair
ROUNDED = {"partners": 0.5}  # of 8 bits: many scores are equal, and float noise decides a value between two steps
NOTHING = "nothing was found on the compared images, so no detections were compared"
Frame = tuple[np.ndarray, np.ndarray, np.ndarray]


class Agreement(TypedDict):
    """How far two detectors agree; see `agreement`."""

    partners: float | None
    largest_score_difference: float
    relative: float
    sqnr_db: float


def agreement(reference: Sequence[Frame], found: Sequence[Frame], side: float, shown: int = SHOWN) -> Agreement:
    """Compares the best detections of each frame in pairs of the same class with the box at the same place.

    Float rounding decides between two boxes of nearly equal scores, and at an overlap near the threshold. Non-maximum
    suppression then keeps another box, and this can change later ones. So a few detections may have no partner, and
    the scores are compared in pairs, not in order.

    reference, found: (boxes [n, 4], scores [n], classes [n]) of each frame, best first.
    side: longer side of the frame, in the unit of the boxes. shown: number of best detections to compare per frame.
    Returns `partners`, the share of the best detections of both detectors that are in a pair, None if neither finds
    anything, and for the scores of the pairs `largest_score_difference`, `relative` and `sqnr_db`.
    """
    sought, pairs = 0, []
    for a, b in zip(reference, found, strict=True):
        for ours, theirs, order in ((a, b, 1), (b, a, -1)):
            best = tuple(part[:shown] for part in ours)
            sought += len(best[1])
            pairs += [pair[::order] for pair in _pairs(best, theirs, NEAR * side)]
    wanted, got = np.array(pairs, np.float64).reshape(-1, 2).T
    return {
        "partners": len(pairs) / sought if sought else None,
        "largest_score_difference": float(np.abs(got - wanted).max(initial=0)),
        "relative": relative(wanted, got),
        "sqnr_db": sqnr(wanted, got),
    }


def _pairs(ours: tuple[np.ndarray, ...], theirs: Frame, near: float) -> list[tuple[float, float]]:
    """The score in `ours` and the score in `theirs` of each detection that both contain."""
    pairs = []
    for box, score, kind in zip(*ours, strict=True):
        candidates = np.flatnonzero(theirs[2] == kind)
        distances = np.abs(theirs[0][candidates] - box).max(axis=1)
        if len(candidates) and distances.min() <= near:  # False for NaN
            pairs.append((float(score), float(theirs[1][candidates[distances.argmin()]])))
    return pairs


def disagreement(found: Agreement, limit: Mapping[str, float] = LIMIT) -> str | None:
    """A message if float rounding and ties do not explain the differences that `agreement` found, else None.

    limit: LIMIT, ROUNDED or both. Without any detection there is no difference: NOTHING tells it.
    """
    share, least = found["partners"], limit["partners"]
    if share is None:
        return None
    if share < least:
        return f"both find {share:.0%} of its best detections and the run's; legal is at least {least:.0%}"
    if "sqnr_db" in limit and not SAME.holds(found["sqnr_db"], found["relative"]):
        return (
            f"its scores have an SQNR of {found['sqnr_db']:.1f} dB to the run's and a relative difference of "
            f"{found['relative']:.1e}; legal is {SAME}"
        )
    return None
