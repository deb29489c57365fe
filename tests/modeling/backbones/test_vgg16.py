"""VGG16 against slim's own network and Keras' own implementation."""

import numpy as np
import pytest
import tf_keras

from detect.errors import ConfigError
from detect.modeling.backbones.vgg16 import VGG16
from tests.closeness import assert_same_outputs
from tests.modeling.backbones import slim
from tests.modeling.backbones.slim import build

MEANS = np.array([123.68, 116.78, 103.94], np.float32)


@pytest.fixture(scope="module")
def full():
    return build(VGG16(padding="valid"), (None, None, 3))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(0, 255, (2, 75, 75, 3)).astype(np.float32)


def test_parameters_are_those_of_slim(full):
    assert full.count_params() == 14_714_688
    assert len(full.variables) == 2 * 13 and len(full.trainable_variables) == 2 * 13


@pytest.mark.parametrize("size", [224, 299, 300])
def test_every_end_point_has_slims_shape(full, size):
    shapes = full.compute_output_shape((1, size, size, 3))
    expected = slim.end_point_shapes("vgg_16", size)
    dense = {"vgg_16/fc6", "vgg_16/fc7", "vgg_16/fc8"}
    assert {f"vgg_16/{name}": list(shape[1:]) for name, shape in shapes.items()} == {
        name: shape for name, shape in expected.items() if name not in dense
    }
    assert len(shapes) == 18 and list(shapes)[-1] == "pool5" and list(shapes)[:3] == [
        "conv1/conv1_1", "conv1/conv1_2", "pool1",
    ]  # fmt: skip


def test_maps_of_300_pixels():
    shapes = build(VGG16(), (None, None, 3)).compute_output_shape((1, 300, 300, 3))
    assert [shapes[name] for name in VGG16.ssd_maps] == [(1, 38, 38, 512), (1, 19, 19, 512)]
    assert [shapes[name][1] for name in VGG16.fpn_maps] == [38, 19, 10]
    assert shapes[VGG16.rpn_map] == (1, 19, 19, 512)


def test_layers_bear_slims_names_and_are_plain(full):
    names = {v.name for v in full.variables}
    assert {"conv1/conv1_1/kernel:0", "conv3/conv3_3/bias:0", "conv5/conv5_3/kernel:0"} < names
    assert {type(layer).__name__ for layer in full.layers} == {
        "InputLayer", "Rescaling", "Conv2D", "Activation", "MaxPooling2D",
    }  # fmt: skip


def test_random_weights_give_what_slim_gives(images, tmp_path):
    backbone = VGG16(padding="valid")
    found, expected = slim.features_of_both(backbone, images, tmp_path, images - MEANS, keep="conv")
    assert expected.shape == (2, 2, 2, 512) and np.abs(expected).max() > 1
    assert_same_outputs(found, expected)


def test_keras_weights_with_a_first_kernel_turned_to_rgb_give_what_keras_gives(full, images):
    theirs = tf_keras.applications.VGG16(weights=None, include_top=False, input_shape=(75, 75, 3))
    names = VGG16().keras_layers()
    assert list(names) == [layer.name for layer in theirs.layers if "conv" in layer.name] and len(names) == 13
    random = np.random.default_rng(2)
    for keras, ours in names.items():
        kernel, bias = theirs.get_layer(keras).get_weights()
        theirs.get_layer(keras).set_weights([kernel, random.uniform(-0.1, 0.1, bias.shape)])
        kernel, bias = theirs.get_layer(keras).get_weights()
        if VGG16.keras_bgr and ours == "conv1/conv1_1":
            kernel = kernel[:, :, ::-1, :]
        full.get_layer(ours).set_weights([kernel, bias])
    # Keras' means are 123.68, 116.779, 103.939: a hundredth of a grey level off slim's.
    expected = theirs(tf_keras.applications.vgg16.preprocess_input(images.copy()), training=False).numpy()
    found = full(images, training=False)["pool5"].numpy()
    assert expected.shape == (2, 2, 2, 512) and expected.max() > 0.1
    assert_same_outputs(found, expected)


def test_input_is_the_image_less_imagenets_mean(full):
    scaled = tf_keras.Model(full.input, full.get_layer("input_scaling").output)
    np.testing.assert_allclose(scaled(np.full((1, 32, 32, 3), 200.0))[0, 5, 5], 200 - MEANS, rtol=1e-5)


@pytest.mark.parametrize(("multiplier", "channels"), [(0.25, (16, 64, 128)), (0.1, (16, 25, 51))])
def test_depth_multiplier_and_least_depth(multiplier, channels):
    end_points = VGG16(multiplier)(tf_keras.Input((96, 128, 3)))
    shapes = [tuple(end_points[name].shape[1:]) for name in ("conv1/conv1_1", "conv3/conv3_1", "pool5")]
    assert shapes == [(96, 128, channels[0]), (24, 32, channels[1]), (3, 4, channels[2])]


def test_box_head_is_two_dense_layers():
    crops = tf_keras.Input((7, 7, 8))
    head = tf_keras.Model(crops, VGG16(1 / 128).box_head(crops))
    assert head.output_shape == (None, 1, 1, 32)
    values = np.random.default_rng(3).normal(size=(3, 7, 7, 8)).astype(np.float32)
    x = values.reshape(3, -1)
    for name in ("fc6", "fc7"):
        kernel = head.get_layer(name).get_weights()[0]
        head.get_layer(name).set_weights([kernel, np.linspace(-0.5, 0.5, 32)])
        x = np.maximum(x @ kernel.reshape(-1, 32) + np.linspace(-0.5, 0.5, 32), 0)
    assert 0 < (x > 0).mean() < 1
    assert_same_outputs(head(values)[:, 0, 0], x)


def test_box_head_has_slims_names_and_widths_and_is_no_part_of_the_base(full):
    crops = tf_keras.Input((7, 7, 512))
    shapes = {v.name: tuple(v.shape) for v in tf_keras.Model(crops, VGG16(0.25).box_head(crops)).variables}
    assert shapes == {
        "fc6/kernel:0": (7, 7, 512, 1024), "fc6/bias:0": (1024,),
        "fc7/kernel:0": (1, 1, 1024, 1024), "fc7/bias:0": (1024,),
    }  # fmt: skip
    assert not {"fc6", "fc7"} & {layer.name for layer in full.layers}


def test_dropout_of_the_box_head():
    crops = tf_keras.Input((7, 7, 8))
    head = tf_keras.Model(crops, VGG16(0.01, dropout=0.5).box_head(crops))
    assert [layer.rate for layer in head.layers if isinstance(layer, tf_keras.layers.Dropout)] == [0.5, 0.5]


def test_other_padding_is_refused():
    with pytest.raises(ConfigError, match=r"backbone\.padding=full is not legal: expected one of same, valid"):
        VGG16(padding="full")
