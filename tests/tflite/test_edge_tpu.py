"""The documented rules of the Edge TPU, on files of the little network and on operators that break one rule each."""

import copy

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert import schema_py_generated as schema

from detect.tflite import edge_tpu, flatbuffer, package
from detect.tflite.convert import convert


def test_an_int8_file_is_mapped_to_its_heads(tiny, settings, frames):
    file = package.build(tiny.model, settings, package.Options("ptq", nms="tflite_op"), frames)
    found = edge_tpu.report(flatbuffer.read(file.content))
    assert found["mapped"] == {"ADD": 1, "CONV_2D": 4, "DEPTHWISE_CONV_2D": 1, "MUL": 1, "QUANTIZE": 1, "RESHAPE": 2}
    assert found["processor"] == {"DEQUANTIZE": 2, "LOGISTIC": 1, "STRIDED_SLICE": 1, "TFLite_Detection_PostProcess": 1}
    assert found["fits"] and edge_tpu.problem(found) is None
    assert edge_tpu.line(found) == "Edge TPU   10 operations on the chip, 5 on the processor"


def test_a_float_image_is_quantised_by_the_processor(tiny, settings, frames):
    file = package.build(tiny.model, settings, package.Options("ptq", takes="float32"), frames)
    found = edge_tpu.report(flatbuffer.read(file.content))
    assert found["processor"] == {"QUANTIZE": 1} and found["fits"]
    assert found["reasons"] == ["QUANTIZE has a tensor of float32 (tfl.quantize)"]


@pytest.mark.parametrize("name", ["float32", "dynamic", "float16"])
def test_other_files_do_not_fit(files, name):
    found = edge_tpu.report(flatbuffer.read(files[name].content))
    assert found["mapped"] == {} and not found["fits"]
    assert "would leave 5 convolutions to the processor" in (edge_tpu.problem(found) or "")


def test_what_follows_an_unknown_operation_is_on_the_processor(frames):
    image = tf_keras.Input((32, 48, 3))
    x = tf_keras.layers.Conv2D(8, 3, 2, "same", name="one")(image)
    y = tf_keras.layers.Activation(tf.nn.leaky_relu)(tf_keras.layers.Conv2D(8, 3, 1, "same", name="two")(x))
    y = tf_keras.layers.Conv2D(8, 3, 1, "same", name="three")(y)
    x = tf_keras.layers.Conv2D(8, 3, 1, "same", name="beside")(x)
    model = convert(tf_keras.Model(image, {"x": x, "y": y}), "ptq", gives="int8", frames=frames)
    found = edge_tpu.report(model)
    assert (found["mapped"]["CONV_2D"], found["processor"]) == (3, {"CONV_2D": 1, "LEAKY_RELU": 1})
    assert "LEAKY_RELU is not among the operations of the chip" in (edge_tpu.problem(found) or "")


def test_any_number_of_images(tiny, settings, frames):
    file = package.build(tiny.model, settings, package.Options("ptq", batch=None), frames)
    found = edge_tpu.report(flatbuffer.read(file.content))
    assert not found["fits"] and "which is not fixed" in found["reasons"][0]


@pytest.fixture(scope="module")
def parsed(files):
    return flatbuffer.read(files["int8"].content)


def first(model, name):
    return next(o for o in model.subgraphs[0].operators if flatbuffer.operator_name(model, o) == name)


def made(model, name, shapes, options=None, constants=None):
    """An operator of int8 tensors of some shapes, the last of which is its output; constants: {place: int32 values}."""
    places = []
    for i, shape in enumerate(shapes):
        values = None if i not in (constants or {}) else np.array(constants[i], np.int32)
        kind = schema.TensorType.INT8 if values is None else schema.TensorType.INT32
        places.append(flatbuffer.add_tensor(model, f"t{i}", shape, kind, values))
    operator = flatbuffer.operator(model, getattr(schema.BuiltinOperator, name), 1, places[:-1], places[-1:])
    operator.builtinOptions = options
    return edge_tpu.fault(edge_tpu.Operation(model, operator))


def options(kind, **values):
    made = getattr(schema, kind)()
    for name, value in values.items():
        setattr(made, name, value)
    return made


CASES = [
    ("RELU", [[1, 4, 4, 8]] * 2, None, {}, None),
    ("RELU", [[2, 4, 4, 8]] * 2, None, {}, "only 1 is legal"),
    ("HARD_SWISH", [[1, 4, 4, 8]] * 2, None, {}, "not among the operations"),
    ("MAX_POOL_2D", [[1, 4, 4, 8]] * 2, options("Pool2DOptionsT"), {}, None),
    ("MAX_POOL_2D", [[1, 4, 4, 8]] * 2, options("Pool2DOptionsT", fusedActivationFunction=1), {}, "fused activation"),
    ("CONCATENATION", [[1, 4, 8]] * 4, options("ConcatenationOptionsT", axis=1), {}, None),
    ("CONCATENATION", [[1, 4], [1, 4], [1, 8]], options("ConcatenationOptionsT", axis=1), {1: [0] * 4}, None),
    ("CONCATENATION", [[1, 4], [1, 4], [1, 8]], options("ConcatenationOptionsT", axis=1), {1: [0, 0, 1, 0]}, "zeros"),
    ("CONCATENATION", [[1, 4]] * 3 + [[1, 12]], options("ConcatenationOptionsT", axis=1), {1: [0] * 4}, "with several"),
    ("MEAN", [[1, 4, 4, 8], [2], [1, 8]], None, {1: [1, 2]}, None),
    ("MEAN", [[1, 4, 4, 8], [2], [4, 8]], None, {1: [0, 1]}, "reduces the batch"),
    ("PAD", [[1, 4, 4, 8], [4, 2], [1, 6, 6, 8]], None, {1: [0, 0, 1, 1, 1, 1, 0, 0]}, None),
    ("PAD", [[1, 4, 4, 8], [4, 2], [2, 4, 4, 8]], None, {1: [1, 0, 0, 0, 0, 0, 0, 0]}, "1 is legal"),
    ("SOFTMAX", [[1, 21]] * 2, None, {}, None),
    ("SOFTMAX", [[1, 100, 21]] * 2, None, {}, "legal is one dimension"),
    ("PRELU", [[1, 4, 4, 8], [1, 1, 8], [1, 4, 4, 8]], None, {}, None),
    ("PRELU", [[1, 4, 4, 8], [4, 4, 8], [1, 4, 4, 8]], None, {}, "a slope for each place"),
    ("SPLIT", [[1], [1, 4, 8], [1, 4, 8]], None, {0: [0]}, "splits the batch"),
    ("PACK", [[4, 8]] * 2 + [[1, 4, 8]], options("PackOptionsT", axis=0), {}, "packs along the batch"),
]


@pytest.mark.parametrize("name, shapes, given, constants, told", CASES)
def test_each_rule(parsed, name, shapes, given, constants, told):
    reason = made(copy.deepcopy(parsed), name, shapes, given, constants)
    assert (reason is None) if told is None else (told in (reason or ""))


def test_dilations_and_kernels(parsed):
    model = copy.deepcopy(parsed)
    operator = first(model, "CONV_2D")
    assert edge_tpu.fault(edge_tpu.Operation(model, operator)) is None
    operator.builtinOptions.dilationWFactor = 2
    assert edge_tpu.fault(edge_tpu.Operation(model, operator)) == "has other dilations in x and y"
    operator.builtinOptions.dilationWFactor = operator.builtinOptions.dilationHFactor
    operator.inputs[1] = flatbuffer.add_tensor(model, "kernel", [1, 3, 3, 1], schema.TensorType.INT8)
    assert "a kernel or bias that is no constant" in (edge_tpu.fault(edge_tpu.Operation(model, operator)) or "")
