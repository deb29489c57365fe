"""Matches each point of an anchor-free detector to a box."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import tensorflow as tf

from detect.errors import ConfigError
from detect.geometry.box_coder import DistanceCoder
from detect.modeling.interface import Tensor
from detect.modeling.target_assigner import Targets

FIRST_RANGE = 8.0  # strides: 64 px for a map of stride 8


class PointAssigner:
    """Matches a point to the smallest box that contains it near the centre and fits the size range of the point's map
    (Tian 2019, 3.1 and 3.2; equal to torchvision's FCOS).

    center_radius: a point matches only if it is nearer than this to the box's centre in x and in y, in strides; None
        allows the whole box (the paper's first version).
    ranges: the limits between the maps in pixels. The distance from the point to the box's farthest side decides the
        map. There is one limit fewer than maps, in rising order; None takes 8 strides of each map: 64, 128, 256, 512.
    """

    def __init__(self, center_radius: float | None = 1.5, ranges: Sequence[float] | None = None):
        if center_radius is not None and center_radius <= 0:
            raise ConfigError(f"target_assigner.center_radius={center_radius}: legal is null or a number above 0")
        rising = not ranges or (ranges[0] > 0 and all(a < b for a, b in pairwise(ranges)))
        if not rising:
            raise ConfigError(f"target_assigner.ranges={list(ranges or [])}: legal is null or rising pixels above 0")
        self.center_radius, self.ranges = center_radius, ranges
        self.box_coder = DistanceCoder()

    def limits(self, strides: Sequence[float], counts: Sequence[int]) -> np.ndarray:
        """strides: the stride of each map in pixels; counts: the points of each map. Returns float32 [A, 2]: the limits
        of the distance to the farthest side. Raises ConfigError if `ranges` fits another number of maps."""
        edges = [FIRST_RANGE * stride for stride in strides[:-1]] if self.ranges is None else list(self.ranges)
        if len(edges) != len(strides) - 1:
            raise ConfigError(
                f"target_assigner.ranges={edges} has {len(edges)} entries: {len(strides)} maps need {len(strides) - 1}"
            )
        pairs = zip([0.0, *edges], [*edges, np.inf], strict=True)
        rows = [np.tile(np.array(pair, np.float32), (n, 1)) for pair, n in zip(pairs, counts, strict=True)]
        return np.concatenate(rows)

    def __call__(self, points: Tensor, limits: Tensor, boxes: Tensor, classes: Tensor) -> tuple[Targets, Tensor]:
        """points: float32 [A, 4], squares; limits: float32 [A, 2] (`limits`); boxes: float32 [B, N, 4], in pixels;
        classes: int32 [B, N], -1 pads.

        Returns the targets, and the box of each point, float32 [B, A, 4]; an unmatched point has its own square.
        """
        matches = self.matches(points, limits, boxes, classes)
        matched, columns = matches >= 0, tf.maximum(matches, 0)
        wanted = tf.where(matched[..., tf.newaxis], tf.gather(boxes, columns, batch_dims=1), points)
        flags = tf.cast(matched, tf.float32)
        targets = Targets(
            classes=tf.where(matched, tf.gather(classes, columns, batch_dims=1), 0),
            codes=self.box_coder.encode(wanted, points) * flags[..., tf.newaxis],
            matched=flags,
            weights=tf.ones_like(flags),
        )
        return targets, wanted

    def matches(self, points: Tensor, limits: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
        """Takes the arguments of a call. Returns int32 [B, A]: the index of the box among the N, or -1."""
        centres, sides = (points[:, :2] + points[:, 2:]) / 2, points[:, 2] - points[:, 0]
        y, x = centres[:, 0, tf.newaxis], centres[:, 1, tf.newaxis]
        ymin, xmin, ymax, xmax = tf.unstack(boxes[:, tf.newaxis], axis=-1)  # [B, 1, N] each
        distances = [y - ymin, x - xmin, ymax - y, xmax - x]  # [B, A, N] each
        nearest, farthest = _fold(tf.minimum, distances), _fold(tf.maximum, distances)
        fits = (nearest > 0) & (farthest > limits[:, :1]) & (farthest < limits[:, 1:]) & (classes > 0)[:, tf.newaxis]
        if self.center_radius is not None:
            off = tf.maximum(tf.abs(y - (ymin + ymax) / 2), tf.abs(x - (xmin + xmax) / 2))
            fits &= off < self.center_radius * sides[:, tf.newaxis]
        areas = tf.where(fits, (ymax - ymin) * (xmax - xmin), np.inf)
        return tf.where(tf.reduce_any(fits, axis=2), tf.argmin(areas, axis=2, output_type=tf.int32), -1)


def centerness(distances: Tensor) -> Tensor:
    """How central a point is in its box: sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) (Tian 2019, equation 3).

    distances: float32 [..., 4], top, left, bottom, right. Returns [...] in 0..1, and 0 if all distances are 0.
    """
    low, high = distances[..., :2], distances[..., 2:]
    shares = tf.math.divide_no_nan(tf.minimum(low, high), tf.maximum(low, high))
    return tf.sqrt(tf.maximum(tf.reduce_prod(shares, axis=-1), 0.0))


def _fold(function, values):
    first, *rest = values
    for value in rest:
        first = function(first, value)
    return first
