"""Small models that hold what quantisation treats apart, as a training might have left them."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

layers = tf_keras.layers


def _convnet(norm: bool = True) -> tf_keras.Model:
    """Every kind of kernel; a concatenation, an addition, poolings, a batch norm after no kernel, a softmax."""
    image = tf_keras.Input((16, 16, 3), name="image")

    def normed(x, name, **kwargs):
        return layers.BatchNormalization(name=name, **kwargs)(x) if norm else x

    x = layers.Rescaling(1 / 127.5, -1, name="scaling")(image)
    x = layers.Conv2D(8, 3, 2, padding="same", use_bias=False, name="conv")(x)
    x = layers.ReLU(6.0, name="relu6")(normed(x, "conv_bn"))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    x = layers.Activation("relu", name="relu")(normed(x, "depthwise/norm", epsilon=1e-2))
    left = layers.Conv2D(8, 1, activation="relu", name="left")(x)
    right = layers.SeparableConv2D(8, 3, padding="same", name="separable")(x)
    right = normed(right, "separable_bn", scale=False)
    pooled = layers.AveragePooling2D(3, 1, "same", name="average")(x)
    x = layers.Concatenate(name="concat")([left, right, pooled])
    x = normed(x, "alone")
    x = layers.Add(name="add")([x, layers.Conv2D(32, 1, name="shortcut")(x)])
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(name="max")(layers.ReLU(name="added")(x)))
    hidden = layers.Dense(6, use_bias=False, name="hidden")(x)
    hidden = layers.ReLU(name="hidden_relu")(normed(hidden, "hidden_bn", center=False))
    classes = layers.Dense(5, activation="softmax", name="classes")(hidden)
    return tf_keras.Model(image, {"classes": classes, "hidden": hidden}, name="convnet")


def _shuffle(model, seed: int = 0) -> None:
    """Gives biases and batch norms values that a training might have left."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        shape = tuple(variable.shape)
        if any(part in variable.name for part in ("gamma", "variance")):
            variable.assign(random.uniform(0.5, 2, shape))
        elif len(shape) == 1:
            variable.assign(random.normal(0, 0.2, shape))


@pytest.fixture(scope="session")
def shuffle():
    """Function of a model: random biases and batch norms."""
    return _shuffle


@pytest.fixture
def convnet():
    """The model with batch norm, and the images that it is fed."""
    tf_keras.utils.set_random_seed(0)
    model = _convnet()
    _shuffle(model)
    return model


@pytest.fixture
def plain_convnet():
    """The same without batch norm."""
    tf_keras.utils.set_random_seed(0)
    model = _convnet(norm=False)
    _shuffle(model)
    return model


@pytest.fixture(scope="session")
def images():
    """float32 [8, 16, 16, 3] in 0..255."""
    return tf.constant(np.random.default_rng(1).uniform(0, 255, (8, 16, 16, 3)).astype(np.float32))
