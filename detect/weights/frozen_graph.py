"""Frozen TensorFlow 1 graphs (`frozen_inference_graph.pb`): the weights are constants. Nothing is executed."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from detect.errors import WeightsError
from detect.weights.names import is_variable

MOST = 1 << 29  # numbers in a file: networks have far fewer; a file with more has wrong shapes


def parse(file: Path) -> Any:
    """The GraphDef in a file. Raises WeightsError."""
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise WeightsError(f"{file} can't be read: it is damaged or not a frozen graph") from error
    return graph


def read(file: Path, graph: Any = None) -> dict[str, np.ndarray]:
    """All weights of a frozen graph, float32, by the names of their former variables. Raises WeightsError.

    graph: what `parse` made of the file; None parses it.
    """
    graph = parse(file) if graph is None else graph
    constants = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
    weights = {name: tensor for name, tensor in constants.items() if is_variable(name)}
    if not weights:
        variables = any(node.op in ("VariableV2", "VarHandleOp") for node in graph.node)
        why = "it is not frozen, its variables are stored elsewhere" if variables else "no constant has a known name"
        raise WeightsError(f"{file} is a TensorFlow graph without weights ({len(graph.node)} nodes): {why}")
    if sum(math.prod(d.size for d in t.tensor_shape.dim) for t in weights.values()) > MOST:
        raise WeightsError(f"{file} claims to hold more than {MOST} numbers: refused")
    try:
        return {name: _array(name, tensor) for name, tensor in weights.items()}
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{file} can't be read: it is damaged: {error}") from error


def _array(name: str, tensor) -> np.ndarray:
    array = tf.make_ndarray(tensor)
    if array.dtype.kind != "f" and array.dtype != tf.bfloat16.as_numpy_dtype:
        raise ValueError(f"{name} is {array.dtype}; legal are floating-point numbers")
    return array.astype(np.float32)
