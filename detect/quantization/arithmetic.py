"""Sums, differences and products of two tensors as XNNPACK computes them."""

import tensorflow as tf
import tf_keras

from detect.quantization.graph import Op, is_keras_tensor, numbers, operator
from detect.quantization.rounded import Rounded, power_of_two
from detect.quantization.rounding import divided

layers = tf_keras.layers
FINENESS = 2.0**20  # qs8_vadd of XNNPACK: the larger factor has 21 bits, and the smaller one the same unit
FACTORS_OF_SUM = 2.0**-10, 2.0**8  # XNNPACK leaves other ratios of two grids to TFLite, whose arithmetic is finer
FACTORS_OF_PRODUCT = 2.0**-16, 2.0**8


class _RoundedSum(Rounded):
    """Both factors, from steps of an input to steps of the sum, are whole multiples of a power of two."""

    sign = 1.0

    def fits(self, steps, target):
        low, high = FACTORS_OF_SUM
        ratios = divided(tf.stack(steps), target)
        return tf.reduce_all((ratios >= low) & (ratios < high))

    def compute(self, whole, steps, target):
        ratios = tf.cast(divided(tf.stack(steps), target), tf.float64)
        unit = power_of_two(tf.reduce_max(ratios)) / FINENESS
        factors = tf.round(ratios / unit)
        x, y = (tf.cast(value, tf.float64) * factors[i] for i, value in enumerate(whole))
        return tf.cast(tf.floor((x + self.sign * y) * unit + 0.5), tf.float32)


@tf_keras.utils.register_keras_serializable(package="detect")
class RoundedAdd(_RoundedSum, tf_keras.layers.Add):
    """A sum of two tensors."""


@tf_keras.utils.register_keras_serializable(package="detect")
class RoundedSubtract(_RoundedSum, tf_keras.layers.Subtract):
    """A difference of two tensors."""

    sign = -1.0


@tf_keras.utils.register_keras_serializable(package="detect")
class RoundedMultiply(Rounded, tf_keras.layers.Multiply):
    """A product of two tensors: of whole numbers, then times one factor in float32.

    The first product is one of integers, because TensorFlow's optimiser of graphs changes the order of float products.
    """

    def fits(self, steps, target):
        low, high = FACTORS_OF_PRODUCT
        ratio = divided(steps[0] * steps[1], target)
        return (ratio >= low) & (ratio < high)

    def compute(self, whole, steps, target):
        x, y = (tf.cast(value, tf.int32) for value in whole)
        return tf.round(tf.cast(x * y, tf.float32) * divided(steps[0] * steps[1], target))


OF_LAYER = {layers.Add: RoundedAdd, layers.Subtract: RoundedSubtract, layers.Multiply: RoundedMultiply}
OF_OPERATOR = {"add": RoundedAdd, "sub": RoundedSubtract, "mul": RoundedMultiply}  # the first letters of its name


def rounded_kind(op: Op) -> type[Rounded] | None:
    """The layer for a sum, difference or product of tensors of one rank; None for any other operation."""
    ranks = {len(x.shape) for x in tf.nest.flatten([op.args, op.kwargs]) if is_keras_tensor(x)}
    if numbers(op.args, op.kwargs) is not None or len(ranks) > 1:
        return None
    return OF_LAYER.get(type(op.layer)) or OF_OPERATOR.get(operator(op.layer)[:3])
