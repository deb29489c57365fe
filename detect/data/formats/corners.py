"""Corners as Pascal VOC counts them (Everingham et al. 2010, development kit section 5): the last pixel is inside."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from detect.data.notes import Notes
from detect.errors import DataError

FirstPixel = Literal[0, 1, "continuous"]
"""The coordinate of the first pixel in the corners: 1 in VOC. continuous: the corners are points, counted from 0."""
Picture = tuple[str, np.ndarray, tuple[int, int] | None]


def pixel_boxes(corners: object, first_pixel: FirstPixel) -> np.ndarray:
    """Boxes float64 [n, 4] yxyx in pixels, counted from 0, of corners [n, 4] (xmin, ymin, xmax, ymax).

    0 or 1: the last pixel belongs to a box, so its far edges are one more. If two opposite corners coincide, they stay
    equal (in the kit it is one pixel), and the check reports the box.
    """
    xmin, ymin, xmax, ymax = np.array(corners, np.float64).reshape(-1, 4).T
    if first_pixel == "continuous":
        return np.stack([ymin, xmin, ymax, xmax], axis=1)
    right, bottom = xmax + (xmax != xmin), ymax + (ymax != ymin)
    return np.stack([ymin, xmin, bottom, right], axis=1) - first_pixel


def around_turned(xmin: float, ymin: float, xmax: float, ymax: float, degrees: float) -> list[float]:
    """The box yxyx around a box of continuous corners that is turned clockwise about its centre."""
    angle = math.radians(degrees)
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    x, y, across, down = (xmin + xmax) / 2, (ymin + ymax) / 2, abs(xmax - xmin) / 2, abs(ymax - ymin) / 2
    half_x, half_y = across * cos + down * sin, across * sin + down * cos
    return [y - half_y, x - half_x, y + half_y, x + half_x]


def infer_first_pixel(
    files: Iterable[tuple[str, object, tuple[int, int] | None]], notes: Notes, option: str
) -> FirstPixel:
    """What the corners speak for: continuous if most coordinates have fractions, as CVAT and Datumaro write them.

    files: for each picture, a name for the notes, its corners [n, 4] and its (width, height), or None. A sign of
    another value than 1 is noted. option: of the group `dataset`, for the notes.
    """
    key = f"dataset={option} dataset.first_pixel"
    pictures = [(name, np.array(given, np.float64).reshape(-1, 4), size) for name, given, size in files]
    corners = np.concatenate([np.zeros((0, 4)), *(here for _, here, _ in pictures)])
    fractions = int(_broken(corners).sum())
    named = [name for name, here, _ in pictures if _broken(here).any()]
    first = "continuous" if 2 * fractions > corners.size else _counted(pictures, notes, key)
    if first == "continuous":
        taken = f"they are taken as continuous, from 0. If they are pixels that count from 1, set {key}=1"
    else:
        taken = f"they are taken as pixels that count from {first}, so check it and set {key}=continuous"
    for name in named:
        notes.add(f"{fractions} of {corners.size} coordinates have fractions: {taken}. Files with fractions", name)
    return first


def refuse_shares(files: Iterable[tuple[object, object]]) -> None:
    """Raises DataError if corners have fractions, and all of a data set are shares of the pictures' sides.

    files: a name for the message, and the corners [n, 4] in any order, as the file has them. A share may be a little
    below 0 or above 1, because boxes exceed pictures, and sides are added to rounded corners.
    """
    found: list[tuple[object, float]] = []
    low, high = 0.0, 1.0
    for name, given in files:
        corners = np.asarray(given, np.float64).reshape(-1, 4)
        low, high = corners.min(initial=low), corners.max(initial=high)
        if low < -0.1 or high > 1.5:
            return
        found += [(name, broken) for broken in corners[_broken(corners)][:1].tolist()]
    for name, broken in found[:1]:
        raise DataError(f"{name}: all corners are from {low:g} to {high:g}, such as {broken:g}; they must be pixels")


def _broken(corners: np.ndarray) -> np.ndarray:
    return np.abs(corners - np.round(corners)) > 1e-6


def _counted(pictures: Sequence[Picture], notes: Notes, key: str) -> Literal[0, 1]:
    """The coordinate of the first pixel in whole numbers; noted if there is a sign of 0.

    Files that count from 1 can't have a corner at 0, and those from 0 can't have one at the width or height. 1 without
    a corner at 0. A box without area is no sign.
    """
    at_zero: list[str] = []
    zeros = ends = 0
    for name, corners, size in pictures:
        corners = corners[(corners[:, 2:] != corners[:, :2]).all(axis=1)]  # 0, 0, 0, 0 stands for no box
        here = int((corners[:, :2] == 0).any(axis=1).sum())
        at_zero += [name] if here else []
        zeros += here
        ends += int((corners[:, 2:] == (size or (-1, -1))).any(axis=1).sum())
    if not zeros:
        return 1
    first: Literal[0, 1] = 0 if zeros >= ends else 1
    doubt = f"; {ends} boxes end at the width or height, so check it and set {key} to 0, 1 or continuous"
    told = f"first_pixel={first} is inferred from {zeros} boxes that begin at 0{doubt if ends else ''}"
    for name in at_zero:
        notes.add(f"{told}. Files with such boxes", name)
    return first
