"""Predictors: from feature maps to box codes and class logits."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import tf_keras

from detect.config.legal_values import Count, NotNegative, demand, whole
from detect.errors import ConfigError
from detect.modeling.backbones.layers import ConvScope
from detect.modeling.interface import Tensor
from detect.modeling.replicas import batch_norm

layers = tf_keras.layers
Kernel = Literal[1, 3]
SHARED = "WeightSharedConvolutionalBoxPredictor"
"""The scope of shared predictors in checkpoints of the API."""


class ConvPredictor:
    """One convolution for the boxes and one for the classes on each map (the API's convolutional box predictor).

    kernel: 1 as in the zoo's SSDs on MobileNet, 3 as in its SSDs on Inception and in Liu 2016.
    stddev: of the truncated normal initialiser of the kernels (the zoo: .03).
    """

    def __init__(self, kernel: Kernel = 1, stddev: NotNegative = 0.03):
        demand("head.kernel", kernel, Kernel)
        self.kernel, self.stddev = kernel, stddev

    @property
    def source(self) -> str:
        """The layers that make the predictions, in a few words."""
        return f"{self.kernel}x{self.kernel}"

    def __call__(
        self, maps: Sequence[Tensor], per_cell: Sequence[int], num_classes: int, prior: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """maps: the feature maps [B, H, W, D]; per_cell: the anchors of a cell of each map.

        prior: the initial probability of an object, which sets the class biases; with None they are 0.
        Returns codes float32 [B, A, 4] and logits float32 [B, A, num_classes + 1], background first.
        """
        codes, logits = [], []
        bias = prior_bias(prior)
        for i, (x, anchors) in enumerate(zip(maps, per_cell, strict=True)):
            boxes = self._predict(x, anchors * 4, f"BoxPredictor_{i}/BoxEncodingPredictor", 0.0)
            classes = self._predict(x, anchors * (num_classes + 1), f"BoxPredictor_{i}/ClassPredictor", bias)
            codes.append(layers.Reshape((-1, 4), name=f"BoxPredictor_{i}/codes")(boxes))
            logits.append(layers.Reshape((-1, num_classes + 1), name=f"BoxPredictor_{i}/logits")(classes))
        return layers.Concatenate(1, name="codes")(codes), layers.Concatenate(1, name="logits")(logits)

    def _predict(self, x, filters: int, name: str, bias: float):
        return layers.Conv2D(
            filters,
            self.kernel,
            padding="same",
            kernel_initializer=tf_keras.initializers.TruncatedNormal(stddev=self.stddev),
            bias_initializer=tf_keras.initializers.Constant(bias),
            name=name,
        )(x)


class SeparablePredictor(ConvPredictor):
    """A 3x3 depthwise convolution with batch norm and ReLU6, then a 1x1 with a bias (SSDLite: Sandler 2018, 6.2).

    stddev: of the truncated normal initialiser of the kernels (the zoo: .03).
    """

    source = "separable 3x3"

    def __init__(self, stddev: NotNegative = 0.03):
        super().__init__(1, stddev)

    def _predict(self, x, filters: int, name: str, bias: float):
        x = ConvScope(stddev=self.stddev).depthwise(x, 3, f"{name}_depthwise")
        return super()._predict(x, filters, name, bias)


class SharedPredictor:
    """Towers and predictors that all maps share (RetinaNet: Lin 2018; the API's weight-shared predictor).

    A tower has 3x3 convolutions, each with a batch norm for each map, as the statistics of the maps differ, and ReLU6.
    convolutions: of a tower. channels: of them; None takes those of the maps.
    kernel: of the towers and of the predictors: 1 or 3.
    separable: all of them are separable (the zoo's FPNLite); this needs kernel 3.
    one_tower: boxes and classes share one tower, too (FPNLite); otherwise each has its own (RetinaNet).
    normalise: batch norm in the towers; without it their convolutions have biases.
    stddev: of the truncated normal initialiser of the kernels; the 1x1 of separable convolutions have Glorot's uniform
        one, as in the API of TensorFlow 2.
    """

    def __init__(
        self,
        convolutions: Annotated[int, whole(0, 16)] = 4,
        channels: Count | None = None,
        kernel: Kernel = 3,
        separable: bool = False,
        one_tower: bool = False,
        normalise: bool = True,
        stddev: NotNegative = 0.01,
    ):
        demand("head.kernel", kernel, Kernel)
        if separable and kernel == 1:
            raise ConfigError("head.kernel=1: legal is 3 with head.separable=true")
        self.convolutions, self.channels, self.kernel = convolutions, channels, kernel
        self.separable, self.one_tower, self.normalise, self.stddev = separable, one_tower, normalise, stddev

    @property
    def source(self) -> str:
        """The layers that make the predictions, in a few words."""
        kind = "separable " if self.separable else ""
        return f"{self.convolutions + 1} shared {kind}{self.kernel}x{self.kernel}"

    def __call__(
        self, maps: Sequence[Tensor], per_cell: Sequence[int], num_classes: int, prior: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """maps: [B, H, W, D], all of one depth; per_cell: the anchors of a cell, equal for all maps; prior: see
        `ClassificationLoss`.

        Returns codes float32 [B, A, 4] and logits float32 [B, A, num_classes + 1], background first. Raises
        ConfigError for maps of different depths or with different numbers of anchors.
        """
        depths, counts = {x.shape[-1] for x in maps}, set(per_cell)
        if len(depths) != 1 or len(counts) != 1:
            raise ConfigError(
                f"detector.head: the maps have {sorted(depths)} channels and {sorted(counts)} anchors in a cell; "
                "shared predictors need maps of one depth with the same anchors, for example those of "
                "detector/neck=fpn and detector/anchors=multiscale"
            )
        depth, anchors = self.channels or maps[0].shape[-1], per_cell[0]
        names = ("PredictionTower",) if self.one_tower else ("BoxPredictionTower", "ClassPredictionTower")
        towers = {name: [self._conv(f"{name}/conv2d_{i}", depth) for i in range(self.convolutions)] for name in names}
        bias = prior_bias(prior)
        boxes = self._conv("BoxPredictor", anchors * 4, bias=0.0)
        classes = self._conv("ClassPredictor", anchors * (num_classes + 1), bias=bias)
        codes, logits = [], []
        for i, x in enumerate(maps):
            features = [self._walk(convolutions, x, f"{SHARED}/{name}", i) for name, convolutions in towers.items()]
            codes.append(layers.Reshape((-1, 4), name=f"{SHARED}/codes_{i}")(boxes(features[0])))
            rows = classes(features[-1])
            logits.append(layers.Reshape((-1, num_classes + 1), name=f"{SHARED}/logits_{i}")(rows))
        return layers.Concatenate(1, name="codes")(codes), layers.Concatenate(1, name="logits")(logits)

    def _conv(self, name: str, filters: int, bias: float | None = None) -> Tensor:
        """A layer that is called on every map; with a bias if batch norm does not follow."""
        kernel = "depthwise_initializer" if self.separable else "kernel_initializer"
        kind = layers.SeparableConv2D if self.separable else layers.Conv2D
        return kind(
            filters,
            self.kernel,
            padding="same",
            use_bias=bias is not None or not self.normalise,
            bias_initializer=tf_keras.initializers.Constant(bias or 0.0),
            name=f"{SHARED}/{name}",
            **{kernel: tf_keras.initializers.TruncatedNormal(stddev=self.stddev)},
        )

    def _walk(self, tower: Sequence[Tensor], x: Tensor, scope: str, place: int) -> Tensor:
        for i, conv in enumerate(tower):
            x = conv(x)
            if self.normalise:
                x = batch_norm(epsilon=1e-3, name=f"{scope}/conv2d_{i}/BatchNorm/feature_{place}")(x)
            x = layers.ReLU(6.0, name=f"{scope}/conv2d_{i}/Relu6_{place}")(x)
        return x


def prior_bias(prior: float | None) -> float:
    """The class bias with which a sigmoid is `prior` at the start; 0 without one."""
    return -math.log((1 - prior) / prior) if prior else 0.0
