"""The file that describes a YOLO data set, and the pictures of its splits.

It is ultralytics' data.yaml, Darknet's obj.data, or the classes.txt of labelling tools.
"""

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from detect.data.folder import Pictures, find_images, split_folders, telling
from detect.data.image_file import IMAGE_SUFFIXES
from detect.data.notes import Notes
from detect.data.text import one_name, read_lines, read_text
from detect.errors import DataError, first_few
from detect.files import expanded, unswollen

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


def listing_of(path: Path, notes: Notes) -> Listing:
    """The content of a data.yaml, an obj.data or a list of classes. Raises DataError naming the file."""
    kinds = {".yaml": _read_yaml, ".yml": _read_yaml, ".data": _read_data}
    return kinds.get(path.suffix.lower(), _read_classes)(path, notes)


def pictures_of(listing: Listing, split: str, pictures: Pictures, notes: Notes) -> list[Path] | None:
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


def _read_yaml(path: Path, notes: Notes) -> Listing:
    """A data.yaml. All values are read as text, so that the names `yes` and `1` stay what is written."""
    try:
        content = yaml.load(unswollen(read_text(path, notes)), Loader=yaml.BaseLoader)
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
    if not splits or not ("names" in given or "nc" in given):
        missing = "train" if not splits else "names"
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
    if not splits or "names" not in given:
        missing = "names" if splits else "train"
        raise DataError(f"{path}: no line '{missing} = ...'; the file has {first_few(given) or 'no such lines'}")
    names = _existing([path.parent], given["names"])
    if names is None:
        raise DataError(f"{path}: names = {given['names']} does not exist")
    return Listing(path, path.parent, _names_of_lines(names, notes), splits, used=[names])


def _read_classes(path: Path, notes: Notes) -> Listing:
    """A list of classes beside the pictures, or beside images/ and labels/, as labelImg and Label Studio write it."""
    images = path.parent / "images"
    folders = (split_folders(images) if images.is_dir() else {}) or split_folders(path.parent)
    places = telling(folders, path.parent, find_images) or {"train": path.parent}
    return Listing(path, path.parent, _names_of_lines(path, notes), {s: [str(p)] for s, p in places.items()})


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
        return expanded(text)
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
