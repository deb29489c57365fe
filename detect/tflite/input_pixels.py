"""The first operations of an int8 file of a fake-quantised network: from pixels to the first range, in integers.

The converter leaves the input scaling before the first range in float. Such a file takes float images, and does not run
on hardware that has only integers.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from detect.tflite import flatbuffer

INT8 = schema.TensorType.INT8
FUNCTIONS = {"MUL": np.multiply, "ADD": np.add, "SUB": np.subtract}
PIXELS = np.arange(256.0)
KERNELS = range(127, 63, -1)  # a smaller kernel has a coarser bias, but not the same one
REACH = 2  # pixels: the largest distance from the exact bias in the search for a bias
ROOM = 2e-6  # the least relative distance between the bounds of a scale, so that a float32 fits between them
SMALLEST, LARGEST = 1e-12, 1e12  # limits of a scale


def take_pixels(model: schema.ModelT, takes: str, wanted: np.ndarray) -> bool:
    """Changes the image type of a `schema.ModelT` to `takes`: uint8 for the pixels, or int8 for the pixels minus 128.

    One depthwise 1x1 convolution in int8 replaces the float scaling before the first QUANTIZE. It maps each of the 256
    levels to the integer that the evaluation graph rounds it to. If other operations come before the QUANTIZE, or no
    such convolution exists, this returns False and changes nothing.

    wanted: [256, C], the evaluation graph's integers: steps above 0 of each level, in each channel.
    """
    graph = model.subgraphs[0]
    (image,) = (int(i) for i in graph.inputs)
    chain = _scaling(model, image)
    if chain is None:
        return False
    quantization = graph.tensors[chain[-1].outputs[0]].quantization
    step, zero = float(quantization.scale[0]), int(quantization.zeroPoint[0])
    at_0, at_1 = (_scaled(model, chain, np.full(graph.tensors[image].shape[-1], x)) for x in (0.0, 1.0))
    ends = zip(at_1 - at_0, at_0, np.transpose(wanted), strict=True)
    found = [fit(factor, offset, step, zero, levels) for factor, offset, levels in ends]
    if any(channel is None for channel in found):
        return False
    _replace(model, image, chain, takes, *(np.array(values) for values in zip(*found, strict=True)))  # type: ignore[arg-type]
    return True


def fit(factor: float, offset: float, step: float, zero: int, wanted: np.ndarray) -> tuple[int, int, float] | None:
    """(kernel, bias, scale of the kernel) such that round((kernel x pixel + bias) scale / step) is the integer that is
    wanted for each pixel, within int8; None if there are none. The integers are those of about factor x pixel + offset.
    If [-1, 1] has 255 steps, each pixel is halfway between two integers. QUANTIZE would round half of them differently.

    For a kernel and a bias, each pixel bounds the scale from both sides. The bias with the widest room is chosen.
    """
    wanted = wanted[:, np.newaxis]
    low = np.where(wanted + zero <= -128, -np.inf, wanted - 0.5)
    high = np.where(wanted + zero >= 127, np.inf, wanted + 0.5)
    for kernel in KERNELS if factor > 0 else ():
        middle = round(offset / factor * kernel)
        biases = np.arange(middle - REACH * kernel, middle + REACH * kernel + 1)
        least, most = _bounds(kernel * PIXELS[:, np.newaxis] + biases, low, high)
        room = most - least * (1 + ROOM)
        widest = int(np.argmax(room / most))
        if room[widest] > 0:
            return kernel, int(biases[widest]), float(least[widest] + most[widest]) / 2 * step
    return None


def _bounds(sums: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest factor, above 0, that brings all values of a column of `sums` within `low`..`high`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        at_0 = np.where((low < 0) & (high > 0), 0.0, np.inf)
        least = np.where(sums > 0, low / sums, np.where(sums < 0, high / sums, at_0)).max(0)
        most = np.where(sums > 0, high / sums, np.where(sums < 0, low / sums, np.inf)).min(0)
    return np.maximum(least, SMALLEST), np.clip(most, SMALLEST, LARGEST)


def _scaling(model: schema.ModelT, image: int) -> list[schema.OperatorT] | None:
    """The operations from the image to its QUANTIZE; each is the only user of the previous output. None otherwise."""
    graph, tensor = model.subgraphs[0], image
    chain: list[schema.OperatorT] = []
    while True:
        users = [operator for operator in graph.operators if tensor in operator.inputs]
        if len(users) != 1 or tensor in graph.outputs:
            return None
        (operator,) = users
        name = flatbuffer.operator_name(model, operator)
        if name == "QUANTIZE":
            return [*chain, operator]
        if name not in FUNCTIONS or operator.inputs[0] != tensor or _constant(model, operator) is None:
            return None
        if operator.builtinOptions.fusedActivationFunction:
            return None
        chain.append(operator)
        tensor = int(operator.outputs[0])


def _constant(model: schema.ModelT, operator: schema.OperatorT) -> np.ndarray | None:
    """The second operand as float64, if it is one number or one for each channel; None otherwise."""
    values = flatbuffer.constant(model, operator.inputs[1])
    channels = model.subgraphs[0].tensors[operator.inputs[0]].shape[-1]
    return values.astype(np.float64) if values is not None and values.size in (1, channels) else None


def _scaled(model: schema.ModelT, chain: list[schema.OperatorT], values: np.ndarray) -> np.ndarray:
    """values [C] after the operations before the last one."""
    for operator in chain[:-1]:
        function, constant = FUNCTIONS[flatbuffer.operator_name(model, operator)], _constant(model, operator)
        assert constant is not None  # `_scaling` checks this
        values = function(values, constant)
    return values


def _replace(
    model: schema.ModelT,
    image: int,
    chain: list[schema.OperatorT],
    takes: str,
    kernels: np.ndarray,
    biases: np.ndarray,
    scales: np.ndarray,
) -> None:
    """Replaces `chain` by the integer operations; with uint8, a QUANTIZE first subtracts 128."""
    graph, pixels, zeros = model.subgraphs[0], model.subgraphs[0].tensors[image], [0] * len(scales)
    inner, operators = image, []
    if takes == "uint8":
        inner = flatbuffer.add_tensor(model, "pixels", pixels, INT8)
        operators.append(flatbuffer.operator(model, schema.BuiltinOperator.QUANTIZE, 2, [image], [inner]))
        pixels.type, pixels.quantization = schema.TensorType.UINT8, flatbuffer.quantization([1.0], [0])
    graph.tensors[inner].type, graph.tensors[inner].quantization = INT8, flatbuffer.quantization([1.0], [-128])
    kernel = flatbuffer.add_tensor(model, "pixels/kernel", [1, 1, 1, len(scales)], INT8, kernels.astype(np.int8))
    bias = flatbuffer.add_tensor(model, "pixels/bias", [len(scales)], schema.TensorType.INT32, biases.astype(np.int32))
    graph.tensors[kernel].quantization = flatbuffer.quantization(scales, zeros, 3)
    graph.tensors[bias].quantization = flatbuffer.quantization(scales, zeros)
    places = ([inner, kernel, bias], chain[-1].outputs)
    operator = flatbuffer.operator(model, schema.BuiltinOperator.DEPTHWISE_CONV_2D, 3, *places)
    options = operator.builtinOptions = schema.DepthwiseConv2DOptionsT()
    operator.builtinOptionsType = schema.BuiltinOptions.DepthwiseConv2DOptions
    options.padding, options.strideW, options.strideH, options.depthMultiplier = schema.Padding.VALID, 1, 1, 1
    graph.operators = [*operators, operator, *(o for o in graph.operators if o not in chain)]
