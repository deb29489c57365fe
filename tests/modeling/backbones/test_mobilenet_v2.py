"""MobileNet v2 against slim's published numbers, Keras' own implementation and a frozen graph of the Detection API."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.modeling.backbones.layers import make_divisible
from detect.modeling.backbones.mobilenet_v2 import MobileNetV2
from detect.modeling.cost import macs
from tests.closeness import assert_same_outputs

GRAPH = "weights/ssdlite_mobilenet_v2_pedestrian/frozen_inference_graph.pb"
SCOPE = "FeatureExtractor/MobilenetV2/"
SLIM = {"kernel": "weights", "depthwise_kernel": "depthwise_weights"}


@pytest.fixture(scope="module")
def full():
    """The base at depth 1.0 for any input size; its outputs are all end points by name."""
    image = tf_keras.Input((None, None, 3))
    return tf_keras.Model(image, MobileNetV2()(image))


@pytest.fixture(scope="module")
def graph(shared):
    """An SSDLite detector that the Object Detection API has trained and frozen."""
    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString((shared / GRAPH).read_bytes())
    return definition


@pytest.fixture(scope="module")
def arrays(graph):
    """The graph's constants by name."""
    nodes = (node for node in graph.node if node.op == "Const" and node.name.startswith(SCOPE))
    return {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in nodes}


def slim_name(variable):
    """`expanded_conv/depthwise/depthwise_kernel:0` -> the API's name of it."""
    *layer, last = variable.name.split(":")[0].split("/")
    return SCOPE + "/".join([*layer, SLIM.get(last, last)])


def test_parameters_are_those_of_slim(full):
    assert full.count_params() == 2_257_984
    assert sum(int(np.prod(v.shape)) for v in full.trainable_variables) == 2_223_872
    assert len(full.variables) == 260


def test_every_end_point_has_slims_shape(full, shared):
    reference = json.loads((shared / "reference" / "slim_reference_numbers.json").read_text())
    sizes = {name: entry for name, entry in reference.items() if name.startswith("mobilenet_v2_base@")}
    assert sorted(sizes) == [f"mobilenet_v2_base@{size}" for size in (224, 299, 300)]
    for name, entry in sizes.items():
        size = int(name.split("@")[1])
        shapes = full.compute_output_shape((1, size, size, 3))
        assert {key: list(shape[1:]) for key, shape in shapes.items()} == entry["endpoints"], name
        assert (full.count_params(), len(full.variables)) == (entry["model_vars"], entry["n_model_vars"])


def test_maps_of_300_pixels(full):
    shapes = full.compute_output_shape((1, 300, 300, 3))
    assert [shapes[name] for name in MobileNetV2.ssd_maps] == [(1, 19, 19, 576), (1, 10, 10, 1280)]
    assert list(shapes)[-1] == "layer_19"


def test_maps_for_pyramids_and_proposals_have_their_strides(full):
    shapes = full.compute_output_shape((1, 320, 256, 3))
    assert [shapes[name] for name in MobileNetV2.fpn_maps] == [(1, 40, 32, 32), (1, 20, 16, 96), (1, 10, 8, 1280)]
    assert shapes[MobileNetV2.rpn_map] == (1, 20, 16, 576)


def test_layers_are_plain_and_linear_after_projections(full):
    kinds = {type(layer).__name__ for layer in full.layers}
    assert kinds == {"InputLayer", "Rescaling", "Conv2D", "DepthwiseConv2D", "BatchNormalization", "ReLU", "Add"}
    names = {layer.name for layer in full.layers}
    assert "expanded_conv_3/expand/Relu6" in names and "expanded_conv_3/depthwise/Relu6" in names
    assert not any("project/Relu" in name for name in names)
    adds = {int(name.split("/")[0].split("_")[2]) for name in names if name.endswith("/add")}
    assert adds == {2, 4, 5, 7, 8, 9, 11, 12, 14, 15}  # the blocks of stride 1 that keep the channels
    assert {layer.epsilon for layer in full.layers if isinstance(layer, tf_keras.layers.BatchNormalization)} == {1e-3}


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [(32, 32), (11.2, 16), (5.6, 8), (12, 16), (26, 24), (27, 32), (0.1, 8), (33.6, 32)],
)
def test_channels_are_rounded_to_eights_but_not_below_90_percent(channels, rounded):
    assert make_divisible(channels) == rounded


def test_least_depth_counts_after_rounding():
    assert make_divisible(11.2, min_depth=32) == 32
    assert MobileNetV2(0.25, min_depth=24)(tf_keras.Input((64, 64, 3)))["layer_2"].shape[-1] == 24


@pytest.mark.parametrize(
    ("multiplier", "scale_last", "channels"),
    [
        (0.25, True, (8, 8, 8, 144, 80, 320)),
        pytest.param(0.35, False, (16, 8, 16, 192, 112, 1280), marks=pytest.mark.slow),
        pytest.param(0.35, True, (16, 8, 16, 192, 112, 448), marks=pytest.mark.slow),
        pytest.param(1.4, False, (48, 24, 48, 816, 448, 1792), marks=pytest.mark.slow),
    ],
)
def test_depth_multiplier(multiplier, scale_last, channels):
    end_points = MobileNetV2(multiplier, scale_last=scale_last)(tf_keras.Input((96, 128, 3)))
    names = ("layer_1", "layer_2", "layer_5", "layer_15/expansion_output", "layer_18", "layer_19")
    shapes = [tuple(end_points[name].shape[1:]) for name in names]
    sides = [(48, 64), (48, 64), (12, 16), (6, 8), (3, 4), (3, 4)]
    assert shapes == [(*side, depth) for side, depth in zip(sides, channels, strict=True)]


def test_box_head_has_the_layers_after_the_proposals(full, tools):
    shape, variables = tools.box_head_shapes(MobileNetV2(), 576)
    assert shape == (4, 4, 1280)
    later = ("expanded_conv_13/depthwise", "expanded_conv_13/project", "expanded_conv_14/", "expanded_conv_15/")
    whole = tools.shapes_of(full.variables)
    assert variables == {n: s for n, s in whole.items() if n.startswith((*later, "expanded_conv_16/", "Conv_1/"))}


def test_proposals_and_box_head_together_are_the_whole_net(tools):
    backbone, image = MobileNetV2(0.25), tf_keras.Input((64, 96, 3))
    whole = tools.without_top(backbone, 64, 96)
    first = tf_keras.Model(image, backbone(image)[backbone.rpn_map])
    crops = tf_keras.Input(first.output_shape[1:])
    second = tf_keras.Model(crops, backbone.box_head(crops))
    tools.randomise(whole)
    for part in (first, second):
        for layer in part.layers:
            if layer.weights:
                layer.set_weights(whole.get_layer(layer.name).get_weights())
    images = np.random.default_rng(1).uniform(0, 255, (1, 64, 96, 3)).astype(np.float32)
    assert_same_outputs(second(first(images)), whole(images))


@pytest.mark.parametrize(
    ("multiplier", "scale_last", "height", "width"),
    [(0.35, False, 76, 97), pytest.param(1.0, True, 96, 65, marks=pytest.mark.slow)],
)
def test_random_weights_give_what_keras_gives(multiplier, scale_last, height, width, tools):
    backbone = MobileNetV2(multiplier, scale_last=scale_last)
    ours = tools.without_top(backbone, height, width)
    tools.randomise(ours)
    theirs = tf_keras.applications.MobileNetV2((height, width, 3), multiplier, include_top=False, weights=None)
    images = np.random.default_rng(1).uniform(0, 255, (2, height, width, 3)).astype(np.float32)
    scaled = tf_keras.applications.mobilenet_v2.preprocess_input(images.copy())
    tools.assert_equals_keras(ours, theirs, backbone.keras_layers(), images, scaled)


def test_multiply_accumulates_are_those_of_the_paper(tools):
    counts = macs(tools.without_top(MobileNetV2(), 224, 224))
    assert sum(counts.values()) + 1280 * 1000 == pytest.approx(300e6, rel=0.03)


def test_all_variables_are_in_a_frozen_graph_of_the_api(full, arrays):
    assert {slim_name(v): tuple(v.shape) for v in full.variables} == {
        name: arrays[name].shape for name in map(slim_name, full.variables) if name in arrays
    }


def test_weights_of_a_frozen_graph_give_what_the_graph_gives(full, graph, arrays):
    from skimage import data
    from skimage.transform import resize

    for variable in full.variables:
        variable.assign(arrays[slim_name(variable)])
    image = (resize(data.astronaut(), (300, 300), anti_aliasing=True) * 255).astype(np.float32)[np.newaxis]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph, name="")
        names = [f"{SCOPE}expanded_conv_13/expansion_output:0", f"{SCOPE}Conv_1/Relu6:0"]
        expected = session.run(names, {"Preprocessor/sub:0": image / 127.5 - 1})
    end_points = full(image, training=False)
    for name, array in zip(MobileNetV2.ssd_maps, expected, strict=True):
        assert array.std() > 0.1
        assert_same_outputs(end_points[name], array)
