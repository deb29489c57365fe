"""The scaling of pixels in an int8 file: integers in place of floats, and the same ones."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.quantization.calibrate import calibrate
from detect.quantization.rewrite import fake_quant
from detect.quantization.rounding import TIE, admissible, round_values
from detect.quantization.spec import Spec
from detect.tflite import flatbuffer, input_pixels, operators, package, parity
from detect.tflite.convert import convert, rounded_pixels
from detect.tflite.runner import Runner

layers = tf_keras.layers
LEVELS = np.arange(256)
SCALINGS = {"signed": (1 / 127.5, -1.0), "unit": (1 / 255, 0.0), "mean": (1.0, -123.68), "none": (1.0, 0.0)}


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("darkest, brightest", [(0, 255), (0, 251.3), (17.2, 240), (60, 200)])
def test_every_pixel_becomes_the_integer_of_its_float(scaling, darkest, brightest):
    """Where each one lies halfway between two, as [-1, 1] in 255 steps has it, to the upper one."""
    factor, offset = SCALINGS[scaling]
    low, high = min(offset + factor * darkest, 0.0), max(offset + factor * brightest, 0.0)
    low, high = (float(end) for end in admissible(tf.constant(low), tf.constant(high), 8, symmetric=False))
    step = (high - low) / 255
    zero = int(np.rint(-128 - low / step))
    scaled = tf.constant(LEVELS, tf.float32) * np.float32(factor) + np.float32(offset) + TIE * step
    wanted = np.rint(round_values(scaled, low, high, 8) / step)
    kernel, bias, scale = input_pixels.fit(factor, offset, step, zero, wanted)
    assert 1 <= kernel <= 127 and isinstance(bias, int)
    found = np.clip(np.rint((kernel * LEVELS + bias) * (np.float32(scale) / np.float32(step))) + zero, -128, 127)
    np.testing.assert_array_equal(found, wanted + zero)


def test_a_scaling_by_hand():
    """Steps of half a pixel from -10 on: pixel 3 is 6 steps above 0, which is step -108."""
    kernel, bias, scale = input_pixels.fit(1.0, 0.0, 0.5, -108, 2.0 * LEVELS)
    assert np.rint((kernel * 3 + bias) * scale / 0.5) - 108 == -102
    assert (
        input_pixels.fit(-1.0, 0.0, 0.5, -108, -2.0 * LEVELS) is None
    )  # a kernel that turns pixels round is not sought


@pytest.fixture(scope="module")
def in_float(twin):
    """The twin's file as the converter leaves it: float scaling in front, and a float image."""
    return flatbuffer.write(convert(twin, "qat", takes="float32", gives="int8"))


@pytest.mark.parametrize("takes", ["uint8", "int8"])
def test_the_file_computes_in_integers_what_the_evaluation_graph_does(in_float, twin, frames, takes):
    model = flatbuffer.read(in_float)
    assert operators.census(model)["MUL"] == {"float32": 1}
    assert input_pixels.take_pixels(model, takes, rounded_pixels(twin))
    counts = operators.census(model)
    assert {kind for kinds in counts.values() for kind in kinds} <= {"int8", "uint8"}
    assert counts["DEPTHWISE_CONV_2D"] == {"int8": 2} and ("QUANTIZE" in counts) == (takes == "uint8")
    runner = Runner(flatbuffer.write(model))
    assert runner.input_type == takes
    scales, wanted = (
        {head: runner.scale(head) for head in parity.HEADS},
        [package.heads(twin, frame) for frame in frames],
    )
    ours, theirs = (
        parity.parity(wanted, [file(frame) for frame in frames], scales, "qat") for file in (runner, Runner(in_float))
    )
    for head in parity.HEADS:
        same = [parity.share_within(report[head]["quanta"], 0) for report in (ours, theirs)]
        assert ours["within"] and same[0] > 0.9 and same[0] >= same[1]


@pytest.mark.parametrize("low, high", [(-1.0039364, 0.9960931), (-1.0, 1.0), (-0.98, 0.99), (-0.7, 0.9)])
def test_pixels_of_the_file_are_those_of_the_evaluation_graph(low, high):
    """All 256 levels. Averages of ranges come near [-1, 1], in which each level is halfway between two integers."""
    image = layers.Input((16, 16, 3), name="image")
    scaled = layers.Rescaling(1 / 127.5, -1.0, name="scaling")(image)
    twin = fake_quant(tf_keras.Model(image, layers.DepthwiseConv2D(1, name="last")(scaled)), Spec(ranges="calibrated"))
    calibrate(twin, [LEVELS.reshape(1, 16, 16, 1).repeat(3, -1).astype(np.float32)])
    rounding = twin.get_layer("scaling/fake_quant")
    ends = admissible(tf.constant(low), tf.constant(high), 8, symmetric=False)
    for variable, value in zip((rounding.range_min, rounding.range_max), ends, strict=True):
        variable.assign(value)
    model = convert(twin, "qat", takes="uint8", gives="int8")
    assert "MUL" not in operators.census(model)
    runner = Runner(flatbuffer.write(model))
    first = next(o for o in model.subgraphs[0].operators if flatbuffer.operator_name(model, o) == "DEPTHWISE_CONV_2D")
    kernel, bias = (runner.interpreter.get_tensor(int(index)).reshape(3) for index in first.inputs[1:])
    scales, step, zero = (runner._details(int(first.inputs[1]))["quantization_parameters"]["scales"],
                          *runner._details(int(first.outputs[0]))["quantization"])  # fmt: skip
    found = np.rint((LEVELS[:, np.newaxis] * kernel.astype(int) + bias) * (scales / np.float32(step)))
    np.testing.assert_array_equal(np.clip(found, -128 - zero, 127 - zero), rounded_pixels(twin))


def test_what_is_no_scaling_is_left_as_it_is(files, in_float, twin):
    """A float file has no range to go to; in the other, the scaled image goes out as well."""
    model, pixels = flatbuffer.read(files["float32"].content), rounded_pixels(twin)
    assert not input_pixels.take_pixels(model, "uint8", pixels)
    model = flatbuffer.read(in_float)
    scaled = model.subgraphs[0].operators[0].outputs[0]
    inputs, outputs = flatbuffer.ends(model)
    flatbuffer.set_ends(model, inputs, outputs | {"scaled": int(scaled)})
    before = operators.census(model)
    assert not input_pixels.take_pixels(model, "uint8", pixels) and operators.census(model) == before
