"""Corners as Pascal VOC counts them (Everingham et al. 2010, development kit section 5): the last pixel is inside."""

from collections.abc import Iterable

import numpy as np

from detect.data.notes import Notes


def pixel_boxes(corners: object, first_pixel: int) -> np.ndarray:
    """Boxes float64 [n, 4] yxyx in pixels, counted from 0, of corners [n, 4] (xmin, ymin, xmax, ymax).

    first_pixel: the coordinate of the first pixel in the corners: 1 in VOC. The last pixel belongs to a box, so its far
    edges are one more. If two opposite corners coincide, they stay equal (in the kit it is one pixel), and the check
    reports the box.
    """
    xmin, ymin, xmax, ymax = np.array(corners, np.float64).reshape(-1, 4).T
    right, bottom = xmax + (xmax != xmin), ymax + (ymax != ymin)
    return np.stack([ymin, xmin, bottom, right], axis=1) - first_pixel


def infer_first_pixel(files: Iterable[tuple[str, object, tuple[int, int] | None]], notes: Notes) -> int:
    """The coordinate of the first pixel that the corners speak for; notes it if there is a sign of 0.

    files: for each picture, a name for the note, its corners [n, 4] and its (width, height), or None. Files that count
    from 1 can't have a corner at 0, and those from 0 can't have one at the width or height. 1 without a corner at 0.
    """
    at_zero: list[str] = []
    zeros = ends = 0
    for name, given, size in files:
        corners = np.array(given, np.float64).reshape(-1, 4)
        here = int((corners[:, :2] == 0).any(axis=1).sum())
        at_zero += [name] if here else []
        zeros += here
        ends += int((corners[:, 2:] == (size or (-1, -1))).any(axis=1).sum())
    if not zeros:
        return 1
    first = 0 if zeros >= ends else 1
    doubt = f"; {ends} boxes end at the width or height, so check it and set dataset.first_pixel" if ends else ""
    for name in at_zero:
        notes.add(
            f"first_pixel={first} is inferred from {zeros} boxes that begin at 0{doubt}. Files with such boxes", name
        )
    return first
