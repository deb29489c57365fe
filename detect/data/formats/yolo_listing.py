"""The file that describes a YOLO data set, and the pictures of its splits.

It is ultralytics' data.yaml, Darknet's obj.data, or the classes.txt of labelling tools.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from detect.data.folder import find_files, find_images, not_below, split_folders, split_named, telling
from detect.data.formats.yolo_labels import IMAGES, LABELS, LabelFiles, folder_named
from detect.data.formats.yolo_names import class_lists, is_list_file, names_of, names_of_lines
from detect.data.formats.yolo_paths import as_path, at, first_of, inside, is_folder, leaves, own_name, ways
from detect.data.image_file import IMAGE_SUFFIXES
from detect.data.notes import Notes
from detect.data.pictures import Pictures
from detect.data.split import HELD_OUT
from detect.data.text import read_lines, read_text
from detect.errors import DataError, counted, first_few
from detect.files import unswollen

KEYS = {"train": ("train", "training"), "val": ("val", "validation", "valid", "validate"), "test": ("test", "testing")}
"""The key of each split in a data.yaml or an obj.data, in lower case, the usual one first."""
READ = (*KEYS, "path", "names", "nc", "kpt_shape")
WITHOUT_EFFECT = ("download", "roboflow", "channels", "flip_idx", "kpt_names")
"""The keys of a data.yaml that are read, and those of ultralytics and Roboflow that say nothing about the boxes."""
_USUAL = {key: split for split, keys in KEYS.items() for key in keys}
NOTHING = ("", "null", "~", "none")
_OUTSIDE = "read, although it is outside of the folder of {}"
WITHOUT = {
    "val": "if the data set has no images of val, remove the line of val, and val is drawn from train",
    "test": "if the data set has no other images of test, remove the line of test",
}
"""What to do about a split whose images are not there, or are those of another one."""
Value = TypeVar("Value")
ROW = re.compile(r"[0-9.]+([\s,]+[-+0-9.eE]+){4,}")


@dataclass(frozen=True)
class Listing:
    """What the file that describes a data set says.

    path: that file. root: the folder of the data set. base: the folder that its paths are relative to. names: the
    classes, in order. splits: folders, lists and patterns of each split. points: numbers of a row that key points take,
    after the box; 0: none. used: files that were read beside it. apart: folders whose pictures are none of train,
    although they may lie inside its folder. told: whether the file, or a list of pictures, says what is train.
    """

    path: Path
    root: Path
    base: Path
    names: tuple[str, ...]
    splits: Mapping[str, Sequence[str]]
    points: int = 0
    used: list[Path] = field(default_factory=list)
    apart: Sequence[Path] = ()
    told: bool = True


def listing_of(path: Path, notes: Notes, root: Path | None = None) -> Listing:
    """The content of a data.yaml, an obj.data or a list of classes. Raises DataError naming the file.

    root: the folder of the data set; None: that of the file, or the one above the labels beside a list of classes.
    """
    kinds = {".yaml": _read_yaml, ".yml": _read_yaml, ".data": _read_data}
    read = kinds.get(path.suffix.lower())
    listing = read(path, notes) if read else _read_classes(path, root or _above_labels(path), notes)
    for name, count in Counter(listing.names).items():
        if count > 1:
            notes.add("classes of one name are one class", name)
    return listing


def pictures_of(listing: Listing, split: str, pictures: Pictures, notes: Notes) -> dict[str, list[Path]] | None:
    """The pictures of each folder, list or pattern of one split; None if the source has no such split.

    A picture that occurs again counts once; such lines of lists are noted.
    """
    if not listing.splits.get(split):
        return None
    found: dict[str, list[Path]] = {}
    seen: set[Path] = set()
    missing = 0
    bases = list(dict.fromkeys([listing.base, listing.path.parent]))
    for entry in listing.splits.get(split, ()):
        places = _places(listing, bases, split, entry, notes)
        if not places and split == "test":
            notes.add(f"left out, entries of {listing.path.name} that do not exist", f"test: {entry}")
            missing += 1
            continue
        if not places:
            outside = first_of(bases, [as_path(entry)])
            hint = f"; to read {os.path.abspath(outside[0])}, write this whole path" if outside else ""
            hint += f"; {WITHOUT[split]}" if split == "val" else ""
            raise DataError(
                f"{listing.path}: {split}: {entry} does not exist, below {first_few(bases, between=' and ')}{hint}"
            )
        here: list[Path] = []
        for place in places:
            if place.is_dir():
                here += find_images(place)
            elif place.suffix.lower() in IMAGE_SUFFIXES:
                here.append(place)
            else:
                here += _listed(place, listing, pictures, notes, {*seen, *here})
        here = not_below(here, listing.apart) if split == "train" else here
        found.setdefault(entry, []).extend(path for path in dict.fromkeys(here) if path not in seen)
        seen.update(here)
    return None if missing == len(listing.splits[split]) else found


class _Once(yaml.BaseLoader):
    """Reads all values as text, and refuses a key that is given twice: YAML's own readers take the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        known: dict[object, yaml.Node] = {}
        for key, value in node.value:
            before = known.setdefault(key.value, value) if isinstance(key.value, str) else value
            if before is not value and before.value != value.value:
                problem = f"the key '{key.value}' is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path, notes: Notes) -> Listing:
    """A data.yaml. All values are read as text, so that the names `yes` and `1` stay what is written."""
    try:
        content = yaml.load(unswollen(read_text(path, notes)), Loader=_Once)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DataError(f"{path}, line {line}: malformed yaml ({error.problem})") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(f"{path}: malformed yaml ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: a YOLO data.yaml must have the keys path, train, val, test and names")
    given = _given(path, ((str(key), value) for key, value in content.items() if not _is_nothing(value)))
    splits = {split: _texts(given[split], f"{path}: {split}") for split in KEYS if split in given}
    if not splits or not ("names" in given or "nc" in given):
        missing = "train" if not splits else "names"
        raise DataError(f"{path}: no key '{missing}'; the file has {first_few(content, 10)}")
    for key in given.keys() - {*READ, *WITHOUT_EFFECT}:
        notes.add("not used, keys of a data.yaml", f"{key[:80]} of {path.name}")
    stated = given.get("path", "")
    if not isinstance(stated, str):
        raise DataError(f"{path}: path is {stated!r}; it must be a folder")
    base = _base(path, stated, [as_path(entry) for entries in splits.values() for entry in entries], notes)
    names, points = names_of(given, path, notes), _points(given.get("kpt_shape"), path)
    listed = given.get("names")
    used = [path.parent / listed] if isinstance(listed, str) and is_list_file(path, listed) else []
    return Listing(path, path.parent, base, names, splits, points, used)


def _given(path: Path, pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """The values by their keys in lower case, that of a split by its usual one.

    Raises DataError if one key has two values.
    """
    given: dict[str, tuple[str, Value]] = {}
    for key, value in ((key.strip(), value) for key, value in pairs):
        meant = _USUAL.get(key.lower(), key.lower())
        first, before = given.setdefault(meant, (key, value))
        if before != value:
            raise DataError(f"{path}: '{first}' and '{key}' both mean the key {meant}; keep one value, or join the two")
    return {key: value for key, (_, value) in given.items()}


def _base(path: Path, stated: str, entries: Sequence[Path], notes: Notes) -> Path:
    """The folder that the key `path` of a yaml means; that of the yaml, if it does not exist on this machine.

    A path that exists below the current folder alone does not replace a folder that has the entries itself.
    """
    plain = as_path(stated)
    base = path.parent / plain
    if not is_folder(base):
        own = not is_folder(plain) or any(at(path.parent, entry) for entry in entries)
        base = path.parent if own else plain
    if not plain.is_absolute() and not Path(os.path.abspath(base)).is_relative_to(os.path.abspath(path.parent)):
        notes.add(_OUTSIDE.format(path.name), f"path: {stated} -> {os.path.abspath(base)}")
    return base


def _read_data(path: Path, notes: Notes) -> Listing:
    """Darknet's obj.data: lines `key = value`."""
    lines = (line.partition("=") for line in read_lines(path, notes) if not line.startswith("#"))
    given = _given(path, ((key, value.strip()) for key, _, value in lines if value.strip()))
    splits = {split: [given[split]] for split in KEYS if split in given}
    if not splits or "names" not in given:
        missing = "names" if splits else "train"
        raise DataError(f"{path}: no line '{missing} = ...'; the file has {first_few(given) or 'no such lines'}")
    names = first_of([path.parent], ways(given["names"]))
    if not names:
        raise DataError(f"{path}: names = {given['names']} does not exist")
    found = names_of_lines(names[0], notes)
    if (count := given.get("classes")) not in (None, str(len(found))):
        told = f"{path.name}: classes = {count}, {names[0].name}: {counted(len(found), 'name')}"
        notes.add("the names are taken, not the number of classes", told)  # Darknet trains with the number in its .cfg
    return Listing(path, path.parent, path.parent, found, splits, used=names[:1])


def _read_classes(path: Path, root: Path, notes: Notes) -> Listing:
    """A list of classes beside the pictures or their labels, as labelImg and Label Studio write it.

    labelImg writes one into each folder of labels, and appends to it: the longest counts if the others begin alike.
    """
    for k, line in enumerate(read_lines(path, Notes()), 1):
        what = "a picture" if line.lower().endswith(IMAGE_SUFFIXES) else "a box" if ROW.fullmatch(line) else ""
        if what:
            raise DataError(
                f"{path}:{k}: '{line[:80]}' is {what}, no class; name the data.yaml, obj.data or classes.txt"
            )
    lists = {p: names_of_lines(p, notes) for p in dict.fromkeys([path, *class_lists(root)])}
    longest = max(lists, key=lambda p: len(lists[p]))
    for other, names in lists.items():
        if names != lists[longest][: len(names)]:
            raise DataError(f"{longest} and {other} number the classes differently; correct one, or remove it")
    listed = _lists_of_splits(root)
    used = [*lists, *listed.values()]
    splits = listed or _folders_of_splits(root, LabelFiles(used, root))
    entries, apart = (
        {s: [str(p.relative_to(root))] for s, p in splits.items()},
        [p for s, p in splits.items() if s in HELD_OUT],
    )
    return Listing(path, root, root, lists[longest], entries, used=used, apart=apart, told=bool(listed))


def _lists_of_splits(root: Path) -> dict[str, Path]:
    """The lists of pictures of a folder, such as train.txt, by split; none without train. Raises DataError for two."""
    found: dict[str, Path] = {}
    for path in find_files(root, {".txt"}, recursive=False):
        split = split_named(path.stem)
        if split and next(filter(None, read_lines(path, Notes())), "").lower().endswith(IMAGE_SUFFIXES):
            if split in found:
                raise DataError(f"{root}: {found[split].name} and {path.name} both mean the split {split}; remove one")
            found[split] = path
    return found if "train" in found else {}


def _folders_of_splits(root: Path, files: LabelFiles) -> dict[str, Path]:
    """The folders of splits. Without train, it is the folder of the other pictures: `images` if all pictures with
    labels lie there, those of val and test aside.
    """

    def labelled(folder: Path) -> list[Path]:
        return [picture for picture in find_images(folder) if files.find(picture)]

    inner = [place for name in IMAGES if (place := folder_named(name, root)).is_dir()]
    folders = next((f for place in inner if (f := split_folders(place))), {}) or split_folders(root)
    told = telling(folders, root, find_images, labelled)
    known = [] if "train" in told else not_below(labelled(root), told.values())
    if told and not known:
        return told
    whole = (place for place in inner if known and all(picture.is_relative_to(place) for picture in known))
    return {"train": next(whole, root), **told}


def _above_labels(path: Path) -> Path:
    """The folder of the data set that a list of classes is part of: its own, or the one above `labels`."""
    parts = [part.lower() for part in path.parent.parts]
    if LABELS not in parts or find_images(path.parent):
        return path.parent
    return Path(*path.parts[: len(parts) - 1 - parts[::-1].index(LABELS)])


def _is_nothing(value: object) -> bool:
    return value in ([], {}) or (isinstance(value, str) and value.strip().lower() in NOTHING)


def _texts(value: object, where: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    texts = [v for v in values if isinstance(v, str)]
    if len(texts) < len(values):
        raise DataError(f"{where} is {value!r}; it must be a folder, a list of pictures (.txt), or a list of these")
    return [text for text in texts if not _is_nothing(text)]


def _points(shape: object, path: Path) -> int:
    """How many numbers of a row are key points."""
    if shape is None:
        return 0
    if isinstance(shape, list) and len(shape) == 2 and all(str(v).isdecimal() and len(str(v)) < 5 for v in shape):
        return int(shape[0]) * int(shape[1])
    raise DataError(f"{path}: kpt_shape is {shape!r}; it must be [number of points, 2 or 3]")


def _places(listing: Listing, bases: Sequence[Path], split: str, entry: str, notes: Notes) -> list[Path]:
    """The folder or the list that an entry means, or the pictures of a pattern; an empty list if there is none.

    If one entry that leaves the folder exists below it, all such entries are searched there alone: the other splits
    of this data set are not those of its neighbour. Notes what is outside.
    """
    leaving = [path for entries in listing.splits.values() for e in entries if leaves(path := as_path(e))]
    own = any(first_of(bases, [inside(path)]) for path in leaving)
    places, written = first_of(bases, ways(entry, split, not own)), as_path(entry)
    if places and written in leaving:
        rival = first_of(bases, [written])
        shown = f"{split}: {entry} -> "
        if rival == places:
            notes.add(_OUTSIDE.format(listing.path.name), shown + os.path.abspath(places[0]))
        elif rival:
            kind = f"taken below the folder of {listing.path.name}, not beside it, where another data set is"
            notes.add(kind, shown + inside(written).as_posix())
    return places


def _listed(path: Path, listing: Listing, pictures: Pictures, notes: Notes, seen: set[Path]) -> list[Path]:
    """The pictures that a text file lists. seen: those that were listed before; one that is there again is noted."""
    listing.used.append(path)
    near = Pictures(list(dict.fromkeys([path.parent, *pictures.folders])), notes)
    lines = list(filter(None, read_lines(path, notes)))
    names = [own_name(line, near.folders) for line in lines]
    found = [near.find(name, path) for name in names]
    missing = [name for name, picture in zip(names, found, strict=True) if picture is None]
    if missing:
        raise DataError(f"{path}: it lists {first_few(missing, 3)}, which does not exist ({len(missing)} in all)")
    for line, picture in zip(lines, found, strict=True):
        if picture in seen:
            notes.add("left out, lines of a list that repeat a picture", f"{line} in {path.name}")
        elif picture:
            seen.add(picture)
    return [picture for picture in found if picture]
