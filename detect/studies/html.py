"""A report as one self-contained HTML file: tables and embedded figures, without scripts or addresses."""

import base64
import html
import re
from collections.abc import Sequence

from detect.errors import printable
from detect.studies.blocks import Figure, Listing, Part, Table

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1e21; --pale: #5d646d; --line: #d9dde2; --shade: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e6e8ea; --pale: #9aa2ab; --line: #363b41; --shade: #1f2226; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 84rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
td.wordy { overflow-wrap: anywhere; }
td.figure { white-space: nowrap; }
td.figure.long { white-space: normal; overflow-wrap: normal; min-width: 6.5em; }
tbody tr:last-child td { border-bottom: 0; }
th { background: var(--shade); font-weight: 600; }
td.figure, th.figure { text-align: right; }
p.note { color: var(--pale); font-size: .875rem; margin: .5rem 0 0; max-width: 60rem; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; display: block; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; }
figcaption { color: var(--pale); font-size: .875rem; margin-top: .4rem; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: .8rem;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8125rem; }
ul { font-size: .875rem; padding-left: 1.2rem; overflow-wrap: anywhere; }
@media (max-width: 60rem) {
  table:not(.few), table:not(.few) tbody, table:not(.few) tr, table:not(.few) td { display: block; width: 100%; }
  table:not(.few) thead { display: none; }
  table:not(.few) tbody tr { border-bottom: 1px solid var(--line); padding: .35rem 0; }
  table:not(.few) tbody tr:last-child { border: 0; }
  table:not(.few) tbody tr td { border: 0; display: flex; justify-content: space-between; gap: 1rem;
    text-align: right; white-space: normal; padding: .1rem .6rem; }
  table:not(.few) td:first-child { font-weight: 600; }
  table:not(.few) td::before { content: attr(data-head); color: var(--pale); text-align: left; font-weight: 400;
    overflow-wrap: normal; }
  table td.empty { display: none !important; }
}
table.many tbody tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); padding: .4rem 0;
  border-bottom: 1px solid var(--line); }
table.many thead { display: none; }
table.many tbody tr td { display: block; border: 0; text-align: left; padding: .12rem .55rem; white-space: normal; }
table.many td::before { content: attr(data-head); display: block; color: var(--pale); font-size: .75rem; }
@media print { .wide { overflow: visible; } }
"""
MANY = 14
"""A table with more columns is shown as lists, at any width."""
FEW = 3
"""A table with at most so many columns stays a table on a narrow screen."""
WORD = 24  # characters of a word that may be broken anywhere
LONG = 16
"""A figure with more characters, such as one with its interval, may go on in a second line."""
NUMERIC = re.compile(r"\[[-+.\d, ]+\]|[-+]?[\d.]+(e[-+]?\d+)?%?( [±/(\[].*)?|n/a|-|no pair|")


def page(title: str, parts: Sequence[Part]) -> str:
    """The text of the HTML file, with its parts in their order. Below 960 pixels, a row of a table is a list."""
    shown = [
        _table(p) if isinstance(p, Table) else _listing(p) if isinstance(p, Listing) else _figure(p) for p in parts
    ]
    body = "\n".join(shown)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_text(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.heads)
    kinds = [_kind(column) if place else "" for place, column in enumerate(columns)]  # the first column names the rows
    head = "".join(f"<th{_class(kind)}>{_text(text)}</th>" for kind, text in zip(kinds, table.heads, strict=True))
    rows = (
        "".join(_cell(kind, name, text) for kind, name, text in zip(kinds, table.heads, row, strict=True))
        for row in table.rows
    )
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    many = "many" if len(table.heads) > MANY else "few" if len(table.heads) <= FEW else ""
    note = f'\n<p class="note">{_text(table.note)}</p>' if table.note else ""
    return (
        f'{_caption(table.caption)}<div class="wide"><table{_class(many)}>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>{note}"
    )


def _listing(listing: Listing) -> str:
    if listing.code:
        return f"{_caption(listing.caption)}<pre>{chr(10).join(map(_text, listing.lines))}</pre>"
    lines = "\n".join(f"<li>{_text(line)}</li>" for line in listing.lines)
    return f"{_caption(listing.caption)}<ul>\n{lines}\n</ul>"


def _kind(column: Sequence[str]) -> str:
    """The classes of a column's cells."""
    if not all(map(NUMERIC.fullmatch, column)):
        return ""
    return "figure long" if max(map(len, column), default=0) > LONG else "figure"


def _cell(kind: str, head: str, text: str) -> str:
    if not text:
        kind = f"{kind} empty".strip()
    if max(map(len, text.split()), default=0) > WORD:
        kind = f"{kind} wordy".strip()
    return f'<td{_class(kind)} data-head="{_text(head)}">{_text(text)}</td>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _figure(figure: Figure) -> str:
    data = base64.b64encode(figure.content).decode()
    alt = _text(figure.caption)
    picture = f'<img src="data:image/{figure.kind};base64,{data}" alt="{alt}">'
    return f"<figure>{picture}<figcaption>{alt}</figcaption></figure>"


def _caption(text: str) -> str:
    return f"<h2>{_text(text.replace('**', ''))}</h2>\n" if text else ""


def _text(text: str) -> str:
    """Text as HTML shows it, between tags and in attributes."""
    return html.escape(printable(text), quote=True)
