"""CVAT for images 1.1 (docs.cvat.ai, "XML annotation format"): one XML of all pictures, continuous pixels from 0."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from detect.config.legal_values import HeldOut, Seed
from detect.data.assemble import Exif, Found, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.folder import below, existing_folder, find_files, split_named, split_of_file, splits_of, told_by
from detect.data.formats.corners import around_turned, refuse_shares
from detect.data.formats.values import CROWD, finite, flag
from detect.data.formats.voc_xml import parse_xml
from detect.data.notes import Notes
from detect.data.pictures import Pictures
from detect.data.records import Record
from detect.data.text import first_bytes, one_name
from detect.errors import DataError, first_few
from detect.files import expanded

SHAPES = ("box", "polygon", "ellipse", "mask", "cuboid")
"""The shapes that give a box."""
OPEN = ("polyline", "points", "skeleton", "tag")
"""What gives no box."""
CUBOID = [f"{place}{face}" for face in (1, 2) for place in ("tl", "bl", "tr", "br")]
NO_SUBSET = ("", "default")
ROOT = re.compile(rb"<([\w.-]+:)?annotations[\s/>]")


@dataclass
class Image:
    """One <image>: its name, subset ("" without one), (width, height) or None, and its boxes.

    boxes: [ymin, xmin, ymax, xmax] in pixels of each.
    """

    name: str
    subset: str
    size: tuple[int, int] | None
    names: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)


def read_cvat(
    root: str | Path,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    name: str | None = None,
    val_fraction: HeldOut = 0.15,
    test_fraction: HeldOut = 0.15,
    split_seed: Seed = 0,
    split_by: SplitBy = None,
    exif: Exif = "displayed",
) -> DetectionDataset:
    """Reads exports "CVAT for images 1.1".

    root: the annotations.xml, or the folder that contains one or several, at any depth, and their pictures.
        The subset of an image (Train, Validation, Test) is its split. If no subset of a file is one of these, the words
        train, val and test in the names of files and folders tell the split of the whole file. The rest is train, and
        subsets of other names are noted.
    Other arguments: `detect.data.assemble.Selection`.

    Classes are the labels of the task that have a box, in its order. A box is the hull of a turned box, a polygon, an
    ellipse, a mask or a cuboid. Points, polylines, skeletons and tags are left out and noted. Objects with the
    attribute `difficult`, `is_crowd`, `ignore` or `is_group_of` are crowd. An image without boxes is a picture without
    objects.
    Raises DataError, naming the file and the image, for malformed XML (with the line), <track> (CVAT for video), a
    label that the task does not have, a value that is no number, and a missing picture.
    """
    notes, place = Notes(), expanded(root)
    folder = place.parent if place.is_file() else existing_folder(root)
    paths = [place] if place.is_file() else _find(folder)
    named = splits_of(path.relative_to(folder) for path in paths)
    records: dict[str, list[Record]] = {}
    labels: dict[str, None] = {}
    owners: dict[Path, tuple[Path, str]] = {}
    origins: dict[str, list[str]] = {}
    for path in paths:
        tree = parse_xml(path, notes)
        titles = _labels(path, tree)
        labels |= dict.fromkeys(titles)
        images = _images(path, tree, titles, notes)
        whole = split_of_file(path) if path == place else named[path.relative_to(folder)]
        by_subset = _by_subset(images)
        if by_subset or whole:
            told = [] if by_subset else [f"{whole}: {told_by(whole or 'train', path, folder)}"]
            origins.setdefault("subsets" if by_subset else "names of files and folders", []).extend(told)
        for split, here in _splits(images, None if by_subset else whole, by_subset, notes).items():
            records.setdefault(split, []).extend(_records(path, folder, here, owners, notes))
    refuse_shares((record.source, record.boxes) for part in records.values() for record in part)
    origin = ", ".join(f"{by} ({first_few(files)})" if files else by for by, files in origins.items()) or "none given"
    found = Found(folder, records, origin, notes, list(labels) or None, unused=False, used=paths, told=bool(origins))
    return assemble(found, Selection(classes, rename, name, val_fraction, test_fraction, split_seed, split_by, exif))


def recognise(folder: Path) -> str | None:
    """Why a folder is a data set of this format, or None."""
    try:
        found = next((path for path in find_files(folder, {".xml"}) if _is_cvat(path)), None)
        return f"XML with <annotations>, as CVAT writes it: {found.relative_to(folder)}" if found else None
    except (DataError, OSError):
        return None


def _is_cvat(path: Path) -> bool:
    return bool(ROOT.search(first_bytes(path)))


def _find(folder: Path) -> list[Path]:
    paths = find_files(folder, {".xml"})
    found = [path for path in paths if _is_cvat(path)]
    if not found:
        having = f"; its XML files are {first_few([p.relative_to(folder) for p in paths])}" if paths else ""
        raise DataError(f"dataset.root={folder}: no XML below it has the root element <annotations>{having}")
    return found


def _labels(path: Path, tree: Element) -> list[str]:
    """The labels of the task or project, in its order; an empty list if the file does not tell them."""
    if tree.tag != "annotations":
        raise DataError(f"{path}: the root element is <{tree.tag[:80]}>; in a file of CVAT it is <annotations>")
    if tree.find("track") is not None:
        raise DataError(
            f"{path}: it has <track>, so it is CVAT for video; legal is the export 'CVAT for images 1.1', which has "
            "one <image> for each frame"
        )
    labels = [label for label in tree.iterfind("meta//labels/label") if not (label.findtext("parent") or "").strip()]
    titles = [one_name(label.findtext("name") or "") for label in labels]
    if not all(titles):
        raise DataError(f"{path}: label {titles.index('') + 1} of <meta> has no <name>")
    return list(dict.fromkeys(titles))


def _images(path: Path, tree: Element, titles: Sequence[str], notes: Notes) -> list[Image]:
    """The images of a file. Raises DataError if there are none."""
    whole = (tree.findtext("meta/task/subset") or tree.findtext("meta/job/subset") or "").strip()
    images = []
    for k, element in enumerate(tree):
        if element.tag == "image":
            images.append(_image(path, element, k, titles, whole, notes))
        elif element.tag not in ("version", "meta"):
            notes.add(f"not used, elements <{element.tag[:80]}>", path.name)
    if not images:
        raise DataError(f"{path}: it has no <image>")
    return images


def _image(path: Path, element: Element, k: int, titles: Sequence[str], subset: str, notes: Notes) -> Image:
    name = element.get("name", "").strip()
    if not name:
        raise DataError(f"{path}: element {k + 1}, <image>, has no name")
    where = f"{path}: image {name[:200]}"
    width, height = (_number(element, side, where, "0") for side in ("width", "height"))
    if min(width, height) < 0:
        raise DataError(f"{where}: width and height are {width:g} and {height:g}; they must be numbers of pixels")
    size = (round(width), round(height))
    image = Image(name, element.get("subset", subset).strip(), size if all(size) else None)
    for n, shape in enumerate(element, 1):
        label = one_name(shape.get("label", ""))
        item = f"{label or 'no label'} in {name}"
        if shape.tag in OPEN:
            notes.add(f"left out, <{shape.tag}>, which is no box", item)
        elif shape.tag in SHAPES:
            _add(image, shape, label, f"{where}: <{shape.tag}> {n}", titles, notes)
        else:
            notes.add(f"not used, elements <{shape.tag[:80]}>", item)
    return image


def _add(image: Image, shape: Element, label: str, where: str, titles: Sequence[str], notes: Notes) -> None:
    if not label:
        raise DataError(f"{where} has no label")
    if titles and label not in titles:
        raise DataError(f"{where}: label is '{label[:80]}', which is not in <meta>; legal: {first_few(titles, 10)}")
    where = f"{where} ({label[:80]})"
    item = f"{label} in {image.name}"
    crowd = False
    for attribute in shape:
        title = one_name(attribute.get("name", "")) if attribute.tag == "attribute" else f"<{attribute.tag}>"
        if title.lower() in CROWD:
            value = flag(attribute.text)
            if value is None:
                raise DataError(f"{where}: {title} is '{(attribute.text or '')[:80]}'; it must be true or false")
            crowd |= value
        else:
            notes.add("not used, attributes of objects", f"{title[:80] or 'no name'} of {item}")
    if shape.get("occluded", "0").strip() not in ("", "0"):
        notes.add("not used, marks of occluded objects", item)
    box = _BOXES[shape.tag](shape, where)
    if shape.tag != "box" or _turn(shape, where):
        notes.add("boxes made from polygons, ellipses, masks, cuboids and turned boxes", item)
    image.names.append(label)
    image.boxes.append(box)
    image.crowd.append(crowd)


def _number(element: Element, key: str, where: str, default: str | None = None) -> float:
    text = element.get(key, default)
    if text is None:
        raise DataError(f"{where} has no {key}")
    value = finite(text)
    if value is None:
        raise DataError(f"{where}: {key} is '{text[:80]}'; it must be a finite number of pixels")
    return value


def _turn(shape: Element, where: str) -> float:
    """The rotation in degrees, clockwise."""
    return _number(shape, "rotation", where, "0") % 360


def _box(shape: Element, where: str) -> list[float]:
    xmin, ymin, xmax, ymax = (_number(shape, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
    angle = _turn(shape, where)
    return around_turned(xmin, ymin, xmax, ymax, angle) if angle else [ymin, xmin, ymax, xmax]


def _ellipse(shape: Element, where: str) -> list[float]:
    x, y, rx, ry = (_number(shape, key, where) for key in ("cx", "cy", "rx", "ry"))
    angle = math.radians(_turn(shape, where))
    half_x = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
    half_y = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
    return [y - half_y, x - half_x, y + half_y, x + half_x]


def _polygon(shape: Element, where: str) -> list[float]:
    text = shape.get("points")
    if text is None:
        raise DataError(f"{where} has no points")
    x: list[float] = []
    y: list[float] = []
    for k, pair in enumerate(text.split(";"), 1):
        numbers = [number for value in pair.split(",") if (number := finite(value)) is not None]
        if len(numbers) != 2 or pair.count(",") != 1:
            raise DataError(f"{where}: point {k} is '{pair[:80]}'; it must be two finite numbers x,y")
        x.append(numbers[0])
        y.append(numbers[1])
    return [min(y), min(x), max(y), max(x)]


def _mask(shape: Element, where: str) -> list[float]:
    left, top, width, height = (_number(shape, key, where) for key in ("left", "top", "width", "height"))
    return [top, left, top + height, left + width]


def _cuboid(shape: Element, where: str) -> list[float]:
    x = [_number(shape, f"x{corner}", where) for corner in CUBOID]
    y = [_number(shape, f"y{corner}", where) for corner in CUBOID]
    return [min(y), min(x), max(y), max(x)]


_BOXES = {"box": _box, "polygon": _polygon, "ellipse": _ellipse, "mask": _mask, "cuboid": _cuboid}


def _splits(images: Sequence[Image], whole: str | None, by_subset: bool, notes: Notes) -> dict[str, list[Image]]:
    """The images of each split: by their subsets, else of the split `whole`, else train.

    by_subset: whether a subset names a split, so that an image without one is noted.
    """
    splits: dict[str, list[Image]] = {}
    rest = whole or "train"
    for image in images:
        split = split_named(image.subset)
        if split is None and image.subset.lower() not in NO_SUBSET:
            notes.add(f"taken as {rest}, images of subsets that name no split", f"{image.subset[:80]} of {image.name}")
        elif split is None and by_subset:
            notes.add("taken as train, images without a subset", image.name)
        splits.setdefault(split or rest, []).append(image)
    return splits


def _by_subset(images: Sequence[Image]) -> bool:
    """Whether the subset of an image names a split."""
    return any(split_named(image.subset) for image in images)


def _records(
    path: Path, root: Path, images: Sequence[Image], owners: dict[Path, tuple[Path, str]], notes: Notes
) -> list[Record]:
    """The images of one split with their pictures. owners: file and name of the image of each picture so far."""
    pictures = Pictures([f for f in (path.parent / "images", path.parent, root) if f.is_dir()], notes)
    inside = {s for s in {image.subset for image in images} if s and (path.parent / "images" / s).is_dir()}
    records, missing = [], []
    for image in images:
        name = f"{image.subset}/{image.name}" if image.subset in inside else image.name
        picture = pictures.find(name, f"{path}: image", stems=True)  # frames of a video have no ending
        if picture is None:
            missing.append(image.name[:200])
            continue
        if picture in owners:
            other, name = owners[picture]
            raise DataError(
                f"{path}: image {image.name}: the picture {picture} is that of image {name} in {other}, too"
                + notes.missing([str(picture)])
            )
        owners[picture] = path, image.name
        boxes = np.array(image.boxes, np.float64).reshape(-1, 4)
        records.append(Record(picture, below(picture, root), image.names, boxes, image.crowd, path, image.size))
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(images)} pictures are missing: {first_few(missing, 3)}; searched below "
            f"{first_few(pictures.folders, 9)}"
        )
    return records
