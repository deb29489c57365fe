"""One XML file of Pascal VOC: names, corners and flags of its objects."""

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detect.data.formats.corners import pixel_boxes
from detect.data.formats.values import MOST
from detect.data.notes import Notes
from detect.data.text import one_name, read_text
from detect.errors import DataError

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Annotation:
    """One parsed XML file: names, corners (xmin, ymin, xmax, ymax) as in the file, difficult flags, (width, height).

    hulls: how many objects have a polygon or a turned box, which is replaced by the box around it. filename: the
    picture's name in the file.
    """

    names: tuple[str, ...]
    corners: tuple[Corners, ...]
    difficult: tuple[bool, ...]
    size: tuple[int, int] | None
    filename: str
    hulls: int = 0

    def boxes(self, first_pixel: int) -> np.ndarray:
        """Boxes [n, 4] yxyx in pixels, counted from 0: `pixel_boxes`."""
        return pixel_boxes(self.corners, first_pixel)


def read_xml(path: Path, notes: Notes) -> Annotation:
    """Parses one annotation file. Raises DataError naming the file, and the line or the object of the error."""
    tree = parse_xml(path, notes)
    if tree.tag != "annotation":
        raise DataError(f"{path}: the root element is <{tree.tag}>; in a VOC file it is <annotation>")
    names, difficult, hulls = [], [], 0
    corners: list[Corners] = []
    for k, item in enumerate(tree.iter("object"), 1):
        label = one_name(item.findtext("name") or "")
        if not label:
            raise DataError(f"{path}: object {k} has no <name>")
        where = f"{path}: object {k} ({label})"
        box = item.find("bndbox")
        if box is not None:
            xmin, ymin, xmax, ymax = (_number(box, tag, where) for tag in ("xmin", "ymin", "xmax", "ymax"))
            corners.append((xmin, ymin, xmax, ymax))
        else:
            corners.append(_hull(item, where))
            hulls += 1
        names.append(label)
        difficult.append(_flag(item.findtext("difficult")))
    return Annotation(
        tuple(names), tuple(corners), tuple(difficult), _size(tree), (tree.findtext("filename") or "").strip(), hulls
    )


def parse_xml(path: Path, notes: Notes) -> ElementTree.Element:
    """The root element of an XML file. Raises DataError naming the file and the line of the error."""
    try:
        return ElementTree.fromstring(read_text(path, notes))
    except ElementTree.ParseError as error:
        line, column = error.position
        raise DataError(f"{path}, line {line}: malformed XML ({str(error).split(':')[0]}, column {column})") from None
    except ValueError as error:
        raise DataError(f"{path}, line 1: malformed XML ({error})") from None


def _number(parent: ElementTree.Element, tag: str, where: str) -> float:
    text = parent.findtext(tag)
    if text is None:
        raise DataError(f"{where} has no <{tag}>")
    return _finite(text, tag, where)


def _finite(text: str, tag: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > MOST:
        raise DataError(f"{where}: <{tag}> is '{text.strip()}'; it must be a finite number of pixels")
    return value


def _hull(item: ElementTree.Element, where: str) -> Corners:
    """The box around a polygon (LabelMe's and Roboflow's forms) or a turned box (roLabelImg's)."""
    turned = item.find("robndbox")
    if turned is not None:
        x, y, width, height, angle = (_number(turned, tag, where) for tag in ("cx", "cy", "w", "h", "angle"))
        across = abs(width * math.cos(angle)) + abs(height * math.sin(angle))
        down = abs(width * math.sin(angle)) + abs(height * math.cos(angle))
        return x - across / 2, y - down / 2, x + across / 2, y + down / 2
    polygon = item.find("polygon")
    points = [] if polygon is None else [e for e in polygon.iter() if e is not polygon and not len(e)]
    x_values, y_values = (
        [_finite(e.text or "", e.tag, where) for e in points if e.tag.startswith(axis)] for axis in "xy"
    )
    if len(x_values) < 2 or len(x_values) != len(y_values):
        raise DataError(f"{where} has no <bndbox>")
    return min(x_values), min(y_values), max(x_values), max(y_values)


def _flag(text: str | None) -> bool:
    return (text or "").strip().lower() not in ("", "0", "0.0", "false", "no")


def _size(tree: ElementTree.Element) -> tuple[int, int] | None:
    """(width, height) in the XML, or None if missing, zero or not a number: the image's header then decides."""
    try:
        width, height = (int(float(tree.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None
