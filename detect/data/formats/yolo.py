"""YOLO text labels: one .txt per picture with boxes as shares of the image, centre first.

It reads the layout of ultralytics (a data.yaml), Darknet's (obj.data and obj.names), and that of labelling tools
(classes.txt beside the pictures, or beside images/ and labels/).
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from detect.config.legal_values import HeldOut
from detect.data.assemble import Exif, Found, Record, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.folder import Pictures, existing_folder, find_files, find_images
from detect.data.formats.yolo_listing import Listing, listing_of, pictures_of
from detect.data.notes import Notes
from detect.data.parallel import each
from detect.data.split import SPLITS
from detect.data.text import loose, read_lines, read_text
from detect.errors import DataError, first_few
from detect.files import expanded

YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def read_yolo(
    root: str | Path,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    name: str | None = None,
    val_fraction: HeldOut = 0.15,
    test_fraction: HeldOut = 0.15,
    split_seed: int = 0,
    split_by: SplitBy = None,
    exif: Exif = "displayed",
) -> DetectionDataset:
    """Reads a YOLO data set.

    root: the data.yaml, the obj.data or the classes.txt, or the folder that contains one of them. A data.yaml has the
        keys path (optional), train, val (or validation) and test: each a folder, a list of pictures (.txt), a pattern,
        or a list of these; and names (a list, or a map from numbers) or nc.
    Other arguments: `detect.data.assemble.Selection`.

    The path of a picture's labels has `labels` in place of the last `images`; else they are beside the picture. A
    picture without a label file, or with an empty one, is background. A line is `class cx cy width height`; or
    `class x1 y1 x2 y2 ...`, a polygon that is replaced by its bounding box; or, with `kpt_shape` in the yaml, a box and
    its key points, which are left out. Raises DataError naming the file and the line of the error.
    """
    notes = Notes()
    place = expanded(root)
    path = place if place.is_file() else _description(existing_folder(root))
    listing = listing_of(path, notes)
    pictures = Pictures(list(dict.fromkeys([listing.base, path.parent])), notes)
    labels = _Labels(listing, notes)
    records = {}
    for split in SPLITS:
        found = pictures_of(listing, split, pictures, notes)
        if found is not None:
            records[split] = labels.records(found)
    first = next((split for split in SPLITS if records.get(split)), None)
    if first is None:
        raise DataError(
            f"{path}: {'; '.join(f'{s}: {first_few(e)}' for s, e in listing.splits.items())} has no pictures"
        )
    if not any(record.source for record in records[first]):
        tried = _label_places(records[first][0].path)
        missing = first_few(tried, between=" and ")
        raise DataError(f"{path}: no picture of {first} has a label file; for example, {missing} is missing")
    labels.note_strays()
    used = [path, *listing.used, *labels.strays]
    origin = f"{path.name} ({', '.join(records)})"
    found_all = Found(path.parent, records, origin, notes, listing.names, used=used)
    choice = Selection(classes, rename, name, val_fraction, test_fraction, split_seed, split_by, exif)
    return assemble(found_all, choice)


def recognise(folder: Path) -> str | None:
    """Why a folder is a data set of this format, or None."""
    try:
        path = _description(folder)
    except DataError:
        return None
    return f"{path.name}, which names classes and pictures of YOLO labels"


def _description(folder: Path) -> Path:
    """The file that describes the data set of a folder: a yaml, Darknet's .data, or a list of classes."""
    found = [folder / n for n in YAMLS if (folder / n).is_file()][:1]
    candidates = [*find_files(folder, {".yaml", ".yml"}, recursive=False), *find_files(folder, {".data"}, False)]
    found = found or [path for path in candidates if _describes(path)]
    if not found:
        lists = [p for p in find_files(folder, {".txt"}, recursive=False) if p.name.lower() == "classes.txt"]
        found = [*lists, *find_files(folder, {".names"}, recursive=False)][:1] if _has_labels(folder) else []
    if len(found) != 1:
        having = f"it has {first_few([p.name for p in found])}; name one" if found else "it has none of these"
        raise DataError(
            f"dataset.root={folder}: the folder must have one data.yaml (or obj.data, or classes.txt), but {having}"
        )
    return found[0]


def _describes(path: Path) -> bool:
    try:
        text = read_text(path, Notes())
    except DataError:
        return False
    return bool(re.search(r"\b(train|val|validation|valid|test)\b", text) and re.search(r"\b(names|nc)\b", text))


def _has_labels(folder: Path) -> bool:
    """Whether a picture below the folder has a label file."""
    return any(place.is_file() for picture in find_images(folder)[:200] for place in _label_places(picture))


def _label_places(picture: Path) -> list[Path]:
    """Where the labels of a picture can be, the usual place first."""
    parts = list(picture.parent.parts)
    places = [picture.with_suffix(".txt")]
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
        places.insert(0, Path(*parts) / f"{picture.stem}.txt")
    return places


class _Labels:
    """Reads the label files of pictures, and keeps account of those without a picture."""

    def __init__(self, listing: Listing, notes: Notes):
        self.listing, self.notes = listing, notes
        self.folders: dict[Path, dict[str, Path]] = {}
        self.taken: set[Path] = set()
        self.strays: list[Path] = []

    def records(self, pictures: Sequence[Path]) -> list[Record]:
        sources = [self._source(picture) for picture in pictures]
        self.taken.update(source for source in sources if source)
        rows = each(self._read, sources)
        records = []
        for picture, source, (boxes, titles) in zip(pictures, sources, rows, strict=True):
            base = next((f for f in (self.listing.base, self.listing.path.parent) if picture.is_relative_to(f)), None)
            where = (picture.relative_to(base) if base else picture).as_posix()
            records.append(Record(picture, where, titles, boxes, [False] * len(titles), source, shares=True))
            if source is None:
                self.notes.add("background, pictures without a label file", where)
        return records

    def note_strays(self) -> None:
        """Notes label files without a picture, in the folders of those that were read."""
        used = {self.listing.path, *self.listing.used, *self.taken}
        for folder in sorted({path.parent for path in self.taken}):
            for path in self.folders[folder].values():
                if path not in used and path.name.lower() != "classes.txt" and "readme" not in path.name.lower():
                    self.strays.append(path)
                    self.notes.add("left out, label files without a picture", path.name)

    def _source(self, picture: Path) -> Path | None:
        for place in _label_places(picture):
            inside = self.folders.setdefault(place.parent, self._files(place.parent))
            source = inside.get(loose(place.name))
            if source and source != self.listing.path:
                return source
        return None

    def _files(self, folder: Path) -> dict[str, Path]:
        if folder in self.folders:
            return self.folders[folder]
        return {loose(path.name): path for path in find_files(folder, {".txt"}, recursive=False)}

    def _read(self, source: Path | None) -> tuple[np.ndarray, list[str]]:
        if source is None:
            return np.zeros((0, 4)), []
        boxes, titles = [], []
        for k, line in enumerate(read_lines(source, self.notes), 1):
            if line:
                label, box = parse_line(line, f"{source}:{k}", self.listing.names, self.listing.points)
                titles.append(self.listing.names[label])
                boxes.append(box)
        return np.array(boxes, np.float64).reshape(-1, 4), titles


def parse_line(line: str, where: str, names: Sequence[str], points: int = 0) -> tuple[int, list[float]]:
    """(class from 0, box yxyx as shares of the image) of one line.

    points: numbers of a row that key points take, after the box. Raises DataError naming `where`.
    """
    words = line.replace(",", " ").split()
    try:
        label, *values = [float(word) for word in words]
    except ValueError:
        raise DataError(f"{where}: '{line[:80]}' is not a row of numbers") from None
    if points and len(values) == 4 + points:
        values = values[:4]
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise DataError(
            f"{where}: {len(words)} numbers; a line is 'class cx cy width height', or a class and 3 or more points"
            + (f", or a class, a box and {points} numbers of key points" if points else "")
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
        return int(label), [y - height / 2, x - width / 2, y + height / 2, x + width / 2]
    return int(label), [min(values[1::2]), min(values[::2]), max(values[1::2]), max(values[::2])]
