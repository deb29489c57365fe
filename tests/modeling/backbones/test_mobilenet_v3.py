"""MobileNet v3 against Keras' own implementation, slim's names and torchvision's detection variant."""

import numpy as np
import pytest
import tf_keras

from detect.errors import ConfigError
from detect.modeling.backbones.mobilenet_v3 import MobileNetV3
from detect.modeling.cost import macs
from tests.closeness import assert_same_outputs

KERAS = {"large": tf_keras.applications.MobileNetV3Large, "small": tf_keras.applications.MobileNetV3Small}


@pytest.fixture(scope="module", params=["large", "small"])
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def full(variant):
    """The base at depth 1.0; its outputs are all end points by name."""
    image = tf_keras.Input((224, 224, 3))
    return tf_keras.Model(image, MobileNetV3(variant)(image))


def test_parameters_are_those_of_keras(full, variant):
    assert full.count_params() == {"large": 2_996_352, "small": 939_120}[variant]


def test_end_points_bear_slims_names(full, variant):
    layers = {"large": 17, "small": 13}[variant]
    blocks = [
        f"layer_{k}{part}"
        for k in range(2, layers)
        for part in ("/expansion_output", "/depthwise_output", "/output", "")
        if (k, part) != (2, "/expansion_output")  # the first block expands by 1, which is not at all
    ]
    assert list(full.output) == ["layer_1", *blocks, f"layer_{layers}"]


def test_maps_of_320_by_256_pixels(full, variant):
    shapes, backbone = full.compute_output_shape((1, 320, 256, 3)), MobileNetV3(variant)
    ssd = {
        "large": {"layer_14/expansion_output": (1, 20, 16, 672), "layer_17": (1, 10, 8, 960)},
        "small": {"layer_10/expansion_output": (1, 20, 16, 288), "layer_13": (1, 10, 8, 576)},
    }[variant]
    assert {name: shapes[name] for name in backbone.ssd_maps} == ssd
    assert backbone.rpn_map == backbone.ssd_maps[0]
    channels = {"large": (40, 112, 960), "small": (24, 48, 576)}[variant]
    expected = [(1, *side, depth) for side, depth in zip([(40, 32), (20, 16), (10, 8)], channels, strict=True)]
    assert [shapes[name] for name in backbone.fpn_maps] == expected
    for name in backbone.fpn_maps[:2]:  # the last layer of its stride
        assert shapes[f"layer_{int(name.split('_')[1]) + 1}"][1] == shapes[name][1] // 2


def test_an_odd_map_is_rounded_up(full, variant):
    shapes, backbone = full.compute_output_shape((1, 300, 300, 3)), MobileNetV3(variant)
    assert [shapes[name][1:3] for name in backbone.ssd_maps] == [(19, 19), (10, 10)]


def test_layers_bear_slims_names_and_are_plain(full, variant):
    names = {v.name for v in full.variables}
    assert "Conv/kernel:0" in names and "Conv_1/BatchNorm/moving_variance:0" in names
    assert "expanded_conv/depthwise/depthwise_kernel:0" in names and "expanded_conv/expand/kernel:0" not in names
    squeeze = "expanded_conv_4/squeeze_excite/Conv"
    assert {f"{squeeze}/bias:0", f"{squeeze}_1/kernel:0", f"{squeeze}_1/bias:0"} <= names
    kinds = {type(layer).__name__ for layer in full.layers}
    assert kinds == {
        *("InputLayer", "Rescaling", "Conv2D", "DepthwiseConv2D", "BatchNormalization", "ReLU", "Activation"),
        *("Add", "Multiply", "GlobalAveragePooling2D"),
    }
    assert {layer.epsilon for layer in full.layers if isinstance(layer, tf_keras.layers.BatchNormalization)} == {1e-3}
    squeezed = [layer.name for layer in full.layers if layer.name.endswith("squeeze_excite/Conv")]
    assert len(squeezed) == {"large": 8, "small": 9}[variant]


def test_hard_swish_and_hard_sigmoid_at_known_places():
    backbone, image = MobileNetV3("small", 0.25), tf_keras.Input((32, 32, 3))
    end_points = backbone(image)
    model = tf_keras.Model(image, end_points)
    normed = model.get_layer("Conv/BatchNorm").output
    pair = tf_keras.Model(image, [normed, end_points["layer_1"]])
    pair.get_layer("Conv/BatchNorm").set_weights([np.full(8, v, np.float32) for v in (1.0, 0.0, 0.0, 1e-4)])
    x, y = pair(np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32))
    x, y = x.numpy(), y.numpy()
    assert x.min() < -4 and x.max() > 4
    assert_same_outputs(y, x * np.clip(x + 3, 0, 6) / 6)
    gate = model.get_layer("expanded_conv/squeeze_excite/HardSigmoid")
    gates = tf_keras.Model(model.get_layer("expanded_conv/squeeze_excite/Conv_1").output, gate.output)
    values = np.array([-4.0, -3.0, -1.5, 0.0, 1.5, 3.0, 4.0, 9.0], np.float32).reshape(1, 1, 1, 8)
    expected = [0, 0, 0.250005, 0.50001, 0.750015, 1.00002, 1.00002, 1.00002]  # relu6(x + 3) * slim's 0.16667
    np.testing.assert_allclose(gates(values).numpy().ravel(), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "multiplier", "minimalistic", "height", "width"),
    [
        ("small", 0.75, False, 97, 66),
        ("large", 1.0, False, 76, 97),
        ("small", 1.0, True, 64, 75),
        ("large", 0.75, False, 64, 96),
        ("large", 1.0, True, 97, 97),
        ("small", 1.0, False, 96, 64),
    ],
)
def test_random_weights_give_what_keras_gives(name, multiplier, minimalistic, height, width, tools):
    backbone = MobileNetV3(name, multiplier, minimalistic=minimalistic)
    ours = tools.without_top(backbone, height, width)
    tools.randomise(ours)
    theirs = KERAS[name]((height, width, 3), multiplier, minimalistic, include_top=False, weights=None)
    images = np.random.default_rng(1).uniform(0, 255, (2, height, width, 3)).astype(np.float32)
    tools.assert_equals_keras(ours, theirs, backbone.keras_layers(), images, images)


def test_reduced_tail_is_torchvisions(full, variant):
    """torchvision's `_mobilenet_v3_conf(arch, reduced_tail=True)`: the table's last rows are divided by two."""
    shapes = {
        name: shape[-1] for name, shape in full.compute_output_shape((1, 64, 64, 3)).items() if name.count("/") == 0
    }
    end_points = MobileNetV3(variant, reduced_tail=True)(tf_keras.Input((64, 64, 3)))
    reduced = {name: end_points[name].shape[-1] for name in shapes}
    tail = {"large": (14, 15, 16, 17), "small": (10, 11, 12, 13)}[variant]
    outputs = {"large": (80, 80, 80, 480), "small": (48, 48, 48, 288)}[variant]
    assert reduced == shapes | {f"layer_{k}": depth for k, depth in zip(tail, outputs, strict=True)}
    expanded = [end_points[f"layer_{k}/expansion_output"].shape[-1] for k in tail[:3]]
    assert expanded == {"large": [672, 480, 480], "small": [288, 288, 288]}[variant]


@pytest.mark.parametrize(
    ("name", "multiplier", "channels"),
    [
        ("small", 0.35, (8, 8, 8, 16, 96, 200)),
        pytest.param("large", 0.25, (8, 8, 8, 16, 192, 240), marks=pytest.mark.slow),
        pytest.param("large", 0.35, (8, 8, 8, 16, 240, 336), marks=pytest.mark.slow),
        pytest.param("small", 0.25, (8, 8, 8, 16, 96, 144), marks=pytest.mark.slow),
    ],
)
def test_depth_multiplier(name, multiplier, channels):
    backbone = MobileNetV3(name, multiplier)
    end_points = backbone(tf_keras.Input((96, 128, 3)))
    names = ("layer_1", "layer_2", "layer_3", "layer_5", *backbone.ssd_maps)
    assert [end_points[n].shape[-1] for n in names] == list(channels)
    assert [tuple(end_points[n].shape[1:3]) for n in backbone.fpn_maps] == [(12, 16), (6, 8), (3, 4)]


def test_least_depth():
    end_points = MobileNetV3("small", 0.25, min_depth=16)(tf_keras.Input((64, 64, 3)))
    assert {x.shape[-1] for name, x in end_points.items() if "/" not in name} == {16, 24, 144}


def test_box_head_has_the_layers_after_the_proposals(full, variant, tools):
    shape, variables = tools.box_head_shapes(MobileNetV3(variant), {"large": 672, "small": 288}[variant])
    assert shape == (4, 4, {"large": 960, "small": 576}[variant])
    first = {"large": 12, "small": 8}[variant]
    begun = [f"expanded_conv_{first}/{part}/" for part in ("depthwise", "squeeze_excite", "project")]
    later = (*begun, f"expanded_conv_{first + 1}/", f"expanded_conv_{first + 2}/", "Conv_1/")
    whole = tools.shapes_of(full.variables)
    assert variables == {name: shape for name, shape in whole.items() if name.startswith(later)}


def test_multiply_accumulates_are_those_of_the_paper(full, variant):
    features, hidden, published = {"large": (960, 1280, 219e6), "small": (576, 1024, 56e6)}[variant]
    classifier = features * hidden + hidden * 1000
    assert sum(macs(full).values()) + classifier == pytest.approx(published, rel=0.015)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigError, match=r"backbone.variant=medium is not legal: expected one of large, small"):
        MobileNetV3("medium")
