"""SSD anchors for a data set: the scales and aspect ratios of each feature map, from the boxes of the data set."""

import math
import warnings
from collections.abc import Sequence

import numpy as np

Layout = list[list[tuple[float, float]]]
REACH = 3.0
"""Smallest side of an anchor in strides of its map. Two squares of 3 strides, half a stride apart in both directions,
have an IoU of .53, so a box between four cells still matches at .5."""
EARLY, OVERLAP = 8.0, 0.39
"""A map of stride EARLY has early features, which do not tell larger objects apart (experiments/advise_score). So an
anchor goes to the next map if a box between four cells there has this IoU with it, as a square of 2 strides has."""


def fit_layout(
    boxes: np.ndarray, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int], clusters: int = 14, seed: int = 0
) -> Layout:
    """(scale, width / height) of the anchors of each map, as `detect.geometry.anchors.SSDAnchors.layout` takes them.

    k-means clusters the boxes by (log height, log width), as YOLOv2 does without logarithms (Redmon 2017, section 2).
    Each centre becomes an anchor of the coarsest map on which its side is at least REACH strides; after a map of stride
    EARLY, OVERLAP suffices. A map without a centre gets one square anchor.

    boxes: [n, 4] in pixels of a frame of `size` (height, width), n at least 1; map_shapes: (rows, columns), the finest
    first. clusters: number of anchors, fewer if there are fewer different boxes. Scales are shares of the frame's
    shorter side. Raises ValueError if no box has an area.
    """
    sides = np.asarray(boxes, np.float64)[:, 2:] - np.asarray(boxes, np.float64)[:, :2]
    sides = np.log(sides[(sides > 0).all(axis=1)])
    if not len(sides):
        raise ValueError(f"anchors can't be fitted: none of the {len(boxes)} boxes has an area")
    different = np.unique(sides.round(2), axis=0)
    centres = different
    if len(different) > clusters:
        from scipy.cluster.vq import kmeans2  # an eighth of a second, which only this call needs

        with warnings.catch_warnings(action="ignore"):  # a cluster that loses all of its boxes keeps its place
            centres, _ = kmeans2(sides, clusters, minit="++", rng=np.random.default_rng(seed))
    strides = [max(size[0] / rows, size[1] / columns) for rows, columns in map_shapes]
    layout: Layout = [[] for _ in map_shapes]
    for height, width in np.exp(centres[np.argsort(centres.sum(axis=1))]):
        side = float(np.sqrt(height * width))
        level = max((k for k, stride in enumerate(strides) if side >= REACH * stride), default=0)
        if level == 0 and len(strides) > 1 and strides[0] <= EARLY and _between(height, width, strides[1]) >= OVERLAP:
            level = 1
        layout[level].append(_anchor(side, width / height, size))
    return [anchors or [_anchor(REACH * stride, 1.0, size)] for anchors, stride in zip(layout, strides, strict=True)]


def _between(height: float, width: float, stride: float) -> float:
    """The IoU of an anchor with a box of its size between four cells, half a stride away in both directions."""
    shared = max(height - stride / 2, 0) * max(width - stride / 2, 0)
    return shared / (2 * height * width - shared)


def _anchor(side: float, ratio: float, size: tuple[int, int]) -> tuple[float, float]:
    return _rounded(side / min(size), 3), _rounded(float(ratio), 2)


def _rounded(value: float, decimals: int) -> float:
    """With so many decimals, or with two digits that count, if that is more: of tiny and of thin boxes, too."""
    return round(value, max(decimals, 1 - math.floor(math.log10(value))))
