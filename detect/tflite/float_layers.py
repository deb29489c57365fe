"""Makes the layers that a fake-quantised network keeps float also float in its file.

The converter always quantises a convolution between two tensors with ranges. The file would then differ from the
evaluation graph.
"""

from collections.abc import Callable, Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from detect.errors import ConfigError
from detect.tflite import flatbuffer
from detect.tflite.operators import CONVOLUTIONS, layers_of

FLOAT32 = schema.TensorType.FLOAT32


def restore(model: schema.ModelT, layers: Mapping[str, bool], in_float: Callable[[], schema.ModelT]) -> int:
    """Replaces int8 convolutions that must be float by float ones between a DEQUANTIZE and a QUANTIZE.

    model: a `schema.ModelT`. layers: all Keras layers of the network, and whether they must be float. in_float: returns
    the same network converted without quantisation, with the kernels and biases to use (batch norm is folded into
    them); it is called only if necessary. Returns the number of replaced convolutions. Raises ConfigError if that
    network lacks the operation.
    """
    graph = model.subgraphs[0]
    wrong = [o for o in graph.operators if _is_int8(model, o) and _is_meant(model, o, layers)]
    if not wrong:
        return 0
    other = in_float()
    floats = {_result(other, operator): operator for operator in other.subgraphs[0].operators}
    operators: list[schema.OperatorT] = []
    for operator in graph.operators:
        name = _result(model, operator)
        if operator in wrong and name not in floats:
            raise ConfigError(f"the converter makes {name} int8, but it must stay float")
        operators += _between(model, operator, other, floats[name]) if operator in wrong else [operator]
    graph.operators = operators
    return len(wrong)


def _is_meant(model: schema.ModelT, operator: schema.OperatorT, layers: Mapping[str, bool]) -> bool:
    return any(layers[name] for name in layers_of(_result(model, operator), layers))


def _is_int8(model: schema.ModelT, operator: schema.OperatorT) -> bool:
    kind = model.subgraphs[0].tensors[operator.outputs[0]].type
    return flatbuffer.operator_name(model, operator) in CONVOLUTIONS and kind == schema.TensorType.INT8


def _result(model: schema.ModelT, operator: schema.OperatorT) -> str:
    return flatbuffer.tensor_name(model, operator.outputs[0]).rstrip(";")


def _between(
    model: schema.ModelT, operator: schema.OperatorT, other: schema.ModelT, float_operator: schema.OperatorT
) -> list[schema.OperatorT]:
    """The operator with the constants of the float operator, between its conversions from int8 and back."""
    graph, name = model.subgraphs[0], _result(model, operator)
    data, result = int(operator.inputs[0]), int(operator.outputs[0])
    before, after = (
        flatbuffer.add_tensor(model, f"{name}/float_{end}", graph.tensors[index], FLOAT32)
        for end, index in (("in", data), ("out", result))
    )
    constants = [
        flatbuffer.add_tensor(model, f"{name}/float_{i}", other.subgraphs[0].tensors[index], FLOAT32,
                              flatbuffer.constant(other, index))
        for i, index in enumerate(float_operator.inputs[1:], start=1)
    ]  # fmt: skip
    operator.inputs, operator.outputs = np.array([before, *constants], np.int32), np.array([after], np.int32)
    first = flatbuffer.operator(model, schema.BuiltinOperator.DEQUANTIZE, 2, [data], [before])
    return [first, operator, flatbuffer.operator(model, schema.BuiltinOperator.QUANTIZE, 1, [after], [result])]
