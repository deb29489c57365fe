"""The rows of a YOLO label file: boxes, polygons, turned boxes, and boxes with key points."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detect.data.notes import Notes
from detect.data.text import read_lines
from detect.errors import DataError, first_few

_DECIMAL_COMMA = re.compile(r"\d,\d")


class Row(NamedTuple):
    """label: the class from 0. box: yxyx as shares of the image. corners: whether it is made from corners.

    key_points: how many key points a row of corners may have behind a box in their place; 0: none.
    """

    label: int
    box: list[float]
    corners: bool = False
    key_points: int = 0


@dataclass
class Rows:
    """The rows of a file. boxes: [n, 4] yxyx as shares of the image. titles: the class of each. made: the classes of
    the boxes that are made from corners. pointed: the classes of boxes whose key points are left out.

    doubtful: the first row of corners that could be a box with key points, as a message names it. surely: whether
    another one, that has an area, can be nothing but corners.
    """

    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    titles: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    pointed: list[str] = field(default_factory=list)
    doubtful: str = ""
    surely: bool = False


def read_rows(source: Path | None, names: Sequence[str], points: int, notes: Notes) -> Rows:
    """The rows of a label file; None has none. Raises DataError naming the file and the line.

    points: numbers of a row that key points take, after the box.
    """
    rows = Rows()
    if source is None:
        return rows
    boxes, lines = [], read_lines(source, notes)
    if not points and _is_tracked(list(filter(None, lines))):
        raise DataError(
            f"{source}: each row has 7 numbers, the last of which is that of a track; a row must be "
            "'class cx cy width height' (of a polygon of 3 points that ends at the edge, write 1.0)"
        )
    for k, line in enumerate(lines, 1):
        if line:
            row = parse_line(line, f"{source}:{k}", names, points)
            title = names[row.label]
            rows.titles.append(title)
            boxes.append(row.box)
            if row.corners:
                rows.made.append(title)
                ymin, xmin, ymax, xmax = row.box
                rows.surely = rows.surely or (not row.key_points and ymin < ymax and xmin < xmax)
                rows.doubtful = rows.doubtful or (_pointed(f"{source}:{k}", row.key_points) if row.key_points else "")
            elif row.key_points:
                rows.pointed.append(title)
    rows.boxes = np.array(boxes, np.float64).reshape(-1, 4)
    return rows


def _is_tracked(rows: Sequence[str]) -> bool:
    """Whether rows are those of a tracker: class, box, confidence and a whole number, which no other row has."""
    words = (row.replace(",", " ").split() for row in rows)
    tracks = {row[6] for row in takewhile(lambda row: len(row) == 7 and row[6].isdecimal() and row[6] != "0", words)}
    return 0 < len(tracks) == len(rows)


def parse_line(line: str, where: str, names: Sequence[str], points: int = 0) -> Row:
    """One line. points: numbers of a row that key points take, after the box. Raises DataError naming `where`."""
    if _DECIMAL_COMMA.search(line) and "." not in line and len(line.split()) > 1:
        raise DataError(f"{where}: '{line[:80]}' has decimal commas; write 0.5, not 0,5")
    words = line.replace(",", " ").split()
    try:
        label, *values = [float(word.replace("_", "?")) for word in words]  # 1_0 is a number for Python alone
    except ValueError:
        raise DataError(f"{where}: '{line[:80]}' is not a row of numbers") from None
    if points and len(values) not in (4, 4 + points):
        raise DataError(f"{where}: {len(words)} numbers; by kpt_shape a line is a class, a box and {points} numbers")
    key_points = len(values) - 4 if points else 0
    values = values[:4] if points else values
    third = values[6::3] if len(values) % 3 == 1 else []
    seen = set(third) <= {0, 1, 2}  # how visible key points are
    if seen and (2 in third or (len(third) > 2 and len(values) % 2)):  # no corners are so
        raise DataError(_pointed(where, len(third)))
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        more = "; key points need kpt_shape in the yaml" if third else ""
        raise DataError(
            f"{where}: {len(words)} numbers; a line is 'class cx cy width height', or a class and 3 or more points"
            + more
        )
    if label not in range(len(names)):
        legal = first_few([f"{i} {n}" for i, n in enumerate(names)], 10)
        raise DataError(f"{where}: class {words[0][:20]} is not a number of names; legal: {legal}")
    if not all(map(math.isfinite, values)):
        raise DataError(f"{where}: '{line[:80]}' is not a row of finite numbers")
    if max(map(abs, values)) > 2:
        raise DataError(f"{where}: {max(values, key=abs):g} is not a share of the image; YOLO boxes are scaled to 0..1")
    if len(values) == 4:
        x, y, width, height = values
        return Row(int(label), [y - height / 2, x - width / 2, y + height / 2, x + width / 2], False, key_points)
    box = [min(values[1::2]), min(values[::2]), max(values[1::2]), max(values[::2])]
    fits = seen and len(third) > 2 and min(values[2:4]) > 0  # a box with key points has a width and a height
    return Row(int(label), box, True, len(third) if fits else 0)


def _pointed(where: str, count: int) -> str:
    return f"{where}: a box and {count} key points; the yaml must have kpt_shape: [{count}, 3]"


def note_rows(source: Path, rows: Rows, notes: Notes) -> None:
    """Notes what became of the rows of a file."""
    for title in rows.made:
        notes.add("boxes made from polygons and turned boxes", f"{title} in {source.name}")
    for title in rows.pointed:
        notes.add("left out, key points of boxes", f"{title} in {source.name}")
