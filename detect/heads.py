"""Predictors: from feature maps to box codes and class logits."""

import math
from collections.abc import Sequence

import tf_keras

layers = tf_keras.layers


class ConvPredictor:
    """One convolution for the boxes and one for the classes on each map (the API's convolutional box predictor).

    kernel: 1 as the MobileNet SSDs of the zoo, 3 as the Inception ones and Liu 2016.
    stddev: of the truncated normal that fills the kernels (the zoo: .03).
    """

    def __init__(self, kernel: int = 1, stddev: float = 0.03):
        self.kernel, self.stddev = kernel, stddev

    def __call__(self, maps: Sequence, per_cell: Sequence[int], num_classes: int, prior: float | None = None):
        """maps: the feature maps [B, H, W, D]; per_cell: anchors of a cell of each.

        prior: the probability of an object that class biases start from; None starts from 0.
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
