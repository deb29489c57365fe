"""What the unit tests of tf.contrib.quantize (TensorFlow 1.15: quant_ops, quantize_graph) assert of ranges.

| contrib | here |
|---|---|
| activations: moving averages, decay .999, without bias from the first batch on | the same |
| kernels: extremes of the last value, narrow (-127..127) | the same, and symmetric: the larger magnitude counts |
| both ranges contain 0 | the same; 0 is also one of the steps: a range of activations moves by up to half a step |
| before the first batch, a range is [-6, 6], of `act_quant` [0, 6] | there is no range: evaluation is an error |
| ranges are collected before `quant_delay` ends | the same |
| only the training graph changes ranges | the same; `calibrate` does, too |
| per channel: a scale for each index of the last axis | the same; a depthwise kernel has one for each output channel |
"""

import numpy as np
import pytest
import tensorflow as tf

from detect.errors import ConfigError
from detect.quantization.activations import FakeQuant
from detect.quantization.rounding import kernel_steps, round_kernel
from detect.quantization.spec import Spec


def layer_of(**changes):
    layer = FakeQuant(Spec(**changes), name="x/fake_quant")
    layer.build([None, 2])
    return layer


def ends(layer) -> tuple[float, float]:
    return float(layer.range_min), float(layer.range_max)


def test_the_last_kernel_sets_its_range():
    """[-1, 1], then half of it: nothing of the first remains."""
    kernel = tf.Variable([[-1.0], [1.0]])
    assert float(kernel_steps(kernel, 8, False)) * 127 == pytest.approx(1)
    kernel.assign([[-0.5], [0.25]])
    assert float(kernel_steps(kernel, 8, False)) * 127 == pytest.approx(0.5)


def test_two_batches_of_the_moving_average():
    """[-1, 1], then zeros. Without bias the second counts .001, the first .000999, of .001999."""
    layer = layer_of()
    layer(tf.constant([[-1.0, 1.0]]), training=True)
    low, high = ends(layer)
    assert high - low == pytest.approx(2, rel=1e-4)
    layer(tf.constant([[0.0, 0.0]]), training=True)
    low, high = ends(layer)
    end = 0.000999 / 0.001999
    assert high - low == pytest.approx(2 * end, rel=1e-3)
    assert -1 < low < 0 < high < 1
    assert abs(high - end) <= (high - low) / 255 / 2 * 1.01


def test_ranges_contain_zero():
    layer = layer_of()
    layer(tf.constant([[1.0, 2.0]]), training=True)
    np.testing.assert_allclose(ends(layer), (0, 2), rtol=1e-5)
    layer = layer_of()
    layer(tf.constant([[-3.0, -1.0]]), training=True)
    np.testing.assert_allclose(ends(layer), (-3, 0), rtol=1e-5)


def test_no_range_before_the_first_batch():
    with pytest.raises(ConfigError, match="has seen no data"):
        layer_of()(tf.constant([[-1.0, 1.0]]), training=False)


def test_ranges_are_collected_before_the_delay_ends():
    layer, x = layer_of(delay=5), tf.constant([[-1.0, 1.2345]])
    np.testing.assert_array_equal(layer(x, training=True), x)
    assert ends(layer)[1] == pytest.approx(1.2345, abs=0.01)


def test_evaluation_changes_no_range():
    layer = layer_of()
    layer(tf.constant([[-1.0, 1.0]]), training=True)
    before = ends(layer)
    layer(tf.constant([[-5.0, 5.0]]), training=False)
    assert ends(layer) == before


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_a_symmetric_kernel_is_rounded_as_contrib_rounds_it(bits, per_channel):
    """Both extremes of each channel have the same magnitude, so that contrib's grid is symmetric, too."""
    kernel = np.random.default_rng(0).uniform(-1, 1, (3, 3, 4, 2)).astype(np.float32)
    kernel[0, 0, 0], kernel[0, 0, 1] = 1, -1
    kernel[..., 1] *= 0.25
    operation = tf.quantization.fake_quant_with_min_max_vars
    low, high = -1.0, 1.0
    if per_channel:
        operation = tf.quantization.fake_quant_with_min_max_vars_per_channel
        low, high = [-1.0, -0.25], [1.0, 0.25]
    theirs = operation(kernel, low, high, num_bits=bits, narrow_range=True)
    np.testing.assert_allclose(round_kernel(tf.constant(kernel), bits, per_channel), theirs, atol=1e-6)
