"""Ranges, and what rounding to them does to a tensor: TFLite's arithmetic with a straight-through gradient."""

import tensorflow as tf

SMALLEST = 1e-6  # width of the range of a tensor that is 0 throughout: a scale must not be 0
# A channel's scale is at least this share of the kernel's largest. Below it, bias / (input scale * kernel scale) would
# overflow int32, and what such a channel's finer steps would tell is far below the step of its output.
LEAST_CHANNEL = 2.0**-12


def levels(bits: int) -> int:
    """The largest integer of a symmetric, narrow kernel: 127 of 8 bits."""
    return 2 ** (bits - 1) - 1


def admissible(low, high, bits: int, symmetric: bool):
    """(low, high) such that 0 lies in the range, on one of its 2 ** bits steps, and it is not empty.

    Symmetric: widened to low = -high * 128/127 (of 8 bits), the two's complement: [-1, .5] becomes [-1, 127/128].
    Otherwise it is shifted by up to half a step, as TensorFlow and TFLite would do, each for itself: of [-1, 1], where
    0 lies halfway between two steps, they could make different ones. Gradients pass the shift.
    """
    low, high = tf.minimum(low, 0.0), tf.maximum(high, 0.0)
    high = tf.maximum(high, low + SMALLEST)
    if symmetric:
        ratio = levels(bits) / 2 ** (bits - 1)
        return tf.minimum(low, -high / ratio), tf.maximum(high, -low * ratio)
    step = (high - low) / (2**bits - 1)
    shift = tf.stop_gradient(-tf.round(-low / step) * step - low)
    return low + shift, high + shift


def fake_quant(x, low, high, bits: int):
    """x rounded to 2 ** bits equal steps over [low, high], an admissible range.

    x: float32 of any shape; low, high: scalars. The gradient passes where x lies inside; low and high take the
    gradient of what lies beyond them.
    """
    return tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=bits)


def kernel_steps(kernel, bits: int, per_channel: bool):
    """The step of the grid of a kernel [..., C], so that its largest magnitude is `levels(bits)` steps: [C] or [].

    A kernel, or channel, of zeros gets a small step that is not 0.
    """
    magnitude = tf.abs(kernel)
    largest = tf.maximum(tf.reduce_max(magnitude), SMALLEST)
    if per_channel:
        axes = list(range(len(kernel.shape) - 1))
        largest = tf.maximum(tf.reduce_max(magnitude, axis=axes), largest * LEAST_CHANNEL)
    return tf.stop_gradient(largest / levels(bits))


def fake_quant_kernel(kernel, bits: int, per_channel: bool, mark: bool = False):
    """A kernel [..., C] rounded to its grid. The gradient passes unchanged: nothing lies outside of the range.

    mark: adds the operation from which the TFLite converter reads the range. The values are on the grid before, so
    that the file's integers are these, however a tie is rounded there. Of fewer than 8 bits, they are small ones.
    """
    step = kernel_steps(kernel, bits, per_channel)
    rounded = tf.round(kernel / step) * step
    rounded = kernel + tf.stop_gradient(rounded - kernel)
    if not mark:
        return rounded
    quantise = tf.quantization.fake_quant_with_min_max_vars
    if per_channel:
        quantise = tf.quantization.fake_quant_with_min_max_vars_per_channel
    return quantise(rounded, -levels(8) * step, levels(8) * step, num_bits=8, narrow_range=True)
