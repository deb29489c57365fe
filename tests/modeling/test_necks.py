"""Necks: names, shapes and settings of the maps, by hand and against the Object Detection API."""

import json

import numpy as np
import pytest
import tf_keras

from detect.errors import ConfigError
from detect.modeling.backbones.inception_v2 import InceptionV2
from detect.modeling.backbones.inception_v3 import InceptionV3
from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.backbones.mobilenet_v2 import MobileNetV2
from detect.modeling.backbones.vgg16 import VGG16
from detect.modeling.necks import FPN, ExtraFeatureMaps, InceptionBlockFeatureMaps, VGGFeatureMaps


def built(backbone, neck, size=(96, 128)):
    """The model from image to maps, and the maps by name."""
    image = tf_keras.Input((*size, 3))
    maps = neck(backbone(image), backbone)
    return tf_keras.Model(image, list(maps.values())), maps


def shapes(maps) -> list[tuple[int, ...]]:
    return [tuple(x.shape[1:]) for x in maps.values()]


def variables(model) -> dict[str, tuple[int, ...]]:
    return {v.name.removesuffix(":0"): tuple(v.shape) for v in model.variables}


@pytest.fixture(scope="module")
def end_points():
    return MobileNetV1(0.25)(tf_keras.Input((96, 128, 3)))


def test_maps_are_named_and_sized_as_in_the_api(end_points):
    maps = ExtraFeatureMaps()(end_points, MobileNetV1)
    assert {name: tuple(x.shape[1:]) for name, x in maps.items()} == {
        "Conv2d_11_pointwise": (6, 8, 128),
        "Conv2d_13_pointwise": (3, 4, 256),
        "Conv2d_13_pointwise_2_Conv2d_2_3x3_s2_512": (2, 2, 512),
        "Conv2d_13_pointwise_2_Conv2d_3_3x3_s2_256": (1, 1, 256),
        "Conv2d_13_pointwise_2_Conv2d_4_3x3_s2_256": (1, 1, 256),
        "Conv2d_13_pointwise_2_Conv2d_5_3x3_s2_128": (1, 1, 128),
    }


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("mobilenet_v1", MobileNetV1()),
        pytest.param("mobilenet_v2", MobileNetV2(), marks=pytest.mark.slow),
        ("inception_v2", InceptionV2()),
        pytest.param("inception_v3", InceptionV3(padding="valid"), marks=pytest.mark.slow),
    ],
)
def test_maps_of_every_reference_size(shared, name, backbone):
    model, _ = built(backbone, ExtraFeatureMaps(), (None, None))
    reference = json.loads((shared / "reference" / "ssd_reference_shapes.json").read_text())
    sizes = {key: entry for key, entry in reference.items() if key.startswith(f"ssd_{name}@")}
    assert len(sizes) == 7
    for key, entry in sizes.items():
        size = int(key.split("@")[1])
        assert [list(s[1:]) for s in model.compute_output_shape((1, size, size, 3))] == entry["maps"], key


def test_own_maps_and_channels(end_points):
    neck = ExtraFeatureMaps(maps=["Conv2d_5_pointwise", "Conv2d_11_pointwise"], channels=[64, 16], depth_multiplier=0.5)
    maps = neck(end_points, MobileNetV1)
    assert shapes(maps) == [(12, 16, 64), (6, 8, 128), (3, 4, 32), (2, 2, 16)]
    assert list(maps)[-1] == "Conv2d_11_pointwise_2_Conv2d_3_3x3_s2_16"
    assert shapes(ExtraFeatureMaps(channels=[])(end_points, MobileNetV1)) == [(6, 8, 128), (3, 4, 256)]


def test_the_least_depth_holds_for_the_1x1_as_well(end_points):
    maps = ExtraFeatureMaps(channels=[32], depth_multiplier=0.25)(end_points, MobileNetV1)
    model = tf_keras.Model(end_points["Conv2d_13_pointwise"], list(maps.values())[-1])
    assert model.get_layer("Conv2d_13_pointwise_1_Conv2d_2_1x1_16").filters == 16
    assert model.get_layer("Conv2d_13_pointwise_2_Conv2d_2_3x3_s2_16").filters == 16


def test_an_unknown_end_point_is_refused_with_the_known_ones(end_points):
    with pytest.raises(ConfigError, match=r"neck\.maps: \['Conv2d_14'\] .*Conv2d_0, "):
        ExtraFeatureMaps(maps=["Conv2d_14"])(end_points, MobileNetV1)


@pytest.mark.parametrize("neck", [ExtraFeatureMaps, FPN])
def test_maps_that_are_not_in_the_order_of_the_network_are_refused_with_that_order(end_points, neck):
    with pytest.raises(ConfigError, match=r"neck\.maps=\[.*11_p.*5_p.*\]: .*legal is \[.*5_p.*11_p.*\]"):
        neck(maps=["Conv2d_11_pointwise", "Conv2d_5_pointwise"])(end_points, MobileNetV1)


def test_the_index_of_extra_maps_goes_on_from_the_backbones_maps():
    inputs = {name: tf_keras.Input((n, n, 8)) for name, n in (("Mixed_5d", 38), ("Mixed_6e", 19), ("Mixed_7c", 10))}
    maps = ExtraFeatureMaps()(inputs, InceptionV3)
    assert list(maps) == [
        "Mixed_5d", "Mixed_6e", "Mixed_7c",
        "Mixed_7c_2_Conv2d_3_3x3_s2_512", "Mixed_7c_2_Conv2d_4_3x3_s2_256", "Mixed_7c_2_Conv2d_5_3x3_s2_128",
    ]  # fmt: skip
    assert shapes(maps)[3:] == [(5, 5, 512), (3, 3, 256), (2, 2, 128)]


def test_separable_extras_have_the_variables_of_ssdlite_in_the_zoo(shared):
    """Every variable of a real SSDLite graph of the API outside its predictors, by name and shape."""
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef()
    file = shared / "weights" / "ssdlite_mobilenet_v2_pedestrian" / "frozen_inference_graph.pb"
    definition.ParseFromString(file.read_bytes())
    scope, wanted = "FeatureExtractor/MobilenetV2/", {}
    for node in definition.node:
        if node.op == "Const" and node.name.startswith(f"{scope}layer_19_"):
            wanted[node.name.removeprefix(scope)] = tuple(d.size for d in node.attr["value"].tensor.tensor_shape.dim)
    assert len(wanted) == 4 * 15
    model, _ = built(MobileNetV2(), ExtraFeatureMaps(separable=True), (300, 300))
    ours = {n: s for n, s in variables(model).items() if n.startswith("layer_19_")}
    in_slim = (("depthwise_kernel", "depthwise_weights"), ("/kernel", "/weights"))
    for keras, slim in in_slim:
        ours = {name.replace(keras, slim): shape for name, shape in ours.items()}
    assert ours == wanted


def test_inception_blocks():
    model, maps = built(MobileNetV1(0.25), InceptionBlockFeatureMaps(channels=(64, 24)))
    assert shapes(maps) == [(6, 8, 128), (3, 4, 256), (2, 2, 64), (1, 1, 24)]
    assert list(maps)[2:] == ["Conv2d_13_pointwise_Mixed_2", "Conv2d_13_pointwise_Mixed_3"]
    scope = "Conv2d_13_pointwise_Mixed_2/"
    kernels = {n: s for n, s in variables(model).items() if n.startswith(scope) and n.endswith("kernel")}
    assert {name.removeprefix(scope).removesuffix("/kernel"): shape for name, shape in kernels.items()} == {
        "Branch_0/Conv2d_0a_1x1": (1, 1, 256, 16),
        "Branch_1/Conv2d_0a_1x1": (1, 1, 256, 16),
        "Branch_1/Conv2d_0b_3x3": (3, 3, 16, 32),
        "Branch_2/Conv2d_0a_1x1": (1, 1, 256, 8),
        "Branch_2/Conv2d_0b_3x3": (3, 3, 8, 8),
        "Branch_2/Conv2d_0c_3x3": (3, 3, 8, 8),
        "Branch_3/Conv2d_0b_1x1": (1, 1, 256, 8),
        "Shortcut": (1, 1, 256, 64),
    }
    assert sum(n.startswith(scope) and n.endswith("/BatchNorm/gamma") for n in variables(model)) == 8


@pytest.mark.parametrize(
    ("size", "cells"),
    [
        ((300, 300), [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3)]),
        ((320, 320), [(40, 40), (20, 20), (10, 10), (5, 5), (3, 3)]),
        ((97, 199), [(13, 25), (7, 13), (4, 7), (2, 4), (1, 2)]),
    ],
)
def test_fpn_maps(size, cells):
    _, maps = built(MobileNetV1(0.25), FPN(channels=24), size)
    assert shapes(maps) == [(*c, 24) for c in cells]
    assert list(maps) == [
        "fpn/smoothing_1", "fpn/smoothing_2", "fpn/projection_3",
        "fpn/bottom_up_Conv2d_14", "fpn/bottom_up_Conv2d_15",
    ]  # fmt: skip


def test_fpn_levels_and_full_convolutions():
    model, maps = built(MobileNetV2(0.35), FPN(levels=4, channels=16, separable=False))
    assert list(maps)[-1] == "fpn/bottom_up_Conv2d_20" and len(maps) == 4
    assert model.get_layer("fpn/smoothing_2").kernel.shape == (3, 3, 16, 16)
    with pytest.raises(ConfigError, match=r"neck.levels=2"):
        FPN(levels=2)


def test_a_pyramid_has_as_many_levels_as_end_points(end_points):
    maps = [f"Conv2d_{i}_pointwise" for i in (3, 5, 11, 13)]
    with pytest.raises(ConfigError, match=r"neck\.levels=3: legal are whole numbers from 4, the number of neck\.maps"):
        FPN(maps, levels=3)(end_points, MobileNetV1)
    assert len(FPN(maps, levels=4, channels=16)(end_points, MobileNetV1)) == 4


def test_fpn_adds_the_coarser_map_to_the_cells_that_it_covers():
    """Three given maps of odd sizes, the projections the identity: what is summed can be read off."""
    inputs = {"a1": tf_keras.Input((3, 5, 1)), "a2": tf_keras.Input((2, 3, 1)), "a3": tf_keras.Input((1, 2, 1))}
    maps = FPN(maps=list(inputs), channels=1, min_depth=1, levels=3)(inputs, None)
    model = tf_keras.Model(list(inputs.values()), list(maps.values()))
    sums = tf_keras.Model(model.inputs, [model.get_layer(f"fpn/top_down_{i}").output for i in (1, 2)])
    for i in (1, 2, 3):
        model.get_layer(f"fpn/projection_{i}").set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    given = [np.zeros((3, 5)), np.array([[1, 2, 3], [4, 5, 6]]), np.array([[10, 20]])]
    fine, middle = (x.numpy()[0, :, :, 0] for x in sums([x[np.newaxis, :, :, np.newaxis] for x in given]))
    assert middle.tolist() == [[11, 12, 23], [14, 15, 26]]
    assert fine.tolist() == [[11, 11, 12, 12, 23], [11, 11, 12, 12, 23], [14, 14, 15, 15, 26]]


def test_a_pyramid_needs_maps_that_halve():
    valid = {"Mixed_5d": tf_keras.Input((35, 35, 8)), "Mixed_6e": tf_keras.Input((17, 17, 8))}
    valid["Mixed_7c"] = tf_keras.Input((8, 8, 8))
    with pytest.raises(ConfigError, match=r"neck\.maps: .*8x8 cells .*17x17"):
        FPN()(valid, InceptionV3)


def test_maps_of_ssd300():
    model, maps = built(VGG16(0.125), VGGFeatureMaps(depth_multiplier=0.0625), (300, 300))
    assert shapes(maps) == [(38, 38, 64), (19, 19, 64), (10, 10, 32), (5, 5, 16), (3, 3, 16), (1, 1, 16)]
    fc6 = model.get_layer("ssd/fc6")
    assert fc6.dilation_rate == (6, 6) and fc6.kernel.shape == (3, 3, 64, 64)
    assert not any("BatchNorm" in name for name in variables(model))


def test_conv4_3_is_scaled_to_length_20_at_first():
    model, maps = built(VGG16(0.125), VGGFeatureMaps(depth_multiplier=0.0625))
    image = np.random.default_rng(0).uniform(0, 255, (1, 96, 128, 3)).astype(np.float32)
    first, before = tf_keras.Model(model.input, [maps["ssd/conv4_3"], model.get_layer("ssd/conv4_3/norm").input])(image)
    lengths = np.linalg.norm(first.numpy(), axis=-1)
    some = np.linalg.norm(before.numpy(), axis=-1) > 1e-3
    assert some.any()
    np.testing.assert_allclose(lengths[some], 20, rtol=1e-4)
    assert model.get_layer("ssd/conv4_3").weights[0].shape == (1, 1, 64, 1)


def test_small_frames_have_as_many_maps_as_ssd300():
    _, maps = built(VGG16(0.125), VGGFeatureMaps(depth_multiplier=0.0625))
    assert [s[:2] for s in shapes(maps)] == [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1), (1, 1)]


def test_the_neck_of_vgg16_refuses_other_backbones(end_points):
    with pytest.raises(ConfigError, match=r"detector/neck=vgg16 .*backbone=vgg16"):
        VGGFeatureMaps()(end_points, MobileNetV1)


@pytest.mark.parametrize("carry", ["sum", "smoothed"])
def test_what_a_pyramid_carries_down(carry):
    """The second upsampling begins at the sum of its level, or behind the 3x3 of that sum."""
    image = tf_keras.Input((96, 128, 3))
    backbone = MobileNetV1(0.25)
    model = tf_keras.Model(image, FPN(levels=3, channels=8, carry=carry)(backbone(image), backbone))
    (before,) = model.get_layer("fpn/upsampling_1").inbound_nodes[0].parent_nodes
    assert before.layer.name == {"sum": "fpn/top_down_2", "smoothed": "fpn/smoothing_2/Relu6"}[carry]
