"""Label maps of the Object Detection API: `item { id: 1 name: 'cat' }` in protobuf's text format."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from detect.data.notes import Notes
from detect.data.text import first_bytes, one_name, read_text
from detect.errors import DataError

MOST = 1_000_000
"""The largest legal id."""
DEEPEST = 20
_TOKEN = re.compile(
    r"""(?P<gap>[\s,;]+|\#[^\n]*) | (?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*') | (?P<sign>[{}<>\[\]:])
    | (?P<word>[^\s,;{}<>\[\]:"'\#]+)""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
Token = tuple[str, str, int]
"""Kind (text, sign or word), content, line."""


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
    for field, content, line in _message(path, _tokens(path, read_text(path, notes))):
        if field != "item" or not isinstance(content, list):
            notes.add("not used, fields of label maps", f"{field[:80]} of {path.name}")
            continue
        number, name, display = _item(path, content, line, notes)
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


def _tokens(path: Path, text: str) -> Iterator[Token]:
    place, line = 0, 1
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise DataError(
                f"{path}:{line}: '{text[place : place + 20].splitlines()[0]}' can't be read; is a quote missing?"
            )
        if match.lastgroup != "gap":
            yield str(match.lastgroup), match.group(), line
        line += match.group().count("\n")
        place = match.end()


def _message(path: Path, tokens: Iterator[Token], end: str = "", depth: int = 0) -> list[tuple[str, object, int]]:
    """The fields of a message, up to its closing sign: (name, text, number as text or list of fields, line)."""
    fields: list[tuple[str, object, int]] = []
    waiting: Token | None = None
    while True:
        kind, name, line = waiting or next(tokens, ("", "", 0))
        waiting = None
        if (kind, name) in (("", ""), ("sign", end)):
            if name != end:
                raise DataError(f"{path}: the file ends before the '{end}' that closes an item")
            return fields
        if kind != "word":
            raise DataError(f"{path}:{line}: '{name[:80]}' is not the name of a field, such as id or name")
        kind, value, _ = token = next(tokens, ("", "", 0))
        if (kind, value) == ("sign", ":"):
            kind, value, _ = token = next(tokens, ("", "", 0))
        if kind == "sign" and value in "{<":
            if depth >= DEEPEST:
                raise DataError(f"{path}:{line}: messages are nested deeper than {DEEPEST}")
            fields.append((name, _message(path, tokens, "}" if value == "{" else ">", depth + 1), line))
        elif (kind, value) == ("sign", "["):
            values = []
            while (token := next(tokens, ("", "", 0)))[1] != "]":
                if token[0] not in ("word", "text"):
                    raise DataError(f"{path}:{line}: the list of {name[:80]} is not closed by ']'")
                values.append(token[1])
            fields.append((name, tuple(values), line))
        elif kind == "text":
            parts = []
            while token[0] == "text":
                parts.append(_unquoted(token[1]))
                token = next(tokens, ("", "", 0))
            waiting = token if token[0] else None
            fields.append((name, b"".join(parts).decode("utf-8", "replace"), line))
        elif kind == "word":
            fields.append((name, value, line))
        else:
            raise DataError(f"{path}:{line}: {name[:80]} has no value")


def _unquoted(text: str) -> bytes:
    def meaning(match: re.Match[bytes]) -> bytes:
        octal, hexadecimal, letter = match.groups()
        if letter is not None:
            return _LETTERS.get(letter, letter)
        return bytes([(int(octal, 8) if octal else int(hexadecimal, 16)) & 255])

    return _ESCAPE.sub(meaning, text[1:-1].encode("utf-8", "surrogatepass"))


def _item(path: Path, fields: list[tuple[str, object, int]], line: int, notes: Notes) -> tuple[int, str, str]:
    """id, name and display name of an item."""
    values: dict[str, str] = {}
    for field, value, at in fields:
        if field not in ("id", "name", "display_name") or not isinstance(value, str):
            notes.add("not used, fields of label maps", f"{field[:80]} in {path.name}:{at}")
        elif field in values:
            raise DataError(f"{path}:{at}: the item has {field} twice")
        else:
            values[field] = value
    number, display = values.get("id", ""), one_name(values.get("display_name", ""))
    name = one_name(values.get("name", "")) or display
    if not (number.isascii() and number.isdecimal() and len(number) < 9 and int(number) <= MOST):
        raise DataError(f"{path}:{line}: the id of '{name[:80]}' is '{number[:20]}'; it must be a whole number from 1")
    if not name:
        raise DataError(f"{path}:{line}: the item {number} has no name")
    if int(number) == 0 and name.lower() != "background":
        raise DataError(f"{path}:{line}: '{name[:80]}' has the id 0, which is background; ids of classes begin at 1")
    return int(number), name, display
