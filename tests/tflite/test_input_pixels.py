"""The scaling of pixels in an int8 file: integers in place of floats, and the same ones."""

import numpy as np
import pytest
import tensorflow as tf

from detect.quantization.rounding import admissible, round_values
from detect.tflite import flatbuffer, input_pixels, operators, package, parity
from detect.tflite.convert import convert
from detect.tflite.runner import Runner

LEVELS = np.arange(256)
SCALINGS = {"signed": (1 / 127.5, -1.0), "unit": (1 / 255, 0.0), "mean": (1.0, -123.68), "none": (1.0, 0.0)}


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("darkest, brightest", [(0, 255), (0, 251.3), (17.2, 240), (60, 200)])
def test_every_pixel_becomes_the_integer_of_its_float(scaling, darkest, brightest):
    """Where each one lies halfway between two, as [-1, 1] in 255 steps has it, to the upper one, as FakeQuant does."""
    factor, offset = SCALINGS[scaling]
    low, high = min(offset + factor * darkest, 0.0), max(offset + factor * brightest, 0.0)
    low, high = (float(end) for end in admissible(tf.constant(low), tf.constant(high), 8, symmetric=False))
    step = (high - low) / 255
    zero = int(np.rint(-128 - low / step))
    kernel, bias, scale = input_pixels.fit(factor, offset, step, zero)
    assert 1 <= kernel <= 127 and isinstance(bias, int)
    found = np.clip(np.rint((kernel * LEVELS + bias) * (np.float32(scale) / np.float32(step))) + zero, -128, 127)
    scaled = tf.constant(LEVELS, tf.float32) * np.float32(factor) + np.float32(offset)
    np.testing.assert_array_equal(found, np.rint(round_values(scaled, low, high, 8) / step) + zero)


def test_a_scaling_by_hand():
    """Steps of half a pixel from -10 on: pixel 3 is 6 steps above 0, which is step -108."""
    kernel, bias, scale = input_pixels.fit(1.0, 0.0, 0.5, -108)
    assert np.rint((kernel * 3 + bias) * scale / 0.5) - 108 == -102
    assert input_pixels.fit(-1.0, 0.0, 0.5, -108) is None  # a kernel that turns pixels round is not sought


@pytest.fixture(scope="module")
def in_float(twin):
    """The twin's file as the converter leaves it: float scaling in front, and a float image."""
    return flatbuffer.write(convert(twin, "qat", takes="float32", gives="int8"))


@pytest.mark.parametrize("takes", ["uint8", "int8"])
def test_the_file_computes_in_integers_what_the_evaluation_graph_does(in_float, twin, frames, takes):
    model = flatbuffer.read(in_float)
    assert operators.census(model)["MUL"] == {"float32": 1}
    assert input_pixels.take_pixels(model, takes)
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


def test_what_is_no_scaling_is_left_as_it_is(files, in_float):
    """A float file has no range to go to; in the other, the scaled image goes out as well."""
    model = flatbuffer.read(files["float32"].content)
    assert not input_pixels.take_pixels(model, "uint8")
    model = flatbuffer.read(in_float)
    scaled = model.subgraphs[0].operators[0].outputs[0]
    inputs, outputs = flatbuffer.ends(model)
    flatbuffer.set_ends(model, inputs, outputs | {"scaled": int(scaled)})
    before = operators.census(model)
    assert not input_pixels.take_pixels(model, "uint8") and operators.census(model) == before
