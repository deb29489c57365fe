"""COCO json (cocodataset.org/#format-data): one file per split, 0-based boxes [x, y, width, height]."""

import json
import math
import mmap
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from detect.config.legal_values import HeldOut, Seed
from detect.data.assemble import Exif, Found, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.folder import (
    existing_folder,
    find_files,
    folders_of,
    listed_once,
    split_of_file,
    splits_of,
    tell_splits,
    told_by,
    ways_to_join,
)
from detect.data.formats.coco_categories import titles_of
from detect.data.formats.coco_file import KEYS, CocoFile
from detect.data.formats.corners import refuse_shares
from detect.data.formats.json_lists import Irregular, entries
from detect.data.formats.voc_layout import ANNOTATIONS, NO_SUBSET
from detect.data.notes import Notes
from detect.data.pictures import Pictures
from detect.data.records import Records
from detect.data.split import SPLITS
from detect.data.text import read_text
from detect.errors import DataError, first_few
from detect.files import expanded

LABELME = re.compile(rb'"shapes"\s*:\s*\[|"imageData"\s*:')
"""What a json of LabelMe has, and one of COCO has not."""
_HEAD = 1 << 12


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
    split_seed: Seed = 0,
    split_by: SplitBy = None,
    exif: Exif = "displayed",
) -> DetectionDataset:
    """Reads a data set of COCO json files.

    root: the other paths are relative to this folder. Or the only json, whose name and folder tell its split.
    train, val, test: the json of each split. If all are None, they are searched below root: by the words train, val,
        valid, validation and test in the names of files and folders. If one is given, a split that is None has no
        file: val is then drawn from train, and test too, if neither has a file.
    images: folder of each split's pictures; None: they are searched beside the json and below root.
    Other arguments: `detect.data.assemble.Selection`.

    Classes are the categories with a box, in the order of their ids, which may be any numbers. Annotations with
    `iscrowd`, `ignore`, `difficult` or `is_group_of`, also in `attributes`, become crowd. Where `bbox` is missing, the
    box is that of the segmentation; where both are empty, the annotation is left out and noted. `area` sorts objects by
    size in scores.
    Raises DataError, naming the file, for json that can't be parsed (with the line), keys that are missing or of
    another type, unknown categories or images, an id that occurs twice, a missing picture, and overlapping splits.
    """
    choice = Selection(classes, rename, name, val_fraction, test_fraction, split_seed, split_by, exif)
    given = {"train": train, "val": val, "test": test}
    folder, alone = _of_file(expanded(root)) if not any(given.values()) else (expanded(root), {})
    with listed_once():
        return assemble(_found(existing_folder(folder), alone or given, images or {}), choice)


def _of_file(place: Path) -> tuple[Path, dict[str, str]]:
    """The folder of a file, and the file by the split of its name. In `annotations`, its pictures are beside that."""
    if not place.is_file():
        return place, {}
    file = Path(os.path.abspath(place))
    inner = file.parent.name.lower() in ANNOTATIONS
    folder = file.parent.parent if inner else file.parent
    return folder, {split_of_file(file) or "train": str(file.relative_to(folder))}


def _found(folder: Path, given: Mapping[str, str | None], images: Mapping[str, str | None]) -> Found:
    """What the files of the splits hold; those that are given, or those that are found."""
    notes = Notes()
    named = {split: [folder / file] for split, file in given.items() if file}
    files = named or find_jsons(folder)
    opened = [(split, _open(path, notes)) for split, paths in files.items() for path in paths]
    titles = titles_of([file for _, file in opened])
    parts: dict[str, list[Records]] = {}
    while opened:
        split, file = opened.pop(0)  # its lists take as much memory as the records
        inside = images.get(split)
        chosen = existing_folder(folder / inside, f"dataset.images.{split}") if inside else None
        parts.setdefault(split, []).append(file.records(folder, _pictures(file.path, chosen, split, folder, notes)))
        if _without_subset(file.path) and len(files[split]) > 1:
            notes.add("taken as train, files of images without a subset", file.path.name)
    refuse_shares((path, part.boxes) for split in parts for path, part in zip(files[split], parts[split], strict=True))
    records = {split: Records.joined(several) for split, several in parts.items()}
    every = [(split, path) for split, paths in files.items() for path in paths]
    origin = f"json files ({', '.join(f'{split}: {told_by(split, path, folder)}' for split, path in every)})"
    told = any(tell_splits({split: path}, folder) for split, path in every)
    used = [path for _, path in every]
    return Found(folder, records, origin, notes, list(titles), unused=False, numbers=titles, used=used, told=told)


def recognise(folder: Path) -> str | None:
    """Why a folder is a data set of this format, or None."""
    found = next((path for path in find_files(folder, {".json"}) if _is_coco(path)), None)
    return f"json with images, annotations and categories: {found.relative_to(folder)}" if found else None


def find_jsons(folder: Path) -> dict[str, list[Path]]:
    """The COCO file of each split below `folder`. Beside that of train, there may be one of images without a subset.

    Raises DataError if there is none, or if two fit one split.
    """
    split_files: dict[str, list[Path]] = {}
    paths = [path for path in find_files(folder, {".json"}) if _is_coco(path)]
    splits = splits_of(path.relative_to(folder) for path in paths)
    for path in paths:
        split_files.setdefault(splits[path.relative_to(folder)] or "train", []).append(path)
    if not paths:
        raise DataError(
            f"dataset.root={folder}: there is no json with the lists images, annotations and categories below it"
        )
    for split, group in split_files.items():
        if len(group) > 1:  # COCO's own names: not its captions or key points
            group[:] = [path for path in group if "instances" in path.name] or group
        group.sort(key=_without_subset)  # the other file decides the numbers of the classes
        rest = [path for path in group if splits[path.relative_to(folder)] is None and _without_subset(path)]
        if len(group) > 1 and not len(rest) == 1 == len(group) - 1:
            raise DataError(
                f"dataset.root={folder}: {len(group)} json files could be the split {split}: "
                f"{first_few([p.relative_to(folder) for p in group])}; name one: dataset=coco dataset.{split}=FILE"
                f"{ways_to_join(group)}"
            )
    return {split: split_files[split] for split in SPLITS if split in split_files}


def _own_name(path: Path) -> str:
    """The name of a file without what says that it has boxes; in files of CVAT and Datumaro, that of the subset."""
    return re.sub("^(instances|person_keypoints)_", "", path.stem)


def _without_subset(path: Path) -> bool:
    """Whether a file is that of images without a subset, as CVAT and Datumaro write it."""
    return _own_name(path).casefold() == NO_SUBSET


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
            text = file.read(_HEAD)
            if LABELME.search(text.replace(b"\0", b"")):  # there may be many, each with its picture inside
                return False
            text += file.read((1 << 20) - _HEAD)
            size = file.seek(0, 2)
            file.seek(max(0, size - (1 << 20)))
            text += file.read()
            return _has_keys(file, text, size)
    except OSError:
        return False


def _has_keys(file: BinaryIO, text: bytes, size: int) -> bool:
    """Whether a json of so many bytes has the lists of a COCO file. text: its first and last bytes."""
    text = text.replace(b"\0", b"")
    missing = [f'"{key}"'.encode() for key in KEYS if f'"{key}"'.encode() not in text]
    if missing and size > 2 << 20 and b'"bbox"' in text:  # a list may begin between both ends
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            return all(whole.find(key) >= 0 for key in missing)
    return not missing


def _pictures(path: Path, chosen: Path | None, split: str, root: Path, notes: Notes) -> Pictures:
    """The pictures of a json: first as it names them, below the places where tools put them. chosen: the user's."""
    own = _own_name(path)  # it may mean no split
    names = (own, split) if _without_subset(path) else (split, own)
    above = [folder for folder in path.parents if folder != root and folder.is_relative_to(root)]
    beside = [chosen] if chosen else [*(above or [path.parent]), root]
    places = [f for n in (*names, "images", *(f"images/{n}" for n in names)) if (f := root / n).is_dir()]
    named = (folder for place in (*beside, root, root / "images") for folder in folders_of(split, place))
    return Pictures([*beside, *places, *named], notes, f"set dataset=coco dataset.images.{split}=FOLDER")


def _open(path: Path, notes: Notes) -> CocoFile:
    """Reads a file entry by entry; one that is damaged or unusual is read as a whole, which tells what is wrong."""
    own = Notes()
    try:
        file = CocoFile(path, entries(path, _no_constant), own)
    except Irregular:
        own = Notes()
        file = CocoFile(path, _whole(path, read_json(path, own)), own)
    notes.join(own)
    file.notes = notes
    return file


def _whole(path: Path, content: object) -> Iterator[tuple[str, int, Any]]:
    """The object of a JSON file that is in memory, as `entries` gives it."""
    if not isinstance(content, dict):
        raise DataError(f"{path}: a COCO file must be one object with images, annotations and categories")
    for key, value in content.items():
        yield key, -1, [] if isinstance(value, list) else value
        if isinstance(value, list):
            yield key, 0, value
