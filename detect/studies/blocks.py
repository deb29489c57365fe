"""The blocks of a report: tables and lists of lines, and their Markdown. The page shows the same blocks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from detect.errors import printable


@dataclass(frozen=True)
class Table:
    """Cells as text, [rows, heads]. caption: text above the table; note: text below it. Both may be empty."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    note: str = ""


@dataclass(frozen=True)
class Listing:
    """Lines of text. code: lines of a command line; if false, a list of remarks."""

    caption: str
    lines: tuple[str, ...]
    code: bool = True


@dataclass(frozen=True)
class Figure:
    """A picture of a page. content: the bytes of a PNG or JPEG file."""

    caption: str
    content: bytes

    @property
    def kind(self) -> str:
        """`png` or `jpeg`."""
        return "jpeg" if self.content.startswith(b"\xff\xd8") else "png"


Block = Table | Listing
Part = Block | Figure


def markdown(blocks: Sequence[Block]) -> str:
    """The blocks in order as Markdown."""
    return "\n".join(_table(block) if isinstance(block, Table) else _listing(block) for block in blocks)


def _table(table: Table) -> str:
    lines = [table.caption, ""] if table.caption else []
    lines += [_line(table.heads), "|" + "---|" * len(table.heads), *(_line(row) for row in table.rows)]
    return "\n".join([*lines, *(["", table.note] if table.note else [])]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(re.sub(r"[|*`<\\]", r"\\\g<0>", printable(cell)) for cell in cells) + " |"


def _listing(listing: Listing) -> str:
    indent = "    " if listing.code else "- "
    return (
        "\n".join([listing.caption, "", *(indent + _remark(printable(line), listing.code) for line in listing.lines)])
        + "\n"
    )


def _remark(line: str, code: bool) -> str:
    """A line of a command as it is; in a remark, nothing begins a tag."""
    return line if code else line.replace("<", "\\<")
