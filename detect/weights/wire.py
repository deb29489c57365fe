"""Walks the bytes of a protocol buffer without making objects of it.

An empty message of two bytes becomes an object of a hundred, so a file that nobody vouches for may need a hundred times
its size when it is parsed. What is handed on to the parser is first found with this walk.
Source: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator

MOST = 4_000_000  # fields of a file: a graph has a few for each of its operations
VARINT, FIXED64, TEXT, FIXED32 = 0, 1, 2, 5
DTYPE, SHAPE, VERSION, CONTENT = 1, 2, 3, 4  # fields of a TensorProto; the others that are legal hold numbers
TENSOR = {DTYPE, SHAPE, VERSION, CONTENT, 5, 6, 7, 10, 11, 13, 16, 17}
LONGEST_SHAPE = 1000  # bytes


class Walk:
    """The fields of messages, at most MOST in all."""

    def __init__(self) -> None:
        self._left = MOST

    def fields(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """(number, value) of each field: a whole number, or the bytes of a text, a message or packed numbers.

        Raises ValueError for bytes that are no message, and beyond MOST fields.
        """
        place, end = 0, len(message)
        while place < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {MOST} fields")
            key, place = number(message, place)
            kind = key & 7
            if kind == VARINT:
                value, place = number(message, place)
                yield key >> 3, value
                continue
            if kind == TEXT:
                length, place = number(message, place)
            elif kind in (FIXED32, FIXED64):
                length = 4 if kind == FIXED32 else 8
            else:
                raise ValueError(f"a field is of kind {kind}")
            if place + length > end:
                raise ValueError("a field is longer than the file")
            yield key >> 3, message[place : place + length]
            place += length

    def last(self, message: memoryview, wanted: int) -> memoryview:
        """The last text or message of a number; empty if there is none."""
        found = memoryview(b"")
        for field, value in self.fields(message):
            if field == wanted and isinstance(value, memoryview):
                found = value
        return found

    def check_tensor(self, message: memoryview) -> None:
        """Raises ValueError unless a TensorProto has nothing but a type, a short shape and numbers."""
        for field, value in self.fields(message):
            if field not in TENSOR:
                raise ValueError("an array holds no numbers")
            if field == SHAPE and isinstance(value, memoryview) and len(value) > LONGEST_SHAPE:
                raise ValueError(f"the shape of an array has {len(value)} bytes")


def number(content: bytes | memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place behind it. Raises ValueError at the end of the content."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            break
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number has no end")
