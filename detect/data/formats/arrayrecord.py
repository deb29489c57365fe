"""Data sets in ArrayRecord files, as `detect convert to=arrayrecord` writes them: for many images, or slow disks."""

import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.config.legal_values import HeldOut, Seed
from detect.data.assemble import Exif, Found, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.examples import Texts, packed_ids
from detect.data.folder import existing_folder
from detect.data.formats.arrayrecord_writer import FORM, INDEX
from detect.data.records import Records
from detect.data.shards import SUFFIX, Picture, library
from detect.data.split import SPLITS
from detect.data.text import one_name
from detect.errors import DataError, first_few
from detect.files import read_json, sha256_of

_FILE = re.compile(r"[A-Za-z0-9_-]+(\.npz|\.arrayrecord)")
_MOST_SIDE = 1 << 30
_COLUMNS = {"sizes": (np.int32, 2), "ends": (np.int64, 0), "boxes": (np.float32, 4), "classes": (np.int32, 0),
            "crowd": (np.bool_, 0)}  # fmt: skip
"""The arrays of a split: their type, and the length of a row, or 0 for plain numbers."""


def read_arrayrecord(
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
    """Reads the folder that `detect convert to=arrayrecord` has written.

    Pictures stay in their files and are read one by one (`detect.data.shards`), with their checksums; boxes come from
    the table of each split. The splits are those that were written. Other arguments: `detect.data.assemble.Selection`.
    Raises DataError, naming the file, if a file is missing or damaged: the sha256 of the tables is compared here, those
    of the pictures' files are for other tools.
    """
    library()
    folder = existing_folder(root)
    path = folder / INDEX
    content = _index(path)
    titles = tuple(content["classes"])
    records = {split: _records(folder, split, content["splits"][split], titles) for split in SPLITS}
    numbers = dict(zip(titles, content["category_ids"], strict=True))
    used = [path, *(folder / file for part in content["splits"].values() for file in _files(part))]
    found = Found(folder, records, f"as in {INDEX}", classes=titles, numbers=numbers, used=used)
    choice = Selection(
        classes, rename, name or content["name"], val_fraction, test_fraction, split_seed, split_by, exif
    )
    return assemble(found, choice)


def recognise(folder: Path) -> str | None:
    """Why a folder is a data set of this format, or None."""
    first = next((entry.name for entry in os.scandir(folder) if entry.name.endswith(SUFFIX)), None)
    return f"{INDEX} and ArrayRecord files, such as {first}" if first and (folder / INDEX).is_file() else None


def _index(path: Path) -> dict[str, Any]:
    """The index, with the types that the reader needs."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("kind") != "arrayrecord":
        raise DataError(f'{path}: it is not the index of ArrayRecord files; "kind" must be "arrayrecord"')
    if content.get("form") != FORM:
        raise DataError(f"{path}: its form is {content.get('form')!r:.40}; this version reads {FORM}")
    titles, numbers, splits = (content.get(key) for key in ("classes", "category_ids", "splits"))
    if not isinstance(titles, list) or not titles or any(type(t) is not str or one_name(t) != t for t in titles):
        raise DataError(f"{path}: classes must be a list of names")
    if not isinstance(numbers, list) or len(numbers) != len(titles) or any(type(n) is not int for n in numbers):
        raise DataError(f"{path}: category_ids must be a list of {len(titles)} numbers")
    if not isinstance(splits, dict) or set(splits) != set(SPLITS) or type(content.get("name")) is not str:
        raise DataError(f"{path}: it must have a name, and the splits {', '.join(SPLITS)}")
    for split, part in splits.items():
        if not isinstance(part, dict) or type(part.get("images")) is not int or type(part.get("sha256")) is not str:
            raise DataError(f"{path}: splits.{split} must have images, table, sha256 and files")
        files = part.get("files")
        if not isinstance(files, list) or not all(isinstance(entry, dict) for entry in files):
            raise DataError(f"{path}: splits.{split}.files must be a list of files")
        for file in _files(part):
            if type(file) is not str or not _FILE.fullmatch(file):
                raise DataError(f"{path}: splits.{split} names {file!r:.80}; it must be a file of the same folder")
            if not (path.parent / file).is_file():
                raise DataError(f"{path.parent / file}: no such file, which {INDEX} names")
    return content


def _files(part: Mapping[str, Any]) -> list[Any]:
    """The files of a split."""
    return [part.get("table"), *(entry.get("file") for entry in part["files"])]


def _records(folder: Path, split: str, part: Mapping[str, Any], titles: tuple[str, ...]) -> Records:
    """The images and boxes of a split, checked."""
    path = folder / part["table"]
    if sha256_of(path) != part["sha256"]:
        raise DataError(f"{path}: the file is damaged, or not the one that {INDEX} tells of: its sha256 differs")
    try:
        columns = _columns(path)
        ids, pictures, sources = (_texts(columns, name) for name in ("ids", "pictures", "source_ids"))
        numbers = [json.loads(text) for text in sources]
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, RecursionError) as error:
        raise DataError(f"{path}: it is not a table of boxes ({type(error).__name__}: {error})"[:400]) from None
    files = {entry["file"] for entry in part["files"]}
    count, ends, labels, areas = part["images"], columns["ends"], columns["classes"], columns.get("areas")
    faults = {
        f"it must have {count} images": {len(ids), len(pictures), len(numbers), len(columns["sizes"])} != {count},
        "the ends of the boxes do not fit": not _are_ends(ends, count, len(labels)),
        "boxes, classes and flags differ in number": not len(columns["boxes"]) == len(labels) == len(columns["crowd"]),
        f"a class is not in 1..{len(titles)}": labels.size and not 1 <= labels.min() <= labels.max() <= len(titles),
        "areas and boxes differ in number": areas is not None and len(areas) != len(labels),
        "an area is no number of pixels": areas is not None and bool(((areas < 0) | np.isinf(areas)).any()),
        "a box is not finite": not (np.abs(columns["boxes"]) <= _MOST_SIDE).all(),
        "a size is not a number of pixels": not ((columns["sizes"] > 0) & (columns["sizes"] < _MOST_SIDE)).all(),
        "an id is no number or text": any(type(n) not in (int, str, type(None)) for n in numbers),
    }
    if wrong := [fault for fault, found in faults.items() if found]:
        raise DataError(f"{path}: it is damaged: {first_few(wrong, 1)}")
    strange = next((p for p in pictures if p.partition("/")[0] not in files or not Picture.at(p)), None)
    if strange is not None:
        raise DataError(f"{path}: {strange!r:.80} is no picture of the files that {INDEX} names")
    return Records(
        Texts.of(f"{folder}/{name}" for name in pictures),
        ids,
        ends,
        titles,
        labels - 1,
        columns["boxes"].astype(np.float64),
        columns["crowd"],
        (folder / INDEX,),
        np.zeros(count, np.int32),
        columns["sizes"],
        packed_ids(numbers),
        np.zeros(count, bool),
        areas,
    )


def _columns(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a table. Raises ValueError for other types and shapes, and for one that is packed."""
    texts = {f"{n}.{p}": (k, 0) for n in ("ids", "pictures", "source_ids")
             for p, k in (("content", np.uint8), ("ends", np.int64))}  # fmt: skip
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("an array is compressed")
    columns = {}
    with np.load(path, allow_pickle=False) as arrays:
        optional = {"areas": (np.float32, 0)} if "areas" in arrays else {}
        for name, (kind, width) in (texts | _COLUMNS | optional).items():
            array = columns[name] = arrays[name]
            if array.dtype != kind or array.ndim != 1 + bool(width) or (width and array.shape[1] != width):
                raise ValueError(f"{name} is of type {array.dtype} and shape {array.shape}")
    return columns


def _texts(columns: Mapping[str, np.ndarray], name: str) -> Texts:
    """Texts of a table. Raises ValueError for ends that do not fit, and for what is no UTF-8."""
    content, ends = columns[f"{name}.content"], columns[f"{name}.ends"]
    if not _are_ends(ends, len(ends) - 1, len(content)):
        raise ValueError(f"the ends of {name} do not fit")
    texts = Texts(content, ends)
    for _ in texts:
        pass
    return texts


def _are_ends(ends: np.ndarray, parts: int, whole: int) -> bool:
    """Whether numbers divide an array of a length into parts."""
    return len(ends) == parts + 1 > 0 and ends[0] == 0 and ends[-1] == whole and bool((np.diff(ends) >= 0).all())
