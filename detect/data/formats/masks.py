"""The box around a mask in COCO's run-length encoding (cocodataset.org: runs of background and object, by columns)."""

from collections.abc import Iterable, Iterator
from typing import Any

MOST_RUNS = 1_000_000


def mask_box(mask: dict[str, Any]) -> list[float] | None:
    """The box yxyx in pixels around a mask {"size": [height, width], "counts": runs}; None if it has none.

    counts: a list of numbers, or COCO's text, which stores differences in groups of five bits.
    """
    try:
        height, width = (int(side) for side in mask["size"])
        counts = mask["counts"]
        runs = _unpacked(counts) if isinstance(counts, str) else (int(count) for count in counts)
        return _box(runs, height, width)
    except (KeyError, TypeError, ValueError, OverflowError, IndexError):
        return None


def _box(runs: Iterable[int], height: int, width: int) -> list[float] | None:
    top, left, bottom, right = height, width, 0, 0
    start = 0
    for k, run in enumerate(runs):
        end = start + run
        if run < 0 or end > height * width or k > MOST_RUNS:
            return None
        if k % 2 and run:
            first, last = start // height, (end - 1) // height
            left, right = min(left, first), max(right, last + 1)
            whole = last > first
            top = min(top, 0 if whole else start % height)
            bottom = max(bottom, height if whole else (end - 1) % height + 1)
        start = end
    return [float(top), float(left), float(bottom), float(right)] if bottom > top else None


def _unpacked(text: str) -> Iterator[int]:
    """The runs of COCO's text: from the third on, each is stored as its difference to the run two before."""
    runs: list[int] = []
    place = 0
    while place < len(text):
        value = shift = 0
        more = True
        while more:
            bits = ord(text[place]) - 48
            value |= (bits & 0x1F) << shift
            more = bool(bits & 0x20)
            place, shift = place + 1, shift + 5
            if shift > 60:
                raise ValueError("a run is too long")
        if bits & 0x10:
            value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        yield runs[-1]
