"""Ranges as training, calibration and gradients set them."""

import numpy as np
import pytest
import tensorflow as tf

from detect.errors import ConfigError
from detect.quantization.activations import FakeQuant
from detect.quantization.callbacks import Phases
from detect.quantization.phases import COLLECT
from detect.quantization.spec import Spec


def layer_of(members=1, **kwargs):
    layer = FakeQuant(Spec(**kwargs), members, name="x/fake_quant")
    layer.build([None, 3])
    return layer


def ends(layer):
    return [float(layer.range_min), float(layer.range_max)]


def test_moving_average_is_unbiased_from_the_first_batch_on():
    """decay .9: the second batch counts .1, the first .09, of .19. Then both ends move until 0 is on the grid."""
    layer = layer_of(decay=0.9)
    layer(tf.constant([[-2.0, 0.0, 3.1]]), training=True)
    np.testing.assert_allclose(ends(layer), [-2, 3.1], rtol=1e-5)
    layer(tf.constant([[1.0, 2.0, 5.0]]), training=True)  # its minimum counts as 0
    low, high = -0.09 * 2 / 0.19, (0.09 * 3.1 + 0.1 * 5) / 0.19
    step = (high - low) / 255
    np.testing.assert_allclose(ends(layer), [-48 * step, 207 * step], rtol=1e-5)
    assert abs(low + 48 * step) < step / 2


def test_training_rounds_to_the_range_with_the_batch_in_it():
    layer = layer_of(decay=0.0, activation_bits=4)
    np.testing.assert_allclose(layer(tf.constant([[0.0, 1.6, 15.0]]), training=True), [[0, 2, 15]], atol=1e-5)
    np.testing.assert_allclose(layer(tf.constant([[0.0, 1.6, 30.0]]), training=True), [[0, 2, 30]], atol=1e-5)


def test_evaluation_uses_what_is_stored_and_updates_nothing():
    layer = layer_of()
    layer(tf.constant([[0.0, 1.0, 255.0]]), training=True)
    before = layer.get_weights()
    np.testing.assert_allclose(layer(tf.constant([[-9.0, 1.4, 999.0]]), training=False), [[0, 1, 255]], atol=1e-4)
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_members_share_a_range_that_holds_them_all():
    """Not their average, which would clip the wider one; each is followed by itself."""
    layer = layer_of(members=2, decay=0.5)
    for _ in range(3):
        layer(tf.constant([[0.0, 0.5, 1.0]]), member=0, training=True)
        layer(tf.constant([[-4.0, 0.0, 2.0]]), member=1, training=True)
    np.testing.assert_allclose(ends(layer), [-4, 2], rtol=1e-5)
    assert layer.range_seen.numpy().tolist() == [3, 3]
    with pytest.raises(ConfigError, match="has seen no data"):
        half = layer_of(members=2)
        half(tf.ones([1, 3]), member=0, training=True)
        half(tf.ones([1, 3]), member=1, training=False)


def test_a_member_of_none_is_rounded_only():
    layer = layer_of(activation_bits=4)
    layer(tf.constant([[0.0, 0.0, 15.0]]), training=True)
    np.testing.assert_allclose(layer(tf.constant([[2.2, 40.0, 1.0]]), member=None, training=True), [[2, 15, 1]])
    assert ends(layer) == [0, 15]


def test_symmetric():
    layer = layer_of(symmetric=True)
    layer(tf.constant([[-1.0, 0.0, 0.5]]), training=True)
    np.testing.assert_allclose(ends(layer), [-1, 127 / 128])


def test_delay_and_freeze_follow_the_step_in_a_traced_function():
    layer = layer_of(delay=2, freeze_ranges=4, activation_bits=4, decay=0.0)
    train = tf.function(lambda x: layer(x, training=True))
    score = tf.function(lambda x: layer(x, training=False))

    class Model:
        _flatten_layers = staticmethod(lambda: [layer])

    phases, x = Phases(Model), tf.constant([[0.0, 1.6, 15.0]])
    for step, expected in enumerate([1.6, 1.6, 2, 2]):
        phases.step(step)
        np.testing.assert_allclose([train(x)[0, 1], score(x)[0, 1]], [expected] * 2, rtol=1e-5)
    assert ends(layer) == [0, 15]
    phases.step(4)
    assert float(train(x * 2)[0, 2]) == 15
    assert ends(layer) == [0, 15]


def test_calibrated_ranges_hold_all_and_stay():
    layer = layer_of(ranges="calibrated")
    with pytest.raises(ConfigError, match=r"x/fake_quant: the range has seen no data.*calibrate"):
        layer(tf.ones([1, 3]), training=True)
    layer.run = COLLECT
    for x in ([[-1.0, 0.0, 0.0]], [[0.0, 0.5, 2.0]]):
        np.testing.assert_array_equal(layer(tf.constant(x)), x)
    layer.run = "normal"
    layer(tf.constant([[-9.0, 0.0, 9.0]]), training=True)
    assert ends(layer) == [-1, 2]


def test_learned_ranges_start_at_the_first_batch_and_take_gradients():
    layer = layer_of(ranges="learned")
    assert [v.name for v in layer.trainable_variables] == ["range_min:0", "range_max:0"]
    with tf.GradientTape() as tape:
        layer(tf.constant([[-1.0, 0.0, 2.0]]), training=True)
        loss = tf.reduce_sum(layer(tf.constant([[-3.0, 0.5, 4.0]]), training=True))
    assert ends(layer) == [-1, 2]
    assert [float(g) for g in tape.gradient(loss, layer.trainable_variables)] == [1, 1]


def test_a_range_that_is_not_finite():
    layer = layer_of()
    layer(tf.constant([[float("nan"), 0.0, 1.0]]), training=True)
    with pytest.raises(ConfigError, match=r"x/fake_quant: the range is \[nan, .*diverged"):
        layer(tf.ones([1, 3]), training=False)


def test_no_data_is_told_in_a_traced_function_too():
    layer = layer_of()
    with pytest.raises(ConfigError, match=r"x/fake_quant: the range has seen no data"):
        tf.function(lambda x: layer(x, training=False))(tf.ones([1, 3]))


def test_training_as_a_tensor_is_refused():
    layer = layer_of()
    with pytest.raises(ConfigError, match="must be True or False, not a tensor"):
        tf.function(lambda x, training: layer(x, training=training))(tf.ones([1, 3]), tf.constant(True))


def test_zeros_throughout():
    layer = layer_of()
    layer(tf.zeros([1, 3]), training=True)
    np.testing.assert_array_equal(layer(tf.zeros([1, 3]), training=False), np.zeros([1, 3]))
