"""One XML file of Pascal VOC: names, corners and flags of its objects."""

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detect.data.formats.corners import FirstPixel, around_turned, pixel_boxes
from detect.data.formats.values import CROWD, finite, flag
from detect.data.notes import Notes
from detect.data.text import one_name, read_text
from detect.errors import DataError

Corners = tuple[float, float, float, float]
EDGES = ("xmin", "ymin", "xmax", "ymax")
ROOT = re.compile(rb"<([\w.-]+:)?annotation[\s>]", re.IGNORECASE)
"""The root element of a file."""
OURS = "detect convert"
"""What `<source><annotation>` says in the files of this program: their corners are inclusive and count from 1."""


@dataclass(frozen=True)
class Annotation:
    """One parsed XML file: names, corners (xmin, ymin, xmax, ymax) as in the file, difficult flags, (width, height).

    crowd: which objects have another flag of `CROWD`, such as ignore. hulls: which objects have a polygon, a
    mask or a turned box, which is replaced by the box around it; these corners are continuous. filename: the picture's
    name in the file. deleted: how many objects are left out, because a tool marks them so. ours: whether this program
    wrote the file.
    """

    names: tuple[str, ...]
    corners: tuple[Corners, ...]
    difficult: tuple[bool, ...]
    crowd: tuple[bool, ...]
    size: tuple[int, int] | None
    filename: str
    hulls: tuple[bool, ...]
    deleted: int
    ours: bool

    @property
    def boxed(self) -> list[Corners]:
        """The corners of the objects that are no hulls."""
        return [corners for corners, hull in zip(self.corners, self.hulls, strict=True) if not hull]

    def boxes(self, first_pixel: FirstPixel) -> np.ndarray:
        """Boxes [n, 4] yxyx in pixels, counted from 0: `pixel_boxes`."""
        hulls = np.array(self.hulls, bool)[:, None]
        return np.where(hulls, pixel_boxes(self.corners, "continuous"), pixel_boxes(self.corners, first_pixel))


class OtherRoot(DataError):
    """An XML file whose root element is none of VOC."""


def read_xml(path: Path, notes: Notes) -> Annotation:
    """Parses one annotation file. Raises DataError naming the file, and the line or the object of the error."""
    tree = parse_xml(path, notes)
    for element in tree.iter():
        element.tag = element.tag.lower()
    if tree.tag != "annotation":
        raise OtherRoot(f"{path}: the root element is <{tree.tag}>; in a VOC file it is <annotation>")
    names, corners, difficult, crowd, hulls, deleted = [], [], [], [], [], 0
    for k, item in enumerate(tree.iter("object"), 1):
        labels = list(dict.fromkeys(one_name(name.text or "") for name in item.iterfind("name")))
        label = labels[0] if labels else ""
        flags = _flags(item, f"{path}: object {k} ({label})")
        if flags.pop("deleted", False):
            deleted += 1
            continue
        if not label:
            raise DataError(f"{path}: object {k} has no <name>")
        where = f"{path}: object {k} ({label})"
        if len(labels) > 1:
            raise DataError(f"{where} has another <name>, '{labels[1][:80]}'; an <object> must have one")
        found = item.findall("bndbox")
        if len(found) > 1:
            raise DataError(f"{where} has {len(found)} <bndbox>; an <object> must have one")
        turn = _turn(item)
        names.append(label)
        corners.append(_turned(_edges(found[0], where), turn) if found else _hull(item, where))
        hulls.append(not found or turn != 0)
        difficult.append(flags.pop("difficult", False))
        crowd.append(any(flags.values()))
    filename, ours = (tree.findtext("filename") or "").strip(), tree.findtext("source/annotation") == OURS
    return Annotation(
        tuple(names), tuple(corners), tuple(difficult), tuple(crowd), _size(tree), filename, tuple(hulls), deleted, ours
    )


def parse_xml(path: Path, notes: Notes) -> ElementTree.Element:
    """The root element of an XML file, with tags without namespaces. Raises DataError naming the file and the line."""
    try:
        tree = ElementTree.fromstring(read_text(path, notes))
    except ElementTree.ParseError as error:
        line, column = error.position
        raise DataError(f"{path}, line {line}: malformed XML ({str(error).split(':')[0]}, column {column})") from None
    except ValueError as error:
        raise DataError(f"{path}, line 1: malformed XML ({error})") from None
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    return tree


def _edges(box: ElementTree.Element, where: str) -> Corners:
    xmin, ymin, xmax, ymax = (_number(box, tag, where) for tag in EDGES)
    return xmin, ymin, xmax, ymax


def _number(parent: ElementTree.Element, tag: str, where: str) -> float:
    text = parent.findtext(tag)
    if text is None:
        raise DataError(f"{where} has no <{tag}>")
    return _finite(text, tag, where)


def _finite(text: str, tag: str, where: str) -> float:
    value = finite(text)
    if value is None:
        raise DataError(f"{where}: <{tag}> is '{text.strip()}'; it must be a finite number of pixels")
    return value


def _turn(item: ElementTree.Element) -> float:
    """The attribute `rotation` of CVAT's exports, in degrees: there <bndbox> is the box before it is turned.

    Beside an outline, or if it is no number, it is an attribute of the user's own.
    """
    if item.find("polygon") is not None or item.find("segm") is not None:
        return 0.0
    found = (e for e in item.iterfind("attributes/attribute") if one_name(e.findtext("name") or "") == "rotation")
    return next(((finite(e.findtext("value")) or 0) % 360 for e in found), 0.0)


def _turned(corners: Corners, degrees: float) -> Corners:
    """The corners of the box around a box that is turned."""
    if not degrees:
        return corners
    ymin, xmin, ymax, xmax = around_turned(*corners, degrees)
    return xmin, ymin, xmax, ymax


def _hull(item: ElementTree.Element, where: str) -> Corners:
    """The box around a polygon (LabelMe's and Roboflow's forms), a mask (LabelMe's) or a turned box (roLabelImg's)."""
    turned = item.find("robndbox")
    if turned is not None:
        x, y, width, height, angle = (_number(turned, tag, where) for tag in ("cx", "cy", "w", "h", "angle"))
        plain = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        return _turned(plain, math.degrees(angle))
    mask = item.find("segm/box")
    if mask is not None:
        return _edges(mask, where)
    polygon = item.find("polygon")
    points = [] if polygon is None else [e for e in polygon.iter() if e is not polygon and not len(e)]
    x_values, y_values = (
        [_finite(e.text or "", e.tag, where) for e in points if e.tag.startswith(axis)] for axis in "xy"
    )
    if len(x_values) < 2 or len(x_values) != len(y_values):
        raise DataError(f"{where} has no <bndbox>")
    return min(x_values), min(y_values), max(x_values), max(y_values)


def _flags(item: ElementTree.Element, where: str) -> dict[str, bool]:
    """The flags of an object that its elements or its attributes tell: `deleted`, and those of `CROWD`.

    Raises DataError for what is no flag.
    """
    told = [(e.tag, e.text) for e in item]
    told += [(e.findtext("name") or "", e.findtext("value")) for e in item.iterfind("attributes/attribute")]
    flags: dict[str, bool] = {}
    for name, given in told:
        tag, text = one_name(name).lower(), one_name(given or "")
        if tag not in (*CROWD, "deleted"):
            continue
        value = flag(text)
        if value is None:
            raise DataError(f"{where}: <{tag}> is '{text[:80]}'; it must be 0 or 1")
        flags[tag] = flags.get(tag, False) or value
    return flags


def _size(tree: ElementTree.Element) -> tuple[int, int] | None:
    """(width, height) in the XML, or None if missing, zero or not a number: the image's header then decides."""
    width, height = (int(finite(tree.findtext(f"size/{side}")) or 0) for side in ("width", "height"))
    return (width, height) if width > 0 and height > 0 else None
