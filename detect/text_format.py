"""Protobuf's text format, without descriptors: `name: value` and `name { ... }`, in pipeline.config and label maps.

The names of fields and the types of values are not checked here; those who read a message know them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from detect.errors import DataError

DEEPEST = 20
"""The deepest nesting of messages that is read."""
_TOKEN = re.compile(
    r"""(?P<gap>\s+|\#[^\n]*) | (?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*') | (?P<sign>[{}<>\[\]:,;])
    | (?P<word>[^\s,;{}<>\[\]:"'\#]+)""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_CLOSING = {"{": "}", "<": ">"}
SEPARATORS = (",", ";")
Token = tuple[str, str, int]
"""Kind (text, sign or word; empty at the end), content, line."""
END: Token = ("", "", 0)


class Quoted(str):
    """A value that stood in quotes, without them."""


Value = str | list["Field"] | tuple["Value", ...]
"""A number or a word, a `Quoted`, the fields of a message, or the values of a list in brackets."""


@dataclass(frozen=True)
class Field:
    """name: of the field. line: where it begins, from 1."""

    name: str
    value: Value
    line: int


def parse(text: str, source: object) -> list[Field]:
    """The fields of a text, in order; a repeated field is there several times.

    source: its name for messages. Raises DataError, with the line, for text that can't be parsed.
    """
    return _Parser(text, source).message("", 0)


class _Parser:
    def __init__(self, text: str, source: object):
        self.source, self.tokens = source, self._tokens(text)
        self.waiting: list[Token] = []

    def error(self, line: int, reason: str) -> DataError:
        return DataError(f"{self.source}:{line}: {reason}")

    def _tokens(self, text: str) -> Iterator[Token]:
        place, line = 0, 1
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                shown = text[place : place + 20].splitlines()[0]
                raise self.error(line, f"'{shown}' can't be read; is a quote missing?")
            if match.lastgroup != "gap":
                yield str(match.lastgroup), match.group(), line
            line += match.group().count("\n")
            place = match.end()

    def take(self) -> Token:
        return self.waiting.pop() if self.waiting else next(self.tokens, END)

    def message(self, end: str, depth: int, opened: int = 0) -> list[Field]:
        """The fields up to the closing sign `end`. opened: the line of the opening one."""
        fields: list[Field] = []
        while True:
            kind, name, line = self.take()
            if kind == "sign" and name in SEPARATORS:
                continue
            if (kind, name) in (END[:2], ("sign", end)):
                if name != end:
                    raise self.error(opened, f"the file ends before the '{end}' that closes an item")
                return fields
            if kind != "word":
                raise self.error(line, f"'{name[:80]}' is not the name of a field, such as id or name")
            token = self.take()
            colon = token[:2] == ("sign", ":")
            if colon:
                token = self.take()
            if not colon and token[1] not in ("{", "<", "["):
                raise self.error(line, f"{name[:80]} has no value: a ':' or a '{{' must follow it")
            fields.append(Field(name, self.value(name, token, line, depth), line))

    def value(self, name: str, token: Token, line: int, depth: int) -> Value:
        kind, content, at = token
        if kind == "sign" and content in _CLOSING:
            if depth >= DEEPEST:
                raise self.error(at, f"messages are nested deeper than {DEEPEST}")
            return self.message(_CLOSING[content], depth + 1, at)
        if (kind, content) == ("sign", "["):
            return tuple(self.values(name, line, depth))
        if kind == "text":
            parts = []
            while token[0] == "text":
                parts.append(token[1])
                token = self.take()
            self.waiting.append(token)
            try:
                return Quoted(_text(b"".join(map(_unquoted, parts))))
            except ValueError:
                raise self.error(at, f"the escapes in the text of {name[:80]} are no UTF-8") from None
        if kind == "word":
            return content
        raise self.error(line, f"{name[:80]} has no value")

    def values(self, name: str, line: int, depth: int) -> Iterator[Value]:
        """The values of a list up to its bracket."""
        if depth >= DEEPEST:
            raise self.error(line, f"lists are nested deeper than {DEEPEST}")
        while (token := self.take())[:2] != ("sign", "]"):
            if token[:2] == ("sign", ","):
                continue
            if token[0] not in ("word", "text") and token[1] not in _CLOSING:
                raise self.error(line, f"the list of {name[:80]} is not closed by ']'")
            yield self.value(name, token, line, depth + 1)


def _unquoted(text: str) -> bytes:
    def meaning(match: re.Match[bytes]) -> bytes:
        octal, hexadecimal, short, long, letter = match.groups()
        if letter is not None:
            return _LETTERS.get(letter, letter)
        if character := short or long:
            return chr(int(character, 16)).encode("utf-8", "surrogatepass")
        return bytes([(int(octal, 8) if octal else int(hexadecimal, 16)) & 255])

    return _ESCAPE.sub(meaning, text[1:-1].encode("utf-8", "surrogatepass"))


def _text(content: bytes) -> str:
    """The text of bytes in UTF-8, in which two surrogates make a character. Raises ValueError for other bytes."""
    return content.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16")
