"""What a TFLite file computes, and in which type: the numbers behind "is it really int8?"."""

from collections import Counter
from typing import Any

from detect.errors import WeightsError
from detect.tflite import flatbuffer

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def census(model: Any) -> dict[str, dict[str, int]]:
    """{operator: {type: how many}} of a `schema.ModelT`.

    The type is that of the operator's first result; a convolution whose kernel has another one shows it as well:
    `float32 (int8 kernel)` is the hybrid kernel of a dynamic-range file. DEQUANTIZE and QUANTIZE show the type that
    they start from.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for graph in model.subgraphs:
        for operator in graph.operators:
            counts[flatbuffer.operator_name(model, operator), _type(model, graph, operator)] += 1
    table: dict[str, dict[str, int]] = {}
    for (name, kind), count in sorted(counts.items()):
        table.setdefault(name, {})[kind] = count
    return table


def constants(model: Any) -> dict[str, int]:
    """{type: bytes} of the constants that the file holds."""
    sizes: Counter[str] = Counter()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is not None and len(data):
                sizes[flatbuffer.dtype_name(tensor)] += len(data)
    return dict(sorted(sizes.items()))


def float_convolutions(model: Any) -> list[str]:
    """Names of the results of convolutions and dense layers that do not compute in int8 from end to end."""
    found = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = flatbuffer.operator_name(model, operator)
            if name not in CONVOLUTIONS:
                continue
            data = 2 if name == "TRANSPOSE_CONV" else 0  # its input 0 is a shape
            tensors = [graph.tensors[i] for i in (operator.inputs[data], operator.inputs[1], operator.outputs[0])]
            if {flatbuffer.dtype_name(tensor) for tensor in tensors} != {"int8"}:
                found.append(f"{flatbuffer.tensor_name(model, operator.outputs[0])} ({name})")
    return found


def refuse_float_convolutions(model: Any) -> None:
    """Raises WeightsError, naming them, where a file that is meant to be int8 has convolutions in float."""
    found = float_convolutions(model)
    if found:
        more = [f"and {len(found) - 5} more"] if len(found) > 5 else []
        raise WeightsError("the int8 file computes these in float: " + ", ".join([*found[:5], *more]))


def _type(model: Any, graph: Any, operator: Any) -> str:
    name = flatbuffer.operator_name(model, operator)
    ends = operator.inputs if name in ("DEQUANTIZE", "QUANTIZE") else operator.outputs
    kind = flatbuffer.dtype_name(graph.tensors[ends[0]])
    if name in CONVOLUTIONS:
        kernel = flatbuffer.dtype_name(graph.tensors[operator.inputs[1]])
        return kind if kernel == kind else f"{kind} ({kernel} kernel)"
    return kind
