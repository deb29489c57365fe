"""Makes a data set from what a format's reader found: one place for classes, subsets, duplicates, sizes and splits."""

import logging
import os
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from detect.data.dataset import DetectionDataset
from detect.data.examples import Examples
from detect.data.folder import folders_of, leftovers, split_named, splits_of_folders
from detect.data.image_file import turned
from detect.data.notes import Notes
from detect.data.records import Record, Records
from detect.data.remembered import Facts, facts_of
from detect.data.similar import similar_groups
from detect.data.split import HELD_OUT, SPLITS, draw_splits, occur_twice, refuse_overlap, sequence_name
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


@dataclass
class Found:
    """What a reader found in a folder.

    splits: the records of each split that the source defines; "train" is among them. origin: how the source defines
    them, for the note. classes: all class names that the source lists, in its order; None: they are sorted by name.
    unused: whether a listed class without a box stays a class. numbers: the source's number of each class.
    used: files that were read, other than pictures and their annotation files; None: other files are not looked for.
    told: whether the annotations, or the names of their files, tell the splits; else the folders of the pictures may,
    or the name of the root, if it is that of val or test and a folder of train lies beside it.
    """

    root: Path
    splits: Mapping[str, Sequence[Record] | Records]
    origin: str
    notes: Notes = field(default_factory=Notes)
    classes: Sequence[str] | None = None
    unused: bool = True
    numbers: Mapping[str, int] | None = None
    used: Collection[Path] | None = ()
    told: bool = True


def assemble(found: Found, choice: Selection) -> DetectionDataset:
    """The data set of what a reader found, as the user's keys select it.

    The training images may be missing: a test set alone is scored.
    Raises DataError for an image in two splits, for a picture of two images, for a class that does not exist, and if
    there are no images; ConfigError for keys that contradict each other.
    """
    name = choice.name or found.root.resolve().name
    records = {split: Records.of(found.splits[split]) for split in SPLITS if split in found.splits}
    if not any(records.values()):
        raise DataError(f"{name}: there are no images ({found.origin})")
    _refuse_shared(name, records, found.notes)
    renamed = _renaming(found, records.values(), choice)
    present = Counter[str]()
    for part in records.values():
        for title, count in zip(part.titles, np.bincount(part.names, minlength=len(part.titles)), strict=True):
            if count:
                present[renamed[title]] += int(count)
    classes = _class_names(found, choice, renamed, present, name)
    facts, first = facts_of([path for part in records.values() for path in part.paths]), 0
    number = {title: k for k, title in enumerate(classes, 1)}
    splits = {}
    for split, part in records.items():
        known = facts[first : (first := first + len(part))]
        splits[split] = _examples(part, known, renamed, number, choice.exif, found.notes)
    origin = found.origin
    if not found.told and set(splits) == {"train"}:
        own = Path(os.path.abspath(found.root))
        if by_folder := _by_folder(splits["train"], found.root):
            splits, origin = by_folder, "folders of the pictures"
        elif (held := split_named(own.name)) in HELD_OUT and folders_of("train", own.parent):
            splits, origin = {held: splits["train"]}, f"the name of the folder {own.name}, beside train"
    parts, note = _fill(splits, choice, origin)
    if found.used is not None:
        used = [of for part in records.values() for of in (part.paths, part.sources)]
        leftovers(found.root, [found.used, *used], found.notes)
    categories = {number: renamed.get(old, old) for old, number in (found.numbers or {}).items()}
    numbers = {renamed.get(old, old): number for old, number in reversed(list((found.numbers or {}).items()))}
    ids = tuple(numbers[title] for title in classes) if all(title in numbers for title in classes) else None
    told = "in the order of the source" if found.classes is not None else "all names of the annotations, sorted"
    notes = (f"classes: {'as given' if choice.classes is not None else told}", note, *found.notes.lines())
    drawn = tuple(split for split in HELD_OUT if split not in splits and parts[split])
    return DetectionDataset(name, classes, parts, notes, ids, categories if ids else {}, drawn)


def _refuse_shared(name: str, records: Mapping[str, Records], notes: Notes) -> None:
    """Raises DataError if two images have one id, or one picture."""
    parts = records.values()
    shared = occur_twice(lambda: map(os.path.normpath, chain.from_iterable(part.paths for part in parts)))
    hint = notes.missing(shared)
    owners = [
        [_owner(part, k) for k, path in enumerate(part.paths) if os.path.normpath(path) == shared[0]]
        for part in (parts if shared else ())
    ]
    told = list(chain.from_iterable(owners))
    what = f"{shared[0]}: it is the picture of {len(told)} images: {first_few(told, 3)}" if shared else ""
    inside = any(len(here) > 1 for here in owners)  # of one split, whose name alone tells no file
    refuse_overlap(name, {s: part.ids for s, part in records.items()}, f"{f'. {what}' if inside else ''}{hint}")
    if shared:
        raise DataError(f"{what}{hint}")


def _owner(part: Records, k: int) -> str:
    """An image as its annotation file names it."""
    number = "" if part.source_ids is None or part.source_ids[k] is None else f"id {part.source_ids[k]}"
    file = str(part.sources[part.source[k]]) if part.source[k] >= 0 else ""
    told = " in ".join(filter(None, (number, file)))
    return f"{part.ids[k]} ({told})" if told else part.ids[k]


def _renaming(found: Found, records: Iterable[Records], choice: Selection) -> dict[str, str]:
    """The class name of every name in the source."""
    names = dict.fromkeys([*(found.classes or ()), *(title for part in records for title in part.titles)])
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
    if not choice.classes:
        raise ConfigError("dataset.classes=[] is not legal: expected names of classes, or null for all")
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


def _examples(
    records: Records,
    facts: Sequence[Facts],
    renamed: Mapping[str, str],
    number: Mapping[str, int],
    exif: Exif,
    notes: Notes,
) -> Examples:
    """The images of a split, with the boxes of the chosen classes in pixels of the file."""
    sizes = np.array([(f.width, f.height) for f in facts], np.int32).reshape(-1, 2)
    told = np.where(records.sizes >= 0, records.sizes, 1)  # the check then reports that the file can't be read
    sizes = np.where(sizes[:, :1] > 0, sizes, told)
    orientation = np.array([f.orientation for f in facts], np.int32)
    stored = (orientation > 1) & (exif == "stored")
    lying = stored & (orientation >= 5)
    boxes, annotated = _in_pixels(records, sizes, lying), records.sizes
    boxes = boxes.copy() if stored.any() else boxes
    for k in np.flatnonzero(stored).tolist():
        here = slice(records.ends[k], records.ends[k + 1])
        boxes[here] = turned(boxes[here], int(orientation[k]), int(sizes[k, 0]), int(sizes[k, 1]))
    annotated = np.where(lying[:, None], annotated[:, ::-1], annotated)
    labels = np.array([number.get(renamed[title], 0) for title in records.titles], np.int32)[records.names]
    owners = np.repeat(np.arange(len(records), dtype=np.int32), np.diff(records.ends))
    keep = labels > 0
    titles = list(number)
    for m in _repeated(owners, labels, records.crowd, boxes, keep):
        keep[m] = False
        title = titles[labels[m] - 1]
        notes.add("removed, boxes that are given twice", f"{title} in {records.ids[int(owners[m])]}")
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep, dtype=np.int64)])[records.ends]
    chosen = slice(None) if keep.all() else keep  # a slice makes no copy
    return Examples(
        records.paths, records.ids, sizes, ends, boxes.astype(np.float32)[chosen], labels[chosen],
        records.crowd[chosen], records.sources, records.source, annotated, records.source_ids,
        None if records.areas is None else records.areas[chosen],
    )  # fmt: skip


def _in_pixels(records: Records, sizes: np.ndarray, lying: np.ndarray) -> np.ndarray:
    """The boxes [m, 4] in pixels. lying: whether shares are of sides that are swapped, bool [n]."""
    if not records.shares.any():
        return records.boxes
    high = np.where(lying[:, None], sizes, sizes[:, ::-1]).astype(np.float64)
    high = np.where(records.shares[:, None], high, 1.0)
    return records.boxes * np.repeat(np.tile(high, 2), np.diff(records.ends), axis=0)


def _repeated(
    owners: np.ndarray, labels: np.ndarray, crowd: np.ndarray, boxes: np.ndarray, keep: np.ndarray
) -> list[int]:
    """The places of boxes that their image has before, with the same class and flag, to a thousandth of a pixel."""

    def rounded(numbers: np.ndarray) -> np.ndarray:
        return np.round(numbers, 3) + 0.0  # -0.0 equals 0.0

    mixed = np.zeros(len(owners), np.uint64)
    sides = (rounded(side).view(np.uint64) for side in boxes.T)  # one at a time: there may be millions
    for column in chain((owners, labels, crowd), sides):
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    order = np.argsort(mixed, kind="stable")
    same = mixed[order][1:] == mixed[order][:-1]
    suspects = np.union1d(order[1:][same], order[:-1][same])
    seen, found = set(), []
    for m in suspects[keep[suspects]].tolist():
        key: Hashable = (owners[m], labels[m], crowd[m], *rounded(boxes[m]).tolist())
        if key in seen:
            found.append(m)
        seen.add(key)
    return found


def _by_folder(examples: Examples, root: Path) -> dict[str, Examples] | None:
    """The images of each split as the folders of the pictures tell it, on the way from `root`: not those around both.

    None unless every picture lies in a folder of a split, and there are two splits or more.
    """
    folders = [os.path.dirname(path) for path in examples.paths]
    names = {folder: Path(os.path.relpath(folder, root)).parts[::-1] for folder in dict.fromkeys(folders)}
    told = splits_of_folders(names.values())
    split = {folder: told[parts] for folder, parts in names.items()}
    if None in split.values() or len(set(split.values())) < 2:
        return None
    of = np.array([SPLITS.index(split[folder] or "") for folder in folders])
    return {name: examples.take(np.flatnonzero(of == k)) for k, name in enumerate(SPLITS) if (of == k).any()}


def _fill(given: Mapping[str, Examples], choice: Selection, origin: str) -> tuple[dict[str, Examples], str]:
    """All three splits, and a note about them. Only what the source does not define is drawn."""
    parts = {split: given[split] if split in given else Examples.of(()) for split in SPLITS}
    if "val" in given or not parts["train"]:
        named = {"train": "training", "val": "val", "test": "test"}
        return parts, f"split: {origin}" + "".join(f"; no {named[s]} images" for s in SPLITS if not parts[s])
    train = given["train"]
    fractions = {"val": choice.val_fraction, "test": 0.0 if "test" in given else choice.test_fraction}
    learned = train.learned()  # a class of crowds alone is in no split
    ids, labels, ends = list(train.ids), learned.classes.tolist(), learned.ends.tolist()
    drawn = draw_splits(
        {name: sorted(set(labels[ends[k] : ends[k + 1]])) for k, name in enumerate(ids)},
        fractions,
        choice.split_seed,
        _groups(train, choice.split_by),
    )
    place = {name: k for k, name in enumerate(ids)}
    for split, names in drawn.items():
        if split not in given or names:
            parts[split] = train.take(np.array([place[name] for name in names], np.int64))
    shares = ", ".join(f"{split} {fraction:g}" for split, fraction in fractions.items() if fraction)
    kept = f", images of one {choice.split_by} together" if choice.split_by else ""
    few = "; val is EMPTY: too few images of each class, train has two first" if not parts["val"] else ""
    whole = f"split: {origin}; " if "test" in given else "split: "
    return parts, (
        f"{whole}DRAWN from the training images, because the source has no val: {shares or 'nothing'}, from "
        f"split_seed={choice.split_seed}, classes spread{kept}{few if fractions['val'] else ''}"
    )


def _groups(examples: Examples, split_by: SplitBy) -> dict[str, Hashable] | None:
    """The group of each image that a drawn split may not divide; None: none."""
    if split_by is None:
        return None
    if split_by == "folder":
        marks: Sequence[Hashable] = [str(Path(path).parent) for path in examples.paths]
    elif split_by == "sequence":
        marks = list(map(sequence_name, examples.ids))
    else:
        marks = similar_groups([Path(path) for path in examples.paths])
    groups = dict(zip(examples.ids, marks, strict=True))
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
