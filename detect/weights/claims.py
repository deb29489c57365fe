"""What a file of weights may claim to hold, measured by its own size."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from detect.errors import WeightsError, printable

LARGEST = 2 << 30
"""The most bytes of a file, of a download and of an unpacked archive. Networks have far fewer, and a graph can't have
more: what is larger is broken or an attack."""
SWELL = 16  # the most bytes of arrays for a byte of a file: weights that were trained are hardly compressible
SPARE = 1 << 20  # bytes that any file may give
LONGEST_SIDE = 1 << 14  # pixels of a frame
MOST_CLASSES = 1 << 16


def size_of(file: Path) -> int:
    """The bytes of a file. Raises WeightsError if it is larger than LARGEST or can't be read."""
    try:
        size = file.stat().st_size
    except OSError as error:
        raise WeightsError(f"{file} can't be read: {error.strerror}") from error
    if size > LARGEST:
        raise WeightsError(f"{file} has {size} bytes; legal are files of weights of at most {LARGEST >> 30} GB")
    return size


def numbers(name: str, shapes: Iterable[Sequence[int]], size: int) -> int:
    """The numbers in arrays of these shapes. size: bytes of the file.

    Raises WeightsError for a negative side, and if float32 arrays would need more than SWELL times the file's bytes.
    """
    most = (SWELL * size + SPARE) // 4
    total = 0
    for shape in shapes:
        if any(side < 0 for side in shape):
            raise WeightsError(f"{name} is damaged: it has an array of the shape {list(shape)}")
        total += math.prod(shape)
        if total > most:
            raise WeightsError(
                f"{name} claims to hold more than {most} numbers, which {size} bytes can't: it is damaged"
            )
    return total


def check_description(said: object, name: str) -> None:
    """Raises WeightsError unless `said`, from a json, has the classes of a detector, their ids and its frame.

    classes: texts. category_ids: as many whole numbers, or none. size: height and width in pixels. name: of the file.
    """
    rules = {
        "classes": ("a list of names", lambda v: 0 < len(v) <= MOST_CLASSES and all(type(x) is str for x in v)),
        "category_ids": (
            "a whole number for each class",
            lambda v: all(type(x) is int and abs(x) < 1 << 53 for x in v),
        ),
        "size": (
            f"height and width, from 1 to {LONGEST_SIDE}",
            lambda v: len(v) == 2 and all(type(x) is int and 0 < x <= LONGEST_SIDE for x in v),
        ),
    }
    if not isinstance(said, Mapping):
        raise WeightsError(f"{name}: legal is a json object, this is {_shown(said)}")
    for key, (legal, holds) in rules.items():
        value = said.get(key, [] if key == "category_ids" else None)
        if key == "category_ids" and value is None:
            continue
        if not isinstance(value, list | tuple) or not holds(value):
            raise WeightsError(f"{name}: {key} is {_shown(value)}; legal is {legal}")
    if said.get("category_ids") and len(said["category_ids"]) != len(said["classes"]):
        raise WeightsError(f"{name}: it has {len(said['category_ids'])} ids for {len(said['classes'])} classes")


def _shown(value: object) -> str:
    return printable(repr(value)[:80])
