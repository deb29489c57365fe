"""COCO json (cocodataset.org/#format-data): one file per split, 0-based boxes [x, y, width, height]."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.config.legal_values import HeldOut
from detect.data.assemble import Exif, Found, Record, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.folder import Pictures, existing_folder, find_files, split_of
from detect.data.formats.masks import mask_box
from detect.data.formats.values import finite, flag
from detect.data.notes import Notes
from detect.data.split import SPLITS
from detect.data.text import one_name, read_text
from detect.errors import DataError, first_few

KEYS = {"categories": ("id", "name"), "images": ("id", "file_name"), "annotations": ("image_id", "category_id")}
"""The lists of a COCO file, and what each of their entries must have."""


def read_coco(
    root: str | Path,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    images: Mapping[str, str | None] | None = None,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    name: str | None = None,
    val_fraction: HeldOut = 0.15,
    test_fraction: HeldOut = 0.15,
    split_seed: int = 0,
    split_by: SplitBy = None,
    exif: Exif = "displayed",
) -> DetectionDataset:
    """Reads a data set of COCO json files.

    root: the other paths are relative to this folder.
    train, val, test: the json of each split. If all are None, they are searched below root: by the words train, val,
        valid, validation and test in the names of files and folders. If train is given, a split that is None has no
        file: val is then drawn from train, and test too, if neither has a file.
    images: folder of each split's pictures; None: they are searched beside the json and below root.
    Other arguments: `detect.data.assemble.Selection`.

    Classes are the categories with a box, in the order of their ids, which may be any numbers. Annotations with
    `iscrowd` or `ignore` become crowd. Where `bbox` is missing, the box is that of the segmentation.
    Raises DataError, naming the file, for json that can't be parsed (with the line), keys that are missing or of
    another type, unknown categories or images, an id that occurs twice, a missing picture, and overlapping splits.
    """
    folder, notes = existing_folder(root), Notes()
    named = {s: folder / f for s, f in (("train", train), ("val", val), ("test", test)) if f}
    files = named or find_jsons(folder)
    if "train" not in files:
        raise DataError(f"dataset.train is missing: name the json of the training images below {folder}")
    contents = {split: _File(path, read_json(path, notes), notes) for split, path in files.items()}
    titles = _titles(contents)
    records = {}
    for split, file in contents.items():
        inside = (images or {}).get(split)
        beside = [existing_folder(folder / inside, f"dataset.images.{split}")] if inside else [file.path.parent, folder]
        records[split] = file.records(folder, _Guess(beside, split, folder, notes))
    origin = f"json files ({', '.join(f'{split}: {path.name}' for split, path in files.items())})"
    found = Found(folder, records, origin, notes, list(titles), unused=False, numbers=titles, used=files.values())
    choice = Selection(classes, rename, name, val_fraction, test_fraction, split_seed, split_by, exif)
    return assemble(found, choice)


def recognise(folder: Path) -> str | None:
    """Why a folder is a data set of this format, or None."""
    found = next((path for path in find_files(folder, {".json"}) if _is_coco(path)), None)
    return f"json with images, annotations and categories: {found.relative_to(folder)}" if found else None


def find_jsons(folder: Path) -> dict[str, Path]:
    """The COCO file of each split below `folder`. Raises DataError if there is none, or if two fit one split."""
    split_files: dict[str, list[Path]] = {}
    paths = [path for path in find_files(folder, {".json"}) if _is_coco(path)]
    if any("instances" in path.name for path in paths):  # COCO's own names: not its captions or key points
        paths = [path for path in paths if "instances" in path.name]
    for path in paths:
        split_files.setdefault(split_of(path.relative_to(folder)) or "train", []).append(path)
    if not paths:
        raise DataError(
            f"dataset.root={folder}: there is no json with the lists images, annotations and categories below it"
        )
    for split, group in split_files.items():
        if len(group) > 1:
            raise DataError(
                f"dataset.root={folder}: {len(group)} json files could be the split {split}: "
                f"{first_few([p.relative_to(folder) for p in group])}; name one: dataset.{split}=FILE"
            )
    return {split: split_files[split][0] for split in SPLITS if split in split_files}


def read_json(path: Path, notes: Notes) -> Any:
    """Parses a json file. Raises DataError naming the file, and the line of a syntax error."""
    try:
        return json.loads(read_text(path, notes), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: malformed json ({error.msg}, column {error.colno})") from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"{path}: malformed json ({error})") from None


def _no_constant(name: str) -> float:
    return math.nan if name == "NaN" else math.inf


def _is_coco(path: Path) -> bool:
    """Whether a json is a COCO file, by its first and last bytes: the lists may be large."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            text = file.read(1 << 20)
            file.seek(max(0, size - (1 << 20)))
            text += file.read()
    except OSError:
        return False
    text = text.replace(b"\0", b"")
    found = sum(f'"{key}"'.encode() in text for key in KEYS)
    return found == len(KEYS) or (size > 2 << 20 and found == len(KEYS) - 1 and b'"bbox"' in text)


def _titles(contents: "Mapping[str, _File]") -> dict[str, int]:
    """Number of each class, in the order of the numbers. The first file with a class decides; others are noted."""
    numbers: dict[str, int] = {}
    for file in contents.values():
        for key, title in file.categories.items():
            if numbers.setdefault(title, file.numbers[key]) != file.numbers[key]:
                kind = "categories with other ids than in the first file, whose ids results carry"
                file.notes.add(kind, f"{title} in {file.path.name}: {file.numbers[key]}, not {numbers[title]}")
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


class _Guess:
    """Finds the pictures of a json: first as it names them, below the places where tools put them."""

    def __init__(self, beside: Sequence[Path], split: str, root: Path, notes: Notes):
        places = [f for name in (split, "images", f"images/{split}") if (f := root / name).is_dir()]
        self.pictures = Pictures([*beside, *places], notes)

    def __call__(self, name: str, asked_by: str) -> Path | None:
        return self.pictures.find(name, asked_by)


class _File:
    """One COCO file, checked: ids are compared as text, so that 1, "1" and 1.0 are the same id.

    categories: name by id as text. numbers: the id as a number, by the same. boxes: how many annotations each has.
    """

    def __init__(self, path: Path, content: Any, notes: Notes):
        self.path, self.notes = path, notes
        if not isinstance(content, dict):
            raise DataError(f"{path}: a COCO file must be one object with images, annotations and categories")
        for key, needs in KEYS.items():
            entries = content.get(key)
            if not isinstance(entries, list):
                raise DataError(f"{path}: no list '{key}'; the file has {first_few(content, 10) or 'no keys'}")
            for k, entry in enumerate(entries):
                missing = [n for n in needs if not isinstance(entry, dict) or entry.get(n) is None]
                if missing:
                    raise DataError(f"{path}: {key}[{k}] has no '{missing[0]}'")
        self.images = self._by_id(content, "images", "file_name")
        entries = self._by_id(content, "categories", "name")
        self.categories = {i: one_name(entry["name"]) for i, entry in entries.items()}
        self.numbers = {i: _number_of(i, k) for k, i in enumerate(self.categories, 1)}
        self.annotations = content["annotations"]
        self.boxes = Counter(self._known(k, a, "category_id", self.categories) for k, a in enumerate(self.annotations))
        for title, count in Counter(self.categories.values()).items():
            if count > 1:
                self._settle(title, [i for i, other in self.categories.items() if other == title], entries)

    def _settle(self, title: str, keys: list[str], entries: Mapping[str, dict[str, Any]]) -> None:
        """Leaves out categories without a box that repeat a name, and merges those that differ in blanks alone."""
        kept = [i for i in keys if self.boxes[i]] or keys[:1]
        for i in keys:
            if i not in kept:  # such as the supercategory in Roboflow's files
                self.notes.add("left out, categories without a box that repeat a name", f"{title} (id {i})")
                del self.categories[i], self.numbers[i]
        if len(kept) > 1 and len({str(entries[i]["name"]) for i in kept}) < len(kept):
            raise DataError(f"{self.path}: the category '{title}' is given twice, with the ids {', '.join(kept)}")
        for i in kept[1:]:
            self.notes.add(
                "merged, categories whose names differ in blanks or Unicode form", f"{title} (ids {kept[0]}, {i})"
            )
            self.numbers[i] = self.numbers[kept[0]]

    def _by_id(self, content: dict[str, Any], key: str, title: str) -> dict[str, dict[str, Any]]:
        """The entries of a list by their id. Raises DataError for an id that is no text or number, or occurs twice."""
        found: dict[str, dict[str, Any]] = {}
        for k, entry in enumerate(content[key]):
            i = _id(entry["id"])
            if i is None:
                raise DataError(f"{self.path}: {key}[{k}]: id is {entry['id']!r}; it must be a number or text")
            if i in found:
                raise DataError(
                    f"{self.path}: {key}: the id {i} is given twice: {found[i][title]}, {entry[title]}; ids must differ"
                )
            if not isinstance(entry[title], str | int | float):
                raise DataError(f"{self.path}: {key}[{k}]: {title} is {entry[title]!r}; it must be text")
            found[i] = entry
        return found

    def _known(self, k: int, annotation: dict[str, Any], key: str, legal: Mapping[str, object]) -> str:
        i = _id(annotation[key])
        if i is None or i not in legal:
            listed = "images" if key == "image_id" else "categories"
            raise DataError(
                f"{self.path}: annotations[{k}]: {key} is {annotation[key]!r}, which is no id of {listed}; legal: "
                f"{first_few(legal, 10)}"
            )
        return i

    def records(self, root: Path, find: _Guess) -> list[Record]:
        """The images of the file with their boxes, in its order."""
        objects: dict[str, list[tuple[list[float], str, bool]]] = {i: [] for i in self.images}
        for k, annotation in enumerate(self.annotations):
            image = self._known(k, annotation, "image_id", self.images)
            title = self.categories[self._known(k, annotation, "category_id", self.categories)]
            crowd = any(self._flag(k, annotation, key) for key in ("iscrowd", "ignore"))
            objects[image].append((self._box(k, annotation), title, crowd))
        paths = {i: find(str(entry["file_name"]), f"{self.path}: images") for i, entry in self.images.items()}
        missing = [str(self.images[i]["file_name"]) for i, path in paths.items() if path is None]
        if missing:
            raise DataError(
                f"{self.path}: {len(missing)} of {len(paths)} pictures are missing: {first_few(missing, 3)}; searched "
                f"below {first_few(find.pictures.folders, 9)}. Set dataset.images.SPLIT to the folder of the pictures"
            )
        records = []
        for i, entry in self.images.items():
            here, path = objects[i], paths[i] or root  # none is missing
            where = path.relative_to(root) if path.is_relative_to(root) else path
            boxes = np.array([box for box, _, _ in here], np.float64).reshape(-1, 4)
            records.append(
                Record(
                    path, where.as_posix(), [t for _, t, _ in here], boxes, [c for _, _, c in here], self.path,
                    self._size(entry), entry["id"] if isinstance(entry["id"], int | str) else int(entry["id"]),
                )
            )  # fmt: skip
        return records

    def _size(self, entry: dict[str, Any]) -> tuple[int, int] | None:
        """(width, height) of an entry of images; None if it has none."""
        sides = []
        for key in ("width", "height"):
            value = finite(entry.get(key) or 0)
            if value is None or value < 0:
                raise DataError(
                    f"{self.path}: image {entry['file_name']}: {key} is {entry[key]!r}; it must be a number of pixels"
                )
            sides.append(round(value))
        return (sides[0], sides[1]) if all(sides) else None

    def _flag(self, k: int, annotation: dict[str, Any], key: str) -> bool:
        value = flag(annotation.get(key))
        if value is None:
            raise DataError(f"{self.path}: annotations[{k}]: {key} is {annotation[key]!r}; it must be 0 or 1")
        return value

    def _box(self, k: int, annotation: dict[str, Any]) -> list[float]:
        """COCO [x, y, width, height] -> [ymin, xmin, ymax, xmax]; without bbox, the box of the segmentation."""
        box = annotation.get("bbox")
        if not box:
            hull = _hull(annotation.get("segmentation"))
            if hull is None:
                raise DataError(f"{self.path}: annotations[{k}] has no 'bbox', and no segmentation that gives one")
            self.notes.add("boxes made from segmentations", f"annotation {annotation.get('id', k)}")
            return hull
        numbers = [finite(value) for value in box] if isinstance(box, list) and len(box) == 4 else [None]
        if None in numbers:
            raise DataError(
                f"{self.path}: annotations[{k}]: bbox is {box!r}; it must be four numbers [x, y, width, height]"
            )
        x, y, width, height = numbers  # type: ignore[misc]
        return [y, x, y + height, x + width]  # type: ignore[operator,list-item]


def _id(value: object) -> str | None:
    """An id as text: 1, 1.0 and "1" are equal; None for other types."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value).strip()


def _number_of(key: str, place: int) -> int:
    """The number of an id; the place in the list if it is not a number."""
    return int(key) if key.lstrip("-").isdecimal() and len(key) < 12 else place


def _hull(segmentation: object) -> list[float] | None:
    """The box yxyx around polygons [[x, y, x, y, ...], ...] or a mask in COCO's run lengths; None if there is none."""
    if isinstance(segmentation, dict):
        return mask_box(segmentation)
    if not isinstance(segmentation, list) or not segmentation:
        return None
    rings = segmentation if isinstance(segmentation[0], list) else [segmentation]
    numbers = [[finite(v) for v in ring] if isinstance(ring, list) else [None] for ring in rings]
    if any(None in ring or len(ring) < 4 or len(ring) % 2 for ring in numbers):
        return None
    x = [v for ring in numbers for v in ring[::2] if v is not None]
    y = [v for ring in numbers for v in ring[1::2] if v is not None]
    return [min(y), min(x), max(y), max(x)]
