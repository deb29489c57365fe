"""Frozen TensorFlow 1 graphs (`frozen_inference_graph.pb`): the weights are constants. Nothing is executed."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from detect.errors import WeightsError
from detect.weights import claims
from detect.weights.names import is_variable

KINDS = (tf.float32, tf.float64, tf.float16, tf.bfloat16)


def read(file: Path) -> dict[str, np.ndarray]:
    """All weights of a frozen graph, float32, by the names of their former variables. Raises WeightsError."""
    graph, size = tf.compat.v1.GraphDef(), claims.size_of(file)
    try:
        graph.ParseFromString(file.read_bytes())
    except (DecodeError, OSError) as error:
        raise WeightsError(f"{file} can't be read: it is damaged or not a frozen graph") from error
    constants = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
    weights = {name: tensor for name, tensor in constants.items() if is_variable(name)}
    if not weights:
        variables = any(node.op in ("VariableV2", "VarHandleOp") for node in graph.node)
        why = "it is not frozen, its variables are stored elsewhere" if variables else "no constant has a known name"
        raise WeightsError(f"{file} is a TensorFlow graph without weights ({len(graph.node)} nodes): {why}")
    # A constant with fewer values than its shape has repeats the last of them, so a small file may claim large arrays.
    claims.numbers(str(file), ([side.size for side in t.tensor_shape.dim] for t in weights.values()), size)
    try:
        return {name: _array(name, tensor) for name, tensor in weights.items()}
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{file} can't be read: it is damaged: {error}") from error


def _array(name: str, tensor) -> np.ndarray:
    if tensor.dtype not in KINDS:
        kind = tf.dtypes.as_dtype(tensor.dtype).name if tensor.dtype else "of no type"
        raise ValueError(f"{name} is {kind}; legal are floating-point numbers")
    return tf.make_ndarray(tensor).astype(np.float32)
