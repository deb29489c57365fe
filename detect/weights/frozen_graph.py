"""Frozen TensorFlow 1 graphs (`frozen_inference_graph.pb`): the weights are constants. Parsed, never executed."""

import math
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from detect.errors import WeightsError
from detect.weights.names import is_variable

MOST = 1 << 29  # numbers in all: no network comes near, a file that lies about its shapes does


def read(file: Path) -> dict[str, np.ndarray]:
    """All weights of a frozen graph, float32, by the names of the variables that they were. Raises WeightsError."""
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise WeightsError(f"{file} can't be read, it is damaged or no frozen graph") from error
    constants = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
    weights = {name: tensor for name, tensor in constants.items() if is_variable(name)}
    if not weights:
        variables = any(node.op in ("VariableV2", "VarHandleOp") for node in graph.node)
        why = "its variables are not in it: it isn't frozen" if variables else "no constant has a variable's name"
        raise WeightsError(f"{file} is a TensorFlow graph without weights ({len(graph.node)} nodes): {why}")
    if sum(math.prod(d.size for d in t.tensor_shape.dim) for t in weights.values()) > MOST:
        raise WeightsError(f"{file} claims to hold more than {MOST} numbers: refused")
    try:
        return {name: _array(name, tensor) for name, tensor in weights.items()}
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{file} can't be read, it is damaged: {error}") from error


def _array(name: str, tensor) -> np.ndarray:
    array = tf.make_ndarray(tensor)
    if array.dtype.kind != "f" and array.dtype != tf.bfloat16.as_numpy_dtype:
        raise ValueError(f"{name} is {array.dtype}, no floating-point numbers")
    return array.astype(np.float32)
