"""YOLO text labels: one .txt per picture with boxes as shares of the image, centre first.

It reads the layout of ultralytics (a data.yaml), Darknet's (obj.data and obj.names), and that of labelling tools
(classes.txt beside the pictures, or beside images/ and labels/).
"""

import glob
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from detect.config.legal_values import HeldOut
from detect.data.assemble import Exif, Found, Record, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.folder import Pictures, existing_folder, find_files, find_images, split_folders
from detect.data.image_file import IMAGE_SUFFIXES
from detect.data.notes import Notes
from detect.data.split import SPLITS
from detect.data.text import loose, one_name, read_lines, read_text
from detect.errors import DataError, first_few

YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
KEYS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
"""The key of each split in a data.yaml or an obj.data, the usual one first."""
NOTHING = ("", "null", "~", "none")


@dataclass(frozen=True)
class Listing:
    """What the file that describes a data set says.

    path: that file. base: the folder that its paths are relative to. names: the classes, in order. splits: folders,
    lists and patterns of each split. points: numbers of a row that key points take, after the box; 0: none.
    used: files that were read beside it.
    """

    path: Path
    base: Path
    names: tuple[str, ...]
    splits: Mapping[str, Sequence[str]]
    points: int = 0
    used: list[Path] = field(default_factory=list)


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
    place = Path(root).expanduser()
    path = place if place.is_file() else _description(existing_folder(root))
    listing = _READERS.get(path.suffix.lower(), _read_classes)(path, notes)
    pictures = Pictures(list(dict.fromkeys([listing.base, path.parent])), notes)
    labels = _Labels(listing, notes)
    records = {}
    for split in SPLITS:
        found = _split_pictures(listing, split, pictures, notes)
        if found is not None:
            records[split] = labels.records(found)
    if not records.get("train"):
        raise DataError(f"{path}: train: {first_few(listing.splits.get('train', ['']))} has no pictures")
    if not any(record.source for record in records["train"]):
        tried = _label_places(records["train"][0].path)
        raise DataError(
            f"{path}: no training picture has a label file; for example, {first_few(tried, between=' and ')} is missing"
        )
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
    return "train" in text and ("names" in text or "nc" in text)


def _has_labels(folder: Path) -> bool:
    """Whether a picture below the folder has a label file."""
    return any(place.is_file() for picture in find_images(folder)[:200] for place in _label_places(picture))


def _read_yaml(path: Path, notes: Notes) -> Listing:
    """A data.yaml. All values are read as text, so that the names `yes` and `1` stay what is written."""
    try:
        content = yaml.load(read_text(path, notes), Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DataError(f"{path}, line {line}: malformed yaml ({error.problem})") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(f"{path}: malformed yaml ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: a YOLO data.yaml must have the keys path, train, val, test and names")
    given = {str(key).strip(): value for key, value in content.items() if not _is_nothing(value)}
    splits = {}
    for split, keys in KEYS.items():
        key = next((k for k in keys if k in given), None)
        if key:
            splits[split] = _texts(given[key], f"{path}: {key}")
    if "train" not in splits or not ("names" in given or "nc" in given):
        missing = "train" if "train" not in splits else "names"
        raise DataError(f"{path}: no key '{missing}'; the file has {first_few(content, 10)}")
    stated = given.get("path", "")
    if not isinstance(stated, str):
        raise DataError(f"{path}: path is {stated!r}; it must be a folder")
    tried = [path.parent / stated, _home(stated)] if stated else []
    base = next((p for p in tried if _is_folder(p)), path.parent)
    return Listing(path, base, _names(given, path), splits, _points(given.get("kpt_shape"), path))


def _read_data(path: Path, notes: Notes) -> Listing:
    """Darknet's obj.data: lines `key = value`."""
    given = {}
    for line in read_lines(path, notes):
        key, _, value = line.partition("=")
        if value.strip() and not line.startswith("#"):
            given[key.strip()] = value.strip()
    splits = {s: [given[k]] for s, keys in KEYS.items() if (k := next((k for k in keys if k in given), None))}
    if "train" not in splits or "names" not in given:
        missing = "names" if "train" in splits else "train"
        raise DataError(f"{path}: no line '{missing} = ...'; the file has {first_few(given) or 'no such lines'}")
    names = _existing([path.parent], given["names"])
    if names is None:
        raise DataError(f"{path}: names = {given['names']} does not exist")
    return Listing(path, path.parent, _names_of_lines(names, notes), splits, used=[names])


def _read_classes(path: Path, notes: Notes) -> Listing:
    """A list of classes beside the pictures, or beside images/ and labels/, as labelImg and Label Studio write it."""
    images = path.parent / "images"
    folders = (split_folders(images) if images.is_dir() else {}) or split_folders(path.parent)
    places = {split: place for split, place in folders.items() if find_images(place)}
    if "train" not in places:
        places = {"train": path.parent}
    return Listing(path, path.parent, _names_of_lines(path, notes), {s: [str(p)] for s, p in places.items()})


_READERS = {".yaml": _read_yaml, ".yml": _read_yaml, ".data": _read_data}


def _is_nothing(value: object) -> bool:
    return value in ([], {}) or (isinstance(value, str) and value.strip().lower() in NOTHING)


def _texts(value: object, where: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    texts = [v for v in values if isinstance(v, str)]
    if len(texts) < len(values):
        raise DataError(f"{where} is {value!r}; it must be a folder, a list of pictures (.txt), or a list of these")
    return [text for text in texts if not _is_nothing(text)]


def _names(given: Mapping[str, object], path: Path) -> tuple[str, ...]:
    names, count = given.get("names"), given.get("nc")
    if count is not None and not (isinstance(count, str) and count.strip().isdecimal() and len(count) < 6):
        raise DataError(f"{path}: nc is {count!r}; it must be the number of classes")
    if names is None:
        return tuple(f"class_{i}" for i in range(int(str(count))))
    if isinstance(names, str) and _is_list_file(path, names):
        return _names_of_lines(path.parent / names, Notes())
    if isinstance(names, dict):
        numbers = {str(k).strip(): v for k, v in names.items()}
        if set(numbers) != {str(i) for i in range(len(names))}:
            raise DataError(f"{path}: names must be numbered 0..{len(names) - 1}, not {first_few(names, 10)}")
        names = [numbers[str(i)] for i in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise DataError(f"{path}: names is {names!r}; it must be a list of names, or a map from numbers to names")
    if count is not None and int(str(count)) != len(names):
        raise DataError(f"{path}: nc is {count}, but there are {len(names)} names")
    return tuple(map(one_name, names))


def _is_list_file(path: Path, name: str) -> bool:
    return name.endswith((".names", ".txt")) and (path.parent / name).is_file()


def _names_of_lines(path: Path, notes: Notes) -> tuple[str, ...]:
    lines = read_lines(path, notes)
    while lines and not lines[-1]:
        lines.pop()
    if not lines or not all(lines):
        raise DataError(f"{path}: each line must have the name of one class")
    return tuple(map(one_name, lines))


def _points(shape: object, path: Path) -> int:
    """How many numbers of a row are key points."""
    if shape is None:
        return 0
    if isinstance(shape, list) and len(shape) == 2 and all(str(v).isdecimal() and len(str(v)) < 5 for v in shape):
        return int(shape[0]) * int(shape[1])
    raise DataError(f"{path}: kpt_shape is {shape!r}; it must be [number of points, 2 or 3]")


def _home(text: str) -> Path:
    """A path with ~ expanded; as it is written, if it names an unknown user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _existing(bases: Iterable[Path], entry: str) -> Path | None:
    """The path that an entry means: below a base, or below it without its first parts, which are another machine's."""
    plain = entry.replace("\\", "/").strip()
    parts = [p for p in plain.split("/") if p not in ("", ".", "..") and not p.endswith(":")]
    tried = [_home(plain), *(Path(*parts[k:]) for k in range(len(parts)))]
    for path in tried:
        for base in bases:
            try:
                if (base / path).exists():
                    return base / path
            except (OSError, ValueError):
                continue
    return None


def _split_pictures(listing: Listing, split: str, pictures: Pictures, notes: Notes) -> list[Path] | None:
    """The pictures of one split, from its folders, lists and patterns; None if the source has no such split."""
    if not listing.splits.get(split):
        return None
    found: list[Path] = []
    bases = list(dict.fromkeys([listing.base, listing.path.parent]))
    for entry in listing.splits.get(split, ()):
        place = _existing(bases, entry)
        matches = [] if place else _matches(bases, entry)
        if place is None and not matches:
            if split == "test":
                notes.add(f"left out, entries of {listing.path.name} that do not exist", f"test: {entry}")
                return None
            raise DataError(
                f"{listing.path}: {split}: {entry} does not exist, below {first_few(bases, between=' and ')}"
            )
        if place is None:
            found += matches
        elif place.is_dir():
            found += find_images(place)
        elif place.suffix.lower() in IMAGE_SUFFIXES:
            found.append(place)
        else:
            found += _listed(place, listing, pictures, notes)
    return list(dict.fromkeys(found))


def _matches(bases: Iterable[Path], entry: str) -> list[Path]:
    """The pictures that a pattern such as images/*.jpg means."""
    if not any(sign in entry for sign in "*?["):
        return []
    for base in bases:
        names = glob.glob(entry.replace("\\", "/"), root_dir=base, recursive=True)
        paths = sorted(base / n for n in names)
        folders = [q for p in paths if p.is_dir() for q in find_images(p)]
        if files := [p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()] or folders:
            return files
    return []


def _listed(path: Path, listing: Listing, pictures: Pictures, notes: Notes) -> list[Path]:
    """The pictures that a text file lists."""
    listing.used.append(path)
    near = Pictures(list(dict.fromkeys([path.parent, *pictures.folders])), notes)
    names = [line for line in read_lines(path, notes) if line]
    found = [near.find(name, path) for name in names]
    missing = [name for name, picture in zip(names, found, strict=True) if picture is None]
    if missing:
        raise DataError(f"{path}: it lists {first_few(missing, 3)}, which does not exist ({len(missing)} in all)")
    return [picture for picture in found if picture]


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
        with ThreadPoolExecutor(8) as pool:
            rows = list(pool.map(self._read, sources))
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
