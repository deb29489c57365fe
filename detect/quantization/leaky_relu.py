"""Leaky ReLU as XNNPACK computes it: both factors are multiples of 1/256."""

from typing import Any

import tensorflow as tf
import tf_keras

from detect.quantization.grids import steps
from detect.quantization.phases import WHOLE, Stepped

FINENESS = 256.0  # qs8_vlrelu of XNNPACK: floor((x * round(256 factor) + 128) / 256), x and the result in steps
FACTORS = 2.0**-8, 2.0**7  # XNNPACK leaves other ratios of the two grids to TFLite, which is exact


@tf_keras.utils.register_keras_serializable(package="detect")
class RoundedLeakyReLU(Stepped):
    """x where x is positive, otherwise alpha x; evaluation rounds both factors as XNNPACK does.

    alpha: the slope below 0. A factor takes a step of the input to steps of the output.
    """

    def __init__(self, spec, alpha: float, **kwargs: object):
        super().__init__(spec, **kwargs)
        self.alpha = alpha

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "alpha": self.alpha}

    def build(self, input_shape) -> None:
        """Adds the variable of the step."""
        self.add_step(self.spec.delay)
        super().build(input_shape)

    @tf.autograph.experimental.do_not_convert
    def call(self, x, number: int = 0, training=None):
        """x: float32 of any shape. number: of this call among the layer's calls."""
        source, target = steps(self, number)
        if training or self.run not in WHOLE or source is None or target is None:
            return tf.nn.leaky_relu(x, self.alpha)
        return self.rounded(lambda: self._in_integers(x, source(), target()), lambda: tf.nn.leaky_relu(x, self.alpha))

    def _in_integers(self, x, source, target):
        ratio = source / target
        positive, negative = (tf.round(FINENESS * factor * ratio) for factor in (1.0, self.alpha))
        whole = tf.round(x / source)
        found = tf.floor(whole * tf.where(whole > 0, positive, negative) / FINENESS + 0.5) * target
        exact = (ratio < FACTORS[0]) | (ratio > FACTORS[1])
        return tf.where(exact, tf.nn.leaky_relu(x, self.alpha), found)
