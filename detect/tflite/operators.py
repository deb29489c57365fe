"""Counts the operations of an exported model by type, to answer "is it really int8?"."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from tensorflow.core.protobuf import saved_model_pb2

from detect.errors import WeightsError, first_few
from detect.tflite import flatbuffer

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
NO_ARITHMETIC = ("Const", "Identity", "NoOp", "Placeholder", "ReadVariableOp")
TYPED = ("T", "dtype", "Tparams", "DstT")  # attributes with the type of an operation
NOTHING: Mapping[str, bool] = {}


def census(model: schema.ModelT) -> dict[str, dict[str, int]]:
    """{operator: {type: how many}} of a `schema.ModelT`.

    The type is that of the operator's first output. A convolution with another kernel type shows both: `float32 (int8
    kernel)` is the hybrid kernel of a dynamic-range file. DEQUANTIZE and QUANTIZE show their input type.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for graph in model.subgraphs:
        for operator in graph.operators:
            counts[flatbuffer.operator_name(model, operator), _type(model, graph, operator)] += 1
    return _table(counts)


def constants(model: schema.ModelT) -> dict[str, int]:
    """{type: bytes} of the constants that the file holds."""
    sizes: Counter[str] = Counter()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is not None and len(data):
                sizes[flatbuffer.dtype_name(tensor)] += len(data)
    return dict(sorted(sizes.items()))


def float_convolutions(model: schema.ModelT, layers: Mapping[str, bool] = NOTHING) -> list[str]:
    """Names of the outputs of convolutions and dense layers that do not compute completely in int8.

    layers: all Keras layers of the network, and whether they are meant to be float; float ones are left out.
    """
    found = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = flatbuffer.operator_name(model, operator)
            if name not in CONVOLUTIONS:
                continue
            data = 2 if name == "TRANSPOSE_CONV" else 0  # input 0 of TRANSPOSE_CONV is a shape
            tensors = [graph.tensors[i] for i in (operator.inputs[data], operator.inputs[1], operator.outputs[0])]
            result, kernel = (flatbuffer.tensor_name(model, i) for i in (operator.outputs[0], operator.inputs[1]))
            meant = any(layers[layer] for layer in layers_of(f"{kernel};{result}", layers))
            if {flatbuffer.dtype_name(tensor) for tensor in tensors} != {"int8"} and not meant:
                found.append(f"{result} ({name})")
    return found


def layers_of(tensor: str, layers: Collection[str]) -> set[str]:
    """The Keras layers that a tensor of a file comes from.

    The name of a tensor lists all operations that the converter fused, each as MODEL/LAYER/OPERATION. Names of layers
    have slashes as well: `ssd/Conv2d_0/Relu6/Relu6;ssd/Conv2d_0/BiasAdd;ssd/Conv2d_0/Conv2D`.
    """
    found = set()
    for part in tensor.split(";"):
        path = part.split("/")[1:]
        ends = (("/".join(path[:length])) for length in range(len(path) - 1, 0, -1))
        found |= set([name for name in ends if name in layers][:1])
    return found


def refuse_float_convolutions(model: schema.ModelT, layers: Mapping[str, bool] = NOTHING) -> None:
    """Raises WeightsError, which names them, if a file that is meant to be int8 has other float convolutions."""
    found = float_convolutions(model, layers)
    if found:
        raise WeightsError(f"the int8 file computes these in float: {first_few(found)}")


def of_saved_model(folder: Path) -> dict[str, dict[str, int]]:
    """{operation: {type: how many}} of the operations that a SavedModel's signature runs, also in functions."""
    meta = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]
    functions = {function.signature.name: function.node_def for function in meta.graph_def.library.function}
    ends = {tensor.name.split(":")[0] for tensor in meta.signature_def["serving_default"].outputs.values()}
    counts: Counter[tuple[str, str]] = Counter()

    def count(nodes: Iterable[Any]) -> None:
        for node in nodes:
            called = [value.func.name for value in node.attr.values() if value.func.name]
            if not called and node.op not in NO_ARITHMETIC:
                kind = next((node.attr[key].type for key in TYPED if node.attr[key].type), None)
                counts[node.op, tf.as_dtype(kind).name if kind else "none"] += 1
            for name in called:
                count(functions[name])

    count(node for node in meta.graph_def.node if node.name in ends)  # the calls that give the outputs
    return _table(counts)


def _table(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for (name, kind), number in sorted(counts.items()):
        table.setdefault(name, {})[kind] = number
    return table


def _type(model: schema.ModelT, graph: schema.SubGraphT, operator: schema.OperatorT) -> str:
    name = flatbuffer.operator_name(model, operator)
    ends = operator.inputs if name in ("DEQUANTIZE", "QUANTIZE") else operator.outputs
    kind = flatbuffer.dtype_name(graph.tensors[ends[0]])
    if name in CONVOLUTIONS:
        kernel = flatbuffer.dtype_name(graph.tensors[operator.inputs[1]])
        return kind if kernel == kind else f"{kind} ({kernel} kernel)"
    return kind
