r"""Losses that the study training_options compares with those of the SSD; none of them is an option of `detect`.

Usage: PYTHONPATH=scripts detect train ... 'trust=[tried_losses]' \
    detector.localization_loss._target_=tried_losses.GIoUOfCodes '~detector.localization_loss.delta'
"""

import tensorflow as tf

from detect.geometry.box_coder import BoxCoder
from detect.modeling.losses import SigmoidClassification, generalized_iou

SMOOTHING = 0.1  # Szegedy 2016, section 7


class GIoUOfCodes:
    """1 - generalized IoU (Rezatofighi 2019) of boxes that are given as codes of one anchor.

    It does not need to know the anchor: moving or stretching both boxes alike, along each axis, leaves it as it is.
    """

    takes = "codes"

    def __call__(self, codes: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """codes, targets: float32 [B, A, 4] of BoxCoder's own scales. Returns float32 [B, A] in 0..2."""
        coder, anchor = BoxCoder(), tf.constant([0.0, 0.0, 1.0, 1.0])
        return 1.0 - generalized_iou(coder.decode(codes, anchor), coder.decode(targets, anchor))


class SmoothedSigmoid(SigmoidClassification):
    """Independent logistic losses, with labels of .95 and .05 in place of 1 and 0."""

    def __call__(self, logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """logits: float32 [B, A, C + 1], background first; classes: int32 [B, A]. Returns float32 [B, A]."""
        targets = tf.one_hot(classes, logits.shape[-1]) * (1 - SMOOTHING) + SMOOTHING / 2
        return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), axis=-1)
