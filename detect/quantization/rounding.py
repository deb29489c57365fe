"""Ranges, and rounding of a tensor to a range: TFLite's arithmetic with a straight-through gradient."""

import tensorflow as tf

# Width of the range of a tensor of zeros: a scale must not be 0, and the converter widens 1e-6 and less.
SMALLEST = 2e-6
# The scale of a channel is at least this share of the largest scale of the kernel. With a smaller one,
# bias / (input scale * kernel scale) would overflow int32; finer steps would be far below the step of the output.
LEAST_CHANNEL = 2.0**-12
TIE = 0.01  # of a step: a scaled pixel so little below a half counts as a half
TIE_OF_MEANS = 0.001  # of a step, the same for means of up to 500 whole numbers: halves or farther away from a half


def divided(x, y):
    """x / y, with the same bits in every graph; 0 where y is 0.

    TensorFlow's optimiser of graphs turns a division by a constant or by a root into a multiplication, whose last digit
    may differ. A sum halfway between two steps then goes to the other one, and a network that has not settled makes
    large differences of it: the graph that is scored is not the file any more. It leaves this operation as it is.
    """
    return tf.math.divide_no_nan(x, y)


def levels(bits: int) -> int:
    """The largest integer of a symmetric, narrow kernel: 127 for 8 bits."""
    return 2 ** (bits - 1) - 1


def admissible(low, high, bits: int, symmetric: bool):
    """(low, high), adapted so that the range is not empty and 0 is one of its 2 ** bits steps.

    symmetric: the range is widened to low = -high * 128/127 (for 8 bits), as in two's complement: [-1, .5] becomes
    [-1, 127/128]. Otherwise the range is shifted by up to half a step. TensorFlow and TFLite would both do this, but
    with different results for [-1, 1], where 0 is halfway between two steps. Gradients pass the shift unchanged.
    """
    low, high = tf.minimum(low, 0.0), tf.maximum(high, 0.0)
    high = tf.maximum(high, low + SMALLEST)
    if symmetric:
        ratio = levels(bits) / 2 ** (bits - 1)
        return tf.minimum(low, divided(-high, ratio)), tf.maximum(high, -low * ratio)
    step = divided(high - low, 2**bits - 1)
    shift = tf.stop_gradient(-tf.round(-low / step) * step - low)
    return low + shift, high + shift


def range_step(low, high, bits: int):
    """The step of 2 ** bits values over [low, high], to the last bit as the converter writes it into the file.

    It divides in float64. A step that is one bit off moves one value of a million to the next integer, and a deep
    network makes large differences of it.
    """
    width = tf.cast(high, tf.float64) - tf.cast(low, tf.float64)
    return tf.cast(divided(width, tf.cast(2**bits - 1, tf.float64)), tf.float32)


def round_values(x, low, high, bits: int):
    """x rounded to 2 ** bits equal steps over [low, high], an admissible range.

    x: float32 of any shape; low, high: scalars. The gradient passes where x is inside of the range. Where x is outside,
    low or high gets the gradient.
    """
    return tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=bits)


def kernel_steps(kernel, bits: int, per_channel: bool):
    """The step of the grid of a kernel [..., C]: [C] or []. The largest magnitude is `levels(bits)` steps.

    A kernel or a channel of zeros gets a small step that is not 0.
    """
    magnitude = tf.abs(kernel)
    largest = tf.maximum(tf.reduce_max(magnitude), SMALLEST)
    if per_channel:
        axes = list(range(len(kernel.shape) - 1))
        largest = tf.maximum(tf.reduce_max(magnitude, axis=axes), largest * LEAST_CHANNEL)
    return tf.stop_gradient(divided(largest, levels(bits)))


def round_kernel(kernel, bits: int, per_channel: bool, mark: bool = False):
    """A kernel [..., C] rounded to its grid. The gradient passes unchanged: no value is outside of the range.

    mark: adds the operation from which the TFLite converter reads the range. The values are on the grid already, so
    the file has the same integers, however it rounds ties. With fewer than 8 bits, the integers are small.
    """
    step = kernel_steps(kernel, bits, per_channel)
    rounded = round_to_steps(kernel, step)
    return mark_kernel(rounded, step, per_channel) if mark else rounded


def round_to_steps(kernel, step):
    """A kernel rounded to whole steps. step: of the kernel's shape, or broadcast to it."""
    return kernel + tf.stop_gradient(tf.round(kernel / step) * step - kernel)


def mark_kernel(rounded, step, per_channel: bool):
    """A rounded kernel [..., C] with the operation from which the converter reads its steps, [C] or []."""
    quantise = tf.quantization.fake_quant_with_min_max_vars
    if per_channel:
        quantise = tf.quantization.fake_quant_with_min_max_vars_per_channel
    return quantise(rounded, -levels(8) * step, levels(8) * step, num_bits=8, narrow_range=True)
