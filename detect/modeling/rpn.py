"""The region proposal network (RPN): its layers, and the proposals from its outputs."""

from dataclasses import dataclass
from typing import Annotated

import tensorflow as tf
import tf_keras

from detect.config.legal_values import Count, NotNegative, Share, demand, number, whole
from detect.geometry.box_coder import BoxCoder
from detect.modeling.backbones.layers import ConvScope, Rectifier
from detect.modeling.nms import suppress
from detect.modeling.target_assigner import recall

layers = tf_keras.layers


class RPNHead:
    """A 3x3 convolution, then 1x1 convolutions for objectness and box codes of every anchor (Faster R-CNN, 3.1).

    channels: those of the 3x3 convolution. activation: the one after it (the API: relu6; the paper: relu).
    stddev: of the truncated normal initialiser of the kernels.
    """

    def __init__(self, channels: Count = 512, activation: Rectifier = "relu6", stddev: NotNegative = 0.01):
        demand("rpn_head.activation", activation, Rectifier)
        self.channels, self.activation, self.stddev = channels, activation, stddev

    def __call__(self, features, anchors: int):
        """features: the map [B, h, w, C]; anchors: those of a cell.

        Returns logits float32 [B, A, 2] (background, object) and codes float32 [B, A, 4].
        """
        scope = ConvScope(activation=self.activation, normalise=False, stddev=self.stddev)
        x = scope.conv(features, self.channels, 3, "FirstStageBoxPredictor/Conv")
        linear = ConvScope(activation=None, normalise=False, stddev=self.stddev)
        logits = linear.conv(x, anchors * 2, 1, "FirstStageBoxPredictor/ClassPredictor")
        codes = linear.conv(x, anchors * 4, 1, "FirstStageBoxPredictor/BoxEncodingPredictor")
        return (
            layers.Reshape((-1, 2), name="FirstStageBoxPredictor/logits")(logits),
            layers.Reshape((-1, 4), name="FirstStageBoxPredictor/codes")(codes),
        )


@dataclass(frozen=True)
class Proposals:
    """boxes: float32 [B, P, 4] in pixels of the frame, best first, without gradient; after an image's last one, 0.
    real: bool [B, P], False for these."""

    boxes: tf.Tensor
    real: tf.Tensor


class ProposalGenerator:
    """Makes proposals in the API's order: it decodes the boxes of the RPN, applies non-max suppression, clips the boxes
    that are left to the frame, and drops tiny ones.

    count: the most proposals of an image. nms_iou: a box whose IoU with a better one is higher is dropped.
    candidates: the number of boxes of highest score that enter the suppression; None is all, as in the API.
    min_size: pixels; a box with a shorter side within the frame is dropped; 0, as in the API, drops empty boxes.

    tf-models-official's MultilevelROIGenerator is not used: it supports neither the scale factors of the box code nor
    softmax objectness, and it returns a fixed number of boxes, even if some are not real.
    """

    def __init__(
        self,
        count: Annotated[int, whole(1, 10_000)] = 300,
        nms_iou: Share = 0.7,
        candidates: Count | None = None,
        min_size: Annotated[float, number(0)] = 1.0,
    ):
        self.count, self.nms_iou, self.candidates, self.min_size = count, nms_iou, candidates, min_size

    def __call__(self, codes, scores, anchors, box_coder: BoxCoder, size: tuple[int, int]) -> Proposals:
        """codes: float32 [B, A, 4]; scores: float32 [B, A] above 0; anchors: float32 [A, 4]; size: the frame's."""
        codes, scores = tf.stop_gradient(codes), tf.stop_gradient(scores)
        anchors = tf.tile(tf.convert_to_tensor(anchors)[tf.newaxis], [tf.shape(codes)[0], 1, 1])
        if self.candidates is not None and self.candidates < scores.shape[1]:
            scores, best = tf.math.top_k(scores, self.candidates)
            codes, anchors = (tf.gather(x, best, batch_dims=1) for x in (codes, anchors))
        boxes, _, _, real = suppress(
            box_coder.decode(codes, anchors),
            scores[..., tf.newaxis],
            size,
            self.nms_iou,
            0.0,
            per_class=self.count,
            total=self.count,
            min_size=self.min_size,
        )
        return Proposals(tf.stop_gradient(tf.where(real[..., tf.newaxis], boxes, 0.0)), real)


def recalls(proposals: Proposals, boxes, classes) -> dict:
    """The share of a batch's boxes [B, N, 4] (those with a class above 0) that a proposal covers at IoU .5 and .7.

    It is 1 if the batch has no boxes, so that means over batches stay finite.
    """
    padded = tf.where(proposals.real[..., tf.newaxis], proposals.boxes, 0.0)  # an empty box covers nothing
    return {f"rpn/recall_{name}": recall(padded, boxes, classes, iou) for name, iou in (("50", 0.5), ("70", 0.7))}
