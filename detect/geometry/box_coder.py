"""Boxes in numbers that networks predict: offsets from an anchor, or distances from its centre."""

from collections.abc import Sequence

import tensorflow as tf
from official.vision.ops import box_ops


class BoxCoder:
    """Offsets from anchors (Faster R-CNN, equation 2), with the Object Detection API's scale factors.

    code = (10 dy / h, 10 dx / w, 5 log(h'/h), 5 log(w'/w)) for an anchor of centre (y, x) and size (h, w).

    scales: the factors of dy, dx, log h, log w.
    """

    def __init__(self, scales: Sequence[float] = (10.0, 10.0, 5.0, 5.0)):
        self.scales = list(scales)

    def encode(self, boxes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
        """boxes, anchors: float32 [..., 4] in pixels, each with an area. Returns codes of the same shape."""
        return box_ops.encode_boxes(boxes, anchors, weights=self.scales)

    def decode(self, codes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
        """The inverse of `encode`: float32 [..., 4] in pixels.

        A side is at most 1000/16 times the anchor's (official.vision.ops.box_ops); the API has no such limit.
        """
        return box_ops.decode_boxes(codes, anchors, weights=self.scales)


class DistanceCoder:
    """code = (top, left, bottom, right): how far a box's sides are from an anchor's centre, in sides of the anchor
    (Tian 2019, equation 1; torchvision's BoxLinearCoder). Codes below 0 are of boxes that the centre is not in.

    scales: factors of the four; None: 1.
    """

    def __init__(self, scales: Sequence[float] | None = None):
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


def _centres(anchors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Centres and sizes (y, x), [..., 2] each."""
    return (anchors[..., :2] + anchors[..., 2:]) / 2, anchors[..., 2:] - anchors[..., :2]


CODERS: dict[str, type[BoxCoder] | type[DistanceCoder]] = {"offsets": BoxCoder, "distances": DistanceCoder}
"""By the names that files keep."""
