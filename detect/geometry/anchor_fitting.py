"""SSD anchors made to measure: which scales and shapes a data set's own boxes ask for, map by map."""

from collections.abc import Sequence

import numpy as np
from scipy.cluster.vq import kmeans2

Layout = list[list[tuple[float, float]]]
REACH = 3.0
"""Least side of an anchor in strides of its map: two squares of 3 strides, half a stride apart both ways, have an IoU
of .53, so that a box between four cells is still matched at .5."""


def fit_layout(
    boxes: np.ndarray, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int], clusters: int = 14, seed: int = 0
) -> Layout:
    """(scale, width / height) of the anchors of each map, as `detect.geometry.anchors.SSDAnchors.layout` takes them.

    The centres of k-means over (log height, log width), as YOLOv2 (Redmon 2017, section 2) finds its priors, but in
    logarithms; each goes to the coarsest map of whose strides it has REACH. A map that gets none has one square.

    boxes: [n, 4] in pixels of a frame of `size` (height, width), n at least 1; map_shapes: (rows, columns), the finest
    first. clusters: anchors in all, fewer where there are fewer different boxes. Scales are shares of the shorter side.
    Raises ValueError without a box that has an area.
    """
    sides = np.asarray(boxes, np.float64)[:, 2:] - np.asarray(boxes, np.float64)[:, :2]
    sides = np.log(sides[(sides > 0).all(axis=1)])
    if not len(sides):
        raise ValueError("anchors are fitted to boxes: there is none with an area")
    different = np.unique(sides.round(2), axis=0)
    centres = different
    if len(different) > clusters:
        centres, _ = kmeans2(sides, clusters, minit="++", rng=np.random.default_rng(seed), missing="raise")
    strides = [max(size[0] / rows, size[1] / columns) for rows, columns in map_shapes]
    layout: Layout = [[] for _ in map_shapes]
    for height, width in np.exp(centres[np.argsort(centres.sum(axis=1))]):
        side = float(np.sqrt(height * width))
        level = max((k for k, stride in enumerate(strides) if side >= REACH * stride), default=0)
        layout[level].append(_anchor(side, width / height, size))
    return [anchors or [_anchor(REACH * stride, 1.0, size)] for anchors, stride in zip(layout, strides, strict=True)]


def _anchor(side: float, ratio: float, size: tuple[int, int]) -> tuple[float, float]:
    return round(min(side / min(size), 1.0), 3), round(float(ratio), 2)
