"""Makes a data set from what a format's reader found: one place for classes, subsets, duplicates, sizes and splits."""

import logging
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import numpy as np

from detect.data.dataset import DetectionDataset, Example
from detect.data.folder import leftovers
from detect.data.image_file import turned
from detect.data.notes import Notes
from detect.data.remembered import Facts, facts_of
from detect.data.similar import similar_groups
from detect.data.split import SPLITS, draw_splits, refuse_overlap, sequence_name
from detect.data.text import one_name
from detect.errors import ConfigError, DataError, first_few

log = logging.getLogger("detect")

SplitBy = Literal["folder", "sequence", "similar"] | None
Exif = Literal["displayed", "stored"]


@dataclass(frozen=True)
class Selection:
    """The keys that the readers of all formats take.

    classes: class names in their order; boxes of other classes are left out. None: all classes.
    rename: new names by old names; two classes with one new name are merged. name: name in logs; None: the folder's.
    val_fraction, test_fraction, split_seed: the split that is drawn where the source has none.
    split_by: what stays in one split of those that are drawn: images of one `folder`, frames of one `sequence` (names
    that differ in their last number), `similar` images; None: each image is on its own.
    exif: the pixels that the boxes count: as `displayed`, with EXIF's rotation, or as `stored`.
    """

    classes: Sequence[str] | None = None
    rename: Mapping[str, str] | None = None
    name: str | None = None
    val_fraction: float = 0.15
    test_fraction: float = 0.15
    split_seed: int = 0
    split_by: SplitBy = None
    exif: Exif = "displayed"


@dataclass(frozen=True, eq=False)
class Record:
    """One image as its files describe it, before classes have numbers.

    path: image file. id: unique in the data set. names: class name of each box. boxes: [n, 4] yxyx in pixels of the
    image, counted from 0, or as shares of its sides if `shares` is true. crowd: flag of each box (neither trained nor
    scored). source, size, source_id: as in `Example`.
    """

    path: Path
    id: str
    names: Sequence[str]
    boxes: np.ndarray
    crowd: Sequence[bool]
    source: Path | None = None
    size: tuple[int, int] | None = None
    source_id: int | str | None = None
    shares: bool = False


@dataclass
class Found:
    """What a reader found in a folder.

    splits: the records of each split that the source defines; "train" is among them. origin: how the source defines
    them, for the note. classes: all class names that the source lists, in its order; None: they are sorted by name.
    unused: whether a listed class without a box stays a class. numbers: the source's number of each class.
    used: files that were read, other than pictures and their annotation files; None: other files are not looked for.
    """

    root: Path
    splits: Mapping[str, Sequence[Record]]
    origin: str
    notes: Notes = field(default_factory=Notes)
    classes: Sequence[str] | None = None
    unused: bool = True
    numbers: Mapping[str, int] | None = None
    used: Iterable[Path] | None = ()


def assemble(found: Found, choice: Selection) -> DetectionDataset:
    """The data set of what a reader found, as the user's keys select it.

    Raises DataError for an image in two splits, for a class that does not exist, and if there are no images;
    ConfigError for keys that contradict each other.
    """
    name = choice.name or found.root.resolve().name
    records = {split: list(found.splits[split]) for split in SPLITS if split in found.splits}
    everything = [record for part in records.values() for record in part]
    if not records.get("train"):
        raise DataError(f"{name}: there are no training images ({found.origin})")
    refuse_overlap(name, {split: [record.id for record in part] for split, part in records.items()})
    renamed = _renaming(found, everything, choice)
    present = Counter(renamed[n] for record in everything for n in record.names)
    classes = _class_names(found, choice, renamed, present, name)
    facts = dict(zip(everything, facts_of([record.path for record in everything]), strict=True))
    number = {title: k for k, title in enumerate(classes, 1)}
    splits = {
        split: tuple(_example(record, facts[record], renamed, number, choice.exif, found.notes) for record in part)
        for split, part in records.items()
    }
    parts, note = _fill(splits, choice, found.origin)
    if found.used is not None:
        used = [*found.used, *(r.path for r in everything), *(r.source for r in everything if r.source)]
        leftovers(found.root, used, found.notes)
    numbers = {renamed.get(old, old): number for old, number in reversed(list((found.numbers or {}).items()))}
    ids = tuple(numbers[title] for title in classes) if all(title in numbers for title in classes) else None
    told = "in the order of the source" if found.classes is not None else "all names of the annotations, sorted"
    notes = (f"classes: {'as given' if choice.classes is not None else told}", note, *found.notes.lines())
    return DetectionDataset(name, classes, parts, notes, ids)


def _renaming(found: Found, records: Sequence[Record], choice: Selection) -> dict[str, str]:
    """The class name of every name in the source."""
    names = dict.fromkeys([*(found.classes or ()), *(n for record in records for n in record.names)])
    wanted = {one_name(old): one_name(new) for old, new in (choice.rename or {}).items()}
    for old in wanted:
        if old not in names:
            raise DataError(f"dataset.rename: there is no class '{old}'{_near(old, names)}; classes: {_list(names)}")
    return {name: wanted.get(name, name) for name in names}


def _class_names(
    found: Found, choice: Selection, renamed: Mapping[str, str], present: Mapping[str, int], name: str
) -> tuple[str, ...]:
    """The classes of the data set in order; notes what that leaves out."""
    listed = list(dict.fromkeys(renamed.values())) if found.classes is not None else sorted(set(renamed.values()))
    if choice.classes is None:
        left_out = [] if found.unused else [title for title in listed if title not in present]
        for title in left_out if len(left_out) < len(listed) else ():
            found.notes.add("left out, classes without a box", title)
        return tuple(title for title in listed if title not in left_out) or tuple(listed)
    classes = tuple(map(one_name, choice.classes))
    others = {title: present[title] for title in present if title not in classes}
    for title in classes:
        if title not in listed and (others or found.classes is not None):
            raise DataError(
                f"dataset.classes: no box of {name} has the class '{title}'{_near(title, listed)}; "
                f"classes: {_list(listed)}"
            )
    for title, boxes in sorted(others.items()):
        found.notes.add("left out by dataset.classes, classes", f"{title} with {boxes} boxes")
    return classes


def _example(
    record: Record, facts: Facts, renamed: Mapping[str, str], number: Mapping[str, int], exif: Exif, notes: Notes
) -> Example:
    width, height = facts.size or record.size or (1, 1)  # the check then reports that the file can't be read
    boxes = np.asarray(record.boxes, np.float64).reshape(-1, 4)
    stored = exif == "stored" and facts.orientation > 1
    if record.shares:
        tall, wide = (width, height) if stored and facts.orientation >= 5 else (height, width)
        boxes = boxes * (tall, wide, tall, wide)
    size = record.size
    if stored:
        boxes = turned(boxes, facts.orientation, width, height)
        size = size[::-1] if size and facts.orientation >= 5 else size
    keep: dict[Hashable, int] = {}
    for i, title in enumerate(renamed[n] for n in record.names):
        if title not in number:
            continue
        key = (title, bool(record.crowd[i]), *np.round(boxes[i], 3).tolist())
        if key in keep:
            notes.add("removed, boxes that are given twice", f"{title} in {record.id}")
        else:
            keep[key] = i
    kept = list(keep.values())
    labels = [number[renamed[record.names[i]]] for i in kept]
    crowd = [bool(record.crowd[i]) for i in kept]
    return Example(
        record.path, width, height, boxes[kept], np.array(labels, np.int32), np.array(crowd, bool), record.id,
        record.source, size, record.source_id,
    )  # fmt: skip


def _fill(
    given: Mapping[str, tuple[Example, ...]], choice: Selection, origin: str
) -> tuple[dict[str, tuple[Example, ...]], str]:
    """All three splits, and a note about them. Only what the source does not define is drawn."""
    parts = {split: given.get(split, ()) for split in SPLITS}
    if "val" in given:
        return parts, f"split: {origin}" + ("" if parts["test"] else "; no test images")
    fractions = {"val": choice.val_fraction, "test": 0.0 if "test" in given else choice.test_fraction}
    drawn = draw_splits(
        {e.id: sorted(set(e.classes.tolist())) for e in given["train"]},
        fractions,
        choice.split_seed,
        _groups(given["train"], choice.split_by),
    )
    by_id = {e.id: e for e in given["train"]}
    parts |= {split: tuple(by_id[i] for i in ids) for split, ids in drawn.items() if split not in given or ids}
    shares = ", ".join(f"{split} {fraction:g}" for split, fraction in fractions.items() if fraction)
    kept = f", images of one {choice.split_by} together" if choice.split_by else ""
    few = "; val is EMPTY: too few images of each class, train has two first" if not parts["val"] else ""
    whole = f"split: {origin}; " if "test" in given else "split: "
    return parts, (
        f"{whole}DRAWN from the training images, because the source has no val: {shares or 'nothing'}, from "
        f"split_seed={choice.split_seed}, classes spread{kept}{few if fractions['val'] else ''}"
    )


def _groups(examples: Collection[Example], split_by: SplitBy) -> dict[str, Hashable] | None:
    """The group of each image that a drawn split may not divide; None: none."""
    if split_by is None:
        return None
    if split_by == "folder":
        groups: dict[str, Hashable] = {e.id: str(e.path.parent) for e in examples}
    elif split_by == "sequence":
        groups = {e.id: sequence_name(e.id) for e in examples}
    else:
        groups = dict(zip((e.id for e in examples), similar_groups([e.path for e in examples]), strict=True))
    if len(examples) > 1 and len(set(groups.values())) == 1:
        raise ConfigError(
            f"dataset.split_by={split_by}: all {len(examples)} images are in one group, so there is nothing to draw; "
            "use another value, or null"
        )
    return groups


def _near(name: str, names: Iterable[str]) -> str:
    found = get_close_matches(name, list(names), 1)
    return f"; did you mean '{found[0]}'?" if found else ""


def _list(names: Iterable[str]) -> str:
    return first_few(names, 10)
