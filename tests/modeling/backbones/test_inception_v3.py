"""Inception v3 against slim's published numbers, slim's own network and Keras' own implementation."""

import json
import re

import numpy as np
import pytest
import tf_keras

from detect.errors import ConfigError
from detect.modeling.backbones.inception_v3 import InceptionV3
from tests.closeness import assert_same_outputs
from tests.modeling.backbones import slim
from tests.modeling.backbones.slim import build

# Side of each end point for 299 pixels, as slim's comments and the paper's table 1 give it, and the channels.
SLIM_299 = {
    "Conv2d_1a_3x3": (149, 32), "Conv2d_2a_3x3": (147, 32), "Conv2d_2b_3x3": (147, 64), "MaxPool_3a_3x3": (73, 64),
    "Conv2d_3b_1x1": (73, 80), "Conv2d_4a_3x3": (71, 192), "MaxPool_5a_3x3": (35, 192),
    "Mixed_5b": (35, 256), "Mixed_5c": (35, 288), "Mixed_5d": (35, 288),
    "Mixed_6a": (17, 768), "Mixed_6b": (17, 768), "Mixed_6c": (17, 768), "Mixed_6d": (17, 768), "Mixed_6e": (17, 768),
    "Mixed_7a": (8, 1280), "Mixed_7b": (8, 2048), "Mixed_7c": (8, 2048),
}  # fmt: skip


@pytest.fixture(scope="module")
def full():
    return build(InceptionV3(padding="valid"), (None, None, 3))


@pytest.fixture(scope="module")
def small():
    return build(InceptionV3(0.25), (None, None, 3))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(0, 255, (2, 128, 128, 3)).astype(np.float32)


def test_parameters_are_those_of_slim(full):
    assert full.count_params() == 21_802_784
    assert sum(int(np.prod(v.shape)) for v in full.trainable_variables) == 21_768_352
    assert len(full.variables) == 376


def test_every_end_point_of_299_pixels(full):
    shapes = full.compute_output_shape((1, 299, 299, 3))
    expected = [(1, side, side, channels) for side, channels in SLIM_299.values()]
    assert list(shapes) == list(SLIM_299) and list(shapes.values()) == expected


def test_every_end_point_has_slims_shape(full, shared):
    reference = json.loads((shared / "reference" / "slim_reference_numbers.json").read_text())
    for size in (224, 299, 300):
        shapes = full.compute_output_shape((1, size, size, 3))
        expected = reference[f"inception_v3_base@{size}"]["endpoints"]
        assert {key: list(shape[1:]) for key, shape in shapes.items()} == expected, size


def test_maps_padded_same_have_exact_strides(small):
    shapes = small.compute_output_shape((1, 300, 600, 3))
    assert [shapes[name][1:3] for name in InceptionV3.ssd_maps] == [(38, 75), (19, 38), (10, 19)]
    shapes = small.compute_output_shape((1, 96, 96, 3))
    assert [shapes[name][1] for name in InceptionV3.fpn_maps] == [12, 6, 3]
    assert shapes[InceptionV3.rpn_map][1] == 6


def test_layers_bear_slims_names_and_are_plain(full, small):
    names = {v.name for v in full.variables}
    assert {"Mixed_5c/Branch_1/Conv2d_0b_1x1/kernel:0", "Mixed_5c/Branch_1/Conv_1_0c_5x5/BatchNorm/beta:0"} < names
    assert not any("gamma" in name or "bias" in name for name in names)
    assert names == {v.name for v in small.variables}
    assert {type(layer).__name__ for layer in full.layers} == {
        "InputLayer", "Rescaling", "Conv2D", "BatchNormalization", "Activation", "MaxPooling2D", "AveragePooling2D",
        "Concatenate",
    }  # fmt: skip
    assert {layer.epsilon for layer in full.layers if "BatchNorm" in layer.name} == {1e-3}


@pytest.mark.slow
@pytest.mark.parametrize("api", [False, True], ids=["classifier", "variant of the API's SSD"])
def test_random_weights_give_what_slim_gives(api, images, tmp_path):
    backbone = InceptionV3(0.25, padding="valid", scale=api, activation="relu6" if api else "relu")
    found, expected = slim.features_of_both(
        backbone, images, tmp_path, images / 127.5 - 1, api=api, depth_multiplier=0.25
    )
    assert expected.shape == (2, 2, 2, 512) and np.abs(expected).max() > 1
    assert_same_outputs(found, expected)


def renumbered(model):
    """The layers of a Keras model with variables; their numbers, which run through a session, begin with 1."""
    result = {}
    for kind in ("conv2d", "batch_normalization"):
        layers = [layer for layer in model.layers if re.fullmatch(rf"{kind}(_\d+)?", layer.name)]
        layers.sort(key=lambda layer: int((re.findall(r"_(\d+)$", layer.name) or [0])[0]))
        result |= {f"{kind}_{i}": layer for i, layer in enumerate(layers, start=1)}
    return result


def test_keras_weights_give_what_keras_gives(full, images):
    theirs = tf_keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(128, 128, 3))
    layers, names, random = renumbered(theirs), InceptionV3().keras_layers(), np.random.default_rng(2)
    assert names.keys() == layers.keys() and len(names) == 2 * 94
    assert {v.name.rsplit("/", 1)[0] for v in full.variables} == set(names.values())
    for name, layer in layers.items():
        if name.startswith("batch"):
            layer.set_weights([random.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()])
        full.get_layer(names[name]).set_weights(layer.get_weights())
    expected = theirs(tf_keras.applications.inception_v3.preprocess_input(images.copy()), training=False).numpy()
    assert np.abs(expected).max() > 0.1 and expected.std() > 0.01
    assert_same_outputs(full(images, training=False)["Mixed_7c"], expected)


@pytest.mark.slow
def test_depth_multiplier_scales_every_layer(small):
    shapes = small.compute_output_shape((1, 96, 128, 3))
    assert [shapes[name][1:] for name in ("Conv2d_1a_3x3", "Mixed_5d", "Mixed_7c")] == [
        (48, 64, 16), (12, 16, 72), (3, 4, 512),
    ]  # fmt: skip
    half = InceptionV3(0.5)(tf_keras.Input((96, 96, 3)))
    assert [half[name].shape[-1] for name in ("Conv2d_1a_3x3", "Conv2d_4a_3x3", "Mixed_5b")] == [16, 96, 128]


def test_least_depth_is_kept():
    end_points = InceptionV3(0.1, min_depth=24)(tf_keras.Input((96, 96, 3)))
    assert end_points["Mixed_5b"].shape[-1] == 4 * 24


def test_box_head_goes_on_where_the_rpn_map_ends(small):
    image = tf_keras.Input((6, 6, 192))
    head = tf_keras.Model(image, InceptionV3(0.25).box_head(image))
    variables = {v.name: v for v in small.variables}
    assert {v.name.split("/")[0] for v in head.variables} == {"Mixed_7a", "Mixed_7b", "Mixed_7c"}
    for variable in head.variables:
        variable.assign(variables[variable.name])
    end_points = small(np.random.default_rng(3).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32))
    assert_same_outputs(head(end_points["Mixed_6e"]), end_points["Mixed_7c"])
    assert InceptionV3(0.25).box_head(tf_keras.Input((17, 17, 192))).shape == (None, 9, 9, 512)
    assert InceptionV3(0.25, padding="valid").box_head(tf_keras.Input((17, 17, 192))).shape == (None, 8, 8, 512)


@pytest.mark.parametrize("side", [32, 64, 74])
def test_a_frame_that_layers_without_padding_do_not_fit_is_refused(side):
    with pytest.raises(ConfigError, match=r"\w+: a kernel of 3x3 without padding does not fit a map of \dx\d"):
        InceptionV3(0.25, padding="valid")(tf_keras.Input((side, side, 3)))


def test_the_smallest_frame_without_padding():
    assert list(InceptionV3(0.25, padding="valid")(tf_keras.Input((75, 75, 3))).values())[-1].shape[1:3] == (1, 1)


def test_other_padding_is_refused():
    with pytest.raises(ConfigError, match=r"backbone\.padding=full is not legal: expected one of same, valid"):
        InceptionV3(padding="full")
