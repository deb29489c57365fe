"""The count of operators and types, and the float convolution that an int8 file must not have."""

import numpy as np
import pytest

from detect.errors import WeightsError
from detect.quantization.calibrate import calibrate
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from detect.tflite import convert, flatbuffer, operators, package, parity
from detect.tflite.runner import Runner


@pytest.fixture(scope="module")
def graphs(files):
    return {name: flatbuffer.read(file.content) for name, file in files.items()}


def test_counts(graphs):
    assert operators.census(graphs["float32"])["CONV_2D"] == {"float32": 4}
    assert operators.census(graphs["dynamic"])["CONV_2D"] == {"float32": 3, "float32 (int8 kernel)": 1}
    assert operators.census(graphs["weights"])["DEQUANTIZE"] == {"int8": 1}
    assert operators.census(graphs["weights"])["CONV_2D"] == {"float32": 4}
    assert operators.census(graphs["float16"])["DEQUANTIZE"] == {"float16": 4}  # of the convolutions, not depthwise
    whole = operators.census(graphs["int8"])
    assert whole["CONV_2D"] == {"int8": 4} and whole["DEPTHWISE_CONV_2D"] == {"int8": 1}
    assert {kind for kinds in whole.values() for kind in kinds} == {"int8", "uint8"}


@pytest.mark.parametrize("name", ["int8", "int8_per_tensor"])
def test_an_int8_file_has_no_float_convolution(graphs, name):
    assert operators.float_convolutions(graphs[name]) == []
    operators.refuse_float_convolutions(graphs[name])


def test_float_convolutions_are_named(graphs):
    found = operators.float_convolutions(graphs["dynamic"])
    assert len(found) == 5 and any("tiny/second" in name and "DEPTHWISE_CONV_2D" in name for name in found)
    with pytest.raises(WeightsError, match=r"computes these in float: .*tiny/.*\(CONV_2D\)"):
        operators.refuse_float_convolutions(graphs["float32"])


def test_the_layers_in_a_tensors_name():
    layers = ("Conv2d_0", "Conv2d_0/Relu6", "block", "block/conv", "dense")
    name = "ssd/Conv2d_0/Relu6/Relu6;ssd/Conv2d_0/BiasAdd;ssd/Conv2d_0/Conv2D;"
    assert operators.layers_of(name, layers) == {"Conv2d_0", "Conv2d_0/Relu6"}
    assert operators.layers_of("m/block/conv/separable_conv2d/depthwise", layers) == {"block/conv"}
    assert operators.layers_of("m/dense/Tensordot/MatMul;m/block/BiasAdd", layers) == {"dense", "block"}
    assert operators.layers_of("arith.constant2", layers) == set() == operators.layers_of("", layers)


@pytest.mark.parametrize(
    "change, floats",
    [
        ({"keep_float": ["scale", "first"]}, {"CONV_2D": 1, "CAST": 1}),
        pytest.param({"keep_float": ["second"]}, {"DEPTHWISE_CONV_2D": 1, "CAST": 0}, marks=pytest.mark.slow),
        pytest.param({"first_last_float": True}, {"CONV_2D": 3, "CAST": 0}, marks=pytest.mark.slow),
    ],
)
def test_layers_that_were_kept_float_may_be_float(tiny, settings, frames, change, floats):
    """And these alone; the file is the evaluation graph still. An image that meets a float layer is cast to float."""
    model = fake_quant(tiny.model, Spec(**change))
    calibrate(model, [np.stack(frames).astype(np.float32)])
    file = package.build(model, settings, package.Options("qat"))
    graph = flatbuffer.read(file.content)
    counts = operators.census(graph)
    assert {name: counts.get(name, {}).get("float32", 0) for name in floats} == floats
    with pytest.raises(WeightsError, match="computes these in float"):
        operators.refuse_float_convolutions(graph)
    runner = Runner(file.content)
    assert runner.input_type == np.uint8
    found, wanted = [runner(frame) for frame in frames], [package.heads(model, frame) for frame in frames]
    scales = {head: runner.scale(head) for head in parity.HEADS}
    assert parity.parity(wanted, found, scales, "qat")["within"]


def test_an_int8_image_has_levels_from_minus_128_where_the_scaling_is_kept_float(tiny, settings, frames):
    model = fake_quant(tiny.model, Spec(keep_float=["scale", "first"]))
    calibrate(model, [np.stack(frames).astype(np.float32)])
    runner = Runner(package.build(model, settings, package.Options("qat", takes="int8")).content)
    assert runner.input_type == np.int8
    found, wanted = [runner(frame) for frame in frames], [package.heads(model, frame) for frame in frames]
    scales = {head: runner.scale(head) for head in parity.HEADS}
    assert parity.parity(wanted, found, scales, "qat")["within"]


def test_no_step_of_the_pixels_is_known_where_the_scaling_is_kept_float(tiny):
    """The first range is then that behind the first convolution."""
    assert convert.rounded_pixels(fake_quant(tiny.model, Spec(keep_float=["scale", "first"]))) is None
