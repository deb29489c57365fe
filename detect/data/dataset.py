"""The internal form of a data set. Every reader returns it, and all other modules use it.

Boxes are float32 [ymin, xmin, ymax, xmax] in pixels of the image file, 0-based and continuous: a box around the
whole image is [0, 0, height, width]. Classes are 1..C in the order of `classes`; 0 is background.
"""

import hashlib
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.split import SPLITS, refuse_overlap
from detect.data.text import printable
from detect.errors import DataError

BACKGROUND = "background"


@dataclass(frozen=True, eq=False)
class Example:
    """One image with its boxes. The arrays are read-only, so that no consumer can change the data set.

    path: image file. width, height: pixels of the image file, as displayed (EXIF rotation applied).
    boxes: float32 [n, 4]. classes: int32 [n] in 1..C. crowd: bool [n], regions left out of training and scoring.
    id: unique in the data set. source: annotation file, for messages.
    annotated_size: (width, height) in the annotation, if it has one; `validate` compares it with the file.
    source_id: the id of the image in the user's own files, if these have one (COCO); results carry it.
    """

    path: Path
    width: int
    height: int
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    id: str
    source: Path | None = None
    annotated_size: tuple[int, int] | None = None
    source_id: int | str | None = None

    def __post_init__(self):
        boxes = np.array(self.boxes, np.float32).reshape(-1, 4)
        classes = np.array(self.classes, np.int32).reshape(-1)
        crowd = np.array(self.crowd, bool).reshape(-1)
        if not len(boxes) == len(classes) == len(crowd):
            raise ValueError(f"{self.path}: {len(boxes)} boxes, {len(classes)} classes, {len(crowd)} crowd flags")
        for name, array in (("boxes", boxes), ("classes", classes), ("crowd", crowd)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)


@dataclass(frozen=True, eq=False)
class DetectionDataset:
    """Images with boxes in three splits; `val` and `test` may be empty.

    notes: where the classes and the splits come from, and what was left out.
    category_ids: the number of each class in the user's own files (COCO's categories); results carry them. None is
    1..C. Raises DataError for a class named twice or called "background", and for an id that occurs twice.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[Example, ...]]
    notes: tuple[str, ...] = ()
    category_ids: tuple[int, ...] | None = None

    def __post_init__(self):
        _settle(self)
        if BACKGROUND in map(str.casefold, self.classes):
            raise DataError(
                f"{self.name}: the class name '{BACKGROUND}' is reserved; rename the class: "
                f"dataset.rename={{{BACKGROUND}: NAME}}"
            )
        ids = tuple(self.category_ids or range(1, len(self.classes) + 1))
        if len(ids) != len(self.classes) or len(set(ids)) < len(ids):
            raise DataError(f"{self.name}: the {len(self.classes)} classes have the ids {ids}; each needs its own")
        object.__setattr__(self, "category_ids", ids)

    @property
    def num_classes(self) -> int:
        """Number of foreground classes C."""
        return len(self.classes)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the sha256 of classes, splits, ids, sizes, boxes and labels (not of pixels)."""
        digest = hashlib.sha256(repr((self.classes,)).encode())
        for split in SPLITS:
            for e in self.splits[split]:
                digest.update(repr((split, e.id, e.width, e.height)).encode())
                digest.update(e.boxes.tobytes() + e.classes.tobytes() + e.crowd.tobytes())
        return digest.hexdigest()[:16]

    def describe(self) -> list[str]:
        """Lines for the console: images and boxes per split, boxes per class, and the notes."""
        lines = [f"data set {self.name}: {self.num_classes} classes, {sum(map(len, self.splits.values()))} images"]
        counts = {s: class_counts(examples, self.num_classes) for s, examples in self.splits.items()}
        wide = min(max(map(len, (*self.classes, "no object"))), 40)
        lines.append(f"  {'':{wide}}" + "".join(f"{s:>9}" for s in SPLITS))
        lines.append(f"  {'images':{wide}}" + "".join(f"{len(self.splits[s]):9d}" for s in SPLITS))
        empty = {s: sum(len(e.boxes) == 0 for e in self.splits[s]) for s in SPLITS}
        lines.append(f"  {'no object':{wide}}" + "".join(f"{empty[s]:9d}" for s in SPLITS))
        lines.append(f"  {'boxes':{wide}}" + "".join(f"{int(counts[s].sum()):9d}" for s in SPLITS))
        for i, name in enumerate(map(printable, self.classes)):
            lines.append(f"  {name[:wide]:{wide}}" + "".join(f"{int(counts[s][i]):9d}" for s in SPLITS))
        return lines + [line for note in self.notes for line in _wrapped(note)]


@dataclass(frozen=True, eq=False)
class CropExample:
    """One labelled picture: a whole image (`box` None) or a crop of one (float32 [4], pixels of the image file)."""

    path: Path
    label: int
    box: np.ndarray | None
    id: str


@dataclass(frozen=True, eq=False)
class ClassificationDataset:
    """Labelled pictures in three splits. Labels index `classes` from 0; for crops index 0 is "background".

    Raises DataError for a class named twice and for an id that occurs twice.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[CropExample, ...]]
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        _settle(self)

    @property
    def num_classes(self) -> int:
        """Number of classes, including the background if there is one."""
        return len(self.classes)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the sha256 of classes, splits, ids, labels and boxes (not of pixels)."""
        digest = hashlib.sha256(repr((self.classes,)).encode())
        for split in SPLITS:
            for e in self.splits[split]:
                digest.update(repr((split, e.id, int(e.label))).encode())
                digest.update(b"" if e.box is None else np.asarray(e.box, np.float32).tobytes())
        return digest.hexdigest()[:16]

    def describe(self) -> list[str]:
        """Lines for the console: pictures per split and class, and the notes."""
        lines = [f"data set {self.name}: {self.num_classes} classes, {sum(map(len, self.splits.values()))} pictures"]
        wide = min(max(map(len, (*self.classes, "pictures"))), 40)
        lines.append(f"  {'':{wide}}" + "".join(f"{s:>9}" for s in SPLITS))
        lines.append(f"  {'pictures':{wide}}" + "".join(f"{len(self.splits[s]):9d}" for s in SPLITS))
        for i, name in enumerate(map(printable, self.classes)):
            counts = (sum(e.label == i for e in self.splits[s]) for s in SPLITS)
            lines.append(f"  {name[:wide]:{wide}}" + "".join(f"{c:9d}" for c in counts))
        return lines + [line for note in self.notes for line in _wrapped(note)]


def class_counts(examples: Iterable[Example], num_classes: int) -> np.ndarray:
    """Boxes per class, int64 [num_classes], of classes 1..num_classes."""
    counts = np.zeros(num_classes + 1, np.int64)
    for example in examples:
        known = example.classes[(example.classes > 0) & (example.classes <= num_classes)]
        np.add.at(counts, known, 1)
    return counts[1:]


def _wrapped(note: str) -> list[str]:
    """A note in lines of 80 columns."""
    return textwrap.wrap(printable(note), 80, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _settle(dataset: DetectionDataset | ClassificationDataset) -> None:
    """Fix the types of a frozen data set, add missing splits as empty ones, and refuse duplicate names or ids."""
    splits: dict[str, tuple[Any, ...]] = {s: tuple(dataset.splits.get(s, ())) for s in SPLITS}
    object.__setattr__(dataset, "splits", splits)
    object.__setattr__(dataset, "classes", tuple(str(c) for c in dataset.classes))
    object.__setattr__(dataset, "notes", tuple(dataset.notes))
    if not dataset.classes:
        raise DataError(f"{dataset.name}: there are no classes; the annotations name none")
    twice = sorted({c for c in dataset.classes if dataset.classes.count(c) > 1})
    if twice:
        raise DataError(f"{dataset.name}: these classes are given twice: {', '.join(twice)}")
    refuse_overlap(dataset.name, {s: [e.id for e in examples] for s, examples in splits.items()})
