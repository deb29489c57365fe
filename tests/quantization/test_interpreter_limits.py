"""What TFLite can't compute is refused before the conversion; what is just below the limit is computed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError
from detect.quantization import interpreter_limits
from detect.quantization.calibrate import calibrate, evaluation_graph
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from tests.quantization import files

layers = tf_keras.layers
STEP = 6 / 255  # of the output, which is relu6's


def twin_of(largest: float, **functions: Callable[[Any, Any], Any]) -> tuple[tf_keras.Model, np.ndarray]:
    """A twin with relu6 of each function of two tensors within -largest..largest as an output; and images."""
    image = layers.Input((8, 8, 3), name="image")
    x, y = layers.MaxPooling2D(1)(image), layers.Permute((2, 1, 3))(image)
    outputs = {name: layers.ReLU(6.0)(function(x, y)) for name, function in functions.items()}
    twin = fake_quant(tf_keras.Model(image, {"conv": layers.Conv2D(2, 1)(image)} | outputs, name="steep"), Spec())
    images = np.random.default_rng(0).uniform(-largest, largest, (4, 8, 8, 3)).astype(np.float32)
    calibrate(twin, [images])
    return twin, images


def assert_agrees(largest: float, **functions: Callable[[Any, Any], Any]) -> None:
    twin, images = twin_of(largest, **functions)
    files.assert_agrees(twin, files.runner(twin), images)


def assert_refused(largest: float, function: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(ConfigError, match=r"\w+: a step before it is 2[67]\d steps of its output"):
        evaluation_graph(twin_of(largest, out=function)[0])


def steep(kernel_layer: Callable[[np.ndarray], Any], ratio: float) -> Callable[[Any, Any], Any]:
    """A layer whose sums have steps of `ratio` steps of the output: the image has steps of 1, the kernel of 1/127."""
    largest = ratio * 127 * STEP
    return lambda x, y: kernel_layer(np.linspace(-largest, largest, 36).reshape(1, 1, 3, 12))(x)


KERNELS = {
    "conv": lambda kernel: layers.Conv2D(12, 1, use_bias=False, weights=[kernel]),
    "separable": lambda kernel: layers.SeparableConv2D(12, 1, use_bias=False, weights=[np.ones((1, 1, 3, 1)), kernel]),
}
SUMS = {
    "add": lambda x, y: layers.Add()([x, y]),
    "operator": lambda x, y: x + y,
    "number": lambda x, y: x + 1.0,
    "number_first": lambda x, y: -1.0 + x,
    "rescaling": lambda x, y: layers.Rescaling(1.0, offset=[0.0, 1.0, 2.0])(x),
    "hard_sigmoid": lambda x, y: layers.ReLU(6.0)(x + 3.0) * (1 / 6),
}
PRODUCTS = {
    "multiply": lambda x, y: layers.Multiply()([x, y]),
    "operator": lambda x, y: x * y,
    "square": lambda x, y: x * x,
}
FACTORS = {  # a number of 255 has steps of 1
    "number": lambda x, y: x * 255.0,
    "rescaling": lambda x, y: layers.Rescaling([255.0, 17.0, 2.0])(x),
}
DIFFERENCES = {
    "subtract": lambda x, y: layers.Subtract()([x, y]),
    "operator": lambda x, y: x - y,
    "number": lambda x, y: x - 1.0,
    "number_first": lambda x, y: 1.0 - x,
}


def test_up_to_256_steps_of_the_output_are_computed():
    assert_agrees(127.5, **{name: steep(layer, 240) for name, layer in KERNELS.items()})
    assert_agrees(240 * STEP * 127.5, **SUMS)
    assert_agrees((240 * STEP) ** 0.5 * 127.5, **PRODUCTS)
    assert_agrees(240 * STEP * 127.5, **FACTORS)


@pytest.mark.parametrize("layer", KERNELS.values(), ids=KERNELS)
def test_more_steps_of_the_sums_of_a_kernel_are_refused(layer):
    assert_refused(127.5, steep(layer, 265))


@pytest.mark.parametrize("function", [*SUMS.values(), *FACTORS.values()], ids=[*SUMS, *FACTORS])
def test_more_steps_of_an_operand_are_refused(function):
    assert_refused(265 * STEP * 127.5, function)


@pytest.mark.parametrize("function", PRODUCTS.values(), ids=PRODUCTS)
def test_more_steps_of_two_operands_are_refused(function):
    assert_refused((265 * STEP) ** 0.5 * 127.5, function)


def test_differences_have_no_limit():
    assert_agrees(3e4 * STEP * 127.5, **DIFFERENCES)


NOTHING = {
    "times_one": lambda x: x * 1.0,
    "times_ones": lambda x: x * np.ones(3, np.float32),
    "multiply": lambda x: tf.multiply(y=1.0, x=x),
    "one_times": lambda x: 1.0 * x,
    "plus_zero": lambda x: x + 0.0,
    "zero_plus": lambda x: 0.0 + x,
    "minus_zero": lambda x: x - 0.0,
    "rescaling": lambda x: layers.Rescaling(1.0)(x),
    "rescaling_of_channels": lambda x: layers.Rescaling([1.0, 1.0, 1.0])(x),
    "linear": lambda x: layers.Activation("linear")(x),
    "dropout": lambda x: layers.Dropout(0.5)(x),
}


def test_operations_that_the_converter_leaves_out_have_no_grid_of_their_own():
    """Otherwise the pooling before one would have to change the grid."""

    def pooled(function):
        return lambda x, y: function(layers.AveragePooling2D(2)(x))

    def reshaped(function):
        return lambda x, y: layers.Add()([function(layers.Reshape((64, 3))(z)) for z in (x, y)])

    assert_agrees(127.5, **{name: pooled(function) for name, function in NOTHING.items()})
    assert_agrees(127.5, **{name: reshaped(function) for name, function in NOTHING.items()})


def test_operations_of_numbers_that_change_something():
    """Zero minus x, and zero in place of one, are no such operations; nor are three channels of one."""
    functions = {
        "zero_minus": lambda x, y: 0.0 - x,
        "plus_one": lambda x, y: x + 1.0,
        "times_zero": lambda x, y: x * 0.0,
        "one_minus": lambda x, y: 1.0 - x,
        "channels": lambda x, y: layers.Reshape((8, 24, 1))(x) * np.ones(3, np.float32),
    }
    assert_agrees(12.5, **functions)


def test_each_call_of_a_product_has_a_ratio():
    """The number of a call is no factor."""
    product = layers.Multiply()
    twin, _ = twin_of(1.0, first=lambda x, y: product([x, y]), second=lambda x, y: product([y, x]))
    first, second = map(float, interpreter_limits._ratios(twin.get_layer(product.name)))
    assert first == pytest.approx(second) and first > 0
