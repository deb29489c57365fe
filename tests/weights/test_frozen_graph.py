"""Weights out of frozen graphs."""

import numpy as np
import pytest
import tensorflow as tf

from detect.errors import WeightsError
from detect.weights import frozen_graph


def graph(tmp_path, **constants):
    definition = tf.compat.v1.GraphDef()
    for name, value in constants.items():
        node = definition.node.add(name=name.replace("__", "/"), op="Const")
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    (tmp_path / "x.pb").write_bytes(definition.SerializeToString())
    return definition, tmp_path / "x.pb"


def refusal(file):
    with pytest.raises(WeightsError) as caught:
        frozen_graph.read(file)
    return str(caught.value)


def test_constants_with_variables_names_are_the_weights(tmp_path):
    values = {"Conv__weights": np.arange(4, dtype=np.float32), "Conv__BatchNorm__moving_mean": np.ones(2, np.float16)}
    _, file = graph(tmp_path, **values, Conv__Reshape__shape=np.array([1, 2]), ones=np.ones(9, np.float32))
    found = frozen_graph.read(file)
    assert {name: array.tolist() for name, array in found.items()} == {
        "Conv/weights": [0, 1, 2, 3], "Conv/BatchNorm/moving_mean": [1, 1]
    }  # fmt: skip
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_graphs_without_weights(tmp_path):
    definition, file = graph(tmp_path, ones=np.ones(3, np.float32))
    assert f"{file} is a TensorFlow graph without weights (1 nodes)" in refusal(file)
    definition.node.add(name="Conv/weights", op="VariableV2")
    file.write_bytes(definition.SerializeToString())
    assert "it is not frozen" in refusal(file)


def test_damaged_graphs(tmp_path):
    _, file = graph(tmp_path, Conv__weights=np.ones(300, np.float32))
    file.write_bytes(file.read_bytes()[:-100])
    assert "it is damaged or not a frozen graph" in refusal(file)


def test_weights_that_are_no_numbers_or_lie_about_their_shape(tmp_path):
    _, file = graph(tmp_path, Conv__weights=np.array([1, 2]))
    assert "Conv/weights is int64; legal are floating-point numbers" in refusal(file)
    definition, file = graph(tmp_path, Conv__weights=np.ones(3, np.float32))
    shape = definition.node[0].attr["value"].tensor.tensor_shape
    shape.dim[0].size = 1 << 40
    file.write_bytes(definition.SerializeToString())
    assert "claims to hold more than" in refusal(file)
    shape.dim[0].size = 7
    file.write_bytes(definition.SerializeToString())
    assert "it is damaged" in refusal(file)


def test_a_value_that_is_repeated_can_not_swell_a_file(tmp_path):
    """One float with the shape of 64 MB: TensorFlow repeats it."""
    definition, file = graph(tmp_path, Conv__weights=np.ones(3, np.float32))
    tensor = definition.node[0].attr["value"].tensor
    tensor.ClearField("tensor_content")
    tensor.float_val.append(2)
    tensor.tensor_shape.dim[0].size = 1 << 24
    file.write_bytes(definition.SerializeToString())
    assert "claims to hold more than" in refusal(file)
    tensor.tensor_shape.dim[0].size = 64
    file.write_bytes(definition.SerializeToString())
    assert frozen_graph.read(file)["Conv/weights"].tolist() == [2] * 64


@pytest.mark.parametrize("sides", [[-1], [1 << 40, -(1 << 40)], [-3, -4]])
def test_negative_sides_do_not_lower_the_sum(tmp_path, sides):
    definition, file = graph(tmp_path, Conv__weights=np.ones(3, np.float32))
    shape = definition.node[0].attr["value"].tensor.tensor_shape
    del shape.dim[:]
    for side in sides:
        shape.dim.add(size=side)
    file.write_bytes(definition.SerializeToString())
    assert "claims to hold more than" in refusal(file) or "it has an array of the shape" in refusal(file)


@pytest.mark.parametrize("kind", [0, 7, 14, 99, 101])
def test_constants_of_other_types(tmp_path, kind):
    definition, file = graph(tmp_path, Conv__weights=np.ones(3, np.float32))
    definition.node[0].attr["value"].tensor.dtype = kind
    file.write_bytes(definition.SerializeToString())
    assert "it is damaged" in refusal(file)


def test_a_file_larger_than_a_graph_can_be(tmp_path):
    with open(tmp_path / "x.pb", "wb") as out:
        out.truncate(3 << 30)
    assert "legal are files of weights of at most 2 GB" in refusal(tmp_path / "x.pb")
