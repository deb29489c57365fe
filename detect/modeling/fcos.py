"""FCOS (Tian et al. 2019): every cell of a pyramid predicts whether it lies in an object, and how far its sides are."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import tensorflow as tf
import tf_keras

from detect.config.legal_values import NotNegative, demand
from detect.errors import ConfigError
from detect.geometry.frame import Frame, Mode, Size
from detect.geometry.points import Points, strides
from detect.modeling.heads import prior_bias
from detect.modeling.interface import (
    Backbone,
    ClassificationLoss,
    Decoding,
    Figures,
    Head,
    LocalizationLoss,
    Losses,
    Neck,
    Suppression,
    Tensor,
)
from detect.modeling.losses import SCORES, check_boxes
from detect.modeling.one_stage import OneStage
from detect.modeling.point_assigner import PointAssigner, centerness
from detect.modeling.replicas import batch_norm

layers = tf_keras.layers
Norm = Literal["batch", "none"]
Branch = Literal["regression", "classification"]
BRANCHES: tuple[Branch, ...] = get_args(Branch)


class FCOSHead:
    """Two towers of 3x3 convolutions that all maps share, for the classes and for the distances (Tian 2019, figure 2).

    convolutions: the number of convolutions of each tower; they have the channels of the maps.
    norm: `batch`: each convolution has a batch norm for each map, because the statistics of the maps differ; `none`.
        (The paper and torchvision have group norm, which int8 does not support.)
    centerness: the tower that predicts the centre-ness (torchvision and the paper's last version: regression).
    scale: whether the distances of each map have learned factors, one for each side (the paper: one for all sides;
        torchvision: none).
    stddev: of the normal initialiser of the predictors' kernels, and of the towers' kernels if there is batch norm.

    A ReLU makes distances positive. Distances are in strides (torchvision). Their biases start at 1 stride, so that
    the ReLU passes gradients at the start.
    """

    def __init__(
        self,
        convolutions: int = 4,
        norm: Norm = "batch",
        centerness: Branch = "regression",
        scale: bool = True,
        stddev: NotNegative = 0.01,
    ):
        demand("head.norm", norm, Norm)
        demand("head.centerness", centerness, Branch)
        if convolutions < 0:
            raise ConfigError(f"head.convolutions={convolutions}: legal are whole numbers from 0")
        self.convolutions, self.norm, self.centerness = convolutions, norm, centerness
        self.scale, self.stddev = scale, stddev

    @property
    def source(self) -> str:
        """The layers that make the predictions, in a few words."""
        return f"{self.convolutions + 1} shared 3x3"

    def __call__(
        self, maps: Sequence[Tensor], per_cell: Sequence[int], num_classes: int, prior: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """maps: [B, H, W, D], all of the same depth; per_cell: 1 for each; prior: see `ClassificationLoss`.

        Returns codes float32 [B, A, 4], distances from the cell's centre to top, left, bottom and right in strides; and
        logits float32 [B, A, num_classes + 1], the centre-ness first. Raises ConfigError for maps of different depths.
        """
        depths = {x.shape[-1] for x in maps}
        if len(depths) != 1 or set(per_cell) != {1}:
            raise ConfigError(
                f"detector.head: the maps have {sorted(depths)} channels: the shared towers need maps of the same "
                "depth, for example those of detector/neck=fpn"
            )
        towers = {branch: self._tower(branch, maps[0].shape[-1]) for branch in BRANCHES}
        predict = {
            "logits": self._conv("ClassPredictor", num_classes, self.stddev, prior_bias(prior)),
            "centerness": self._conv("CenternessPredictor", 1, self.stddev, 0.0),
            "distances": self._conv("DistancePredictor", 4, self.stddev, 1.0),
        }
        codes, logits = [], []
        for i, x in enumerate(maps):
            features = {branch: self._walk(tower, x, f"FCOS/map_{i}/{branch}") for branch, tower in towers.items()}
            distances = predict["distances"](features["regression"])
            if self.scale:
                distances = layers.DepthwiseConv2D(
                    1, use_bias=False, depthwise_initializer="ones", name=f"FCOS/map_{i}/scale"
                )(distances)
            distances = layers.ReLU(name=f"FCOS/map_{i}/distances")(distances)
            central = predict["centerness"](features[self.centerness])
            classes = predict["logits"](features["classification"])
            rows = layers.Concatenate(name=f"FCOS/map_{i}/scores")([central, classes])
            codes.append(layers.Reshape((-1, 4), name=f"FCOS/map_{i}/codes")(distances))
            logits.append(layers.Reshape((-1, num_classes + 1), name=f"FCOS/map_{i}/logits")(rows))
        return layers.Concatenate(1, name="codes")(codes), layers.Concatenate(1, name="logits")(logits)

    def _tower(self, branch: str, depth: int) -> list[Tensor]:
        stddev = self.stddev if self.norm == "batch" else None
        return [self._conv(f"{branch}_{i}", depth, stddev, 0.0) for i in range(self.convolutions)]

    def _conv(self, name: str, filters: int, stddev: float | None, bias: float) -> Tensor:
        """A layer that is called on every map. stddev: None is He's initialisation, which keeps the variance."""
        return layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=self.norm == "none" or "Predictor" in name,
            kernel_initializer="he_normal" if stddev is None else tf_keras.initializers.RandomNormal(stddev=stddev),
            bias_initializer=tf_keras.initializers.Constant(bias),
            name=f"FCOS/{name}",
        )

    def _walk(self, tower: Sequence[Tensor], x: Tensor, scope: str) -> Tensor:
        for i, conv in enumerate(tower):
            x = conv(x)
            if self.norm == "batch":
                x = batch_norm(epsilon=1e-3, name=f"{scope}_{i}/BatchNorm")(x)
            x = layers.ReLU(name=f"{scope}_{i}/Relu")(x)
        return x


class FCOS(OneStage):
    """Backbone, pyramid and shared towers as one flat model, with its loss and its detections.

    backbone: builds the end points from an image tensor. num_classes: the number of classes without background.
    size: (height, width) of the network's input frame in pixels, each at least 96.
    resize: how an image becomes the frame, a mode of `detect.geometry.frame.Frame`.
    neck, head, target_assigner, *_loss, postprocess: the parts. Scores are the geometric mean of class and centre-ness.
    localization_weight, classification_weight, centerness_weight: weights of the three parts of the loss (all 1).

    model: float32 image [B, H, W, 3] in 0..255 -> {"codes": [B, A, 4], "logits": [B, A, num_classes + 1]} (`FCOSHead`).
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        size: Size,
        neck: Neck,
        head: Head,
        target_assigner: PointAssigner,
        classification_loss: ClassificationLoss,
        localization_loss: LocalizationLoss,
        postprocess: Suppression,
        localization_weight: NotNegative = 1.0,
        classification_weight: NotNegative = 1.0,
        centerness_weight: NotNegative = 1.0,
        resize: Mode = "stretch",
    ):
        if classification_loss.scoring != "sigmoid":
            raise ConfigError(
                f"detector.classification_loss: {type(classification_loss).__name__} makes scores by "
                f"{classification_loss.scoring}; legal are losses with sigmoids, because there is no background class"
            )
        if (background := classification_loss.background) != "ignored":
            raise ConfigError(
                f"detector.classification_loss.background={background}: column 0 is the centre-ness, which has a loss "
                "of its own; legal is ignored"
            )
        check_boxes(localization_loss, "boxes")
        frame = Frame(size, resize)
        self.size, self.resize, self.num_classes = frame.size, frame.mode, num_classes
        self.target_assigner, self.box_coder, self.postprocess = target_assigner, target_assigner.box_coder, postprocess
        self.classification_loss, self.localization_loss = classification_loss, localization_loss
        self.weights = {
            "classification": classification_weight,
            "localization": localization_weight,
            "centerness": centerness_weight,
        }
        self._build(backbone, neck, head, Points(), classification_loss.prior)
        shapes = [tuple(x.shape[1:3]) for x in self.maps.values()]
        self.limits = target_assigner.limits(strides(shapes, self.size), [rows * columns for rows, columns in shapes])

    def losses(self, batch: dict[str, Tensor], training: bool = True) -> Losses:
        """batch: image [B, H, W, 3], boxes [B, N, 4], classes [B, N] (-1 pads), from the input pipeline.

        Returns the weighted parts of the loss and scalars to log, both {name: float32 scalar}, and the number of
        matched points. Each part is summed over the points and divided by this number (Tian 2019, equation 2; as in
        torchvision, the distances are not weighted by the centre-ness).
        """
        outputs = self.model(tf.cast(batch["image"], tf.float32), training=training)
        boxes, classes = tf.convert_to_tensor(batch["boxes"]), tf.convert_to_tensor(batch["classes"])
        parts, matched = self.compare(outputs, boxes, classes)
        parts = {name: value * self.weights[name] for name, value in parts.items()}
        positives = {"points/positives_per_image": tf.reduce_mean(tf.reduce_sum(matched, axis=1))}
        return Losses(parts, positives, tf.reduce_sum(matched))

    def compare(self, outputs: dict[str, Tensor], boxes: Tensor, classes: Tensor) -> tuple[Figures, Tensor]:
        """The unweighted parts of the loss, and float32 [B, A]: 1 for the points that are matched to a box."""
        points = tf.constant(self.anchors)
        targets, wanted = self.target_assigner(points, tf.constant(self.limits), boxes, classes)
        matched, found = targets.matched, self._decode(outputs["codes"])
        found = tf.where(matched[..., tf.newaxis] > 0, found, wanted)  # unmatched points get no gradient
        central = tf.nn.sigmoid_cross_entropy_with_logits(centerness(targets.codes), outputs["logits"][..., 0])
        losses = {
            "classification": self.classification_loss(outputs["logits"], targets.classes),
            "localization": self.localization_loss(found, wanted) * matched,
            "centerness": central * matched,
        }
        normalizer = tf.maximum(tf.reduce_sum(matched), 1.0)
        return {name: tf.reduce_sum(loss) / normalizer for name, loss in losses.items()}, matched

    def scores(self, logits: Tensor) -> Tensor:
        """The geometric mean of class and centre-ness."""
        return SCORES["centred"](logits)

    def decoding(self) -> Decoding:
        """How codes and logits become boxes and scores, for exported files."""
        return Decoding("distances", tuple(self.box_coder.scales), "centred")

    def unmatched(self, boxes: np.ndarray) -> tuple[np.ndarray, str]:
        """Boxes [n, 4] that match no point even if they are the only box of an image."""
        alone = tf.constant(np.asarray(boxes, np.float32).reshape(-1, 1, 4))
        points, limits = tf.constant(self.anchors), tf.constant(self.limits)
        found = [
            self.target_assigner.matches(points, limits, alone[i : i + 256], tf.ones_like(alone[i : i + 256, :, 0]))
            for i in range(0, len(boxes), 256)
        ]
        missed = [tf.reduce_max(matches, axis=1).numpy() < 0 for matches in found]
        return np.concatenate([np.zeros(0, bool), *missed]), "have no point near their middle on the map of their size"
