"""Faster R-CNN (Ren et al. 2015) as the TF Object Detection API and Huang et al. 2017 build it."""

import logging
from typing import Literal

import numpy as np
import tensorflow as tf
import tf_keras

from detect.config.legal_values import NotNegative, demand
from detect.errors import ConfigError
from detect.geometry.anchors import nominal_stride
from detect.geometry.frame import Frame, Mode, Size
from detect.modeling.box_heads import predict_boxes
from detect.modeling.interface import (
    AnchorGenerator,
    Backbone,
    BoxHead,
    ClassificationLoss,
    Decoding,
    Detector,
    LocalizationLoss,
    Losses,
    Network,
    Part,
    RegionHead,
    Suppression,
    Tensor,
)
from detect.modeling.losses import check_boxes
from detect.modeling.precision import computing_in
from detect.modeling.roi import RoiCrop
from detect.modeling.rpn import ProposalGenerator, Proposals, recalls
from detect.modeling.sampler import BalancedSampler
from detect.modeling.target_assigner import TargetAssigner, recall

log = logging.getLogger("detect")
BorderAnchors = Literal["drop", "keep"]
FIRST_STAGE, SECOND_STAGE = ("features", "objectness", "rpn_codes"), ("logits", "codes")  # outputs of the model
SHOWN = 16  # proposals of an image in the inputs of `network_inputs`


class FasterRCNN(Detector):
    """Two stages around a backbone: proposals from its map of stride 16, then a class and a box for each proposal.

    backbone: builds the end points from an image tensor, and its later layers on crops (`detect.modeling.backbones`).
    num_classes: the number of classes without background.
    size: (height, width) of the network's input frame in pixels, each at least 96.
    resize: how an image becomes the frame, a mode of `detect.geometry.frame.Frame`.
    rpn_head, anchors, rpn_target_assigner, rpn_sampler, proposals: the parts of the first stage.
    roi, box_head, box_target_assigner, box_sampler: the parts of the second stage.
    classification_loss, localization_loss: the losses of both stages; *_weight: the weights of the four parts of the
        loss (zoo: 1 for classification, 2 for localization).
    border_anchors: `drop` leaves anchors that cross the frame's border out of training and clips them in detection
        (the API, and the paper); `keep` treats all anchors alike.
    add_truth: in training, the ground-truth boxes are added to the proposals of the second stage (the API: false).

    model: both stages as one flat model, [float32 image [B, H, W, 3] in 0..255, float32 crops [N, side, side, C]] ->
        {"features": [B, h, w, C], "objectness": [B, A, 2], "rpn_codes": [B, A, 4], "logits": [N, num_classes + 1],
        "codes": [N, num_classes, 4]}. `rpn_model` (image -> the first three outputs) and `box_model` (crops -> the
        other two) share its layers. The crops are cut out of `features`.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        size: Size,
        anchors: AnchorGenerator,
        rpn_head: RegionHead,
        rpn_target_assigner: TargetAssigner,
        rpn_sampler: BalancedSampler,
        proposals: ProposalGenerator,
        roi: RoiCrop,
        box_head: BoxHead,
        box_target_assigner: TargetAssigner,
        box_sampler: BalancedSampler,
        classification_loss: ClassificationLoss,
        localization_loss: LocalizationLoss,
        postprocess: Suppression,
        rpn_localization_weight: NotNegative = 2.0,
        rpn_classification_weight: NotNegative = 1.0,
        box_localization_weight: NotNegative = 2.0,
        box_classification_weight: NotNegative = 1.0,
        border_anchors: BorderAnchors = "drop",
        add_truth: bool = True,
        resize: Mode = "stretch",
    ):
        check_boxes(localization_loss, "codes")
        if classification_loss.prior is not None:
            log.warning(
                "detector.classification_loss.prior=%s has no effect: Faster R-CNN's predictors begin with biases of 0",
                classification_loss.prior,
            )
        frame = Frame(size, resize)
        self.size, self.resize = frame.size, frame.mode
        self.num_classes, self.per_cell = num_classes, anchors.per_cell(1)[0]
        self.rpn_target_assigner, self.rpn_sampler = rpn_target_assigner, rpn_sampler
        self.generator, self.proposals = proposals, proposals.count  # the number of proposals of an image
        self.box_target_assigner, self.box_sampler, self.add_truth = box_target_assigner, box_sampler, add_truth
        self.classification_loss, self.localization_loss = classification_loss, localization_loss
        self.postprocess = postprocess
        self.weights = {
            "rpn_classification": rpn_classification_weight,
            "rpn_localization": rpn_localization_weight,
            "box_classification": box_classification_weight,
            "box_localization": box_localization_weight,
        }
        self.roi = roi.with_defaults(*box_head.roi_crop(backbone))
        self._build(backbone, rpn_head, box_head)
        self._place_anchors(anchors, border_anchors)

    def _build(self, backbone: Backbone, rpn_head: RegionHead, box_head: BoxHead) -> None:
        image = tf_keras.Input((*self.size, 3), name="image")
        end_points = backbone(image)  # of the layers after the RPN's map, only the names are used here
        features = end_points[backbone.rpn_map]
        with computing_in("float32"):
            objectness, rpn_codes = rpn_head(features, self.per_cell)
        crops = tf_keras.Input((self.roi.side, self.roi.side, features.shape[-1]), name="crops")
        pooled = box_head(crops, backbone)
        with computing_in("float32"):
            logits, codes = predict_boxes(pooled, self.num_classes)
        first = {"features": features, "objectness": objectness, "rpn_codes": rpn_codes}
        second = {"logits": logits, "codes": codes}
        self.adopt(tf_keras.Model([image, crops], first | second, name="faster_rcnn"))
        self.maps = {backbone.rpn_map: features}
        self.backbone_layers = _names(tf_keras.Model(image, list(end_points.values())))
        self._parts = self._divided(backbone.rpn_map, features)

    def _divided(self, name: str, features: Tensor) -> list[Part]:
        """The parts of the float network. name, features: of the feature map."""
        first = _names(tf_keras.Model(self.rpn_model.input, features))
        shape = tuple(features.shape[1:])
        convolved = [layer for layer in self.rpn_model.layers if layer.name == "FirstStageBoxPredictor/Conv"]
        channels = convolved[0].filters if convolved else shape[-1]  # a head of the user's own has other layers
        crops, pooled = self.box_model.input, self.model.get_layer("SecondStageBoxPredictor/ClassPredictor").input
        source = f"{self.roi.method} {'x'.join(map(str, crops.shape[1:3]))}"
        return [
            Part(name, "the backbone", frozenset(first), shape),
            Part(
                "RPN",
                "3x3 on the map",
                frozenset(_names(self.rpn_model) - first),
                (*shape[:2], channels),
                anchors=self.per_cell,
            ),
            Part(
                "box head",
                source,
                frozenset(_names(self.box_model)),
                tuple(pooled.shape[1:]),
                times=self.proposals,
                training_times=self.box_sampler.size,
            ),
        ]

    def adopt(self, model: Network) -> None:
        """Replaces the network by one with the same inputs and outputs, for example its fake-quantised twin."""
        (image, crops), outputs = model.input, model.output
        first, second = ({name: outputs[name] for name in names} for names in (FIRST_STAGE, SECOND_STAGE))
        self.model = model
        self.rpn_model = tf_keras.Model(image, first, name="rpn")
        self.box_model = tf_keras.Model(crops, second, name="box")

    @property
    def input_sources(self) -> dict[str, str]:
        """The crops are cut out of the feature map."""
        return {"crops": self.model.output["features"].node.layer.name}

    def network_inputs(self, image: Tensor) -> list[Tensor]:
        """image: [B, H, W, 3] in 0..255. Returns it, and the crops of the first SHOWN proposals of each image."""
        features, proposals = self.propose(image)
        return [image, self.roi(features, proposals.boxes[:, :SHOWN], self.size)]

    def decoding(self) -> Decoding:
        """Raises ConfigError: TFLite has no operation for the crops between the two stages."""
        raise ConfigError(
            f"format=tflite: {type(self).__name__} crops its feature map between two stages (crop_and_resize), and "
            "TFLite has no operation for this; give format=saved_model"
        )

    def _place_anchors(self, anchors: AnchorGenerator, border_anchors: BorderAnchors) -> None:
        """Sets `anchors`, float32 [A, 4], all of them; `trained`, the rows used in training; and those of detection."""
        demand("detector.border_anchors", border_anchors, BorderAnchors)
        (features,) = self.maps.values()
        self.anchor_generator = anchors
        cells = tuple(features.shape[1:3])
        self.anchors = anchors([cells], self.size)
        covered = [int(count * nominal_stride(side, count)) for side, count in zip(self.size, cells, strict=True)]
        if covered[0] < self.size[0] or covered[1] < self.size[1]:
            log.warning(
                "the map of the proposals covers %dx%d of %dx%d px, as the backbone does not pad it: anchors and crops "
                "lie beside what its cells see; backbone.padding=same avoids it",
                *covered, *self.size,
            )  # fmt: skip
        self.trained = np.arange(len(self.anchors))
        self._detecting = self.anchors
        if border_anchors == "drop":
            frame = np.array([*self.size, *self.size], np.float32)
            self.trained = np.flatnonzero((self.anchors[:, :2] >= 0).all(1) & (self.anchors <= frame).all(1))
            self._detecting = np.clip(self.anchors, 0, frame)
        if not len(self.trained):
            raise ConfigError(
                f"detector.anchors: no anchor lies within the frame of {self.size[0]}x{self.size[1]} px, so none can "
                "be trained: lower detector.anchors.base, or give detector.border_anchors=keep"
            )

    def parts(self) -> list[Part]:
        """The feature map, the RPN, and the second stage, which runs once for each proposal."""
        return self._parts

    def losses(self, batch: dict[str, Tensor], training: bool = True) -> Losses:
        """batch: image [B, H, W, 3], boxes [B, N, 4], classes [B, N] (-1 pads), seed [B], from the input pipeline.

        Returns the weighted parts of the loss and scalars to log, both {name: float32 scalar}, and the number of
        images. A part is the mean over the examples drawn from an image, then over the images.
        """
        outputs = self.rpn_model(tf.cast(batch["image"], tf.float32), training=training)
        objectness, codes = (tf.gather(outputs[n], self.trained, axis=1) for n in ("objectness", "rpn_codes"))
        anchors = self.anchors[self.trained]
        truth = tf.convert_to_tensor(batch["boxes"]), tf.convert_to_tensor(batch["classes"])

        rpn_parts, scalars = self._rpn_losses(objectness, codes, anchors, *truth, batch["seed"])
        scores = self.classification_loss.scores(objectness)[..., 0]
        proposals = self.generator(codes, scores, anchors, self.rpn_target_assigner.box_coder, self.size)
        box_parts, more = self._box_losses(outputs["features"], proposals, *truth, batch["seed"], training)
        parts = {name: value * self.weights[name] for name, value in (rpn_parts | box_parts).items()}
        images = tf.cast(tf.shape(batch["image"])[0], tf.float32)
        return Losses(parts, scalars | more | recalls(proposals, *truth), images)

    def _rpn_losses(self, objectness, codes, anchors, boxes, classes, seed):
        targets = self.rpn_target_assigner(anchors, boxes, tf.minimum(classes, 1))
        matched = targets.matched > 0
        drawn = self.rpn_sampler(matched, ~matched & (targets.weights > 0), seed)
        positives = drawn * targets.matched
        count = tf.reduce_sum(drawn, axis=1)
        parts = {
            "rpn_classification": _mean(self.classification_loss(objectness, targets.classes) * drawn, count),
            "rpn_localization": _mean(self.localization_loss(codes, targets.codes) * positives, count),
        }
        return parts, {
            "rpn/positives_per_image": _per_image(positives),
            "anchors/recall_50": recall(anchors, boxes, classes, 0.5),
        }

    def _box_losses(self, features, proposals: Proposals, boxes, classes, seed, training: bool):
        sampled, targets_of_sampled, drawn = self._sample(proposals, boxes, classes, seed)
        wanted, codes, matched = targets_of_sampled
        crops = self.roi(features, sampled, self.size)
        outputs = self.box_model(crops, training=training)
        logits = tf.reshape(outputs["logits"], [-1, self.box_sampler.size, self.num_classes + 1])
        predicted = tf.gather(outputs["codes"], tf.maximum(tf.reshape(wanted, [-1]) - 1, 0), batch_dims=1)
        predicted = tf.reshape(predicted, [-1, self.box_sampler.size, 4])
        count, positives = tf.reduce_sum(drawn, axis=1), drawn * matched
        parts = {
            "box_classification": _mean(self.classification_loss(logits, wanted) * drawn, count),
            "box_localization": _mean(self.localization_loss(predicted, codes) * positives, count),
        }
        return parts, {"box/positives_per_image": _per_image(positives)}

    def _sample(self, proposals: Proposals, boxes, classes, seed):
        """The boxes [B, S, 4] that the second stage is trained on, their targets (classes, codes, matched), and
        float32 [B, S]: 1 for the drawn ones, 0 for padding."""
        candidates, real = proposals.boxes, proposals.real
        if self.add_truth:
            candidates, real = tf.concat([candidates, boxes], 1), tf.concat([real, classes > 0], 1)
        targets = self.box_target_assigner(candidates, boxes, classes)
        matched = targets.matched > 0
        negative = ~matched & (targets.weights > 0)
        places, drawn = self.box_sampler.indices(matched & real, negative & real, seed)
        sampled, *wanted = (
            tf.gather(x, places, batch_dims=1) for x in (candidates, targets.classes, targets.codes, targets.matched)
        )
        return sampled, wanted, drawn

    def propose(self, image: Tensor) -> tuple[Tensor, Proposals]:
        """image: [B, H, W, 3] in 0..255. Returns the feature map [B, h, w, C] and the proposals of detection."""
        outputs = self.rpn_model(tf.cast(image, tf.float32), training=False)
        scores = self.classification_loss.scores(outputs["objectness"])[..., 0]
        coder = self.rpn_target_assigner.box_coder
        return outputs["features"], self.generator(outputs["rpn_codes"], scores, self._detecting, coder, self.size)

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """image: uint8 or float32 [B, H, W, 3] in 0..255. Returns detections in pixels of the frame (`postprocess`).

        The second stage processes one image at a time: the crops of a whole batch would fill the memory.
        """
        features, proposals = self.propose(image)

        def second_stage(single):
            return self._classify(*(x[tf.newaxis] for x in single))

        boxes, scores = tf.map_fn(
            second_stage,
            (features, proposals.boxes, proposals.real),
            parallel_iterations=1,
            fn_output_signature=(tf.float32, tf.float32),
        )
        return self.postprocess(boxes, scores, self.size)

    def _classify(self, features, boxes, real):
        """Boxes [P, num_classes, 4] and scores [P, num_classes] of the P proposals of one image."""
        outputs = self.box_model(self.roi(features, boxes, self.size), training=False)
        scores = self.classification_loss.scores(outputs["logits"]) * tf.cast(real[0], tf.float32)[:, tf.newaxis]
        decoded = self.box_target_assigner.box_coder.decode(outputs["codes"], tf.transpose(boxes, [1, 0, 2]))
        return decoded, scores


def _names(model: tf_keras.Model) -> set[str]:
    return {layer.name for layer in model.layers}


def _mean(values, counts):
    """values: [B, A], 0 where not drawn; counts: [B]. The mean over the drawn values, then over the images."""
    return tf.reduce_mean(tf.reduce_sum(values, axis=1) / tf.maximum(counts, 1.0))


def _per_image(flags):
    return tf.reduce_mean(tf.reduce_sum(flags, axis=1))
