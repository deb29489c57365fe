"""The heads of the second stage: shapes, names, and the order of the box predictor's outputs."""

import numpy as np
import tf_keras

from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.box_heads import BackboneBoxHead, TwoFC, predict_boxes
from tests.closeness import assert_same_outputs

BACKBONE = MobileNetV1(0.25)


def test_the_backbones_layers_then_the_mean():
    crops = tf_keras.Input((7, 7, 128))
    head = BackboneBoxHead()
    model = tf_keras.Model(crops, head(crops, BACKBONE))
    assert head.roi_crop(BACKBONE) == (14, 2, 1) and model.output_shape == (None, 256)
    kernels = [layer.name for layer in model.layers if layer.weights and "BatchNorm" not in layer.name]
    assert kernels == ["Conv2d_12_depthwise", "Conv2d_12_pointwise", "Conv2d_13_depthwise", "Conv2d_13_pointwise"]
    before = tf_keras.Model(crops, model.layers[-2].output)
    x = np.random.default_rng(0).normal(size=(3, 7, 7, 128)).astype(np.float32)
    assert before.output_shape == (None, 4, 4, 256)
    assert_same_outputs(model(x), before(x).numpy().mean(axis=(1, 2)))


def test_two_dense_layers():
    crops = tf_keras.Input((7, 7, 3))
    head = TwoFC(units=5)
    model = tf_keras.Model(crops, head(crops, BACKBONE))
    assert head.roi_crop(BACKBONE) == (7, 1, 2) and model.output_shape == (None, 5)
    first, second = (model.get_layer(f"BoxHead/{name}").get_weights() for name in ("fc6", "fc7"))
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 3)).astype(np.float32)
    hidden = np.maximum(x.reshape(2, -1) @ first[0] + first[1], 0)
    assert_same_outputs(model(x), np.maximum(hidden @ second[0] + second[1], 0))


def test_outputs_of_the_box_predictor_run_class_by_class():
    features = tf_keras.Input((6,))
    model = tf_keras.Model(features, predict_boxes(features, num_classes=2))
    layer = model.get_layer("SecondStageBoxPredictor/BoxEncodingPredictor")
    layer.set_weights([np.zeros((6, 8)), np.arange(8)])
    logits, codes = model(np.zeros((3, 6)))
    assert logits.shape == (3, 3)
    np.testing.assert_array_equal(codes[1], [[0, 1, 2, 3], [4, 5, 6, 7]])
