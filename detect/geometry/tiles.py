"""Cuts a large picture into tiles that overlap, and joins what is found in them."""

from collections.abc import Sequence

import numpy as np

from detect.errors import ConfigError
from detect.geometry.boxes import area, intersection

OVERLAP = 0.2  # of a tile's side: an object that is smaller is whole in at least one tile
COVERED = 0.5  # a box is dropped if a better one of its class covers this share of the smaller of the two
LEAST = 32  # pixels: the least side of a tile
PARTS = (
    8  # with `auto`, a tile is at least the longer side divided by this; as tiles overlap, there are up to 10 a side
)
Found = tuple[np.ndarray, np.ndarray, np.ndarray]
Window = tuple[int, int, int, int]
"""top, left, bottom, right in pixels."""


def check(tile: object) -> None:
    """Raises ConfigError unless it is None, `auto` or a side in pixels."""
    if tile not in (None, "auto") and not (type(tile) is int and tile >= LEAST):
        raise ConfigError(f"tile={tile}: legal are null, auto, or a whole number of pixels from {LEAST}")


def side_of(tile: int | str | None, shape: Sequence[int], frame: Sequence[int]) -> int | None:
    """The side of the tiles in pixels; None if the picture is not cut.

    tile: the side, `auto` or None. `auto` takes tiles of the size of the network's frame, so that nothing is shrunk, or
    larger ones in a picture that is more than PARTS times as large. It leaves pictures alone that are at most twice as
    large as the frame. shape: height and width of the picture. frame: those of the network's frame.
    """
    longer = max(shape[:2])
    if tile == "auto":
        return None if longer <= 2 * max(frame) else max(max(frame), -(-longer // PARTS))
    return None if tile is None or longer <= int(tile) else int(tile)


def places(height: int, width: int, side: int) -> list[Window]:
    """Windows of at most side x side that cover a picture; neighbours share at least OVERLAP of a side."""
    tops, lefts = (_starts(length, side) for length in (height, width))
    return [(top, left, min(top + side, height), min(left + side, width)) for top in tops for left in lefts]


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    count = 1 + int(np.ceil((length - side) / (side * (1 - OVERLAP))))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def joined(parts: Sequence[Found], windows: Sequence[Window], class_agnostic: bool = False) -> Found:
    """What is found in the windows, in pixels of the picture, best first, each object once.

    parts: boxes [n, 4] in pixels of the window, scores [n], classes [n]. Of two boxes of a class, the worse is dropped
    if the intersection is at least COVERED of the smaller one: a part of an object, cut by the edge of a tile, lies in
    the box of the whole. class_agnostic: boxes compete with those of all classes.
    """
    offsets = [np.array([top, left, top, left], np.float32) for top, left, _, _ in windows]
    moved = [part[0].reshape(-1, 4) + offset for part, offset in zip(parts, offsets, strict=True)]
    boxes = np.concatenate(moved).astype(np.float32)
    scores, classes = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    order = np.argsort(-scores, kind="stable")
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
    return boxes[kept], scores[kept], classes[kept]


def _covered(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The intersections of a box with others [n, 4], as shares of the smaller of the two."""
    shares: np.ndarray = intersection(box, others)[0] / np.maximum(np.minimum(area(box), area(others)), 1e-9)
    return shares
