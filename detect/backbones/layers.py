"""Convolution, batch norm and activation as TF-slim groups them under one scope name."""

from dataclasses import dataclass

import tf_keras

layers = tf_keras.layers
INPUT_SCALINGS = {"signed": (1 / 127.5, -1.0), "unit": (1 / 255.0, 0.0), "none": (1.0, 0.0)}


@dataclass(frozen=True)
class ConvScope:
    """The settings that all convolutions of a network share (slim's arg_scope).

    A call returns a tensor and adds three layers: `NAME` (the convolution), `NAME/BatchNorm` and `NAME/Relu6`.

    padding: `same` or `valid`.
    activation: `relu6`, `relu` or any name that tf_keras knows.
    scale: whether batch norm has gamma.
    epsilon: of batch norm (slim: 1e-3).
    stddev: of the truncated normal that fills the kernels; None is Glorot's uniform.
    """

    padding: str = "same"
    activation: str = "relu6"
    scale: bool = True
    epsilon: float = 1e-3
    stddev: float | None = None

    def _initializer(self):
        if self.stddev is None:
            return "glorot_uniform"
        return tf_keras.initializers.TruncatedNormal(stddev=self.stddev)

    def _normalise(self, x, name: str):
        x = layers.BatchNormalization(epsilon=self.epsilon, scale=self.scale, name=f"{name}/BatchNorm")(x)
        if self.activation == "relu6":
            return layers.ReLU(6.0, name=f"{name}/Relu6")(x)
        return layers.Activation(self.activation, name=f"{name}/{self.activation.capitalize()}")(x)

    def conv(self, x, filters: int, kernel: int, name: str, stride: int = 1):
        """A convolution of `filters` x `kernel` x `kernel` without bias, batch norm, activation."""
        x = layers.Conv2D(
            filters, kernel, stride, self.padding, use_bias=False, kernel_initializer=self._initializer(), name=name
        )(x)
        return self._normalise(x, name)

    def depthwise(self, x, kernel: int, name: str, stride: int = 1):
        """A depthwise convolution without bias, batch norm, activation."""
        x = layers.DepthwiseConv2D(
            kernel, stride, self.padding, use_bias=False, depthwise_initializer=self._initializer(), name=name
        )(x)
        return self._normalise(x, name)


def scale_input(image, scaling: str):
    """0..255 to what the backbone was trained on: `signed` [-1, 1], `unit` [0, 1], or `none`."""
    factor, offset = INPUT_SCALINGS[scaling]
    return layers.Rescaling(factor, offset, name="input_scaling")(image)


def scaled_depth(channels: int, multiplier: float, min_depth: int) -> int:
    """Channels under a depth multiplier, with slim's minimum depth."""
    return max(int(channels * multiplier), min_depth)
