"""The gradient of a kernel by its places against that of TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from detect.training import kernel_gradient


@pytest.mark.parametrize("sides", [(3, 3), (1, 7), (2, 4), (5, 1)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_equals_the_gradient_of_tensorflow(sides, padding):
    random = np.random.default_rng(0)
    image = tf.constant(random.normal(size=(2, 9, 11, 5)), tf.float32)
    kernel = tf.constant(random.normal(size=(*sides, 5, 3)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        output = tf.nn.conv2d(image, kernel, 1, padding)
    error = tf.constant(random.normal(size=output.shape), tf.float32)
    expected = tape.gradient(output, kernel, output_gradients=error)
    found = kernel_gradient.by_places(image, error, sides, padding)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def network() -> tf_keras.Model:
    layers, image = tf_keras.layers, tf_keras.Input((40, 40, 3))
    x = image
    for filters, options in (
        (32, {"strides": 2}),
        (64, {"padding": "same"}),
        (64, {"dilation_rate": 2}),
        (48, {}),
        (40, {"kernel_size": 1, "use_bias": False}),
    ):
        x = layers.Conv2D(filters, **{"kernel_size": 3, **options})(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    return tf_keras.Model(image, layers.GlobalAveragePooling2D()(x))


@pytest.mark.parametrize("quantised", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_networks_gradients_are_the_same(monkeypatch, quantised):
    monkeypatch.setattr(kernel_gradient, "LEAST_CELLS", 20)
    model, used, by_places = network(), [], kernel_gradient.by_places
    model = fake_quant(model, Spec()) if quantised else model

    def watched(image, error, sides, padding):
        used.append((image.shape[3], error.shape[3]))
        return by_places(image, error, sides, padding)

    monkeypatch.setattr(kernel_gradient, "by_places", watched)
    images = tf.random.stateless_normal((2, 40, 40, 3), [0, 1])

    @tf.function(autograph=False)
    def gradients(fast):
        with kernel_gradient.differentiated(fast) as gradients_of:
            loss = tf.reduce_sum(model(images, training=True) ** 2)
        return gradients_of(loss, model.trainable_variables)

    before = model.get_weights()
    found = gradients(True)
    model.set_weights(before)  # a step moves ranges and statistics
    expected = gradients(False)
    # Not the one with stride 2 and 3 channels, nor the 1x1. TensorFlow moves dilated cells into the batch.
    assert sorted(set(used)) == [(32, 64), (64, 48), (64, 64)]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


def test_small_kernels_and_others_are_left_to_tensorflow():
    def suits(cells, kernel, **options):
        shapes = [tf.TensorShape(s) for s in ((None, cells, cells, kernel[2]), kernel, (None, cells, cells, kernel[3]))]
        plain = {"strides": [1] * 4, "padding": "SAME", "data_format": "NHWC", "dilations": [1] * 4}
        return kernel_gradient.suits(*shapes, **(plain | options))

    assert suits(40, (3, 3, 64, 64)) and suits(40, (1, 7, 32, 64), padding="VALID", explicit_paddings=[])
    assert not suits(40, (1, 1, 64, 64)), "1x1"
    assert not suits(30, (3, 3, 64, 64)), "few cells"
    assert not suits(40, (3, 3, 16, 512)) and not suits(40, (3, 3, 32, 32)), "few channels"
    assert not suits(None, (3, 3, 64, 64)), "a size that is not known"
    for options in ({"strides": [1, 2, 2, 1]}, {"padding": "EXPLICIT"}, {"data_format": "NCHW"}):
        assert not suits(40, (3, 3, 64, 64), **options)


def test_an_operation_without_a_gradient_leaves_all_to_tensorflow():
    """The tape needs no gradient where none reaches a variable: ahead of the suppression, here."""
    kernel = tf.Variable(tf.ones((3, 3, 32, 64)) / 100)
    images = tf.random.stateless_uniform((1, 40, 40, 32), [0, 1])

    @tf.function(autograph=False)
    def gradients(fast):
        with kernel_gradient.differentiated(fast) as gradients_of:
            features = tf.nn.conv2d(images, kernel, 1, "SAME")
            boxes = tf.reshape(tf.stop_gradient(features)[0, :2, :2, :4], (1, 4, 1, 4))
            kept = tf.image.combined_non_max_suppression(boxes, boxes[..., 0], 4, 4)
            loss = tf.reduce_sum(features) * tf.reduce_sum(kept.nmsed_boxes)
        return gradients_of(loss, [kernel])

    np.testing.assert_allclose(gradients(True)[0], gradients(False)[0], rtol=1e-4)
