"""A message of a pipeline.config: typed fields, the line of each, and which of them were read."""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from detect.errors import ConfigError, printable
from detect.text_format import Field, Quoted, Value

_WHOLE = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?)[fF]?")
_FLAGS = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}


class NoCounterpart(ConfigError):
    """A part of a pipeline.config that does not exist here. part: its name, for a table."""

    def __init__(self, message: str, part: str):
        super().__init__(message)
        self.part = part


class Message:
    """The fields of a message.

    file, path, line: where it stands, for messages of errors; path is `model.ssd.loss`, empty for the whole file.
    given: False for a message that the file does not have; its fields all have their defaults.
    """

    def __init__(self, fields: Sequence[Field], file: Path, path: str = "", line: int = 1, given: bool = True):
        self.fields, self.file, self.path, self.line, self.given = list(fields), file, path, line, given
        self._children: dict[str, list[Message]] = {}
        self._read: set[str] = set()

    def error(self, name: str, reason: str) -> ConfigError:
        """A ConfigError that names the file, the line and the field."""
        return ConfigError(f"{self._where(name)}: {reason}")

    def missing(self, name: str, part: str, reason: str = "has no counterpart here") -> NoCounterpart:
        """The error for a field whose value does not exist here. part: what is missing, in a few words."""
        return NoCounterpart(f"{self._where(name)}: {part} {reason}", part)

    def has(self, name: str) -> bool:
        """Whether the field is given; this does not count as reading it."""
        return any(field.name == name for field in self.fields)

    def text(self, name: str, default: str = "") -> str:
        """A string, in quotes."""
        value = self._single(name)
        if value is None:
            return default
        if not isinstance(value, Quoted):
            raise self.error(name, "expected text in quotes")
        return printable(value)

    def texts(self, name: str) -> list[str]:
        """The strings of a repeated field."""
        values = self._scalars(name)
        if not all(isinstance(value, Quoted) for value in values):
            raise self.error(name, "expected text in quotes")
        return [printable(value) for value in values]

    def word(self, name: str, default: str) -> str:
        """The name of an enumeration's value."""
        value = self._single(name)
        if value is not None and (isinstance(value, Quoted) or not re.fullmatch(r"[A-Za-z_]\w*", value, re.ASCII)):
            raise self.error(name, f"expected a name such as {default}, without quotes")
        return default if value is None else value

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self._single(name)
        if value is not None and (isinstance(value, Quoted) or value not in _FLAGS):
            raise self.error(name, f"'{value[:20]}' is not legal: expected true or false")
        return default if value is None else _FLAGS[value]

    def whole(self, name: str, default: int) -> int:
        """A whole number."""
        value = self._single(name)
        if value is None:
            return default
        if isinstance(value, Quoted) or len(value) > 20 or not _WHOLE.fullmatch(value):
            raise self.error(name, f"'{value[:20]}' is not legal: expected a whole number")
        octal = re.fullmatch(r"[+-]?0[0-7]+", value)
        return int(value, 8 if octal else 0)

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        value = self._single(name)
        return default if value is None else self._number(name, value)

    def numbers(self, name: str) -> list[float]:
        """The numbers of a repeated field."""
        return [self._number(name, value) for value in self._scalars(name)]

    def message(self, name: str) -> "Message":
        """A message that may be absent. Raises ConfigError if it is given twice."""
        found = self.messages(name)
        if len(found) > 1:
            raise ConfigError(f"{self.file}:{found[1].line}: {found[1].path} is given twice")
        return found[0] if found else Message([], self.file, self._path(name), self.line, given=False)

    def messages(self, name: str) -> list["Message"]:
        """The messages of a repeated field."""
        self._read.add(name)
        if name not in self._children:
            found = []
            for value, line in self._values(name):
                if not isinstance(value, list):
                    raise self.error(name, "expected a message, { ... }")
                found.append(Message(value, self.file, self._path(name), line))
            self._children[name] = found
        return self._children[name]

    def one(self, legal: Sequence[str], beside: Sequence[str] = ()) -> tuple[str, "Message"] | None:
        """The one message that is given of those that exclude each other, and its name; None if there is none.

        legal: those that exist here. beside: fields of the message that are no alternatives. Raises NoCounterpart for
        another one, and ConfigError for two of them.
        """
        found = [field.name for field in self.fields if field.name not in beside]
        if len(found) > 1:
            raise self.error(found[1], f"{found[0]} is given, too; expected one of them")
        if not found:
            return None
        if found[0] not in legal:
            raise self.missing(found[0], found[0])
        return found[0], self.message(found[0])

    def ignore(self, *names: str) -> None:
        """Marks fields, with all that they hold, as read: they do not change what is computed."""
        for name in names:
            self._read.add(name)
            self._children[name] = []

    def unread(self) -> Iterator[str]:
        """`path (line)` of each given field that nobody read."""
        for field in self.fields:
            if field.name not in self._read:
                yield f"{self._path(field.name)} (line {field.line})"
        for children in self._children.values():
            for child in children:
                yield from child.unread()

    def _path(self, name: str) -> str:
        return printable(f"{self.path}.{name[:80]}".strip("."))

    def _where(self, name: str) -> str:
        lines = [field.line for field in self.fields if field.name == name]
        return f"{self.file}:{lines[-1] if lines else self.line}: {self._path(name)}"

    def _values(self, name: str) -> Iterator[tuple[Value, int]]:
        for field in self.fields:
            if field.name == name:
                values = field.value if isinstance(field.value, tuple) else (field.value,)
                yield from ((value, field.line) for value in values)

    def _scalars(self, name: str) -> list[str]:
        self._read.add(name)
        values = [value for value, _ in self._values(name)]
        strings = [value for value in values if isinstance(value, str)]
        if len(strings) != len(values):
            raise self.error(name, "expected a value, not a message")
        return strings

    def _single(self, name: str) -> str | None:
        values = self._scalars(name)
        if len(values) > 1:
            raise self.error(name, "is given twice")
        return values[0] if values else None

    def _number(self, name: str, value: str) -> float:
        decimal, hexadecimal = _FLOAT.fullmatch(value), len(value) <= 20 and _WHOLE.fullmatch(value)
        if isinstance(value, Quoted) or not (decimal or hexadecimal):
            raise self.error(name, f"'{value[:20]}' is not legal: expected a number")
        number = float(value.rstrip("fF")) if decimal else float(int(value, 0))
        if not math.isfinite(number):
            raise self.error(name, f"'{value[:20]}' is not legal: expected a finite number")
        return number
