"""How a CSV file of boxes is written: its delimiter, and the places of its columns."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detect.data.formats.values import CROWD, finite
from detect.data.image_file import IMAGE_SUFFIXES

CORNERS = ("xmin", "ymin", "xmax", "ymax")
NEEDED = ("filename", "class", *CORNERS)
RETINANET = ("filename", *CORNERS, "class")
"""The columns of keras-retinanet's form, which has no header."""
COLUMNS = {
    "filename": ("image", "imagename", "imagepath", "path", "file", "imageid", "img"),
    "class": ("label", "classname", "name"),
    "width": ("imagewidth",),
    "height": ("imageheight",),
    "xmin": ("x1",),
    "ymin": ("y1",),
    "xmax": ("x2",),
    "ymax": ("y2",),
    "split": ("subset", "set", "datasplit"),
}
"""Other names of the columns, as `_plain` gives them."""
NAMES = ("class", *COLUMNS["class"], "labelname", "category", "categoryname")
"""The columns that may have the names of classes, beside one of numbers."""
POINTS = ("x1", "y1", "x2", "y2")
FLAGS = {name.replace("_", "") for name in CROWD}
DELIMITERS = (",", ";", "\t")
_SEPARATOR = re.compile(r"""\A\s*"?sep=.?"?[ \t]*(?=[\r\n])""", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """How a file is written.

    columns: place of each column that is read. flags: names of those that make an object crowd, by their place.
    unused: names of the others, by their place. header: whether there is one; the corners are then those of VOC.
    """

    delimiter: str
    columns: Mapping[str, int]
    flags: Mapping[int, str]
    unused: Mapping[int, str]
    header: bool


def layout_of(text: str) -> Layout:
    """How the first line that is not empty says that a file is written; columns may be missing."""
    line = next((line for line in re.split(r"[\r\n]+", without_separator(text)) if line.strip()), "")
    layouts = [_columns(_fields(line, delimiter), delimiter) for delimiter in DELIMITERS]
    return max(layouts, key=lambda layout: len(layout.columns))


def without_separator(text: str) -> str:
    """The text of a file, whose first line is empty if it is `sep=;`: so Excel is told the delimiter."""
    return _SEPARATOR.sub("", text)


def with_names(layout: Layout, rows: Iterable[Sequence[str]]) -> Layout:
    """The layout, with the column of names in place of that of classes if this one has numbers alone.

    rows: the fields of each row. They are not read if there is no such other column.
    """
    number = layout.columns["class"]
    others = {k for k, title in layout.unused.items() if _plain(title) in NAMES}
    words = set[int]()
    for row in rows if others else ():
        if not (row[number].isdecimal() or not row[number]):
            return layout
        others = {k for k in others if row[k] or not row[number]}
        words |= {k for k in others if row[k] and not row[k].isdecimal()}
    name = next(iter(sorted(others & words)), None)
    if name is None:
        return layout
    unused = {k: title for k, title in layout.unused.items() if k != name} | {number: "the number of the class"}
    return replace(layout, columns={**layout.columns, "class": name}, unused=unused)


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return [text.strip() for text in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    except csv.Error:
        return []


def _columns(fields: Sequence[str], delimiter: str) -> Layout:
    if _is_retinanet(fields):
        return Layout(delimiter, {name: k for k, name in enumerate(RETINANET)}, {}, {}, False)
    titles = list(map(_plain, fields))
    if "x3" in titles:  # points of a polygon
        titles = [title if title not in POINTS else "" for title in titles]
    columns: dict[str, int] = {}
    for name, synonyms in COLUMNS.items():
        places = [k for title in (name, *synonyms) for k, found in enumerate(titles) if found == title]
        if places:
            columns[name] = places[0]
    others = {k: text or f"column {k + 1}" for k, text in enumerate(fields) if k not in columns.values()}
    flags = {k: text for k, text in others.items() if titles[k] in FLAGS}
    return Layout(delimiter, columns, flags, {k: text for k, text in others.items() if k not in flags}, True)


def _plain(title: str) -> str:
    """A title without blanks and signs, in lower case: "Image Name" is that of image_name."""
    return re.sub(r"[\W_]", "", title).lower()


def _is_retinanet(fields: Sequence[str]) -> bool:
    if len(fields) != len(RETINANET) or Path(fields[0]).suffix.lower() not in IMAGE_SUFFIXES:
        return False
    return not any(fields[1:5]) or (bool(fields[5]) and all(finite(text) is not None for text in fields[1:5]))
