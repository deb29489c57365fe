"""The entries of the long lists of a JSON file, group by group: the file is never in memory as a whole."""

import json
import re
from collections.abc import Callable, Iterator
from json.decoder import WHITESPACE  # type: ignore[attr-defined]
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

_BETWEEN = re.compile(r"\}[ \t\n\r]*,[ \t\n\r]*\{")
"""The end of an object of a list, and the start of the next one."""
BLOCK = 1 << 22
"""Characters that are read at once."""
TOGETHER = 1 << 16
"""The most characters of a list that are decoded at once."""


class Irregular(Exception):
    """The file is not an object in UTF-8 as this module reads it. It may be damaged, or only unusual."""


def entries(path: Path, constant: Callable[[str], float]) -> Iterator[tuple[str, int, Any]]:
    """The object of a JSON file as (key, place, value): a list as (key, -1, []) and groups of its entries.

    Of a group, place is that of its first entry, and value is the list of its entries. What is no list is
    (key, -1, value).

    A key that comes again begins again, as the last one counts. constant: the value of NaN, Infinity and -Infinity.
    Raises Irregular, at the latest at the end, for everything that `json.loads` does not read as an object, and for
    some files that it reads, such as those of other encodings.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = _Text(file, json.JSONDecoder(parse_constant=constant).raw_decode)
            text.expect("{")
            for _ in text.items("}"):
                key = text.value()
                if not isinstance(key, str):
                    raise Irregular(f"{key!r} is no key")
                text.expect(":")
                if text.peek() != "[":
                    yield key, -1, text.value()
                    continue
                text.expect("[")
                yield key, -1, []
                place = 0
                for group in text.groups():
                    yield key, place, group
                    place += len(group)
            if text.peek():
                raise Irregular("more text follows")
    except (OSError, ValueError, RecursionError) as error:  # ValueError: also text that is not UTF-8
        raise Irregular(str(error)) from error


class _Text:
    """The text of a file from the place on that is being read."""

    def __init__(self, file: IO[str], decode: Callable[[str, int], tuple[Any, int]]):
        self.file, self.decode = file, decode
        self.text, self.place, self.ended = "", 0, False

    def more(self) -> None:
        """Reads on: at least as much as there is, so that a long value is not tried too often."""
        left = self.text[self.place :]
        part = self.file.read(max(BLOCK, len(left)))
        self.text, self.place, self.ended = left + part, 0, not part

    def peek(self) -> str:
        """The next character that is no blank; "" at the end of the file."""
        while True:
            self.place = WHITESPACE.match(self.text, self.place).end()
            if self.place < len(self.text):
                return self.text[self.place]
            if self.ended:
                return ""
            self.more()

    def expect(self, character: str) -> None:
        """Steps over a character."""
        if self.peek() != character:
            raise Irregular(f"there is no {character}")
        self.place += 1

    def items(self, end: str) -> Iterator[int]:
        """Counts the items of a list or an object, which the caller reads, up to its end, and steps over commas."""
        place = 0
        if self.peek() != end:
            yield place
            while self.peek() == ",":
                self.place += 1
                place += 1
                yield place
        self.expect(end)

    def groups(self) -> Iterator[list[Any]]:
        """The values of a list, after its bracket: as many at once as are in the text, or one."""
        if self.peek() == "]":
            self.place += 1
            return
        together = True
        while True:
            while together and (end := self._last_comma()):
                try:
                    group = from_json(f"[{self.text[self.place : end]}]", allow_inf_nan=False)
                except ValueError:  # the comma is inside a value or after the list, or only `json` reads the values
                    together = False
                    continue
                self.place = end + 1
                yield group
            yield [self.value()]
            if self.peek() != ",":
                self.expect("]")
                return
            self.place += 1

    def _last_comma(self) -> int:
        """The place of the last comma between two objects in the text that may be decoded at once; 0: there is none.

        If the text up to a comma is a list of values, then it is the beginning of this list: JSON has one reading.
        """
        first = _BETWEEN.search(self.text, self.place, self.place + TOGETHER)
        last = first and self.text.rfind(first.group(), self.place, self.place + TOGETHER)
        return self.text.index(",", last) if last else 0

    def value(self) -> Any:
        """The next value. A value that ends where the text ends may go on: more is read first."""
        self.peek()
        while True:
            try:
                value, end = self.decode(self.text, self.place)
            except ValueError:
                if self.ended:
                    raise
                self.more()
                continue
            if end < len(self.text) or self.ended:
                self.place = end
                return value
            self.more()
