"""A report as one self-contained HTML file: tables and embedded figures, without scripts or addresses."""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path

from detect.errors import printable
from detect.studies.blocks import Block, Listing, Table

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
th, td { padding: .35rem .55rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 0; }
th { background: var(--shade); font-weight: 600; }
td.figure, th.figure { text-align: right; }
p.note { color: var(--pale); font-size: .875rem; margin: .5rem 0 0; max-width: 60rem; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; display: block; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; }
figure .wide img { border: 0; min-width: 46rem; }
figcaption { color: var(--pale); font-size: .875rem; margin-top: .4rem; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: .8rem; overflow-x: auto;
  font-size: .8125rem; }
ul { font-size: .875rem; padding-left: 1.2rem; overflow-wrap: anywhere; }
"""
NUMERIC = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?%?( [±/(\[].*|, n = .*)?|n/a|-|no pair|")


def page(title: str, blocks: Sequence[Block], figures: Sequence[tuple[str, Path]]) -> str:
    """The text of the HTML file. figures: captions and PNG files, which are shown after the first block."""
    shown = [_table(block) if isinstance(block, Table) else _listing(block) for block in blocks]
    body = "\n".join([*shown[:1], *(_figure(caption, path) for caption, path in figures), *shown[1:]])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_text(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.heads)
    kinds = [' class="figure"' if all(map(NUMERIC.fullmatch, column)) else "" for column in columns]
    head = "".join(f"<th{kind}>{_text(text)}</th>" for kind, text in zip(kinds, table.heads, strict=True))
    rows = (
        "".join(f"<td{kind}>{_text(text)}</td>" for kind, text in zip(kinds, row, strict=True)) for row in table.rows
    )
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    note = f'\n<p class="note">{_text(table.note)}</p>' if table.note else ""
    return (
        f'{_caption(table.caption)}<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n'
        f"</tbody></table></div>{note}"
    )


def _listing(listing: Listing) -> str:
    if listing.code:
        return f"{_caption(listing.caption)}<pre>{chr(10).join(map(_text, listing.lines))}</pre>"
    lines = "\n".join(f"<li>{_text(line)}</li>" for line in listing.lines)
    return f"{_caption(listing.caption)}<ul>\n{lines}\n</ul>"


def _figure(caption: str, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    alt = _text(caption)
    picture = f'<div class="wide"><img src="data:image/png;base64,{data}" alt="{alt}"></div>'
    return f"<figure>{picture}<figcaption>{alt}</figcaption></figure>"


def _caption(text: str) -> str:
    return f"<h2>{_text(text.replace('**', ''))}</h2>\n" if text else ""


def _text(text: str) -> str:
    """Text as HTML shows it, between tags and in attributes."""
    return html.escape(printable(text), quote=True)
