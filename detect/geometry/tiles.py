"""Cuts a large picture into tiles that overlap, and joins what is found in them."""

import numbers
from collections.abc import Sequence

import numpy as np

from detect.errors import ConfigError
from detect.geometry.boxes import area, intersection

OVERLAP = 0.2  # of a tile's side: an object that is smaller is whole in at least one tile
COVERED = 0.5  # a box is dropped if a better one of its class covers this share of the smaller of the two
EDGE = 2  # pixels: a box that ends so near an edge inside of the picture is cut by it
CUT = 0.7  # such a box competes with this share of its score, so that it does not replace the whole object
LEAST = 32  # pixels: the least side of a tile
PARTS = (
    8  # with `auto`, a tile is at least the longer side divided by this; as tiles overlap, there are up to 10 a side
)
Found = tuple[np.ndarray, np.ndarray, np.ndarray]
Window = tuple[int, int, int, int]
"""top, left, bottom, right in pixels."""


def check(tile: object) -> None:
    """Raises ConfigError unless it is None, `auto` or a side in pixels."""
    number = int(tile) if isinstance(tile, numbers.Integral) and not isinstance(tile, bool) else 0
    if tile not in (None, "auto") and number < LEAST:
        raise ConfigError(f"tile={tile}: legal are null, auto, or a whole number of pixels from {LEAST}")


def size_of(tile: int | str | None, shape: Sequence[int], frame: Sequence[int]) -> tuple[int, int] | None:
    """Height and width of the tiles in pixels, with the proportions of the frame; None if the picture is not cut.

    tile: the longer side, `auto` or None. `auto` takes tiles of the size of the network's frame, so that nothing is
    shrunk, or larger ones in a picture that is more than PARTS times as large. It leaves pictures alone that are at
    most twice as large as the frame. shape: height and width of the picture. frame: those of the network's frame.
    """
    longer = max(shape[:2])
    if tile == "auto":
        tile = None if longer <= 2 * max(frame) else max(max(frame), -(-longer // PARTS))
    if tile is None or longer <= int(tile):
        return None
    height, width = (max(1, round(int(tile) * side / max(frame))) for side in frame)
    return height, width


def places(height: int, width: int, size: tuple[int, int]) -> list[Window]:
    """Windows of at most this height and width that cover a picture; neighbours share at least OVERLAP of a side."""
    tops, lefts = _starts(height, size[0]), _starts(width, size[1])
    return [(top, left, min(top + size[0], height), min(left + size[1], width)) for top in tops for left in lefts]


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    count = 1 + int(np.ceil((length - side) / (side * (1 - OVERLAP))))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def joined(parts: Sequence[Found], windows: Sequence[Window], class_agnostic: bool = False) -> Found:
    """What is found in the windows, in pixels of the picture, best first, each object once.

    parts: boxes [n, 4] in pixels of the window, scores [n], classes [n]. Of two boxes of a class, the worse is dropped
    if the intersection is at least COVERED of the smaller one: a part of an object, cut by the edge of a tile, lies in
    the box of the whole. The part may have the higher score, so CUT counts against it. class_agnostic: boxes compete
    with those of all classes.
    """
    offsets = [np.array([top, left, top, left], np.float32) for top, left, _, _ in windows]
    moved = [part[0].reshape(-1, 4) + offset for part, offset in zip(parts, offsets, strict=True)]
    boxes = np.concatenate(moved).astype(np.float32)
    scores, classes = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    ends = np.array(windows).max(axis=0, initial=0)[2:]
    cut = np.concatenate([_cut(box, window, ends) for box, window in zip(moved, windows, strict=True)])
    order = np.argsort(-scores * np.where(cut, CUT, 1), kind="stable")
    keep = np.zeros(len(order), bool)  # in that order
    group = np.zeros_like(classes) if class_agnostic else classes
    for kind in np.unique(group):
        places = np.flatnonzero(group[order] == kind)
        rivals, count = np.empty((len(places), 4), np.float32), 0
        for place in places:
            box = boxes[order[place]]
            if not count or _covered(box, rivals[:count]).max() < COVERED:
                rivals[count], keep[place] = box, True
                count += 1
    kept = order[keep]
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    return boxes[kept], scores[kept], classes[kept]


def _cut(boxes: np.ndarray, window: Window, ends: np.ndarray) -> np.ndarray:
    """Which boxes [n, 4] end at an edge of their window inside of the picture, whose height and width are `ends`."""
    first, last = np.array(window[:2]), np.array(window[2:])
    before, after = (boxes[:, :2] <= first + EDGE) & (first > 0), (boxes[:, 2:] >= last - EDGE) & (last < ends)
    return np.asarray((before | after).any(axis=1))


def _covered(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The intersections of a box with others [n, 4], as shares of the smaller of the two."""
    shares: np.ndarray = intersection(box, others)[0] / np.maximum(np.minimum(area(box), area(others)), 1e-9)
    return shares
