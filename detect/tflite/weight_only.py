"""Stores the kernels of a float file in half precision, or in 8 bits as TensorFlow's `quantize_weights` did."""

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from detect.tflite import flatbuffer
from detect.tflite.operators import CONVOLUTIONS

LEAST = 1024  # values: kernels with fewer stay float in `per_tensor`, as in 2017
LEVELS = 255
HALVED = tuple(name for name in CONVOLUTIONS if name != "DEPTHWISE_CONV_2D")


def float16(model: schema.ModelT) -> int:
    """Stores the kernels of a float `schema.ModelT` in float16; the arithmetic stays float32. Returns how many.

    Biases and depthwise kernels stay float32, unlike in the converter's own float16 files. Depthwise kernels with
    folded batch norm have large values that cancel out, and they are less than a hundredth of a MobileNet. In a trained
    MobileNet, float16 in them caused five times the error of all other kernels together.
    """

    def half(values: np.ndarray, stored: schema.TensorT) -> np.ndarray:
        return values.astype(np.float16)

    return _store(model, HALVED, 1, schema.TensorType.FLOAT16, half, "_float16")


def per_tensor(model: schema.ModelT) -> int:
    """Stores the kernels of a float `schema.ModelT` in 8 bits. The levels are evenly spaced from the least to the
    greatest value of each kernel, after batch norm is folded into it, and zero is one of them. The arithmetic stays
    float. Returns the number of changed kernels.
    """

    def eight_bits(values: np.ndarray, stored: schema.TensorT) -> np.ndarray:
        levels, step, zero = quantised(values)
        stored.quantization = flatbuffer.quantization([step], [zero])
        return levels

    return _store(model, CONVOLUTIONS, LEAST, schema.TensorType.INT8, eight_bits, "_8bit")


def _store(
    model: schema.ModelT,
    operators: tuple[str, ...],
    least: int,
    kind: int,
    small: Callable[[np.ndarray, schema.TensorT], np.ndarray],
    ending: str,
) -> int:
    """Replaces each kernel of at least `least` values by `small(values, tensor)`, and adds one DEQUANTIZE that makes it
    float again before its convolutions."""
    graph = model.subgraphs[0]
    added, done = [], set()
    for operator in graph.operators:
        index = int(operator.inputs[1]) if len(operator.inputs) > 1 else -1
        if flatbuffer.operator_name(model, operator) not in operators or index in done:
            continue
        kernel, values = graph.tensors[index], flatbuffer.constant(model, index)
        if values is None or len(values) < least:
            continue
        done.add(index)
        place = flatbuffer.add_tensor(model, flatbuffer.tensor_name(model, index) + ending, kernel.shape, kind)
        stored = graph.tensors[place]
        stored.buffer = len(model.buffers)
        model.buffers.append(flatbuffer.AlignedBuffer(small(values, stored).view(np.uint8)))
        kernel.buffer = 0
        added.append(flatbuffer.operator(model, schema.BuiltinOperator.DEQUANTIZE, 3, [place], [index]))
    graph.operators = added + graph.operators
    _drop_unused(model)
    return len(added)


def quantised(values: np.ndarray) -> tuple[np.ndarray, float, int]:
    """float32 [n] -> int8 [n], step, zero point. Levels go from the least to the greatest value and include zero."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    step = (high - low) / LEVELS or 1.0
    zero = int(np.clip(np.rint(-128 - low / step), -128, 127))
    return np.clip(np.rint(values / step) + zero, -128, 127).astype(np.int8), step, zero


def _drop_unused(model: schema.ModelT) -> None:
    """Empties the buffers that no tensor and no metadata uses."""
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None
