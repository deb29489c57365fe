"""8-bit kernels in a float file, one scale for a whole kernel: what TensorFlow's `quantize_weights` did in 2017."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from detect.tflite import flatbuffer
from detect.tflite.census import CONVOLUTIONS

LEAST = 1024  # values of a kernel; smaller ones stay float, as in 2017
LEVELS = 255


def per_tensor(model: Any) -> int:
    """Stores the kernels of a float `schema.ModelT` in 8 bits, evenly spaced from the least to the greatest value of
    each kernel (batch norm is folded into it by then) with zero among the levels. A DEQUANTIZE in front of each
    convolution makes float of it, once, so that the arithmetic stays float. Returns how many kernels were changed.
    """
    graph = model.subgraphs[0]
    code = len(model.operatorCodes)
    model.operatorCodes.append(_dequantize_code())
    added, done = [], set()
    for operator in graph.operators:
        index = int(operator.inputs[1]) if len(operator.inputs) > 1 else -1
        if flatbuffer.operator_name(model, operator) not in CONVOLUTIONS or index in done:
            continue
        kernel = graph.tensors[index]
        data = model.buffers[kernel.buffer].data
        if kernel.type != schema.TensorType.FLOAT32 or data is None or len(data) < 4 * LEAST:
            continue
        done.add(index)
        levels, step, zero = quantised(np.asarray(data, np.uint8).view(np.float32))
        stored = schema.TensorT()
        stored.name = flatbuffer.tensor_name(model, index) + "_8bit"
        stored.shape, stored.type, stored.buffer = kernel.shape, schema.TensorType.INT8, len(model.buffers)
        stored.quantization = schema.QuantizationParametersT()
        stored.quantization.scale, stored.quantization.zeroPoint = [step], [zero]
        model.buffers.append(flatbuffer.AlignedBuffer(levels.view(np.uint8)))
        kernel.buffer = 0
        convert = schema.OperatorT()
        convert.opcodeIndex = code
        convert.inputs, convert.outputs = np.array([len(graph.tensors)], np.int32), np.array([index], np.int32)
        graph.tensors.append(stored)
        added.append(convert)
    graph.operators = added + graph.operators
    _drop_unused(model)
    return len(added)


def quantised(values: np.ndarray) -> tuple[np.ndarray, float, int]:
    """float32 [n] -> int8 [n], step, zero point: levels from the least to the greatest value, zero among them."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    step = (high - low) / LEVELS or 1.0
    zero = int(np.clip(np.rint(-128 - low / step), -128, 127))
    return np.clip(np.rint(values / step) + zero, -128, 127).astype(np.int8), step, zero


def _dequantize_code() -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 2
    return code


def _drop_unused(model: Any) -> None:
    """Empties the buffers that no tensor and no metadata uses any more."""
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None
