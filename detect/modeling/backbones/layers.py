"""Convolution, batch norm and activation under one scope name, as in TF-slim."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import tf_keras

from detect.errors import ConfigError
from detect.modeling.replicas import batch_norm

layers = tf_keras.layers
# Factor and offset of 0..255. `mean` subtracts the ImageNet means of R, G, B, as in the training of TF-slim's VGG.
InputScaling = Literal["signed", "unit", "mean", "none"]
Padding = Literal["same", "valid"]
Rectifier = Literal["relu", "relu6"]
INPUT_SCALINGS: dict[InputScaling, tuple[float, Any]] = {
    "signed": (1 / 127.5, -1.0),
    "unit": (1 / 255.0, 0.0),
    "mean": (1.0, [-123.68, -116.78, -103.94]),
    "none": (1.0, 0.0),
}


@dataclass(frozen=True)
class ConvScope:
    """The settings that all convolutions of a network share (slim's arg_scope).

    A call returns a tensor and adds up to three layers: `NAME` (the convolution), `NAME/BatchNorm` and `NAME/Relu6`.

    padding: `same` or `valid`.
    activation: `relu6`, `relu`, `hard_swish` or any name that tf_keras knows; None leaves the output linear.
    normalise: batch norm after each convolution; without it the convolution has a bias.
    scale: whether batch norm has gamma.
    epsilon: of batch norm (slim: 1e-3).
    stddev: of the truncated normal initialiser of the kernels; None is Glorot's uniform.
    """

    padding: str = "same"
    activation: str | None = "relu6"
    normalise: bool = True
    scale: bool = True
    epsilon: float = 1e-3
    stddev: float | None = None

    def conv(self, x, filters: int, kernel, name: str, stride: int = 1, dilation: int = 1):
        """A convolution with `filters` channels, then batch norm and activation. kernel: a side, or (height, width)."""
        demand_room(x, kernel, self.padding, name)
        x = layers.Conv2D(
            filters,
            kernel,
            stride,
            self.padding,
            dilation_rate=dilation,
            use_bias=not self.normalise,
            kernel_initializer=self._initializer(),
            name=name,
        )(x)
        return self._finish(x, name)

    def depthwise(self, x, kernel: int, name: str, stride: int = 1):
        """A depthwise convolution, then batch norm and activation."""
        x = layers.DepthwiseConv2D(
            kernel,
            stride,
            self.padding,
            use_bias=not self.normalise,
            depthwise_initializer=self._initializer(),
            name=name,
        )(x)
        return self._finish(x, name)

    def separable(self, x, filters: int, kernel: int, name: str, stride: int = 1, depth_multiplier: int = 1):
        """A depthwise and a pointwise convolution with nothing between them, then batch norm and activation."""
        x = layers.SeparableConv2D(
            filters,
            kernel,
            stride,
            self.padding,
            depth_multiplier=depth_multiplier,
            use_bias=not self.normalise,
            depthwise_initializer=self._initializer(),
            pointwise_initializer=self._initializer(),
            name=name,
        )(x)
        return self._finish(x, name)

    def _initializer(self):
        if self.stddev is None:
            return "glorot_uniform"
        return tf_keras.initializers.TruncatedNormal(stddev=self.stddev)

    def _finish(self, x, name: str):
        if self.normalise:
            x = batch_norm(epsilon=self.epsilon, scale=self.scale, name=f"{name}/BatchNorm")(x)
        return x if self.activation is None else activate(x, self.activation, name)


def demand_room(x, kernel, padding: str, name: str) -> None:
    """Raises ConfigError if a kernel without padding does not fit the map x [B, h, w, C].

    kernel: a side, or (height, width). name: that of the layer, for the message.
    """
    (height, width), (rows, columns) = np.broadcast_to(kernel, 2), x.shape[1:3]
    if padding == "valid" and None not in (rows, columns) and (rows < height or columns < width):
        raise ConfigError(
            f"{name}: a kernel of {height}x{width} without padding does not fit a map of {rows}x{columns}; give larger "
            "frames (detector.size, classify.classifier.size) or crops, or backbone.padding=same"
        )


def activate(x, activation: str, name: str):
    """`relu6`, `hard_swish` (x * relu6(x + 3) / 6) or an activation of tf_keras, in layers `NAME/...`."""
    if activation == "relu6":
        return layers.ReLU(6.0, name=f"{name}/Relu6")(x)
    if activation == "hard_swish":
        return layers.Multiply(name=f"{name}/HardSwish")([x, hard_sigmoid(x, name)])
    return layers.Activation(activation, name=f"{name}/{activation.capitalize()}")(x)


def hard_sigmoid(x, name: str, sixth: float = 1 / 6):
    """relu6(x + 3) * sixth, as in MobileNet v3 (tf_keras' own `hard_sigmoid` is another function)."""
    x = layers.Rescaling(sixth, 3 * sixth, name=f"{name}/HardSigmoid/Scale")(x)
    return layers.ReLU(6 * sixth, name=f"{name}/HardSigmoid")(x)


def squeeze_excite(x, name: str):
    """Weights the channels of x by a function of their means (Hu et al. 2018, with MobileNet v3's hard sigmoid).

    As in slim, the weights are relu6(x + 3) * 0.16667, while hard swish divides by 6. Keras divides by 6 in both.
    """
    channels = x.shape[-1]
    scope = ConvScope(activation="relu", normalise=False, stddev=0.09)
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}/AvgPool")(x)
    weights = scope.conv(weights, make_divisible(channels / 4), 1, f"{name}/Conv")
    weights = replace(scope, activation=None).conv(weights, channels, 1, f"{name}/Conv_1")
    return layers.Multiply(name=f"{name}/Multiply")([x, hard_sigmoid(weights, name, sixth=0.16667)])


def scale_input(image, scaling: InputScaling):
    """Scales 0..255 to the range that the backbone was trained on. scaling: a name of INPUT_SCALINGS."""
    factor, offset = INPUT_SCALINGS[scaling]
    return layers.Rescaling(factor, offset, name="input_scaling", dtype="float32")(image)


def scaled_depth(channels: float, multiplier: float, min_depth: int) -> int:
    """Channels times a depth multiplier, with slim's minimum depth."""
    return max(int(channels * multiplier), min_depth)


def make_divisible(channels: float, min_depth: int = 8) -> int:
    """The nearest multiple of 8 that is at least `min_depth` and 90% of `channels` (MobileNet v2 and v3)."""
    nearest = max(min_depth, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
