"""Ranges and rounding against figures worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from detect.quantization.rounding import LEAST_CHANNEL, SMALLEST, admissible, kernel_steps, round_kernel, round_values


@pytest.mark.parametrize(
    ("low", "high", "bits", "expected"),
    [
        (-1.0, 0.5, 8, (-1.0, 127 / 128)),
        (-0.5, 127 / 128, 8, (-1.0, 127 / 128)),
        (-0.5, 1.0, 8, (-128 / 127, 1.0)),
        (0.0, 7.0, 4, (-8.0, 7.0)),
        (-4.0, 1.0, 4, (-4.0, 3.5)),
    ],
)
def test_symmetric(low, high, bits, expected):
    np.testing.assert_allclose(admissible(low, high, bits, symmetric=True), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        *[(-2.0, 3.1, (-2, 3.1)), (0.25, 2.0, (0, 2)), (-3.0, -1.0, (-3, 0)), (0.0, 0.0, (0, SMALLEST))],
        (-0.2, 0.9, (-46 * 1.1 / 255, 209 * 1.1 / 255)),  # it would be 46.36
    ],
)
def test_zero_lies_on_the_grid_of_a_range_that_is_not_empty(low, high, expected):
    np.testing.assert_allclose(admissible(low, high, 8, symmetric=False), expected, rtol=1e-6)


def test_halfway_between_two_steps():
    """0 of [-1, 1] would be integer 127.5; whichever it becomes, the range leaves nothing to decide to others."""
    low, high = admissible(-1.0, 1.0, 8, symmetric=False)
    zero = -float(low) / (2 / 255)
    assert zero == pytest.approx(round(zero), abs=1e-4) and round(zero) in (127, 128)
    assert float(high - low) == pytest.approx(2)


def test_zero_is_exact():
    x = tf.constant([-1.0, -0.2, -0.003, 0.0, 0.003, 0.4, 2.0])
    steps = np.array([-46, -46, -1, 0, 1, 93, 209])  # .003 is .7 steps, .4 is 92.7
    rounded = round_values(x, *admissible(-0.2, 0.9, 8, symmetric=False), 8)
    np.testing.assert_allclose(rounded, steps * 1.1 / 255, atol=1e-6)
    assert rounded[3] == 0.0


def test_symmetric_range_of_two_complement():
    """[-1, 127/128] has steps of 1/128 without any shift."""
    x = tf.constant([-2.0, -1.0, -1 / 128, 0.0, 3.2 / 128, 0.5, 1.0])
    expected = np.array([-128, -128, -1, 0, 3, 64, 127]) / 128
    np.testing.assert_array_equal(round_values(x, -1.0, 127 / 128, 8), expected)


@pytest.mark.parametrize("bits", [4, 5, 6, 7, 8])
def test_number_of_values(bits):
    x = tf.linspace(-2.0, 2.0, 10001)
    assert len(np.unique(round_values(x, *admissible(-1.0, 1.0, bits, symmetric=False), bits))) == 2**bits
    assert len(np.unique(round_kernel(x[:, tf.newaxis], bits, True))) == 2**bits - 1  # narrow


def test_straight_through_gradient():
    """It passes inside; beyond, it goes to the end of the range."""
    x, low, high = (tf.Variable(v) for v in ([-2.0, -0.5, 0.3, 3.0], -1.0, 1.0))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(round_values(x, *admissible(low, high, 8, symmetric=False), 8) * [1.0, 2.0, 3.0, 4.0])
    gradients = tape.gradient(y, [x, low, high])
    np.testing.assert_array_equal(gradients[0], [0, 2, 3, 0])
    assert [float(g) for g in gradients[1:]] == [1, 4]


def test_kernels_are_narrow_and_symmetric():
    """Channel 0 has steps of 2/127, channel 1 of 1/127, and all of it 2/127 where it has one scale."""
    kernel = tf.constant([[2.0, 0.5], [-0.1, -1.0]])
    np.testing.assert_allclose(kernel_steps(kernel, 8, True), [2 / 127, 1 / 127], rtol=1e-6)
    expected = np.array([[127 * 2, 64], [-6 * 2, -127]]) / 127  # .1 is 6.35 steps, .5 is 63.5: to even
    np.testing.assert_allclose(round_kernel(kernel, 8, True), expected, rtol=1e-5)
    expected = np.array([[127, 32], [-6, -64]]) * 2 / 127  # .5 is 31.75 steps, 1 is 63.5
    np.testing.assert_allclose(round_kernel(kernel, 8, False), expected, rtol=1e-5)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_converters_mark_changes_nothing(bits, per_channel):
    kernel = tf.constant(np.random.default_rng(0).normal(size=(3, 3, 8, 4)).astype(np.float32))
    marked = round_kernel(kernel, bits, per_channel, mark=True)
    np.testing.assert_allclose(marked, round_kernel(kernel, bits, per_channel), atol=1e-6)


@pytest.mark.parametrize("mark", [True, False])
def test_gradient_of_a_kernel_passes_unchanged(mark):
    kernel = tf.Variable(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(round_kernel(kernel, 4, True, mark) * tf.constant([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(tape.gradient(y, kernel), np.tile([1, 2, 3], (5, 1)))


def test_dead_channels_keep_a_scale_that_is_not_zero():
    """Their bias must fit int32 at input scale x kernel scale."""
    kernel = tf.constant([[4.0, 0.0, 1e-20], [-1.0, 0.0, 0.0]])
    np.testing.assert_allclose(kernel_steps(kernel, 8, True), np.array([4, 4 * LEAST_CHANNEL, 4 * LEAST_CHANNEL]) / 127)
    rounded = round_kernel(kernel, 8, True, mark=True).numpy()
    assert np.isfinite(rounded).all() and (rounded[:, 1:] == 0).all()
    assert float(kernel_steps(tf.zeros([2, 2]), 8, False)) > 0
