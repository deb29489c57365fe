"""Whether the Edge TPU's compiler can map a file to the chip, by the documented rules.

Source: "TensorFlow models on the Edge TPU" (coral.ai/docs/edgetpu/models-intro), its model requirements and its table
of supported operations. The compiler itself may leave an operation on the processor for reasons that are not
documented, such as a large RESHAPE, so it has the last word. It makes one part for the chip: after the first operation
that is not mapped, all that depend on it run on the processor.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from detect.errors import first_few
from detect.tflite import flatbuffer
from detect.tflite.operators import CONVOLUTIONS

DATA, PARAMETERS = ("int8", "uint8"), ("int8", "uint8", "int32")  # types of tensors; int32 are biases, shapes and axes
MOST_OF_SOFTMAX = 16_000  # numbers
Limit = Callable[["Operation"], str | None]


class Operation:
    """An operator of a file with its tensors, for the rules."""

    def __init__(self, model: schema.ModelT, operator: schema.OperatorT):
        self.model, self.operator = model, operator
        self.name = flatbuffer.operator_name(model, operator)
        self.options = operator.builtinOptions
        self.inputs, self.outputs = ([int(i) for i in side if i >= 0] for side in (operator.inputs, operator.outputs))

    def tensor(self, index: int) -> schema.TensorT:
        """A tensor of the graph."""
        return self.model.subgraphs[0].tensors[index]

    def shape(self, index: int) -> list[int]:
        """The shape of a tensor, [] of a scalar."""
        shape = self.tensor(index).shape
        return [] if shape is None else [int(side) for side in shape]

    def constant(self, index: int) -> bool:
        """Whether the file holds the values of a tensor."""
        data = self.model.buffers[self.tensor(index).buffer].data
        return data is not None and len(data) > 0

    def zeros(self, index: int) -> bool:
        """Whether all values of an 8-bit constant stand for 0."""
        tensor = self.tensor(index)
        scaling = tensor.quantization
        zero = 0 if scaling is None or scaling.zeroPoint is None else int(scaling.zeroPoint[0])
        return bool(np.all(np.asarray(self.model.buffers[tensor.buffer].data, np.uint8) == zero % 256))

    def whole(self, place: int) -> list[int]:
        """The values of an int32 constant among the inputs, flat; [] if there is none."""
        if place >= len(self.inputs) or not self.constant(self.inputs[place]):
            return []
        data = self.model.buffers[self.tensor(self.inputs[place]).buffer].data
        return [int(value) for value in np.asarray(data, np.uint8).view(np.int32)]


def _no_activation(operation: Operation) -> str | None:
    return "has a fused activation" if operation.options.fusedActivationFunction else None


def _alike_dilation(operation: Operation) -> str | None:
    same = operation.options.dilationWFactor == operation.options.dilationHFactor
    return _parameters(operation) if same else "has other dilations in x and y"


def _parameters(operation: Operation) -> str | None:
    fixed = all(operation.constant(index) for index in operation.inputs[1:])
    return None if fixed else "has a kernel or bias that is no constant"


def _dense(operation: Operation) -> str | None:
    if math.prod(operation.shape(operation.outputs[0])[:-1]) != 1:
        return "gives more than one dimension"
    return "has weights of another format" if operation.options.weightsFormat else _parameters(operation)


def _joined(operation: Operation) -> str | None:
    fixed = [index for index in operation.inputs if operation.constant(index)]
    if fixed and len(operation.inputs) != 2:
        return "joins a constant with several tensors"
    if not all(operation.zeros(index) for index in fixed):
        return "joins a constant that is not all zeros"
    return _no_activation(operation)


def _not_of_the_batch(operation: Operation) -> str | None:
    rank = len(operation.shape(operation.inputs[0]))
    return "reduces the batch" if any(axis in (0, -rank) for axis in operation.whole(1)) else None


def _padding(operation: Operation) -> str | None:
    return "pads the batch" if any(operation.whole(1)[:2]) else None


def _pack(operation: Operation) -> str | None:
    return "packs along the batch" if operation.options.axis == 0 else None


def _split(operation: Operation) -> str | None:
    return "splits the batch" if operation.whole(0) == [0] else None


def _softmax(operation: Operation) -> str | None:
    shape = operation.shape(operation.inputs[0])
    if math.prod(shape[:-1]) != 1 or shape[-1] > MOST_OF_SOFTMAX:
        return f"is over a tensor of {shape}; legal is one dimension of at most {MOST_OF_SOFTMAX}"
    return None


def _strides(operation: Operation) -> str | None:
    return "has strides" if any(stride != 1 for stride in operation.whole(3)) else None


def _alpha(operation: Operation) -> str | None:
    return "has a slope for each place" if math.prod(operation.shape(operation.inputs[1])[:-1]) != 1 else None


# fmt: off
PLAIN = (
    "ADD", "EXPAND_DIMS", "L2_NORMALIZATION", "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "QUANTIZE", "RELU", "RELU6",
    "RELU_N1_TO_1", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "RSQRT", "SLICE", "SPACE_TO_DEPTH",
    "SQUARED_DIFFERENCE", "SQUEEZE", "SUB", "TANH", "TRANSPOSE", "UNIDIRECTIONAL_SEQUENCE_LSTM",
)
# fmt: on
LIMITS: Mapping[str, Limit | None] = {
    **dict.fromkeys(PLAIN),
    "AVERAGE_POOL_2D": _no_activation,
    "CONCATENATION": _joined,
    "CONV_2D": _alike_dilation,
    "DEPTHWISE_CONV_2D": _alike_dilation,
    "FULLY_CONNECTED": _dense,
    "MAX_POOL_2D": _no_activation,
    **dict.fromkeys(("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM"), _not_of_the_batch),
    "PACK": _pack,
    "PAD": _padding,
    "PRELU": _alpha,
    "SOFTMAX": _softmax,
    "SPLIT": _split,
    "STRIDED_SLICE": _strides,
    "TRANSPOSE_CONV": None,
}
"""The operations of the chip, and what is told of each."""


def fault(operation: Operation) -> str | None:
    """Why one operation can't be mapped, whatever comes before it; None if it can."""
    if operation.name not in LIMITS:
        return "is not among the operations of the chip"
    for index in (*operation.inputs, *operation.outputs):
        kind, fixed = flatbuffer.dtype_name(operation.tensor(index)), operation.constant(index)
        if kind not in (PARAMETERS if fixed else DATA):
            return f"has a tensor of {kind}"
        shape, signature = operation.shape(index), operation.tensor(index).shapeSignature
        if signature is not None and any(side < 0 for side in signature):
            return f"has a tensor of the shape {[int(side) for side in signature]}, which is not fixed"
        if not fixed and any(side > 1 for side in shape[:-3]):
            return f"has a tensor of the shape {shape}; before the last three sides, only 1 is legal"
    limit = LIMITS[operation.name]
    return limit(operation) if limit else None


def _first(operation: Operation) -> bool:
    """Whether it is the QUANTIZE of a float image: the compiler leaves it alone to the processor."""
    image = {int(i) for i in operation.model.subgraphs[0].inputs}
    return operation.name == "QUANTIZE" and set(operation.inputs) <= image


def report(model: schema.ModelT) -> dict[str, Any]:
    """How the operations of a `schema.ModelT` are divided, for `export.json`.

    `mapped` and `processor`: {operation: how many} on the chip and on the processor. `reasons`: why the first ones are
    on the processor. `fits`: whether every convolution is on the chip.
    """
    mapped: Counter[str] = Counter()
    processor: Counter[str] = Counter()
    reasons: list[str] = []
    outside: set[int] = set()
    for operator in model.subgraphs[0].operators:
        operation = Operation(model, operator)
        after = any(index in outside for index in operation.inputs)
        reason = None if after else fault(operation)
        if after or reason:
            processor[operation.name] += 1
            outside.update(() if _first(operation) else operation.outputs)
        else:
            mapped[operation.name] += 1
        if reason:
            reasons.append(f"{operation.name} {reason} ({flatbuffer.tensor_name(model, operation.outputs[0])[-60:]})")
    return {
        "fits": bool(mapped) and not any(processor[name] for name in CONVOLUTIONS),
        "mapped": dict(sorted(mapped.items())),
        "processor": dict(sorted(processor.items())),
        "reasons": list(dict.fromkeys(reasons)),
    }


def problem(found: Mapping[str, Any]) -> str | None:
    """Why a file does not fit, from its `report`; None if it fits."""
    if found["fits"]:
        return None
    left = sum(count for name, count in found["processor"].items() if name in CONVOLUTIONS)
    return f"the Edge TPU would leave {left} convolutions to the processor: {first_few(found['reasons'], 3)}"


def line(found: Mapping[str, Any]) -> str:
    """For the console, in 80 columns."""
    mapped, left = (sum(found[side].values()) for side in ("mapped", "processor"))
    told = f"Edge TPU   {mapped} operations on the chip, {left} on the processor"
    return told if found["fits"] else f"{told}: it does not fit"
