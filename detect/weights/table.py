"""Checks a TensorFlow checkpoint before TensorFlow reads it: what it claims must fit what its files hold.

TensorFlow believes shapes and offsets of a checkpoint, and may end the process or fill the memory over a damaged one.
The format of an index, and of a whole V1 checkpoint, is that of LevelDB's tables (`doc/table_format.md` there): blocks
of sorted entries, an index of the blocks, and a footer of 48 bytes.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError, Message
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import tensor_bundle_pb2
from tensorflow.core.util import saved_tensor_slice_pb2

from detect.errors import WeightsError
from detect.weights import claims
from detect.weights.wire import Walk, number

LARGEST_INDEX = 16 << 20  # bytes of an index, and of the header of a V1 checkpoint: they name variables, and hold none
FOOTER, TRAILER = 48, 5  # bytes of the footer, and behind each block: its compression and its checksum
BYTES = {
    types_pb2.DT_FLOAT: 4, types_pb2.DT_DOUBLE: 8, types_pb2.DT_HALF: 2, types_pb2.DT_BFLOAT16: 2,
    types_pb2.DT_INT8: 1, types_pb2.DT_UINT8: 1, types_pb2.DT_BOOL: 1, types_pb2.DT_INT16: 2, types_pb2.DT_UINT16: 2,
    types_pb2.DT_INT32: 4, types_pb2.DT_UINT32: 4, types_pb2.DT_INT64: 8, types_pb2.DT_UINT64: 8,
}  # fmt: skip
FIELDS = {types_pb2.DT_FLOAT: "float_val", types_pb2.DT_DOUBLE: "double_val", types_pb2.DT_INT64: "int64_val"}
DATA, NAME, SLICE, TENSOR = 2, 1, 2, 3  # fields of SavedTensorSlices and of SavedSlice
LONGEST_NAME = 4000  # bytes
# Every other type of a V1 checkpoint is in int_val.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # only an object-based checkpoint of TF 2 has this key


def check(prefix: Path, objects: bool = False) -> None:
    """Raises WeightsError for a checkpoint whose index, shapes or offsets are impossible.

    prefix: that of a checkpoint; for a V1 checkpoint the file itself. objects: whether an object-based one is legal.
    """
    index = prefix.with_name(f"{prefix.name}.index")
    file = index if index.is_file() else prefix
    size, most = claims.size_of(file), LARGEST_INDEX if file == index else claims.LARGEST
    if size > most:
        raise WeightsError(f"{file} has {size} bytes; legal are at most {most >> 20} MB")
    try:
        content = file.read_bytes()
        entries = dict(_entries(content))
        header = entries.pop(b"", b"")
        if file == index:
            _check_bundle(prefix, header, entries, objects)
        else:
            _check_v1(prefix, header, entries, len(content))
    except OSError as error:
        raise WeightsError(f"{file} can't be read: {error.strerror}") from error
    except (DecodeError, ValueError, IndexError, OverflowError) as error:
        raise WeightsError(f"{prefix} can't be read: it is damaged or not a checkpoint: {error}") from error


def _entries(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of a table. Raises ValueError or IndexError for a damaged one."""
    footer = content[-FOOTER:]
    place = 0
    for _ in range(2):  # the place of the metaindex, which is empty
        _, place = number(footer, place)
    start, place = number(footer, place)
    size, _ = number(footer, place)
    total = 0
    for _, handle in _block(content, start, size):
        start, place = number(handle, 0)
        size, _ = number(handle, place)
        total += size + TRAILER
        if total > len(content):
            raise ValueError("its blocks overlap")
        yield from _block(content, start, size)


def _block(content: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of one block. A key shares its first bytes with the key before it."""
    end = start + size
    if end + TRAILER > len(content) or size < 4:
        raise ValueError("a block is outside of the file")
    if content[end]:
        raise ValueError("a block is compressed")
    restarts = int.from_bytes(content[end - 4 : end], "little")
    end -= 4 * (restarts + 1)
    key, place = b"", start
    while place < end:
        shared, place = number(content, place)
        unshared, place = number(content, place)
        length, place = number(content, place)
        if shared > len(key) or place + unshared + length > end:
            raise ValueError("an entry is outside of its block")
        key = key[:shared] + content[place : place + unshared]
        place += unshared
        yield key, content[place : place + length]
        place += length
    if place != end:
        raise ValueError("an entry is outside of its block")


def _check_bundle(prefix: Path, header: bytes, entries: dict[bytes, bytes], objects: bool) -> None:
    about = tensor_bundle_pb2.BundleHeaderProto.FromString(header)
    if OBJECT_GRAPH.encode() in entries and not objects:
        raise WeightsError(
            f"{prefix} is an object-based checkpoint (tf.train.Checkpoint or save_weights of TF 2): it identifies "
            "a variable by its place in a program. Legal are checkpoints by variable names: those of TF-slim, of "
            "the TF 1 Object Detection API and of this program's runs."
        )
    shards = [prefix.with_name(f"{prefix.name}.data-{i:05d}-of-{about.num_shards:05d}") for i in range(_shards(about))]
    sizes = [claims.size_of(shard) for shard in shards]
    shapes = []
    for key, value in entries.items():
        entry = tensor_bundle_pb2.BundleEntryProto.FromString(value)
        shape = _shape(entry.shape)
        shapes.append(shape)
        if entry.slices:  # a variable in parts, each of which is an entry of its own
            for part in entry.slices:
                _check_slice(part, shape)
            continue
        text = objects and key == OBJECT_GRAPH.encode() and entry.dtype == types_pb2.DT_STRING and not shape
        held = entry.size if text else _bytes(entry.dtype) * math.prod(shape)
        if entry.size != held or not 0 <= entry.shard_id < len(shards):
            raise ValueError(f"{_name(key)} has {entry.size} bytes for the shape {list(shape)}")
        if min(entry.offset, held) < 0 or entry.offset + held > sizes[entry.shard_id]:
            raise ValueError(f"{_name(key)} is outside of {shards[entry.shard_id].name}")
    claims.numbers(str(prefix), shapes, sum(sizes))


def _shards(about: Message) -> int:
    if about.endianness or not 0 < about.num_shards < 1000:  # type: ignore[attr-defined]
        raise ValueError(f"its header claims {about.num_shards} files of data")  # type: ignore[attr-defined]
    return about.num_shards  # type: ignore[attr-defined]


def _check_v1(prefix: Path, header: bytes, entries: dict[bytes, bytes], size: int) -> None:
    form = saved_tensor_slice_pb2.SavedTensorSlices
    if len(header) > LARGEST_INDEX:
        raise ValueError(f"its header has {len(header)} bytes")
    known, walk = {}, Walk()
    for about in form.FromString(header).meta.tensor:
        known[about.name] = (about.type, shape := _shape(about.shape))
        _bytes(about.type)
        for part in about.slice:
            _check_slice(part, shape)
    claims.numbers(str(prefix), (shape for _, shape in known.values()), size)
    for key, value in entries.items():
        _check_entry(walk, memoryview(value))
        data = form.FromString(value).data
        if data.name not in known:
            raise ValueError(f"{_name(key)} has data without a shape")
        kind, shape = known[data.name]
        count = _check_slice(data.slice, shape)
        if data.data.dtype not in (kind, 0) or _held(data.data, kind) != count:
            raise ValueError(f"{data.name} has {_held(data.data, kind)} numbers of {count}")


def _check_entry(walk: Walk, value: memoryview) -> None:
    """Raises ValueError unless an entry of a V1 checkpoint has a name, a part and numbers, and nothing else."""
    for field, inner in walk.fields(value):
        for part, content in walk.fields(inner) if field == DATA and isinstance(inner, memoryview) else [(0, inner)]:
            if (
                not isinstance(content, memoryview)
                or part not in (NAME, SLICE, TENSOR)
                or (part != TENSOR and len(content) > LONGEST_NAME)
            ):
                raise ValueError("an entry is no part of an array")
            if part == TENSOR:
                walk.check_tensor(content)


def _held(values: tensor_pb2.TensorProto, kind: int) -> int:
    return len(getattr(values, FIELDS.get(kind, "half_val" if kind == types_pb2.DT_HALF else "int_val")))


def _check_slice(part: Message, shape: tuple[int, ...]) -> int:
    """The numbers of a part of an array. Raises ValueError if it is not inside."""
    extents = part.extent  # type: ignore[attr-defined]
    if len(extents) not in (0, len(shape)):
        raise ValueError(f"a part of an array has {len(extents)} sides, not {len(shape)}")
    lengths = []
    for extent, side in zip(extents, shape, strict=False):
        length = extent.length if extent.HasField("length") else side
        if extent.start < 0 or length < 0 or extent.start + length > side:
            raise ValueError(f"a part of an array is outside of {list(shape)}")
        lengths.append(length)
    return math.prod(lengths or shape)


def _shape(proto: Message) -> tuple[int, ...]:
    shape = tuple(side.size for side in proto.dim)  # type: ignore[attr-defined]
    if any(side < 0 for side in shape) or proto.unknown_rank or len(shape) > 8:  # type: ignore[attr-defined]
        raise ValueError(f"an array has the shape {list(shape)[:10]}")
    return shape


def _bytes(kind: int) -> int:
    if kind not in BYTES:
        known = types_pb2.DataType.Name(kind) if kind in types_pb2.DataType.values() else kind
        raise ValueError(f"an array is of type {known}; legal are numbers")
    return BYTES[kind]


def _name(key: bytes) -> str:
    return key[:100].decode(errors="replace")
