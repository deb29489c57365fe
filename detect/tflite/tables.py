"""Writes tables of a flatbuffer schema without generated code."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import flatbuffers
import numpy as np
from flatbuffers import number_types

Fields: TypeAlias = "Mapping[int, str | np.generic | np.ndarray | Fields | Sequence[Fields]]"
"""A table: the numbers of its fields in the schema, from 0, and their values. A table is a mapping, a vector of tables
is a list of mappings, a scalar is a numpy number of the field's type, and a vector of scalars is a numpy array. A union
has two fields: its type (`np.uint8`) and, with the next number, its table."""

FLAGS = {
    np.dtype(np.bool_): number_types.BoolFlags,
    np.dtype(np.int8): number_types.Int8Flags,
    np.dtype(np.uint8): number_types.Uint8Flags,
    np.dtype(np.int32): number_types.Int32Flags,
    np.dtype(np.uint32): number_types.Uint32Flags,
    np.dtype(np.float32): number_types.Float32Flags,
}
"""The scalars of flatbuffers that are written here."""


def write(root: Fields, identifier: bytes) -> bytes:
    """The bytes of a flatbuffer with this root table. identifier: the four bytes of its schema."""
    builder = flatbuffers.Builder(256)
    builder.Finish(_table(builder, root), identifier)
    return bytes(builder.Output())


def _table(builder: flatbuffers.Builder, fields: Fields) -> int:
    """Writes a table after what it points to, as the format requires; returns its offset."""
    placed = {slot: _placed(builder, value) for slot, value in fields.items()}
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, value in fields.items():
        if isinstance(value, np.generic):
            builder.PrependSlot(FLAGS[value.dtype], slot, value.item(), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, placed[slot], 0)
    return int(builder.EndObject())


def _placed(builder: flatbuffers.Builder, value: "str | np.generic | np.ndarray | Fields | Sequence[Fields]") -> int:
    """The offset of a value that is not a scalar; 0 for a scalar, which is in the table itself."""
    if isinstance(value, np.generic):
        return 0
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, np.ndarray):
        return int(builder.CreateNumpyVector(value))
    if isinstance(value, Mapping):
        return _table(builder, value)
    offsets = [_table(builder, fields) for fields in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
