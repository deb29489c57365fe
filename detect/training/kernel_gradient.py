"""The gradients of a loss. Those of large convolution kernels are sums over shifted images, where this is faster.

On processors with AVX2 and without AVX-512, oneDNN computes the gradient of a 3x3 kernel at a seventh to a half of the
speed of the convolution itself, because the channels of its images come last. Its gradient of a 1x1 kernel is fast. So
the gradient for each place of the kernel is computed as that of a 1x1 kernel on the image, shifted by that place. The
result differs in the order of a sum.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from detect import environment

LEAST_CHANNELS, LEAST_PAIRS, LEAST_CELLS = 32, 2048, 1300
"""Of both sides of a kernel, their product, and the cells of the output. Smaller convolutions gain nothing."""

NAME = "Conv2DByPlaces"


@functools.cache
def helps() -> bool:
    """Whether the sum over places is faster here: with oneDNN, on a processor whose instructions are AVX2 at most."""
    return environment.onednn_with_avx2() and not tf.config.list_physical_devices("GPU")


@contextlib.contextmanager
def differentiated(fast: bool) -> Iterator[Callable[..., Any]]:
    """Inside this context, a loss is computed. Yields the function that then gives its gradients: (loss, variables).

    fast: kernels by places, where it suits; within a graph alone. An operation without a gradient of its own makes all
        kernels those of TensorFlow.
    """
    fast = fast and not tf.executing_eagerly()
    graph = tf.compat.v1.get_default_graph()
    with graph.gradient_override_map({"Conv2D": NAME} if fast else {}), tf.GradientTape() as tape:
        yield functools.partial(_fast, tape) if fast else tape.gradient


def _fast(tape: tf.GradientTape, loss: tf.Tensor, variables: list[tf.Variable]) -> Any:
    try:
        return tf.gradients(loss, variables)
    except LookupError:  # the tape asks only for gradients that reach a variable
        return tape.gradient(loss, variables)


@tf.RegisterGradient(NAME)  # type: ignore[untyped-decorator]
def _gradient(op: tf.Operation, error: tf.Tensor) -> list[tf.Tensor]:
    """The gradients of a convolution's image and kernel from that of its output."""
    image, kernel = op.inputs
    names = ("strides", "padding", "explicit_paddings", "data_format", "dilations")
    how = {name: op.get_attr(name) for name in names}
    how = {name: value.decode() if isinstance(value, bytes) else value for name, value in how.items()}
    shape, kernel_shape = tf.shape_n([image, kernel])
    of_image = tf.raw_ops.Conv2DBackpropInput(input_sizes=shape, filter=kernel, out_backprop=error, **how)
    if suits(image.shape, kernel.shape, error.shape, **how):
        of_kernel = by_places(image, error, kernel.shape[:2], how["padding"])
    else:
        of_kernel = tf.raw_ops.Conv2DBackpropFilter(input=image, filter_sizes=kernel_shape, out_backprop=error, **how)
    return [of_image, of_kernel]


def suits(
    image: tf.TensorShape,
    kernel: tf.TensorShape,
    error: tf.TensorShape,
    strides: list[int],
    padding: str,
    data_format: str,
    dilations: list[int],
    **others: object,
) -> bool:
    """Whether the gradient of a kernel can be computed by places, and is faster so."""
    plain = strides == dilations == [1, 1, 1, 1] and data_format == "NHWC" and padding in ("SAME", "VALID")
    if not plain or None in (*image[1:], *kernel, *error[1:]):
        return False
    cells, (height, width, *channels) = int(error[1] * error[2]), map(int, kernel)
    wide = min(channels) >= LEAST_CHANNELS and channels[0] * channels[1] >= LEAST_PAIRS
    return height * width > 1 and cells >= LEAST_CELLS and wide


def by_places(image: tf.Tensor, error: tf.Tensor, sides: tuple[int, int], padding: str) -> tf.Tensor:
    """The gradient [h, w, C, D] of a kernel of `sides` (h, w) with stride 1.

    image: float32 [B, H, W, C]; error: float32 [B, H', W', D], the gradient of the output. padding: SAME or VALID.
    """
    rows, columns = error.shape[1:3]
    if padding == "SAME":
        around = [[(side - 1) // 2, side // 2] for side in sides]
        image = tf.pad(image, [[0, 0], *around, [0, 0]])
    channels, ones = [image.shape[3], error.shape[3]], [1, 1, 1, 1]
    product = functools.partial(
        tf.raw_ops.Conv2DBackpropFilter,
        filter_sizes=[1, 1, *channels],
        out_backprop=error,
        strides=ones,
        padding="VALID",
    )
    found: list[tf.Tensor] = []
    for y in range(sides[0]):
        for x in range(sides[1]):
            with tf.control_dependencies(found[-1:]):  # one after another: each holds a copy of the image
                part = image[:, y : y + rows, x : x + columns]
            found.append(product(input=part))
    return tf.reshape(tf.stack(found), [*sides, *channels])
