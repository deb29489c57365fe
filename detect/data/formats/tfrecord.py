"""TFRecord files of the Object Detection API: tf.Example with encoded pictures, and a label_map.pbtxt.

The fields are those of `tensorflow/models/research/object_detection/data_decoders/tf_example_decoder.py`.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from detect.config.legal_values import HeldOut, Seed
from detect.data.assemble import Exif, Found, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.folder import below, existing_folder, find_files, split_of, split_of_file, splits_of
from detect.data.formats.label_map import LabelMap, is_label_map, read_label_map
from detect.data.formats.tfrecord_cache import unpacked
from detect.data.formats.voc_layout import NO_SUBSET
from detect.data.notes import Notes
from detect.data.records import Record
from detect.data.text import loose, one_name
from detect.errors import DataError, first_few
from detect.files import expanded

NAME = re.compile(r"\.(records?|tfrecords?|tfrec)(-\d+-of-\d+)?(\.gz|\.gzip)?$", re.IGNORECASE)
_SHARD = re.compile(r"-(\d+)-of-(\d+)(?=\D*$)")


@dataclass
class _Maps:
    """The label maps of a data set, and the items of all that are used.

    numbers: id by name. owners: the file that tells it. used: the maps of the files so far.
    """

    maps: Sequence[LabelMap]
    root: Path
    numbers: dict[str, int] = field(default_factory=dict)
    owners: dict[str, Path] = field(default_factory=dict)
    used: dict[Path, LabelMap] = field(default_factory=dict)


def read_tfrecord(
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
    """Reads TFRecord files, which may be sharded (`train.record-00000-of-00010`) or compressed with GZIP.

    root: the TFRecord file of all images, or the folder that contains the files (.record, .tfrecord, .tfrec) and the
        label map (.pbtxt). The words train, val, valid, validation, eval and test in the names of files and folders
        tell the split; if no file has one, all are train.
    Other arguments: `detect.data.assemble.Selection`.

    The label map of a file is that in its folder, or in the nearest folder above, or the only one. Classes are its
    items, in the order of their ids. Without one, they are the names in image/object/class/text. Objects that are
    difficult, is_crowd or group_of are crowd. image/object/area, in square pixels, sorts objects by size in scores. A
    record without boxes is a picture without objects.

    The pictures are written once, as they are encoded, to `detect.data.formats.tfrecord_cache.unpacked`; that takes the
    space of the TFRecord files again. An image's id is its image/filename. If different pictures have one, as those of
    two folders have whose base names alone were written, their split stands before it.

    Raises DataError, naming the file and the record, for a damaged record, one without a picture, lists of different
    lengths, a coordinate that is no share of the picture, a class that the label map does not have, a class whose text
    and label differ, and one picture with one file name in two records.
    """
    notes, place = Notes(), expanded(root)
    if place.is_file():
        folder, files = place.parent, {place: split_of_file(place) or "train"}
    else:
        folder = existing_folder(root)
        files = _splits(folder, _find(folder), notes)
    maps = _Maps([read_label_map(p, notes) for p in find_files(folder, {".pbtxt"}) if is_label_map(p)], folder)
    pictures, contents = unpacked(list(files), folder)
    if not any(record["boxes"] for content in contents for record in content["records"]):
        have = sorted({name for content in contents for record in content["records"] for name in record["present"]})
        raise DataError(
            f"{next(iter(files))}: no record has a box in image/object/bbox/ymin, xmin, ymax and xmax; the fields are "
            f"{first_few(have, 10) or 'none'}"
        )
    read: list[tuple[str, str, Record]] = []
    for (path, split), content in zip(files.items(), contents, strict=True):
        _note(path, content, notes)
        label_map = _label_map(path, maps)
        for entry in content["records"]:
            where = f"{path}: record {entry['record']}"
            read.append((split, where, _record(path, entry, pictures, _titles(entry, label_map, where, notes))))
            if None in entry["areas"]:
                notes.add("not used, areas that are no number of pixels", f"record {entry['record']} of {path.name}")
    for label_map in maps.used.values():
        for number, shown in label_map.shown.items():
            if shown != label_map.names[number]:
                notes.add("not used, display names of the label map", f"{shown} for {label_map.names[number]}")
    records: dict[str, list[Record]] = {split: [] for split in files.values()}  # also of files without a record
    for split, record in _told_apart(read, notes):
        records[split].append(record)
    numbers = dict(sorted(maps.numbers.items(), key=lambda item: item[1])) or None
    origin = f"TFRecord files ({', '.join(f'{split}: {n}' for split, n in Counter(files.values()).items())})"
    used = [*files, *maps.used]
    told = set(files.values()) != {"train"} or any(split_of(Path(below(path, folder))) == "train" for path in files)
    titles = list(numbers) if numbers else None
    found = Found(folder, records, origin, notes, titles, numbers=numbers, used=used, told=told)
    return assemble(found, Selection(classes, rename, name, val_fraction, test_fraction, split_seed, split_by, exif))


def recognise(folder: Path) -> str | None:
    """Why a folder is a data set of this format, or None."""
    try:
        found = next((path for path in find_files(folder) if NAME.search(path.name)), None)
    except (DataError, OSError):
        return None
    return f"TFRecord files, such as {found.relative_to(folder)}" if found else None


def _find(folder: Path) -> list[Path]:
    """The TFRecord files below a folder. Raises DataError if there are none, or if a shard is missing."""
    files = [path for path in find_files(folder) if NAME.search(path.name)]
    if not files:
        raise DataError(f"dataset.root={folder}: there is no TFRecord file below it (.record, .tfrecord, .tfrec)")
    shards: dict[tuple[Path, str, int], set[int]] = {}
    for path in files:
        if found := _SHARD.search(path.name):
            base = path.name[: found.start()]
            shards.setdefault((path.parent, base, int(found[2])), set()).add(int(found[1]))
    for (parent, base, count), have in shards.items():
        missing = [k for k in range(min(count, max(have) + 2, len(have) + 2)) if k not in have]
        if missing or len(have) > count:
            raise DataError(
                f"{parent}: of the {count} shards of {base} there are {len(have)}; missing: {first_few(missing, 3)}"
            )
    return files


def _splits(folder: Path, files: Sequence[Path], notes: Notes) -> dict[Path, str]:
    """The split of each file; `default` is train. Raises DataError if some name train and others no split."""
    named = {path: path.relative_to(folder).with_name(NAME.sub("", path.name) + ".x") for path in files}
    splits = splits_of(named.values())
    found = {path: splits[name] for path, name in named.items()}
    rest = [path for path, split in found.items() if split is None]
    if "train" in found.values():
        for path in [path for path in rest if named[path].stem.casefold() == NO_SUBSET]:
            notes.add("taken as train, files of images without a subset", path.name)
            rest.remove(path)
    if rest and "train" in found.values():
        raise DataError(
            f"{rest[0]}: neither its name nor its folder has the word train, val or test, as those of other files "
            "have; rename it, or move it away"
        )
    return {path: split or "train" for path, split in found.items()}


def _note(path: Path, content: Mapping[str, Any], notes: Notes) -> None:
    for name, count in sorted(content["unused"].items()):
        notes.add("not used, fields of TFRecord files", f"{name[:80]} of {path.name} in {count} records")
    for name, count in sorted(content["latin"].items()):
        notes.add("read as Latin-1, because it is not UTF-8", f"{count} values of {name} of {path.name}")
    if not content["records"]:
        notes.add("TFRecord files without a record", path.name)


def _label_map(path: Path, maps: _Maps) -> LabelMap | None:
    """The label map of a TFRecord file; None if there is none. Its items are added to those that are used.

    Raises DataError if two maps fit and differ, or if maps of two files number a class differently.
    """
    near = [m for m in maps.maps if path.is_relative_to(m.path.parent)]
    deepest = max((len(m.path.parts) for m in near), default=0)
    fitting = [m for m in near if len(m.path.parts) == deepest] or list(maps.maps)
    stem = loose(NAME.sub("", path.name))
    named = [m for m in fitting if loose(m.path.name).startswith(f"{stem}_label")]  # Roboflow's names
    fitting = named or fitting
    if not fitting:
        return None
    if any(m.names != fitting[0].names for m in fitting):
        raise DataError(
            f"{path}: {first_few([m.path for m in fitting], 3)} could be its label map, and they differ; keep one"
        )
    chosen = fitting[0]
    maps.used |= {m.path: m for m in fitting}
    for number, title in chosen.names.items():
        if maps.numbers.setdefault(title, number) != number:
            raise DataError(
                f"{chosen.path}: '{title}' has the id {number}, but {maps.numbers[title]} in {maps.owners[title]}"
            )
        maps.owners.setdefault(title, chosen.path)
    return chosen


def _titles(entry: Mapping[str, Any], label_map: LabelMap | None, where: str, notes: Notes) -> list[str]:
    """The class name of each box of a record. Raises DataError if text and label differ, or the map lacks them."""
    texts = [one_name(text) for text in entry["texts"]] or [""] * len(entry["boxes"])
    if label_map is None:
        if not all(texts):
            raise DataError(
                f"{where}: box {texts.index('') + 1} has no image/object/class/text, and there is no label map; add "
                "the label_map.pbtxt of the TFRecord files to their folder: item { id: 1 name: 'cat' }"
            )
        if entry["labels"]:
            notes.add("not used, labels of records, because there is no label map", where.rpartition("/")[2])
        return texts
    titles = []
    known = {title: number for number, title in label_map.names.items()}
    shown = {title: number for number, title in label_map.shown.items()}
    for k, text in enumerate(texts):
        number: int = entry["labels"][k] if entry["labels"] else known.get(text, shown.get(text, -1))
        legal = first_few([f"{i} {n}" for i, n in label_map.names.items()], 10)
        if number not in label_map.names:
            what = f"class/label {number}" if entry["labels"] else f"class/text '{text[:80]}'"
            raise DataError(f"{where}: box {k + 1} has {what}, which is not in {label_map.path}; legal: {legal}")
        title = label_map.names[number]
        if text and text not in (title, label_map.shown.get(number)):
            raise DataError(
                f"{where}: box {k + 1} has class/text '{text[:80]}' and class/label {number}, which is '{title}' in "
                f"{label_map.path}; they must agree"
            )
        titles.append(title)
    return titles


def _record(path: Path, entry: Mapping[str, Any], pictures: Path, titles: Sequence[str]) -> Record:
    filename, source_id = entry["filename"].strip(), entry["source_id"].strip()
    title = (filename or source_id or f"{NAME.sub('', path.name)}-{entry['record']}").replace("\\", "/")
    width, height = entry["size"]
    number = source_id if source_id not in ("", filename) else None
    return Record(
        pictures / entry["picture"], title, titles, np.array(entry["boxes"], np.float64).reshape(-1, 4), entry["crowd"],
        path, (width, height) if width and height else None,
        int(number) if number and number.isascii() and number.isdecimal() and str(int(number)) == number else number,
        shares=True, areas=np.array(entry["areas"], np.float32) if entry["areas"] else None,
    )  # fmt: skip


def _told_apart(read: Sequence[tuple[str, str, Record]], notes: Notes) -> Iterator[tuple[str, Record]]:
    """The split and the record of each, with ids that differ. read: split, place for messages, and record.

    Raises DataError if two have one id and equal pictures.
    """
    counts = Counter(record.id for _, _, record in read)
    places: dict[tuple[str, bytes], str] = {}
    before = Counter[tuple[str, str]]()
    for split, where, record in read:
        if counts[record.id] > 1:
            other = places.setdefault((record.id, hashlib.sha256(record.path.read_bytes()).digest()), where)
            if other != where:
                raise DataError(f"{where} has the image/filename '{record.id[:200]}', as {other}; they must differ")
            before[split, record.id] += 1
            number = before[split, record.id]
            record = replace(record, id=f"{split}/{record.id}" if number == 1 else f"{split}/{number}/{record.id}")
            notes.add("images of one image/filename, with the split before it", record.id[:200])
        yield split, record
