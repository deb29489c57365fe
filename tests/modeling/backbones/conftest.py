"""Shared by the tests of backbones: random weights, and the comparison with tf_keras.applications."""

from types import SimpleNamespace

import numpy as np
import pytest
import tf_keras

from tests.closeness import assert_same_outputs


def randomise(model, seed=0):
    """Kernels and batch statistics that all matter, and keep the signal small through residual sums."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        shape = tuple(variable.shape)
        if len(shape) == 4:
            inputs = np.prod(shape[:2]) * (1 if "depthwise" in variable.name.rsplit("/", 1)[1] else shape[2])
            variable.assign(random.normal(0, 1 / np.sqrt(inputs), shape))
        elif "moving_variance" in variable.name or "gamma" in variable.name:
            variable.assign(random.uniform(0.5, 1.5, shape))
        else:
            variable.assign(random.normal(0, 0.3, shape))


def assert_equals_keras(ours, theirs, names, images, scaled):
    """`names` maps all layers with variables, theirs to ours; with equal variables, both must give the same.

    images: what ours takes; scaled: the same for theirs.
    """
    assert set(names) == {layer.name for layer in theirs.layers if layer.weights}
    assert set(names.values()) == {layer.name for layer in ours.layers if layer.weights}
    assert ours.count_params() == theirs.count_params()
    for keras_name, name in names.items():
        theirs.get_layer(keras_name).set_weights(ours.get_layer(name).get_weights())
    expected, result = theirs(scaled, training=False).numpy(), ours(images, training=False).numpy()
    assert expected.std() > 0.1
    assert_same_outputs(result, expected)


def without_top(backbone, height, width):
    """The backbone as a model from an image to its last end point."""
    image = tf_keras.Input((height, width, 3))
    return tf_keras.Model(image, list(backbone(image).values())[-1])


def shapes_of(variables):
    return {v.name.split(":")[0]: tuple(v.shape) for v in variables}


def box_head_shapes(backbone, channels):
    """Shapes of the output, without the batch, for crops of 7 x 7 with these channels, and of the variables by name."""
    crops = tf_keras.Input((7, 7, channels))
    model = tf_keras.Model(crops, backbone.box_head(crops))
    return model.output_shape[1:], shapes_of(model.variables)


@pytest.fixture(scope="session")
def tools():
    """The functions above."""
    return SimpleNamespace(
        randomise=randomise,
        assert_equals_keras=assert_equals_keras,
        without_top=without_top,
        shapes_of=shapes_of,
        box_head_shapes=box_head_shapes,
    )
