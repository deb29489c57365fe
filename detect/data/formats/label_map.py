"""Label maps of the Object Detection API: `item { id: 1 name: 'cat' }` in protobuf's text format."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from detect.data.notes import Notes
from detect.data.text import first_bytes, one_name, read_text
from detect.errors import DataError
from detect.text_format import Field, parse

MOST = 1_000_000
"""The largest legal id."""


@dataclass(frozen=True)
class LabelMap:
    """The items of a label map. names: of the classes by id. shown: other names of them, which records may have, too.

    A class has its `name`. Those of Open Images, such as /m/01yrx, tell nobody what they are: there `display_name` is
    the name of the class.
    """

    path: Path
    names: Mapping[int, str]
    shown: Mapping[int, str]


def read_label_map(path: Path, notes: Notes) -> LabelMap:
    """Reads a label map. Ids are 1 or more; an item of id 0 that is called background is left out.

    An item without `name` has its `display_name` as name. Raises DataError, naming the file and the line, for text that
    can't be parsed, an item without id or name, and an id or a name that is given twice.
    """
    names: dict[int, str] = {}
    shown: dict[int, str] = {}
    lines: dict[int, int] = {}
    taken: set[str] = set()
    for field in parse(read_text(path, notes), path):
        if field.name != "item" or not isinstance(field.value, list):
            notes.add("not used, fields of label maps", f"{field.name[:80]} of {path.name}")
            continue
        line = field.line
        number, name, display = _item(path, field.value, line, notes)
        if number == 0:
            notes.add("left out, the item 0 of label maps", name)
            continue
        if number in names:
            raise DataError(
                f"{path}:{line}: the id {number} is given twice: {names[number]} in line {lines[number]}, {name}; "
                "ids must differ"
            )
        if name in taken:
            raise DataError(f"{path}:{line}: the name '{name}' is given twice; names must differ")
        names[number], lines[number] = name, line
        taken.add(name)
        if display:
            shown[number] = display
    for number, display in shown.items():
        if names[number].startswith("/m/") and list(shown.values()).count(display) == 1 and display not in taken:
            names[number], shown[number] = display, names[number]
    if not names:
        raise DataError(f"{path}: it has no item; a label map is 'item {{ id: 1 name: \"cat\" }}' for each class")
    return LabelMap(path, dict(sorted(names.items())), shown)


def is_label_map(path: Path) -> bool:
    """Whether a pbtxt has items, by its first bytes."""
    return re.search(rb"\bitem\s*:?\s*[{<]", first_bytes(path)) is not None


def label_map_text(names: Mapping[int, str]) -> str:
    """The text of a label map, for `names` by id."""
    return (
        "\n".join(f"item {{\n  id: {number}\n  name: '{_escaped(name)}'\n}}" for number, name in names.items()) + "\n"
    )


def _escaped(name: str) -> str:
    plain = name.replace("\\", "\\\\").replace("'", "\\'")
    return "".join(c if ord(c) >= 32 and ord(c) != 127 else f"\\{ord(c):03o}" for c in plain)


def _item(path: Path, fields: list[Field], line: int, notes: Notes) -> tuple[int, str, str]:
    """id, name and display name of an item."""
    values: dict[str, str] = {}
    for field in fields:
        if field.name not in ("id", "name", "display_name") or not isinstance(field.value, str):
            notes.add("not used, fields of label maps", f"{field.name[:80]} in {path.name}:{field.line}")
        elif field.name in values:
            raise DataError(f"{path}:{field.line}: the item has {field.name} twice")
        else:
            values[field.name] = field.value
    number, display = values.get("id", ""), one_name(values.get("display_name", ""))
    name = one_name(values.get("name", "")) or display
    if not (number.isascii() and number.isdecimal() and len(number) < 9 and int(number) <= MOST):
        raise DataError(f"{path}:{line}: the id of '{name[:80]}' is '{number[:20]}'; it must be a whole number from 1")
    if not name:
        raise DataError(f"{path}:{line}: the item {number} has no name")
    if int(number) == 0 and name.lower() != "background":
        raise DataError(f"{path}:{line}: '{name[:80]}' has the id 0, which is background; ids of classes begin at 1")
    return int(number), name, display
