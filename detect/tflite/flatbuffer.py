"""A TFLite file as objects: reading, writing, naming its inputs and outputs, joining two files, metadata."""

import math
from collections.abc import Mapping, Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import ArrayLike

from detect.errors import WeightsError

IDENTIFIER = b"TFL3"
LARGEST = 2 << 30  # bytes of a file: the format has offsets of 31 bits
MOST = 1 << 28  # numbers of a tensor: a frame has a few millions
ALIGNMENT = 16  # bytes: the schema requires this for a buffer, and kernels rely on it
SIGNATURE = "serving_default"


class AlignedBuffer(schema.BufferT):
    """A buffer that is written aligned; the generated class ignores the schema's `force_align`."""

    def __init__(self, data: Sequence[int] | np.ndarray | None = None):
        super().__init__()
        self.data = data

    def Pack(self, builder: flatbuffers.Builder) -> int:
        """Writes the table with its vector of bytes; returns its offset."""
        vector = None
        if self.data is not None and len(self.data):
            content = np.asarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(content), ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.Head() : builder.Head() + len(content)] = content
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


def read(content: bytes, name: str = "the file") -> schema.ModelT:
    """The `schema.ModelT` of a file's bytes. Raises WeightsError if they are not a TFLite file or a damaged one.

    Every index in the result (of tensors, buffers, operators) is in range. Every constant has the size of its shape.
    A file that claims more parts than it has bytes may take long: `detect.tflite.trial` sets the limit.
    """
    if content[4:8] != IDENTIFIER:
        raise WeightsError(f"{name}: not a TFLite file (these start with {IDENTIFIER.decode()} at byte 4)")
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        problem = _problem(model)
    except Exception as error:  # a truncated flatbuffer may raise anything
        raise WeightsError(f"{name}: a TFLite file that is damaged or cut off ({type(error).__name__})") from error
    if problem:
        raise WeightsError(f"{name}: a TFLite file {problem}")
    return model


def _problem(model: schema.ModelT) -> str | None:
    """What is wrong with the indices or sizes of a file; None if nothing is."""
    if not model.subgraphs:
        return "without a graph"
    sizes = [0 if buffer.data is None else len(buffer.data) for buffer in model.buffers or []]
    codes = len(model.operatorCodes or [])
    for graph in model.subgraphs:
        tensors = len(graph.tensors or [])
        for tensor in graph.tensors or []:
            shape = [] if tensor.shape is None else [int(side) for side in tensor.shape]
            if any(side < 0 for side in shape) or math.prod(shape) > MOST:
                return f"with a tensor of the shape {shape[:10]}; legal are at most {MOST} numbers"
            if not 0 <= tensor.buffer < len(sizes):
                return f"that is damaged: it has no buffer {tensor.buffer}"
            held, wanted = sizes[tensor.buffer], math.prod(shape) * BYTES.get(tensor.type, 0)
            if held and tensor.type in BYTES and tensor.sparsity is None and held != wanted:
                return f"that is damaged: a constant of the shape {shape[:10]} has {held} bytes, not {wanted}"
        ends = [graph.inputs, graph.outputs]
        for operator in graph.operators or []:
            if not 0 <= operator.opcodeIndex < codes:
                return f"that is damaged: it has no kind {operator.opcodeIndex} of operators"
            ends += [operator.inputs, operator.outputs, operator.intermediates]
        if any(not -1 <= int(i) < tensors for end in ends if end is not None for i in end):
            return "that is damaged: an operator has a tensor that the graph has not"
        if any(int(i) < 0 for end in ends[:2] if end is not None for i in end):
            return "that is damaged: an end of the graph is no tensor"
    first = len(model.subgraphs[0].tensors or [])
    named = [x for s in (model.signatureDefs or [])[:1] for side in (s.inputs, s.outputs) for x in side or []]
    if any(not 0 <= entry.tensorIndex < first for entry in named):
        return "that is damaged: its signature has a tensor that the graph has not"
    if any(not 0 <= entry.buffer < len(sizes) for entry in model.metadata or []):
        return "that is damaged: its metadata are in no buffer"
    return None


def write(model: schema.ModelT) -> bytes:
    """The file's bytes of a `schema.ModelT`."""
    model.buffers = [AlignedBuffer(buffer.data) for buffer in model.buffers]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def ends(model: schema.ModelT) -> tuple[dict[str, int], dict[str, int]]:
    """{name: tensor} of the inputs and of the outputs: names of the signature, or without one, names of the tensors."""
    if model.signatureDefs:
        signature = model.signatureDefs[0]
        return tuple(
            {_text(x.name): int(x.tensorIndex) for x in s or ()} for s in (signature.inputs, signature.outputs)
        )  # type: ignore[return-value]
    graph = model.subgraphs[0]
    return tuple(
        {_text(graph.tensors[i].name): int(i) for i in (() if s is None else s)} for s in (graph.inputs, graph.outputs)
    )  # type: ignore[return-value]


def set_ends(model: schema.ModelT, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
    """Makes these tensors the graph's inputs and outputs, by these names in its one signature."""
    graph = model.subgraphs[0]
    graph.inputs, graph.outputs = (np.array(list(end.values()), np.int32) for end in (inputs, outputs))
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs, signature.outputs = _named(inputs), _named(outputs)
    model.signatureDefs = [signature]


def join(first: schema.ModelT, second: schema.ModelT) -> schema.ModelT:
    """`first` followed by `second`: the inputs of `second` are the outputs of `first` with the same names.

    Both keep their types; nothing is converted again. Changes and returns `first`.
    """
    graph, more = first.subgraphs[0], second.subgraphs[0]
    if len(first.subgraphs) > 1 or len(second.subgraphs) > 1:
        raise ValueError("only graphs without branches and loops can be joined")
    (inputs, outputs), (wanted, results) = ends(first), ends(second)
    places = {index: outputs[name] for name, index in wanted.items()}
    buffers, codes = len(first.buffers), len(first.operatorCodes)
    first.buffers.extend(second.buffers)
    first.operatorCodes.extend(second.operatorCodes)
    for index, tensor in enumerate(more.tensors):
        if index not in places:
            places[index] = len(graph.tensors)
            tensor.buffer += buffers if tensor.buffer else 0  # buffer 0 is that of tensors without a constant
            graph.tensors.append(tensor)
    for operator in more.operators:
        operator.opcodeIndex += codes
        operator.inputs, operator.outputs = (
            np.array([places.get(int(i), -1) for i in side], np.int32) for side in (operator.inputs, operator.outputs)
        )
        graph.operators.append(operator)
    set_ends(first, inputs, {name: places[index] for name, index in results.items()})
    return first


def metadata(model: schema.ModelT) -> dict[str, bytes]:
    """The file's metadata by name."""
    return {
        _text(entry.name): np.asarray(model.buffers[entry.buffer].data, np.uint8).tobytes()
        for entry in model.metadata or []
        if model.buffers[entry.buffer].data is not None
    }


def set_metadata(model: schema.ModelT, entries: Mapping[str, bytes]) -> None:
    """Adds metadata; an entry of the same name is replaced."""
    model.metadata = [entry for entry in model.metadata or [] if _text(entry.name) not in entries]
    for name, content in entries.items():
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, len(model.buffers)
        model.buffers.append(AlignedBuffer(np.frombuffer(content, np.uint8)))
        model.metadata.append(entry)


def tensor_name(model: schema.ModelT, index: int) -> str:
    """The name of one tensor of the graph."""
    return _text(model.subgraphs[0].tensors[index].name)


def dtype_name(tensor: schema.TensorT) -> str:
    """`float32`, `int8`, ... of a tensor."""
    return _DTYPES.get(tensor.type, str(tensor.type)).lower()


def operator_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """`CONV_2D`, ... of an operator; for a custom operator, its own name."""
    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return _text(code.customCode) if number == schema.BuiltinOperator.CUSTOM else _OPERATORS.get(number, str(number))


def add_tensor(
    model: schema.ModelT,
    name: str,
    like: schema.TensorT | Sequence[int] | np.ndarray,
    kind: int,
    values: np.ndarray | None = None,
) -> int:
    """Adds a tensor and returns its index. like: a tensor of the same shape, or the shape. values: for a constant."""
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.buffer = name, kind, 0
    shape, signature = (like.shape, like.shapeSignature) if isinstance(like, schema.TensorT) else (like, None)
    tensor.shape, tensor.shapeSignature = np.array(shape, np.int32), signature
    if values is not None:
        tensor.buffer = len(model.buffers)
        model.buffers.append(AlignedBuffer(np.ascontiguousarray(values).view(np.uint8).reshape(-1)))
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def quantization(scale: ArrayLike, zero: ArrayLike, axis: int = 0) -> schema.QuantizationParametersT:
    """Scales and zero points of a tensor: one of each, or one for each index of an axis."""
    result = schema.QuantizationParametersT()
    result.scale, result.zeroPoint = np.array(scale, np.float32), np.array(zero, np.int64)
    result.quantizedDimension = axis
    return result


def operator(model: schema.ModelT, code: int, version: int, inputs: ArrayLike, outputs: ArrayLike) -> schema.OperatorT:
    """An operator without options; the caller inserts it into the graph. code: a `schema.BuiltinOperator`."""
    result = schema.OperatorT()
    result.inputs, result.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    codes = [(max(c.builtinCode, c.deprecatedBuiltinCode), c.version) for c in model.operatorCodes]
    if (code, version) not in codes:
        kind = schema.OperatorCodeT()
        kind.builtinCode = kind.deprecatedBuiltinCode = code
        kind.version = version
        codes.append((code, version))
        model.operatorCodes.append(kind)
    result.opcodeIndex = codes.index((code, version))
    return result


def constant(model: schema.ModelT, index: int) -> np.ndarray | None:
    """The values of a float32 tensor, flat; None if it is not a constant."""
    tensor = model.subgraphs[0].tensors[index]
    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or data is None or not len(data):
        return None
    return np.asarray(data, np.uint8).view(np.float32)


BYTES = {
    getattr(schema.TensorType, name): size
    for name, size in {
        "FLOAT32": 4, "FLOAT16": 2, "FLOAT64": 8, "INT8": 1, "UINT8": 1, "INT16": 2, "UINT16": 2, "INT32": 4,
        "UINT32": 4, "INT64": 8, "UINT64": 8, "BOOL": 1,
    }.items()
}  # fmt: skip
"""Bytes of a number, of the types that are stored one after the other."""


def _named(end: Mapping[str, int]) -> list[schema.TensorMapT]:
    entries = []
    for name, index in end.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        entries.append(entry)
    return entries


def _text(name: bytes | str | None) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name or "")


def _names(kind: type) -> dict[int, str]:
    return {value: name for name, value in vars(kind).items() if isinstance(value, int)}


_DTYPES, _OPERATORS = _names(schema.TensorType), _names(schema.BuiltinOperator)
