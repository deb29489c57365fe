"""The same result of two networks, files or frameworks: equal but for what float rounding explains on any machine.

What can be worked out by hand keeps its own tight tolerance, where it is asserted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from detect.evaluation.agreement import agreement, disagreement
from detect.evaluation.sqnr import SAME, relative, sqnr


def assert_same_outputs(found: Any, expected: Any, told: str = "") -> None:
    """Arrays, or mappings and sequences of them: each has an SQNR of at least 60 dB to the expected one, and no value
    is further off than a thousandth of the largest."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_same_outputs(found[name], expected[name], f"{told} {name}")
    elif isinstance(expected, (list, tuple)) and expected and np.ndim(expected[0]):
        assert len(found) == len(expected)
        for i, pair in enumerate(zip(found, expected, strict=True)):
            assert_same_outputs(*pair, f"{told} {i}")
    else:
        found, expected = np.asarray(found), np.asarray(expected)
        assert found.shape == expected.shape, f"{told}: {found.shape}, expected {expected.shape}"
        figures = sqnr(expected, found), relative(expected, found)
        assert SAME.holds(*figures), f"{told}: {figures[0]:.1f} dB and {figures[1]:.1e}; legal are {SAME}"


def assert_same_steps(found: Any, expected: Any) -> None:
    """Outputs that are rounded to 8 bits: a value at half a step goes either way, so that one of a hundred may be more
    than one step of 255 off, and none more than three."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    off = np.rint(np.abs(found - expected) / (np.ptp(expected) / 255))
    assert (off <= 1).mean() >= 0.99 and off.max() <= 3, np.unique(off, return_counts=True)


def assert_same_detections(found: Any, expected: Any, side: float, shown: int = 100) -> None:
    """(boxes, scores, classes) of an image, best first: the same boxes with the same scores, but for ties.

    side: of the frame, in pixels. shown: how many of the best are compared.
    """
    frames = [[tuple(np.asarray(part) for part in frame)] for frame in (found, expected)]
    assert abs(len(frames[0][0][1]) - len(frames[1][0][1])) <= 0.05 * len(frames[1][0][1])
    assert disagreement(agreement(*reversed(frames), side, shown)) is None, agreement(*reversed(frames), side, shown)


def counted(outputs: Mapping[str, Any], i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes, scores, classes) of an image of what an architecture's `detect` gives, without what only pads."""
    count = int(outputs["count"][i])
    boxes, scores, classes = (np.asarray(outputs[name])[i, :count] for name in ("boxes", "scores", "classes"))
    return boxes, scores, classes
