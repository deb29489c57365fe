"""SSD (Liu et al. 2016) as the TF Object Detection API builds it."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras

from detect.config.legal_values import NotNegative
from detect.geometry.frame import Frame, Mode, Size
from detect.modeling import cost
from detect.modeling.interface import (
    AnchorGenerator,
    Backbone,
    ClassificationLoss,
    Decoding,
    Detector,
    Head,
    LocalizationLoss,
    Losses,
    Neck,
    Part,
    Suppression,
    Tensor,
)
from detect.modeling.losses import check_boxes, check_scoring
from detect.modeling.precision import computing_in
from detect.modeling.target_assigner import TargetAssigner, recall


class SSD(Detector):
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
        self.size, self.resize = frame.size, frame.mode
        self.num_classes = num_classes
        self.target_assigner, self.sampler = target_assigner, sampler
        self.classification_loss, self.localization_loss = classification_loss, localization_loss
        self.postprocess = postprocess
        self.localization_weight, self.classification_weight = localization_weight, classification_weight

        image = tf_keras.Input((*self.size, 3), name="image")
        end_points = backbone(image)
        self.backbone_layers = {layer.name for layer in tf_keras.Model(image, list(end_points.values())).layers}
        self.maps = neck(end_points, backbone)
        self.per_cell = anchors.per_cell(len(self.maps))
        self._end_points = set(end_points)
        self._sources = {n: "the backbone" if n in end_points else neck.source(n) for n in self.maps}
        self._sources |= {"backbone": type(backbone).__name__, "predictors": head.source}
        with computing_in("float32"):
            codes, logits = head(list(self.maps.values()), self.per_cell, num_classes, classification_loss.prior)
        self.model = tf_keras.Model(image, {"codes": codes, "logits": logits}, name="ssd")
        self.anchor_generator = anchors
        self.anchors = anchors([tuple(x.shape[1:3]) for x in self.maps.values()], self.size)

    def parts(self) -> list[Part]:
        """The feature maps, largest first, and the predictors (`cost.pyramid`)."""
        return cost.pyramid(self.model, self.maps, self._end_points, self.backbone_layers, self.per_cell, self._sources)

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

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """image: uint8 or float32 [B, H, W, 3] in 0..255. Returns detections in pixels of the frame (`postprocess`)."""
        outputs = self.model(tf.cast(image, tf.float32), training=False)
        boxes, scores = self._decode(outputs["codes"]), self.classification_loss.scores(outputs["logits"])
        return self.postprocess(boxes, scores, self.size)

    def decoding(self) -> Decoding:
        """How codes and logits become boxes and scores. Raises ConfigError for a loss with scores not in SCORES."""
        scales = tuple(float(s) for s in self.target_assigner.box_coder.scales)
        return Decoding("offsets", scales, check_scoring(self.classification_loss))

    def _decode(self, codes: Tensor) -> Tensor:
        return self.target_assigner.box_coder.decode(codes, tf.constant(self.anchors)[tf.newaxis])
