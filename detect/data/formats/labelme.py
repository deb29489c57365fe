"""LabelMe json (github.com/wkentaro/labelme), also of X-AnyLabeling: one file per picture, continuous pixels from 0."""

import mmap
import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from detect.config.legal_values import HeldOut, Seed
from detect.data.assemble import Exif, Found, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.folder import below, existing_folder, find_files, splits_of_folders
from detect.data.formats.coco import LABELME, read_json
from detect.data.formats.corners import refuse_shares
from detect.data.formats.values import CROWD, finite, flag, short
from detect.data.notes import Notes
from detect.data.parallel import each
from detect.data.pictures import Pictures, without_dots
from detect.data.records import Record
from detect.data.text import one_name
from detect.errors import DataError, first_few

FEWEST = {
    "rectangle": 2, "polygon": 1, "circle": 2, "mask": 2, "oriented_rectangle": 4, "rotation": 4, "quadrilateral": 4,
    "cuboid": 4,
}  # fmt: skip
"""The shapes of LabelMe and X-AnyLabeling that give a box, and how many points each has at least, if it has some."""
OPEN = ("point", "points", "line", "linestrip")
"""The shapes without area."""
KEYS = ("version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth", "lineColor", "fillColor")
SHAPE_KEYS = ("label", "points", "shape_type", "group_id", "flags", "difficult", "mask", "line_color", "fill_color")
"""The keys that are read, or that say how a shape is drawn or hold the picture itself."""
_HEAD = 1 << 16


@dataclass
class Annotation:
    """One parsed file. picture: its imagePath. size: (width, height), or None. boxes: [ymin, xmin, ymax, xmax] in
    pixels of each.
    """

    path: Path
    picture: str
    size: tuple[int, int] | None
    names: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)


def read_labelme(
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
    """Reads the json files of LabelMe.

    root: folder with a json for each picture, in it or below it. Folders called train, val, valid and test give the
        split. A picture is the one that imagePath names, or else the one with the name of the json.
    Other arguments: `detect.data.assemble.Selection`.

    A box is the hull of the points of a rectangle, a turned one, a polygon, a quadrilateral, a cuboid or a mask; that
    of a circle is made from its centre and a point on it. Points, lines and shapes without points or area are left out
    and noted. Shapes with the flag `difficult`, `crowd`, `ignore` or `group_of` are crowd. Shapes that share a group_id
    stay separate boxes. A json without shapes is a picture without objects.
    Raises DataError, naming the file (and the line or the shape), for malformed json, a key that is missing or of
    another type, a number that is not finite, a picture that is missing, and two files about one picture.
    """
    folder, notes = existing_folder(root), Notes()
    paths = find_files(folder, {".json"})
    found = []
    for annotation, own in each(_read, paths):
        notes.join(own)
        if annotation:
            found.append(annotation)
    if not found:
        having = f"; its json files are {first_few([p.relative_to(folder) for p in paths])}" if paths else ""
        raise DataError(f"dataset.root={folder}: no json below it has the keys 'shapes' and 'imagePath'{having}")
    refuse_shares((annotation.path, annotation.boxes) for annotation in found)
    pairs = _pairs(found, folder, notes)
    records = {
        split: [
            Record(
                picture, _id(picture, folder), a.names, np.array(a.boxes).reshape(-1, 4), a.difficult, a.path, a.size
            )
            for picture, a in items
        ]
        for split, items in _splits(pairs, folder, notes).items()
    }
    told = set(records) != {"train"}  # a single folder of train may be that of a class
    origin = "the folders' names" if told else "none given"
    choice = Selection(classes, rename, name, val_fraction, test_fraction, split_seed, split_by, exif)
    return assemble(Found(folder, records, origin, notes, told=told), choice)


def recognise(folder: Path) -> str | None:
    """Why a folder is a data set of this format, or None."""
    try:
        for path in find_files(folder, {".json"}):
            with path.open("rb") as file:
                head = file.read(_HEAD).replace(b"\0", b"")
                file.seek(max(0, file.seek(0, 2) - _HEAD))
                text = head + file.read().replace(b"\0", b"")
                told = _has_keys(file, text)
            if told:
                return f"json with shapes and imagePath: {path.relative_to(folder)}"
    except (DataError, OSError):
        pass
    return None


def _has_keys(file: BinaryIO, text: bytes) -> bool:
    """Whether a json has the keys of a LabelMe file. text: its first and last bytes."""
    missing = [key for key in (b'"shapes"', b'"imagePath"') if key not in text]
    if missing and LABELME.search(text):  # it may lie between long shapes and a picture
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            return all(whole.find(key) >= 0 for key in missing)
    return not missing


def _read(path: Path) -> tuple[Annotation | None, Notes]:
    """One file with its notes; None if it is not about one picture. The picture that it may hold is not kept."""
    notes = Notes()
    content = read_json(path, notes)
    is_labelme = isinstance(content, dict) and ("shapes" in content or "imagePath" in content)
    return parse(path, content, notes) if is_labelme else None, notes


def parse(path: Path, content: Mapping[str, Any], notes: Notes) -> Annotation:
    """The content of one file. Raises DataError naming the file, the shape and the key of the error."""
    shapes, picture = content.get("shapes"), content.get("imagePath")
    if not isinstance(shapes, list):
        raise DataError(f"{path}: shapes is {short(shapes)}; it must be a list of shapes")
    if not isinstance(picture, str):
        raise DataError(f"{path}: imagePath is {short(picture)}; it must be the name of the picture")
    width, height = (_side(content.get(key), f"{path}: {key}") for key in ("imageWidth", "imageHeight"))
    annotation = Annotation(path, picture, (width, height) if width and height else None)
    for key in content:
        if key not in KEYS and content[key] not in (None, "", [], {}):
            notes.add("not used, keys of LabelMe files", f"{key[:80]} of {path.name}")
    for key in _set(content.get("flags"), f"{path}: flags"):
        notes.add("not used, flags of pictures", f"{key} of {path.name}")
    for k, shape in enumerate(shapes):
        if not isinstance(shape, dict):
            raise DataError(f"{path}: shapes[{k}] is {short(shape)}; it must be an object with label and points")
        _add(annotation, shape, f"{path}: shapes[{k}]", notes)
    return annotation


def _add(annotation: Annotation, shape: Mapping[str, Any], where: str, notes: Notes) -> None:
    label = shape.get("label")
    if isinstance(label, bool) or not isinstance(label, str | int) or not one_name(label):
        raise DataError(f"{where}: label is {short(label)}; it must be the name of a class")
    title, file = one_name(label), annotation.path.name
    where = f"{where} ({title[:80]})"
    kind = shape.get("shape_type")
    kind = "polygon" if kind is None else kind  # files of old versions have polygons only, and no key
    if kind not in (*FEWEST, *OPEN):
        raise DataError(f"{where}: shape_type is {short(kind)}; legal: {', '.join([*FEWEST, *OPEN])}")
    points = _points(shape.get("points"), where)
    for key in shape:
        if key not in SHAPE_KEYS and shape[key] not in (None, "", [], {}):
            notes.add("not used, keys of shapes", f"{key[:80]} of {title} in {file}")
    if shape.get("group_id") is not None:
        notes.add("shapes with a group_id, each stays a box of its own", f"{title} in {file}")
    difficult = flag(shape.get("difficult"))
    if difficult is None:
        raise DataError(f"{where}: difficult is {short(shape['difficult'])}; it must be true or false")
    for key in _set(shape.get("flags"), f"{where}: flags"):
        if key.lower() in CROWD:
            difficult = True
        else:
            notes.add("not used, flags of shapes", f"{key[:80]} of {title} in {file}")
    if kind in OPEN or not len(points):
        notes.add(f"left out, shapes without area: {kind}", f"{title} in {file}")
        return
    if len(points) < FEWEST[kind] or (kind == "circle" and len(points) != 2):
        raise DataError(
            f"{where}: {len(points)} points; a {kind} has {FEWEST[kind]}{'' if kind == 'circle' else ' or more'}"
        )
    ymin, xmin, ymax, xmax = _box(kind, points)
    if ymin == ymax or xmin == xmax:
        notes.add(f"left out, shapes without area: {kind}", f"{title} in {file}")
        return
    if kind != "rectangle":
        notes.add("boxes made from polygons, circles, masks and turned boxes", f"{title} in {file}")
    annotation.names.append(title)
    annotation.boxes.append([ymin, xmin, ymax, xmax])
    annotation.difficult.append(difficult)


def _points(value: object, where: str) -> np.ndarray:
    """The points of a shape, float64 [n, 2] xy in pixels."""
    if not isinstance(value, list):
        raise DataError(f"{where}: points is {short(value)}; it must be a list of points [x, y]")
    points = []
    for k, point in enumerate(value):
        numbers = [finite(v) for v in point] if isinstance(point, list) and len(point) == 2 else [None]
        if None in numbers:
            raise DataError(f"{where}: points[{k}] is {short(point)}; it must be two finite numbers [x, y]")
        points.append(numbers)
    return np.array(points, np.float64).reshape(-1, 2)


def _box(kind: str, points: np.ndarray) -> list[float]:
    """The box yxyx around a shape."""
    if kind == "circle":
        centre, radius = points[0], float(np.hypot(*(points[1] - points[0])))
        points = np.stack([centre - radius, centre + radius])
    (xmin, ymin), (xmax, ymax) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    last = 1 if kind == "mask" else 0  # its points are the first and the last pixel
    return [ymin, xmin, ymax + last, xmax + last]


def _set(flags: object, where: str) -> list[str]:
    """The flags that are set."""
    if flags is None or flags == []:
        return []
    if not isinstance(flags, dict):
        raise DataError(f"{where} is {short(flags)}; it must be an object of flags")
    values = {str(key): flag(value) for key, value in flags.items()}
    for key, value in values.items():
        if value is None:
            raise DataError(f"{where}: {key[:80]} is {short(flags[key])}; it must be true or false")
    return [key[:80] for key, value in values.items() if value]


def _side(value: object, where: str) -> int:
    """A side of the picture in pixels; 0 if it is not given."""
    number = finite(value if value is not None else 0)
    if number is None or number < 0:
        raise DataError(f"{where} is {short(value)}; it must be a number of pixels")
    return round(number)


def _pairs(found: Sequence[Annotation], root: Path, notes: Notes) -> dict[Path, Annotation]:
    """The annotation of each picture."""
    pictures = Pictures([root], notes)
    pairs: dict[Path, Annotation] = {}
    missing: list[Annotation] = []
    for annotation in found:
        picture = _picture(annotation, root, pictures)
        if picture is None:
            missing.append(annotation)
        elif picture in pairs:
            raise DataError(
                f"{annotation.path}: two files are about the picture {picture}: {below(pairs[picture].path, root)} and "
                f"{below(annotation.path, root)}; remove one{notes.missing([str(picture)])}"
            )
        else:
            pairs[picture] = annotation
    if missing:
        more = f"; the same for {first_few([a.path.name for a in missing[1:]])}" if missing[1:] else ""
        raise DataError(
            f"{missing[0].path}: there is no picture '{missing[0].picture[:200]}' (imagePath), nor one with the name "
            f"of the json, below {root}{more}. LabelMe can save the picture of imageData: labelme_export_json"
        )
    return pairs


def _picture(annotation: Annotation, root: Path, pictures: Pictures) -> Path | None:
    """The picture that imagePath names, from the folder of the json; else the one with the json's name."""
    path = annotation.path
    own = path.relative_to(root).with_suffix("").as_posix()
    named = annotation.picture.replace("\\", "/")
    if Path(named).name:
        inside = path.parent.relative_to(root) / named
        if found := pictures.find(inside.as_posix(), path):
            other = path.with_name(path.stem + found.suffix)
            if found.stem != path.stem and other.is_file():
                kind = "imagePath names another picture than the one with the name of the json, which is there, too"
                pictures.notes.add(kind, f"{path.name} names {found.name}")
            return Path(without_dots(str(found)))
    return pictures.find(own, path, stems=True)


def _id(picture: Path, root: Path) -> str:
    """The path of a picture from `root`, also if it lies outside: the id stays if both are moved."""
    return below(picture, root) if picture.is_relative_to(root) else Path(os.path.relpath(picture, root)).as_posix()


def _splits(pairs: Mapping[Path, Annotation], root: Path, notes: Notes) -> dict[str, list[tuple[Path, Annotation]]]:
    """The pictures of each split, by the names of the folders below `root`: of the json files, or else the pictures."""
    splits: dict[str, list[tuple[Path, Annotation]]] = {}
    inside = {picture: [p for p in (a.path, picture) if p.is_relative_to(root)] for picture, a in pairs.items()}
    folders = {
        picture: tuple(name for path in paths for name in path.relative_to(root).parent.parts[::-1])
        for picture, paths in inside.items()
    }
    told = splits_of_folders(folders.values())
    for picture, annotation in pairs.items():
        splits.setdefault(told[folders[picture]] or "", []).append((picture, annotation))
    rest = splits.pop("", [])
    if "train" not in splits:
        return {"train": rest, **splits} if rest else splits
    if len(splits) == 1 and rest:  # beside folders of other classes, train is a class, too
        return {"train": list(pairs.items())}
    for _, annotation in rest:
        notes.add("left out, files outside the folders of the splits", annotation.path.relative_to(root).as_posix())
    return splits
