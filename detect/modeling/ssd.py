"""SSD (Liu et al. 2016) as the TF Object Detection API builds it."""

from collections.abc import Callable

import tensorflow as tf

from detect.config.legal_values import NotNegative
from detect.geometry.frame import Frame, Mode, Size
from detect.modeling.interface import (
    AnchorGenerator,
    Backbone,
    ClassificationLoss,
    Decoding,
    Head,
    LocalizationLoss,
    Losses,
    Neck,
    Suppression,
    Tensor,
)
from detect.modeling.losses import check_boxes, check_scoring
from detect.modeling.one_stage import OneStage
from detect.modeling.target_assigner import TargetAssigner, recall


class SSD(OneStage):
    """Backbone, neck and head as one flat model, with its loss and its detections.

    backbone: builds the end points from an image tensor (`detect.modeling.backbones`).
    num_classes: the number of classes without background.
    size: (height, width) of the network's input frame in pixels, each at least 96.
    resize: how an image becomes the frame, a mode of `detect.geometry.frame.Frame`.
    neck, head, anchors, target_assigner, sampler, *_loss, postprocess: the parts; sampler=None counts every anchor.
    localization_weight, classification_weight: the weights of the two parts of the loss (zoo: 1 and 1).

    model: float32 image [B, H, W, 3] in 0..255 -> {"codes": [B, A, 4], "logits": [B, A, num_classes + 1]}.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        size: Size,
        neck: Neck,
        head: Head,
        anchors: AnchorGenerator,
        target_assigner: TargetAssigner,
        sampler: Callable[..., Tensor] | None,
        classification_loss: ClassificationLoss,
        localization_loss: LocalizationLoss,
        postprocess: Suppression,
        localization_weight: NotNegative = 1.0,
        classification_weight: NotNegative = 1.0,
        resize: Mode = "stretch",
    ):
        check_boxes(localization_loss, "codes")
        frame = Frame(size, resize)
        self.size, self.resize, self.num_classes = frame.size, frame.mode, num_classes
        self.target_assigner, self.box_coder, self.sampler = target_assigner, target_assigner.box_coder, sampler
        self.classification_loss, self.localization_loss = classification_loss, localization_loss
        self.localization_weight, self.classification_weight = localization_weight, classification_weight
        self.postprocess = postprocess
        self._build(backbone, neck, head, anchors, classification_loss.prior)

    def losses(self, batch: dict[str, Tensor], training: bool = True) -> Losses:
        """batch: image [B, H, W, 3], boxes [B, N, 4], classes [B, N] (-1 pads), from the input pipeline.

        Returns the weighted parts of the loss and scalars to log, both {name: float32 scalar}, and the number of
        matched anchors. Each part is summed over the anchors that count and divided by this number.
        """
        outputs = self.model(tf.cast(batch["image"], tf.float32), training=training)
        targets = self.target_assigner(tf.constant(self.anchors), batch["boxes"], batch["classes"])
        classification = self.classification_loss(outputs["logits"], targets.classes) * targets.weights
        localization = self.localization_loss(outputs["codes"], targets.codes) * targets.matched
        if self.sampler is None:
            counted = targets.weights
        else:
            counted = self.sampler(
                tf.stop_gradient(classification),
                targets.matched,
                targets.weights,
                tf.stop_gradient(self._decode(outputs["codes"])),
            )
        matches = tf.reduce_sum(targets.matched)
        normalizer = tf.maximum(matches, 1.0)
        parts = {
            "classification": self.classification_weight * tf.reduce_sum(classification * counted) / normalizer,
            "localization": self.localization_weight * tf.reduce_sum(localization * counted) / normalizer,
        }
        images = tf.cast(tf.shape(batch["image"])[0], tf.float32)
        scalars = {
            "anchors/positives_per_image": matches / images,
            "anchors/negatives_per_image": tf.reduce_sum(counted * (1 - targets.matched)) / images,
            "anchors/recall_50": recall(self.anchors, batch["boxes"], batch["classes"], 0.5),
        }
        return Losses(parts, scalars, matches)

    def scores(self, logits: Tensor) -> Tensor:
        """Those of the classification loss."""
        return self.classification_loss.scores(logits)

    def decoding(self) -> Decoding:
        """How codes and logits become boxes and scores. Raises ConfigError for a loss with scores not in SCORES."""
        scales = tuple(float(s) for s in self.box_coder.scales)
        return Decoding("offsets", scales, check_scoring(self.classification_loss))
