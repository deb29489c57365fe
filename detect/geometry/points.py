"""Places of an anchor-free detector, one a cell, in numpy: [ymin, xmin, ymax, xmax] in pixels of the input frame."""

from collections.abc import Sequence

import numpy as np

from detect.geometry.anchors import grid_anchors


class Points:
    """The centre of every cell (Tian 2019, 3.1) as a square whose side is the stride of its map, a power of two.

    The squares are what distances are measured in (torchvision's FCOS has them, too, but around the cells' corners).
    Where a side of the frame is no multiple of the stride, the cells divide it evenly, as those of SSDAnchors.
    """

    def per_cell(self, maps: int) -> list[int]:
        """One in a cell of each map."""
        return [1] * maps

    def __call__(self, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]) -> np.ndarray:
        """The squares of all maps, one after the other: float32 [A, 4] in pixels of a frame of (height, width)."""
        boxes = []
        for (rows, columns), side in zip(map_shapes, strides(map_shapes, size), strict=True):
            stride = (size[0] / rows, size[1] / columns)
            boxes.append(grid_anchors([(side, side)], (rows, columns), stride, (stride[0] / 2, stride[1] / 2)))
        return np.concatenate(boxes)

    def fitted(self, boxes: np.ndarray, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]) -> None:
        """None: they follow from the strides."""
        return None


def strides(map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]) -> list[float]:
    """The power of two that is nearest to the pixels between cells, for each map, each twice the one before or more.

    A coarse map that is a cell or two wide has room for part of its cells only; the strides before tell.
    """
    found: list[float] = []
    for rows, columns in map_shapes:
        nearest = 2.0 ** round(float(np.log2(max(size[0] / rows, size[1] / columns))))
        found.append(max(nearest, 2 * found[-1]) if found else nearest)
    return found
