"""Boxes in numbers that networks predict: offsets from an anchor, or distances from its centre."""

import math
from collections.abc import Sequence
from typing import Annotated

import tensorflow as tf

from detect.config.legal_values import Values, number

EPSILON = 1e-8  # pixels, added to the sides before a division and a logarithm (official.vision.ops.box_ops)
LARGEST = math.log(1000.0 / 16)  # of log h'/h and log w'/w in `BoxCoder.decode`


Factor = Annotated[float, number(0, above=True)]
Scales = Annotated[Sequence[Factor], Values("dy", "dx", "log h", "log w")]


class BoxCoder:
    """Offsets from anchors (Faster R-CNN, equation 2), with the Object Detection API's scale factors.

    code = (10 dy / h, 10 dx / w, 5 log(h'/h), 5 log(w'/w)) for an anchor of centre (y, x) and size (h, w).

    scales: the factors of dy, dx, log h, log w.
    """

    def __init__(self, scales: Scales = (10.0, 10.0, 5.0, 5.0)):
        self.scales = list(scales)

    def encode(self, boxes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
        """boxes, anchors: float32 [..., 4] in pixels, each with an area. Returns codes of the same shape."""
        (centres, sizes), (from_centres, from_sizes) = _halves(boxes), _halves(anchors)
        sizes, from_sizes = sizes + EPSILON, from_sizes + EPSILON
        codes = [(centres - from_centres) / from_sizes, tf.math.log(sizes / from_sizes)]
        return tf.concat(codes, axis=-1) * tf.constant(self.scales, tf.float32)

    def decode(self, codes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
        """The inverse of `encode`: float32 [..., 4] in pixels.

        A side is at most 1000/16 times the anchor's, as in tf-models-official; the API has no such limit.
        """
        from_centres, from_sizes = _halves(anchors)
        codes = codes / tf.constant(self.scales, tf.float32)
        centres = codes[..., :2] * from_sizes + from_centres
        sizes = tf.exp(tf.minimum(codes[..., 2:], LARGEST)) * from_sizes
        low = centres - 0.5 * sizes
        return tf.concat([low, low + sizes], axis=-1)


class DistanceCoder:
    """code = (top, left, bottom, right): how far a box's sides are from an anchor's centre, in sides of the anchor
    (Tian 2019, equation 1; torchvision's BoxLinearCoder). Codes below 0 are of boxes that the centre is not in.

    scales: factors of the four; None: 1.
    """

    def __init__(self, scales: Sequence[Factor] | None = None):
        self.scales = list(scales or (1.0,) * 4)

    def encode(self, boxes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
        """boxes, anchors: float32 [..., 4] in pixels, no anchor empty; returns codes of the same shape."""
        centres, sizes = _centres(anchors)
        low, high = (centres - boxes[..., :2]) / sizes, (boxes[..., 2:] - centres) / sizes
        return tf.concat([low, high], axis=-1) * self.scales

    def decode(self, codes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
        """The inverse of `encode`: float32 [..., 4] in pixels."""
        centres, sizes = _centres(anchors)
        codes = codes / tf.constant(self.scales)
        return tf.concat([centres - codes[..., :2] * sizes, centres + codes[..., 2:] * sizes], axis=-1)


def _halves(boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Centres and sizes (y, x), [..., 2] each, with the rounding of official.vision.ops.box_ops."""
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sizes, sizes


def _centres(anchors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Centres and sizes (y, x), [..., 2] each."""
    return (anchors[..., :2] + anchors[..., 2:]) / 2, anchors[..., 2:] - anchors[..., :2]


CODERS: dict[str, type[BoxCoder] | type[DistanceCoder]] = {"offsets": BoxCoder, "distances": DistanceCoder}
"""By the names that files keep."""
