"""The blocks of a report: tables and lists of lines, and their Markdown. The page shows the same blocks."""

import io
import itertools
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from detect.errors import printable


@dataclass(frozen=True)
class Table:
    """Cells as text, [rows, heads]. caption: text above the table; note: text below it. Both may be empty.

    page_only: the table is too long for Markdown, which names it alone.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    note: str = ""
    page_only: bool = False


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


SPECIAL = re.compile(r"[|*`<~\\]|(?<!\w)_+|\](?=[(\[])|&(?=#?\w+;)")
CODE, BOLD = re.compile(r"(`[^`]+`)"), re.compile(r"\*\*(.*)\*\*(.*)", re.DOTALL)

Block = Table | Listing
Part = Block | Figure


def markdown(blocks: Sequence[Block]) -> str:
    """The blocks in order as Markdown."""
    return "\n".join(_table(block) if isinstance(block, Table) else _listing(block) for block in blocks)


def console(block: Block, width: int = 80) -> str:
    """A block as plain text of at most `width` characters a line.

    Columns that do not fit stand below, with the columns before the first figure again, at most twice. A last line
    names the others.
    """
    if isinstance(block, Listing):
        return "\n".join([printable(block.caption), *(f"  {line}" for line in map(printable, block.lines))])
    cells = [[printable(cell) for cell in row] for row in (block.heads, *block.rows)]
    columns = zip(*cells[1:], strict=True)
    figures = (k for k, column in enumerate(columns) if any(re.match(r"[+-]?\d+\.\d", cell) for cell in column))
    first = min(next(figures, 1), 6)  # the columns before it are labels
    widths = [min(max(map(len, column)), width // 3) for column in zip(*cells, strict=True)]
    while sum(widths[:first]) + 2 * first > width * 2 // 3 - 2:
        widths[widths.index(max(widths[:first]))] -= 1
    parts: list[str] = []
    rest = list(range(first, len(widths)))
    while not parts or (rest and len(parts) < 3):
        ends = itertools.accumulate(widths[k] + 2 for k in [*range(first), *rest])
        fitting = sum(end - 2 <= width for end in ends)
        shown, rest = [*range(first), *rest][:fitting], rest[fitting - first :]
        parts.append(_plain(cells, shown, widths, width))
    left_out = ", ".join(cells[0][k] for k in rest)
    remarks = block.note, f"table.md also has: {left_out}" if left_out else ""
    texts = [printable(block.caption), "\n".join(parts), *(textwrap.fill(line, width) for line in remarks)]
    return "\n".join(filter(None, texts))


def _plain(cells: Sequence[Sequence[str]], shown: Sequence[int], widths: Sequence[int], width: int) -> str:
    """Columns of a table without lines. A cell that is wider than its column goes on in the next line."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Columns

    columns = Columns(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    for k in shown:
        columns.add_column(escape(cells[0][k]), width=widths[k], overflow="fold")
    for row in cells[1:]:
        columns.add_row(*(escape(row[k]) for k in shown))
    text = io.StringIO()
    Console(file=text, width=width, color_system=None, legacy_windows=False).print(columns)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _table(table: Table) -> str:
    lines = [_prose(table.caption), ""] if table.caption else []
    if table.page_only:
        return "\n".join([*lines, f"{len(table.rows)} rows: report.html and the csv file have them."]) + "\n"
    lines += [_line(table.heads), "|" + "---|" * len(table.heads), *(_line(row) for row in table.rows)]
    return "\n".join([*lines, *(["", _prose(table.note)] if table.note else [])]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(literal, cells)) + " |"


def _listing(listing: Listing) -> str:
    lines = [f"    {printable(line)}" if listing.code else f"- {literal(line)}" for line in listing.lines]
    return "\n".join([listing.caption, "", *lines]) + "\n"


def literal(text: str) -> str:
    """Text that Markdown shows as it is, as names of classes, files and runs may be anything.

    A character is escaped where it has a meaning: `_` only before a word, `]` only before what makes a link of it.
    """
    return SPECIAL.sub(lambda found: "".join(f"\\{c}" for c in found[0]), printable(text))


def _prose(text: str) -> str:
    """A caption or a note: literal but for the code in it, and for a head in bold."""
    bold = BOLD.fullmatch(text)
    if bold:
        return f"**{literal(bold[1])}**{literal(bold[2])}"
    return "".join(part if CODE.fullmatch(part) else literal(part) for part in CODE.split(text))
