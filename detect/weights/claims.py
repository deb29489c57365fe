"""What a file of weights may claim to hold, measured by its own size."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from detect.errors import WeightsError

LARGEST = 2 << 30  # bytes of a file: networks have far fewer, and a graph can't have more
SWELL = 16  # the most bytes of arrays for a byte of a file: weights that were trained are hardly compressible
SPARE = 1 << 20  # bytes that any file may give


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
