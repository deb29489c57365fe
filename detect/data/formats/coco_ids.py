"""Ids in a COCO file: of images, which annotations name, and of categories, which results carry as numbers."""

import re
from array import array
from collections.abc import Iterable, Sequence
from itertools import count

_WHOLE = re.compile(r"-?[0-9]{1,15}")  # JSON's readers have 53 bits


class Codes:
    """Ids of one kind as annotations name them, each with a small number. values: the ids; rows: of each annotation.

    An id that is written in two ways, such as 1 and "1", has two numbers.
    """

    def __init__(self) -> None:
        self.known: dict[int | str, int] = {}
        self.values: list[object] = []
        self.rows = array("q")

    def add(self, value: object) -> None:
        """The id of the next annotation."""
        known = type(value) is int or type(value) is str  # True equals 1, and a list can't be a key
        code = self.known.setdefault(value, len(self.values)) if known else len(self.values)  # type: ignore[arg-type]
        if code == len(self.values):
            self.values.append(value)
        self.rows.append(code)

    def extend(self, values: Sequence[int | str]) -> None:
        """The ids of the next annotations, which are integers or text."""
        for value in dict.fromkeys(values):
            if value not in self.known:
                self.known[value] = len(self.values)
                self.values.append(value)
        self.rows.extend(map(self.known.__getitem__, values))


def id_text(value: object) -> str | None:
    """An id as text: 1, 1.0 and "1" are equal; None for other types."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value).strip()


def is_whole(key: str) -> bool:
    """Whether an id is a whole number that results can carry."""
    return _WHOLE.fullmatch(key) is not None


def numbers_of(keys: Iterable[str]) -> dict[str, int]:
    """The number of each id. One that no result can carry has the first number from 1 that no other id has."""
    keys = list(keys)
    owners: dict[int, str] = {}
    for key in filter(is_whole, keys):
        owners.setdefault(int(key), key)  # "07" and "7" are two ids
    free = (number for number in count(1) if number not in owners)
    own = {key: number for number, key in owners.items()}
    return {key: own[key] if key in own else next(free) for key in keys}
