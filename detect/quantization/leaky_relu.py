"""Leaky ReLU as XNNPACK computes it."""

import tensorflow as tf
import tf_keras

from detect.quantization.rounded import Rounded
from detect.quantization.rounding import divided

FINENESS = 256.0  # qs8_vlrelu of XNNPACK: floor((x * round(256 factor) + 128) / 256), x and the result in steps
FACTORS = 2.0**-8, 2.0**7  # XNNPACK leaves other ratios of the two grids to TFLite, which is exact


@tf_keras.utils.register_keras_serializable(package="detect")
class RoundedLeakyReLU(Rounded, tf_keras.layers.LeakyReLU):
    """x where x is positive, otherwise alpha x. Both factors, to steps of the output, are multiples of 1/256."""

    def fits(self, steps, target):
        ratio = divided(steps[0], target)
        return (ratio >= FACTORS[0]) & (ratio <= FACTORS[1])

    def compute(self, whole, steps, target):
        ratio = divided(steps[0], target)
        positive, negative = (tf.round(FINENESS * factor * ratio) for factor in (1.0, self.alpha))
        return tf.floor(whole[0] * tf.where(whole[0] > 0, positive, negative) / FINENESS + 0.5)
