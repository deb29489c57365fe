"""Inception v2 against slim's published numbers and slim's own network."""

import json

import numpy as np
import pytest
import tf_keras

from detect.modeling.backbones.inception_v2 import InceptionV2
from tests.closeness import assert_same_outputs
from tests.modeling.backbones import slim
from tests.modeling.backbones.slim import build

SIDES = {"Conv2d_1a_7x7": 112, "MaxPool_2a_3x3": 56, "Conv2d_2b_1x1": 56, "Conv2d_2c_3x3": 56, "MaxPool_3a_3x3": 28}
SIDES |= {"Mixed_3b": 28, "Mixed_3c": 28}
SIDES |= {f"Mixed_4{x}": 14 for x in "abcde"} | {f"Mixed_5{x}": 7 for x in "abc"}
CHANNELS = [64, 64, 64, 192, 192, 256, 320, 576, 576, 576, 576, 576, 1024, 1024, 1024]


@pytest.fixture(scope="module")
def full():
    return build(InceptionV2(), (None, None, 3))


@pytest.fixture(scope="module")
def small():
    return build(InceptionV2(0.25), (None, None, 3))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)


def test_parameters_are_those_of_slim(full):
    assert full.count_params() == 10_173_112
    assert sum(int(np.prod(v.shape)) for v in full.trainable_variables) == 10_153_336
    assert len(full.variables) == 275


def test_every_end_point_of_224_pixels(full):
    shapes = full.compute_output_shape((1, 224, 224, 3))
    expected = [(1, side, side, channels) for side, channels in zip(SIDES.values(), CHANNELS, strict=True)]
    assert list(shapes) == list(SIDES) and list(shapes.values()) == expected


def test_every_end_point_has_slims_shape(full, shared):
    reference = json.loads((shared / "reference" / "slim_reference_numbers.json").read_text())
    for size in (224, 299, 300):
        shapes = full.compute_output_shape((1, size, size, 3))
        expected = reference[f"inception_v2_base@{size}"]["endpoints"]
        assert {key: list(shape[1:]) for key, shape in shapes.items()} == expected, size


def test_maps_of_300_pixels(full):
    shapes = full.compute_output_shape((1, 300, 300, 3))
    assert [shapes[name] for name in InceptionV2.ssd_maps] == [(1, 19, 19, 576), (1, 10, 10, 1024)]
    shapes = full.compute_output_shape((1, 320, 640, 3))
    assert [shapes[name][1:3] for name in InceptionV2.fpn_maps] == [(40, 80), (20, 40), (10, 20)]
    assert shapes[InceptionV2.rpn_map] == (1, 20, 40, 576)


def test_layers_bear_slims_names_and_are_plain(full):
    names = {v.name for v in full.variables}
    assert {"Conv2d_1a_7x7/depthwise_kernel:0", "Conv2d_1a_7x7/pointwise_kernel:0", "Conv2d_1a_7x7/bias:0"} < names
    assert "Mixed_4a/Branch_1/Conv2d_1a_3x3/BatchNorm/moving_mean:0" in names
    assert not any("gamma" in name or name.endswith("0a_1x1/bias:0") for name in names)
    assert {type(layer).__name__ for layer in full.layers} == {
        "InputLayer", "Rescaling", "SeparableConv2D", "Conv2D", "BatchNormalization", "Activation", "MaxPooling2D",
        "AveragePooling2D", "Concatenate",
    }  # fmt: skip
    assert {layer.epsilon for layer in full.layers if "BatchNorm" in layer.name} == {1e-3}


@pytest.mark.slow
def test_random_weights_give_what_slim_gives(images, tmp_path):
    backbone, scaled = InceptionV2(0.25), images / 127.5 - 1
    found, expected = slim.features_of_both(backbone, images, tmp_path, scaled, depth_multiplier=0.25)
    assert expected.shape == (2, 3, 3, 256) and np.abs(expected).max() > 1
    assert_same_outputs(found, expected)


@pytest.mark.slow
def test_the_variant_of_the_apis_ssd_gives_what_slim_gives(images, tmp_path):
    backbone = InceptionV2(0.25, scale=True, stem_norm=True, activation="relu6")
    found, expected = slim.features_of_both(
        backbone, images, tmp_path, images / 127.5 - 1, api=True, depth_multiplier=0.25
    )
    assert expected.max() == 6.0
    assert_same_outputs(found, expected)


def test_the_variant_of_the_apis_ssd_has_gamma_everywhere():
    model = build(InceptionV2(scale=True, stem_norm=True, activation="relu6"), (None, None, 3))
    # A gamma for each of the 9888 channels; beta, gamma, mean and variance in place of the first bias.
    assert model.count_params() == 10_173_112 + 9_888 + 3 * 64 and len(model.variables) == 346
    assert "Conv2d_1a_7x7/BatchNorm/gamma:0" in {v.name for v in model.variables}
    limits = [float(layer.max_value) for layer in model.layers if isinstance(layer, tf_keras.layers.ReLU)]
    assert limits == [6.0] * 69


@pytest.mark.slow
def test_depth_multiplier_scales_every_layer(small):
    shapes = small.compute_output_shape((1, 96, 128, 3))
    assert [shapes[name][1:] for name in ("Conv2d_2b_1x1", "Mixed_3c", "Mixed_5c")] == [
        (24, 32, 16), (12, 16, 80), (3, 4, 256),
    ]  # fmt: skip
    half = InceptionV2(0.5)(tf_keras.Input((96, 96, 3)))
    assert [half[name].shape[-1] for name in ("Conv2d_1a_7x7", "Conv2d_2c_3x3", "Mixed_3b")] == [32, 96, 128]


def test_least_depth_is_kept():
    end_points = InceptionV2(0.1, min_depth=24)(tf_keras.Input((96, 96, 3)))
    assert end_points["Mixed_3b"].shape[-1] == 4 * 24


def test_box_head_goes_on_where_the_rpn_map_ends(small, images):
    image = tf_keras.Input((6, 6, 144))
    head = tf_keras.Model(image, InceptionV2(0.25).box_head(image))
    variables = {v.name: v for v in small.variables}
    assert {v.name.split("/")[0] for v in head.variables} == {"Mixed_5a", "Mixed_5b", "Mixed_5c"}
    for variable in head.variables:
        variable.assign(variables[variable.name])
    end_points = small(images)
    assert_same_outputs(head(end_points["Mixed_4e"]), end_points["Mixed_5c"])
    assert InceptionV2(0.25).box_head(tf_keras.Input((7, 7, 144))).shape == (None, 4, 4, 256)


def test_keras_has_no_such_network():
    assert InceptionV2().keras_layers() == {}
