"""Frozen TensorFlow 1 graphs (`frozen_inference_graph.pb`): the weights are constants. Nothing is executed."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework.tensor_pb2 import TensorProto

from detect.errors import WeightsError
from detect.weights import claims
from detect.weights.names import is_variable
from detect.weights.wire import Walk

NODE, NAME, OP, ATTRIBUTE, VALUE, TENSOR = 1, 1, 2, 5, 2, 8  # fields of GraphDef, NodeDef, its attributes, AttrValue
KINDS = (tf.float32, tf.float64, tf.float16, tf.bfloat16)


def read(file: Path) -> dict[str, np.ndarray]:
    """All weights of a frozen graph, float32, by the names of their former variables. Raises WeightsError."""
    size = claims.size_of(file)
    try:
        with open(file, "rb") as stream:
            weights, nodes, variables = _constants(memoryview(stream.read()))
    except OSError as error:
        raise WeightsError(f"{file} can't be read: {error.strerror}") from error
    except (DecodeError, ValueError) as error:
        raise WeightsError(f"{file} can't be read: it is damaged or not a frozen graph: {error}") from error
    if not weights:
        why = "it is not frozen, its variables are stored elsewhere" if variables else "no constant has a known name"
        raise WeightsError(f"{file} is a TensorFlow graph without weights ({nodes} nodes): {why}")
    # A constant with fewer values than its shape has repeats the last of them, so a small file may claim large arrays.
    claims.numbers(str(file), ([side.size for side in t.tensor_shape.dim] for t in weights.values()), size)
    try:
        return {name: _array(name, tensor) for name, tensor in weights.items()}
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{file} can't be read: it is damaged: {error}") from error


def _constants(graph: memoryview) -> tuple[dict[str, TensorProto], int, bool]:
    """The constants of a GraphDef with names of weights, the number of its nodes, and whether it has variables."""
    walk, weights, nodes, variables = Walk(), {}, 0, False
    for field, node in walk.fields(graph):
        if field != NODE or not isinstance(node, memoryview):
            continue
        nodes += 1
        operation = bytes(walk.last(node, OP)[:100])
        variables |= operation in (b"VariableV2", b"VarHandleOp")
        if operation != b"Const":
            continue
        name = bytes(walk.last(node, NAME)).decode(errors="replace")
        if is_variable(name):
            weights[name] = _tensor(walk, node)
    return weights, nodes, variables


def _tensor(walk: Walk, node: memoryview) -> TensorProto:
    """The tensor in the attribute `value` of a node; an empty one without it."""
    found = memoryview(b"")
    for field, entry in walk.fields(node):
        if field == ATTRIBUTE and isinstance(entry, memoryview) and bytes(walk.last(entry, NAME)[:10]) == b"value":
            found = walk.last(walk.last(entry, VALUE), TENSOR)
    walk.check_tensor(found)
    return TensorProto.FromString(bytes(found))


def _array(name: str, tensor) -> np.ndarray:
    if tensor.dtype not in KINDS:
        kind = tf.dtypes.as_dtype(tensor.dtype).name if tensor.dtype else "of no type"
        raise ValueError(f"{name} is {kind}; legal are floating-point numbers")
    return tf.make_ndarray(tensor).astype(np.float32)
