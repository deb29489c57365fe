"""Boxes as offsets from anchors (Faster R-CNN, equation 2), with the Object Detection API's scale factors."""

from collections.abc import Sequence

import tensorflow as tf
from official.vision.ops import box_ops


class BoxCoder:
    """code = (10 dy / h, 10 dx / w, 5 log(h'/h), 5 log(w'/w)) for an anchor of centre (y, x) and size (h, w).

    scales: the factors of dy, dx, log h, log w.
    """

    def __init__(self, scales: Sequence[float] = (10.0, 10.0, 5.0, 5.0)):
        self.scales = list(scales)

    def encode(self, boxes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
        """boxes, anchors: float32 [..., 4] in pixels, each with an area. Returns codes of the same shape."""
        return box_ops.encode_boxes(boxes, anchors, weights=self.scales)

    def decode(self, codes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
        """The inverse of `encode`: float32 [..., 4] in pixels."""
        return box_ops.decode_boxes(codes, anchors, weights=self.scales)
