"""Predictors: from feature maps to box codes and class logits."""

import math
from collections.abc import Sequence
from typing import Literal

import tf_keras

from detect.config.legal_values import demand
from detect.modeling.backbones.layers import ConvScope
from detect.modeling.interface import Tensor

layers = tf_keras.layers
Kernel = Literal[1, 3]


class ConvPredictor:
    """One convolution for the boxes and one for the classes on each map (the API's convolutional box predictor).

    kernel: 1 as in the zoo's SSDs on MobileNet, 3 as in its SSDs on Inception and in Liu 2016.
    stddev: of the truncated normal initialiser of the kernels (the zoo: .03).
    """

    def __init__(self, kernel: Kernel = 1, stddev: float = 0.03):
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
        bias = -math.log((1 - prior) / prior) if prior else 0.0
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

    def __init__(self, stddev: float = 0.03):
        super().__init__(1, stddev)

    def _predict(self, x, filters: int, name: str, bias: float):
        x = ConvScope(stddev=self.stddev).depthwise(x, 3, f"{name}_depthwise")
        return super()._predict(x, filters, name, bias)
