"""Detectors of this program, and models of tf_keras.applications."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter

from detect.quantization.calibrate import calibrate, evaluation_graph
from detect.quantization.callbacks import Phases
from detect.quantization.folded import Folded
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import RANGE_VARIABLES, Spec
from detect.training import build
from detect.weights.transfer import named, transfer
from tests.closeness import assert_same_outputs
from tests.quantization import files
from tests.verbs import composed

applications = tf_keras.applications
SHAPE = (96, 96, 3)


def detector(backbone: str, kind: str, *more: str):
    small = ["backbone.depth_multiplier=0.25", f"detector.size=[{SHAPE[0]},{SHAPE[1]}]"]
    cfg = composed("train", f"backbone={backbone}", f"detector={kind}", *small, *more)
    return build.detector(cfg, num_classes=3).model


pytestmark = pytest.mark.slow

MODELS = {
    "ssd_mobilenet_v1": lambda: detector("mobilenet_v1", "ssd", "detector.neck.depth_multiplier=0.25"),
    "ssd_inception_v2": lambda: detector("inception_v2", "ssd"),  # a separable stem without batch norm
    "ssd_inception_v3": lambda: detector("inception_v3", "ssd"),
    "ssd_mobilenet_v3": lambda: detector("mobilenet_v3_small", "ssd"),
    "ssdlite_mobilenet_v2": lambda: detector("mobilenet_v2", "ssdlite"),
    "fpn": lambda: detector("mobilenet_v2", "ssd_fpn", "detector.neck.levels=3", "detector.anchors.anchor_scale=1"),
    "fcos": lambda: detector("mobilenet_v2", "fcos", "detector.neck.levels=3", "detector.neck.channels=16"),
    "fpnlite": lambda: detector("mobilenet_v2", "ssd_fpnlite", "detector.neck.levels=3", "detector.neck.channels=16"),
    "ssd300_vgg16": lambda: detector("vgg16", "ssd300_vgg16"),
    "faster_rcnn_mobilenet_v1": lambda: detector("mobilenet_v1", "faster_rcnn"),
    "faster_rcnn_mobilenet_v3": lambda: detector("mobilenet_v3_large", "faster_rcnn"),
    "faster_rcnn_inception_v3": lambda: detector("inception_v3", "faster_rcnn"),
    "faster_rcnn_vgg16": lambda: detector("vgg16", "faster_rcnn"),
    "applications_mobilenet": lambda: applications.MobileNet(SHAPE, alpha=0.25, weights=None, classes=5),
    "applications_mobilenet_v3": lambda: applications.MobileNetV3Small(SHAPE, weights=None, classes=5),
    "applications_mobilenet_v2": lambda: applications.MobileNetV2(SHAPE, alpha=0.35, weights=None, classes=5),
    "applications_mobilenet_v3_large": lambda: applications.MobileNetV3Large(SHAPE, weights=None, classes=5),
    "applications_inception_v3": lambda: applications.InceptionV3(input_shape=SHAPE, weights=None, classes=5),
}


def inputs_of(model):
    random = np.random.default_rng(0)
    arrays = [tf.constant(random.uniform(0, 255, (2, *x.shape[1:])).astype(np.float32)) for x in model.inputs]
    arrays = [x if x.shape[-1] == 3 else x / 42 for x in arrays]  # Faster R-CNN's crops are of a ReLU6
    return arrays if len(arrays) > 1 else arrays[0]


@pytest.mark.parametrize("name", MODELS)
def test_a_model(name, shuffle):
    """Folds exactly, rounds to something near, keeps names, trains: one build for all questions."""
    tf_keras.utils.set_random_seed(0)
    model = MODELS[name]()
    shuffle(model)
    twin = fake_quant(model, Spec(delay=1))
    x = inputs_of(model)
    calibrate(twin, [x])
    expected = tf.nest.flatten(model(x, training=False))
    assert_same_outputs(tf.nest.flatten(twin(x, training=False)), expected)

    Phases(twin).step(1)
    for ours, theirs in zip(tf.nest.flatten(twin(x, training=False)), expected, strict=True):
        assert 0 < np.mean((ours - theirs) ** 2) < 0.1 * np.mean(theirs**2)

    kernels = {v.name.rpartition("/")[0] for v in model.variables if "kernel" in v.name}
    folded = [layer.convolution for layer in twin.layers if isinstance(layer, Folded)]  # a shared one several times
    assert kernels == {layer.name for layer in folded}
    arrays = {name: variable.numpy() for name, variable in named(twin.variables).items()}
    assert transfer(model, arrays, source="twin", layers=None, skip=RANGE_VARIABLES).complete

    variables = twin.trainable_variables
    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_mean(y**2) for y in tf.nest.flatten(twin(x, training=True)))
    gradients = tape.gradient(loss, variables)
    assert [v.name for v, g in zip(variables, gradients, strict=True) if g is None or not np.isfinite(g).all()] == []


@pytest.mark.parametrize("name", ["ssd_inception_v2", "fpn", "faster_rcnn_inception_v3", "applications_mobilenet_v3"])
def test_every_convolution_of_the_file_is_int8(name):
    twin = fake_quant(MODELS[name](), Spec())
    calibrate(twin, [inputs_of(twin)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([evaluation_graph(twin)])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = Interpreter(model_content=converter.convert())
    types = {t["index"]: t["dtype"] for t in interpreter.get_tensor_details()}
    found = [op for op in interpreter._get_ops_details() if "CONV" in op["op_name"] or "CONNECTED" in op["op_name"]]
    kernels = [v for v in twin.variables if "kernel" in v.name]
    assert len(found) == len(kernels)
    assert [op for op in found if any(types[i] is not np.int8 for i in (op["inputs"][0], *op["outputs"]))] == []


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("faster_rcnn")])
def test_the_file_of_a_model_equals_its_evaluation_graph(name, shuffle):
    """In every value, for images of whole levels as a camera gives them."""
    tf_keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (6, *SHAPE)).astype(np.float32)
    model = MODELS[name]()
    if "mobilenet_v3" in name:  # with random statistics, inputs of its hard sigmoids are beyond TFLite's limits
        for layer in model.layers:
            if isinstance(layer, tf_keras.layers.BatchNormalization):
                layer.momentum = 0.0
        model(images, training=True)
    else:
        shuffle(model)
    ends = model.output if isinstance(model.output, dict) else {"end": model.output}
    twin = fake_quant(tf_keras.Model(model.input, ends), Spec())
    calibrate(twin, [images[:4]])
    for end, off in files.steps_off(twin, files.runner(twin), images).items():
        assert not off.any(), (end, np.bincount(off.astype(int).ravel()))


def test_stages_of_a_faster_rcnn_can_be_cut_out():
    model = MODELS["faster_rcnn_mobilenet_v1"]()
    twin = fake_quant(model, Spec())
    images, crops = inputs_of(model)
    calibrate(twin, [[images, crops]])
    whole = twin([images, crops], training=False)
    first = tf_keras.Model(twin.input[0], {name: twin.output[name] for name in ("features", "objectness", "rpn_codes")})
    second = tf_keras.Model(twin.input[1], {name: twin.output[name] for name in ("logits", "codes")})
    for part, x in ((first, images), (second, crops)):
        for name, values in part(x, training=False).items():
            assert_same_outputs(values, whole[name])
