"""Hard sigmoid and hard swish (Howard et al. 2019): the forms in which models contain them, and TFLite's arithmetic."""

import math

import numpy as np
import tensorflow as tf
import tf_keras

from detect.quantization.graph import Graph, Op, Tensor, numbers, operator
from detect.quantization.rounded import Rounded, power_of_two
from detect.quantization.rounding import divided

layers = tf_keras.layers
SIXTH = 1e-4  # relative tolerance of a factor that is meant as 1/6
FINENESS = 128.0  # TFLite's HARD_SWISH computes in int16: a step of the input is 128 units
ONE = 2.0**15  # the factor 1 in int16
LARGEST = 255  # distance of an 8-bit integer from the zero point


@tf_keras.utils.register_keras_serializable(package="detect")
def shifted_relu6(x):
    """relu6(x + 3): the first half of the hard sigmoid."""
    return tf.nn.relu6(x + 3.0)


@tf_keras.utils.register_keras_serializable(package="detect")
def sixth(x):
    """x / 6: the second half of the hard sigmoid."""
    return x * (1 / 6)


@tf_keras.utils.register_keras_serializable(package="detect")
def hard_swish(x):
    """x relu6(x + 3) / 6, in a form that the TFLite converter turns into one operation."""
    return x * tf.nn.relu6(x + 3.0) * (1 / 6)


@tf_keras.utils.register_keras_serializable(package="detect")
class RoundedHardSwish(Rounded, tf_keras.layers.Activation):
    """Hard swish. TFLite's own kernel computes it in fixed point with 16 bits; XNNPACK leaves it to that."""

    def __init__(self, activation=hard_swish, **kwargs: object):
        super().__init__(activation, **kwargs)

    def compute(self, whole, steps, target):
        """The output of each whole number that can occur is computed once, and then looked up."""
        table = _hard_swish_in_fixed_point(
            tf.range(-LARGEST, LARGEST + 1, dtype=tf.float64), steps[0] / FINENESS, target
        )
        place = tf.clip_by_value(tf.cast(whole[0], tf.int32) + LARGEST, 0, 2 * LARGEST)  # also of what is not a number
        return tf.gather(tf.cast(table, tf.float32), place)


def _hard_swish_in_fixed_point(inputs, unit, target):
    """inputs: float64 [N], steps of the input. unit, target: 1/128 of such a step, and the step of the output."""
    units = inputs * FINENESS
    factor, scale = _fixed_point(divided(unit, target))
    outputs = _rounded_up(units * factor)  # in steps of the output, but for the last shift
    factor, shift = _fixed_point(divided(unit, tf.constant(3 / ONE)))
    half = tf.maximum(shift / 2, 1.0)  # all shifts to the left but the last
    gate = _saturated(_rounded_up(_saturated(units * half) * factor) * tf.maximum(tf.minimum(shift, 2.0), 1.0))
    gate = _rounded_away(gate * tf.minimum(shift, 1.0))  # from -3 to 3
    gate = tf.floor((gate + ONE) / 2)
    return _rounded_away(_toward_zero(gate * outputs / ONE) * scale)


def _fixed_point(ratio):
    """ratio = factor * shift: a factor from .5 to 1 in 15 bits, and a power of two. ratio: a positive float32."""
    ratio = tf.cast(ratio, tf.float64)
    shift = 2 * power_of_two(ratio)
    return tf.minimum(tf.floor(ratio / shift * ONE + 0.5), ONE - 1) / ONE, shift


def _rounded_up(x):
    return tf.floor(x + 0.5)


def _rounded_away(x):
    return tf.sign(x) * tf.floor(tf.abs(x) + 0.5)


def _toward_zero(x):
    return tf.sign(x) * tf.floor(tf.abs(x))


def _saturated(x):
    return tf.clip_by_value(x, -ONE, ONE - 1)


def hard_sigmoid_before(tensor: Tensor, graph: Graph) -> tuple[Op, ...] | None:
    """The operations that compute `tensor` as relu6(x + 3) / 6, where x is the input of the first; None if none do.

    Two forms are known: a Rescaling by 1/6 and 1/2 with a ReLU up to 1, and `ReLU(6.0)(x + 3.0) * (1.0 / 6.0)`. In
    both, slim's 0.16667 counts as 1/6: the difference is 1/200 of a step of 8 bits.
    """
    last = graph.producer[tensor]
    relu = _only_before(last, graph)
    if type(last.layer) is layers.ReLU and relu is not None and type(relu.layer) is layers.Rescaling:
        scale, offset = relu.layer.scale, relu.layer.offset
        same = _close(scale, 1 / 6, SIXTH) and _close(offset, 3 * scale) and _is_relu_to(last, 6 * scale)
        return (relu, last) if same else None
    if relu is None or not (_is_relu_to(relu, 6) and _number(last, "mul", 1 / 6, SIXTH)):
        return None
    shift = _only_before(relu, graph)
    return (shift, relu, last) if shift is not None and _number(shift, "add", 3.0) else None


def hard_swish_before(op: Op, graph: Graph) -> tuple[Op, ...] | None:
    """The operations that compute x relu6(x + 3) / 6 and end with the product `op`; None if `op` is another one."""
    if len(op.inputs) != 2 or not (type(op.layer) is layers.Multiply or operator(op.layer).startswith("mul")):
        return None
    for x, gate in (op.inputs, op.inputs[::-1]):
        ops = hard_sigmoid_before(gate, graph)
        if ops is not None and ops[0].inputs[0] == x and graph.only_user(gate) is op:
            return (*ops, op)
    return None


def _only_before(op: Op, graph: Graph) -> Op | None:
    """The producer of the input of `op`; None if there are more inputs, or if anything else uses the input."""
    if len(op.inputs) != 1 or graph.only_user(op.inputs[0]) is not op:
        return None
    return graph.producer[op.inputs[0]]


def _is_relu_to(op: Op, value: float) -> bool:
    layer = op.layer
    if type(layer) is not layers.ReLU or layer.max_value is None or layer.negative_slope or layer.threshold:
        return False
    return _close(float(layer.max_value), value)  # Keras keeps it as an array


def _number(op: Op, kind: str, value: float, tolerance: float = 1e-6) -> bool:
    """Whether `op` is `x + value` (kind `add`) or `x * value` (kind `mul`)."""
    given = numbers(op.args, op.kwargs)
    return operator(op.layer).lstrip("r").startswith(kind) and given is not None and _close(given, value, tolerance)


def _close(given, value: float, tolerance: float = 1e-6) -> bool:
    return np.size(given) == 1 and math.isclose(given, value, rel_tol=tolerance)
