"""The count of operators and types, and the float convolution that an int8 file must not have."""

import pytest

from detect.errors import WeightsError
from detect.tflite import census, flatbuffer


@pytest.fixture(scope="module")
def graphs(files):
    return {name: flatbuffer.read(file.content) for name, file in files.items()}


def test_counts(graphs):
    assert census.census(graphs["float32"])["CONV_2D"] == {"float32": 4}
    assert census.census(graphs["dynamic"])["CONV_2D"] == {"float32": 3, "float32 (int8 kernel)": 1}
    assert census.census(graphs["weights"])["DEQUANTIZE"] == {"int8": 1}
    assert census.census(graphs["weights"])["CONV_2D"] == {"float32": 4}
    assert census.census(graphs["float16"])["DEQUANTIZE"]["float16"] >= 5
    whole = census.census(graphs["int8"])
    assert whole["CONV_2D"] == {"int8": 4} and whole["DEPTHWISE_CONV_2D"] == {"int8": 1}
    assert {kind for kinds in whole.values() for kind in kinds} == {"int8", "uint8"}


@pytest.mark.parametrize("name", ["int8", "int8_per_tensor"])
def test_an_int8_file_has_no_float_convolution(graphs, name):
    assert census.float_convolutions(graphs[name]) == []
    census.refuse_float_convolutions(graphs[name])


def test_float_convolutions_are_named(graphs):
    found = census.float_convolutions(graphs["dynamic"])
    assert len(found) == 5 and any("tiny/second" in name and "DEPTHWISE_CONV_2D" in name for name in found)
    with pytest.raises(WeightsError, match=r"computes these in float: .*tiny/.*\(CONV_2D\)"):
        census.refuse_float_convolutions(graphs["float32"])
