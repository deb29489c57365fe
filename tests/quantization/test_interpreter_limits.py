"""What TFLite can't compute is refused before the conversion; what is just below the limit is computed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError
from detect.quantization.calibrate import calibrate, evaluation_graph
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from tests.quantization import files

layers = tf_keras.layers
STEP = 6 / 255  # of the output, which is relu6's


def twin_of(largest: float, function: Callable[[Any, Any], Any]) -> tuple[tf_keras.Model, np.ndarray]:
    """A twin that ends with relu6 of a function of two tensors within -largest..largest; and images."""
    image = layers.Input((8, 8, 3), name="image")
    x, y = layers.MaxPooling2D(1)(image), layers.Permute((2, 1, 3))(image)
    outputs = {"conv": layers.Conv2D(2, 1)(image), "out": layers.ReLU(6.0)(function(x, y))}
    twin = fake_quant(tf_keras.Model(image, outputs, name="steep"), Spec())
    images = np.random.default_rng(0).uniform(-largest, largest, (4, 8, 8, 3)).astype(np.float32)
    calibrate(twin, [images])
    return twin, images


def assert_agrees(largest: float, function: Callable[[Any, Any], Any]) -> None:
    twin, images = twin_of(largest, function)
    files.assert_agrees(twin, files.runner(twin), images)


def assert_refused(largest: float, function: Callable[[Any, Any], Any], steps: str) -> None:
    with pytest.raises(ConfigError, match=rf"\w+: a step before it is {steps} steps of its output"):
        evaluation_graph(twin_of(largest, function)[0])


KERNELS = {
    "conv": lambda kernel: layers.Conv2D(12, 1, use_bias=False, weights=[kernel]),
    "separable": lambda kernel: layers.SeparableConv2D(12, 1, use_bias=False, weights=[np.ones((1, 1, 3, 1)), kernel]),
}


@pytest.mark.parametrize("kind", KERNELS)
def test_a_step_of_the_sums_of_a_kernel(kind):
    def steep(ratio):  # the image has steps of 1, the kernels of largest / 127
        largest = ratio * 127 * STEP
        return lambda x, y: KERNELS[kind](np.linspace(-largest, largest, 36).reshape(1, 1, 3, 12))(x)

    assert_agrees(127.5, steep(230))
    assert_refused(127.5, steep(265), r"2[67]\d")


SUMS = {
    "add": lambda x, y: layers.Add()([x, y]),
    "operator": lambda x, y: x + y,
    "number": lambda x, y: x + 1.0,
    "number first": lambda x, y: -1.0 + x,
    "rescaling": lambda x, y: layers.Rescaling(1.0, offset=[0.0, 1.0, 2.0])(x),
    "hard_sigmoid": lambda x, y: layers.ReLU(6.0)(x + 3.0) * (1 / 6),
}


@pytest.mark.parametrize("kind", SUMS)
def test_a_step_of_an_operand_of_a_sum(kind):
    assert_agrees(240 * STEP * 127.5, SUMS[kind])
    assert_refused(265 * STEP * 127.5, SUMS[kind], r"2[67]\d")


PRODUCTS = {
    "multiply": lambda x, y: layers.Multiply()([x, y]),
    "operator": lambda x, y: x * y,
    "square": lambda x, y: x * x,
    "number": lambda x, y: x * 255.0,
    "rescaling": lambda x, y: layers.Rescaling([255.0, 17.0, 2.0])(x),
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_the_steps_of_a_product(kind):
    """A number of 255 has a step of 1."""
    power = 1.0 if kind in ("number", "rescaling") else 0.5
    assert_agrees((240 * STEP) ** power * 127.5, PRODUCTS[kind])
    assert_refused((265 * STEP) ** power * 127.5, PRODUCTS[kind], r"2[67]\d")


DIFFERENCES = {
    "subtract": lambda x, y: layers.Subtract()([x, y]),
    "operator": lambda x, y: x - y,
    "number": lambda x, y: x - 1.0,
    "number first": lambda x, y: 1.0 - x,
}


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_differences_have_no_limit(kind):
    assert_agrees(3e4 * STEP * 127.5, DIFFERENCES[kind])


NOTHING = {
    "times one": lambda x: x * 1.0,
    "times ones": lambda x: x * np.ones(3, np.float32),
    "tf.multiply": lambda x: tf.multiply(y=1.0, x=x),
    "one times": lambda x: 1.0 * x,
    "plus zero": lambda x: x + 0.0,
    "zero plus": lambda x: 0.0 + x,
    "minus zero": lambda x: x - 0.0,
    "rescaling": lambda x: layers.Rescaling(1.0)(x),
    "rescaling of channels": lambda x: layers.Rescaling([1.0, 1.0, 1.0])(x),
    "linear": lambda x: layers.Activation("linear")(x),
    "dropout": lambda x: layers.Dropout(0.5)(x),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_operations_that_the_converter_leaves_out_have_no_grid_of_their_own(kind):
    """Otherwise the pooling before one would have to change the grid."""
    assert_agrees(127.5, lambda x, y: NOTHING[kind](layers.AveragePooling2D(2)(x)))
    assert_agrees(127.5, lambda x, y: layers.Add()([NOTHING[kind](layers.Reshape((64, 3))(z)) for z in (x, y)]))


def test_operations_of_numbers_that_change_something():
    """Zero minus x, and one in place of zero, are no such operations."""
    for function in (lambda x: 0.0 - x, lambda x: x + 1.0, lambda x: x * 0.0, lambda x: 1.0 - x):
        assert_agrees(12.5, lambda x, y, function=function: function(layers.AveragePooling2D(2)(x)))
    assert_agrees(12.5, lambda x, y: layers.Reshape((8, 24, 1))(x) * np.ones(3, np.float32))
