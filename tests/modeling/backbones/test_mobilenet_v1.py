"""MobileNet v1 against slim's published numbers and against Keras' own implementation."""

import json

import numpy as np
import pytest
import tf_keras

from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.cost import macs
from detect.weights import checkpoint


@pytest.fixture(scope="module")
def full():
    """The base at depth 1.0 for any input size; its outputs are all end points by name."""
    image = tf_keras.Input((None, None, 3))
    return tf_keras.Model(image, MobileNetV1()(image))


def with_logits(backbone, size, classes):
    image = tf_keras.Input((size, size, 3))
    end_points = backbone(image)
    x = tf_keras.layers.GlobalAveragePooling2D(keepdims=True)(list(end_points.values())[-1])
    x = tf_keras.layers.Conv2D(classes, 1, name=backbone.logits)(x)
    return tf_keras.Model(image, tf_keras.layers.Flatten()(x))


def keras_network(alpha, size, classes):
    return tf_keras.applications.MobileNet(
        (size, size, 3), alpha, weights=None, classes=classes, classifier_activation=None, dropout=0.0
    )


def scaled(images):
    return tf_keras.applications.mobilenet.preprocess_input(images.copy())


def test_parameters_are_those_of_slim(full):
    assert full.count_params() == 3_228_864
    assert sum(int(np.prod(v.shape)) for v in full.trainable_variables) == 3_206_976
    assert len(full.variables) == 135


def test_every_end_point_has_slims_shape(full, shared):
    reference = json.loads((shared / "reference" / "slim_reference_numbers.json").read_text())
    sizes = {name: entry for name, entry in reference.items() if name.startswith("mobilenet_v1_base@")}
    assert sizes
    for name, entry in sizes.items():
        size = int(name.split("@")[1])
        shapes = full.compute_output_shape((1, size, size, 3))
        assert {key: list(shape[1:]) for key, shape in shapes.items()} == entry["endpoints"], name
        assert full.count_params() == entry["model_vars"]


def test_maps_of_300_pixels(full):
    shapes = full.compute_output_shape((1, 300, 300, 3))
    assert [shapes[name] for name in MobileNetV1.ssd_maps] == [(1, 19, 19, 512), (1, 10, 10, 1024)]


def test_layers_bear_slims_names_and_are_plain(full):
    names = {v.name for v in full.variables}
    assert "Conv2d_0/kernel:0" in names and "Conv2d_0/BatchNorm/moving_variance:0" in names
    assert "Conv2d_7_depthwise/depthwise_kernel:0" in names and "Conv2d_13_pointwise/BatchNorm/gamma:0" in names
    kinds = {type(layer).__name__ for layer in full.layers}
    assert kinds == {"InputLayer", "Rescaling", "Conv2D", "DepthwiseConv2D", "BatchNormalization", "ReLU"}
    norms = [layer for layer in full.layers if isinstance(layer, tf_keras.layers.BatchNormalization)]
    assert len(norms) == 27 and {layer.epsilon for layer in norms} == {1e-3}


@pytest.mark.parametrize(("multiplier", "channels"), [(0.25, (8, 16, 256)), (0.5, (16, 32, 512)), (0.1, (8, 8, 102))])
def test_depth_multiplier_and_least_depth(multiplier, channels):
    end_points = MobileNetV1(depth_multiplier=multiplier)(tf_keras.Input((96, 128, 3)))
    shapes = [tuple(end_points[f"Conv2d_{name}"].shape[1:]) for name in ("0", "1_pointwise", "13_pointwise")]
    assert shapes == [(48, 64, channels[0]), (48, 64, channels[1]), (3, 4, channels[2])]


@pytest.mark.parametrize(("scaling", "bounds"), [("signed", (-1, 1)), ("unit", (0, 1)), ("none", (0, 255))])
def test_the_backbone_scales_its_own_input(scaling, bounds):
    image = tf_keras.Input((96, 96, 3))
    model = tf_keras.Model(image, MobileNetV1(0.25, input_scaling=scaling)(image))
    scale = tf_keras.Model(image, model.get_layer("input_scaling").output)
    values = np.stack([np.zeros((96, 96, 3)), np.full((96, 96, 3), 255)]).astype(np.float32)
    np.testing.assert_allclose(scale(values).numpy()[:, 0, 0, 0], bounds, atol=1e-6)


def test_random_weights_give_what_keras_gives(tools):
    backbone = MobileNetV1(0.25)
    ours, theirs = with_logits(backbone, 96, 7), keras_network(0.25, 96, 7)
    tools.randomise(ours)
    images = np.random.default_rng(1).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
    tools.assert_equals_keras(ours, theirs, backbone.keras_layers(), images, scaled(images))


def test_imagenet_weights_give_what_keras_gives(shared, tools):
    ours = with_logits(MobileNetV1(), 224, 1001)
    from skimage import data
    from skimage.transform import resize

    from detect.weights.sources import FromFile
    from detect.weights.transfer import transfer

    source = FromFile(str(shared / "weights" / "mobilenet_v1_1.0_224"))
    transfer(ours, source.read(MobileNetV1()), source=source.describe(), layers=None)
    images = np.stack([resize(image, (224, 224), anti_aliasing=True) for image in (data.chelsea(), data.coffee())])
    images = (images * 255).astype(np.float32)
    names = MobileNetV1().keras_layers()
    tools.assert_equals_keras(ours, keras_network(1.0, 224, 1001), names, images, scaled(images))


def test_weights_survive_a_checkpoint(tmp_path):
    first, second = (with_logits(MobileNetV1(0.25), 96, 3) for _ in range(2))
    checkpoint.write(tmp_path / "best", {v.name.split(":")[0]: v for v in first.variables})
    checkpoint.load(second, tmp_path / "best")
    for one, other in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_maps_for_pyramids_and_proposals_have_their_strides(full):
    shapes = full.compute_output_shape((1, 320, 256, 3))
    assert [shapes[name][1:3] for name in MobileNetV1.fpn_maps] == [(40, 32), (20, 16), (10, 8)]
    assert shapes[MobileNetV1.rpn_map] == (1, 20, 16, 512)
    names = list(shapes)
    for name in MobileNetV1.fpn_maps[:2]:  # the last of their stride
        assert shapes[names[names.index(name) + 1]][1] == shapes[name][1] // 2


def test_box_head_has_the_layers_after_the_proposals(full, tools):
    shape, variables = tools.box_head_shapes(MobileNetV1(), 512)
    assert shape == (4, 4, 1024)
    whole = tools.shapes_of(full.variables)
    assert variables == {n: s for n, s in whole.items() if n.startswith(("Conv2d_12_", "Conv2d_13_"))}


def test_multiply_accumulates_are_those_of_the_paper():
    image = tf_keras.Input((224, 224, 3))
    counts = macs(tf_keras.Model(image, list(MobileNetV1()(image).values())[-1]))
    assert sum(counts.values()) + 1024 * 1000 == pytest.approx(569e6, rel=0.01)
