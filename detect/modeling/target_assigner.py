"""Classification and regression targets of every anchor."""

from dataclasses import dataclass

import tensorflow as tf

from detect.geometry.box_coder import BoxCoder
from detect.geometry.overlap import overlap
from detect.modeling.matcher import IGNORED, ArgMaxMatcher


@dataclass(frozen=True)
class Targets:
    """classes: int32 [B, A], 0 is background. codes: float32 [B, A, 4], 0 for unmatched anchors.
    matched: float32 [B, A], 1 for matched anchors. weights: float32 [B, A], 0 for ignored anchors."""

    classes: tf.Tensor
    codes: tf.Tensor
    matched: tf.Tensor
    weights: tf.Tensor


class TargetAssigner:
    """Matches anchors to boxes by IoU and encodes the boxes (TF Object Detection API, core/target_assigner)."""

    def __init__(self, matcher: ArgMaxMatcher, box_coder: BoxCoder):
        self.matcher, self.box_coder = matcher, box_coder

    def __call__(self, anchors, boxes, classes) -> Targets:
        """anchors: float32 [A, 4], or [B, A, 4] if each image has its own (proposals); boxes: float32 [B, N, 4];
        classes: int32 [B, N], -1 pads. Anchors and boxes are in pixels."""
        anchors = tf.convert_to_tensor(anchors)
        if anchors.shape.rank == 2:
            anchors = anchors[tf.newaxis]
        real = classes > 0
        similarity = tf.where(real[:, tf.newaxis], overlap(anchors, boxes), -1.0)
        matches = self.matcher(similarity)
        matched = matches >= 0
        columns = tf.maximum(matches, 0)
        codes = self.box_coder.encode(tf.gather(boxes, columns, batch_dims=1), anchors)
        return Targets(
            classes=tf.where(matched, tf.gather(classes, columns, batch_dims=1), 0),
            codes=tf.where(matched[..., tf.newaxis], codes, 0.0),
            matched=tf.cast(matched, tf.float32),
            weights=tf.cast(matches != IGNORED, tf.float32),
        )


def recall(candidates: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, iou: float) -> tf.Tensor:
    """The share of a batch's boxes (those with a class above 0) that a candidate covers at an IoU; float32 scalar.

    candidates: float32 [A, 4] for all images, or [B, A, 4]; boxes: float32 [B, N, 4]; classes: int32 [B, N]. A match
    that is forced does not count. It is 1 if the batch has no boxes, so that means over batches stay finite.
    """
    candidates = tf.convert_to_tensor(candidates)
    covering = overlap(candidates if candidates.shape.rank == 3 else candidates[tf.newaxis], boxes)
    best, real = tf.reduce_max(covering, axis=1), classes > 0
    count = tf.math.count_nonzero(real, dtype=tf.float32)
    found = tf.math.count_nonzero(real & (best >= iou), dtype=tf.float32)
    return tf.where(count > 0, tf.math.divide_no_nan(found, count), 1.0)
