"""The internal form of a data set. Every reader returns it, and all other modules use it.

Boxes are float32 [ymin, xmin, ymax, xmax] in pixels of the image file, 0-based and continuous: a box around the
whole image is [0, 0, height, width]. Classes are 1..C in the order of `classes`; 0 is background.
"""

import hashlib
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np

from detect.data.examples import CropExample, Crops, Example, Examples
from detect.data.split import SPLITS, refuse_overlap
from detect.data.text import printable, renaming
from detect.errors import ConfigError, DataError, counted, first_few

BACKGROUND = "background"


@dataclass(frozen=True, eq=False)
class DetectionDataset:
    """Images with boxes in three splits; `val` and `test` may be empty. Each split becomes `Examples`.

    notes: where the classes and the splits come from, and what was left out.
    category_ids: the number of each class in the user's own files (COCO's categories); results carry them. None is
    1..C. categories: the name of each category of those files by its number, also of those that are no class here, such
    as one without a box. drawn: the splits that the source does not have, and that were drawn from its images.
    Raises DataError for a class named twice or called "background", and for an id that occurs twice.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[Example]]
    notes: tuple[str, ...] = ()
    category_ids: tuple[int, ...] | None = None
    categories: Mapping[int, str] = field(default_factory=dict)
    drawn: tuple[str, ...] = ()

    def __post_init__(self):
        _settle(self, Examples.of)
        for title in (name for name in self.classes if name.casefold() == BACKGROUND):
            raise DataError(
                f"{self.name}: the class name '{title}' is reserved; rename the class: {renaming(title, 'NAME')}, or "
                "leave it out with dataset.classes, the list of those that are read"
            )
        ids = tuple(self.category_ids or range(1, len(self.classes) + 1))
        if len(ids) != len(self.classes) or len(set(ids)) < len(ids):
            raise DataError(f"{self.name}: the {len(self.classes)} classes have the ids {ids}; each needs its own")
        object.__setattr__(self, "category_ids", ids)

    @property
    def num_classes(self) -> int:
        """Number of foreground classes C."""
        return len(self.classes)

    def images(self, split: str) -> Examples:
        """The images of a split. Raises ConfigError, which names the splits that have images, if it has none."""
        found = self.splits.get(split)
        if not found:
            filled = ", ".join(name for name, examples in self.splits.items() if examples)
            raise ConfigError(f"split={split}: data set {self.name} has images in {filled} only")
        return Examples.of(found)

    def with_classes(self, classes: tuple[str, ...]) -> "DetectionDataset":
        """The same images with the classes of a detector, in its order; some of them may have no box here.

        Raises DataError, which names the classes that the detector does not know.
        """
        if classes == self.classes:
            return self
        unknown = [name for name in self.classes if name not in classes]
        if unknown:
            known = [name for name in self.classes if name in classes]
            raise DataError(
                f"data set {self.name}: the detector does not know {first_few(unknown)}; it knows "
                f"{first_few(classes, 20)}. {renaming(unknown[0], classes[0])} gives a class another name"
                + (f", and 'dataset.classes=[{','.join(known)}]' leaves the others out" if known else "")
            )
        numbers = np.array([0, *(classes.index(name) + 1 for name in self.classes)], np.int32)
        parts = {s: Examples.of(self.splits[s]) for s in SPLITS}
        splits = {s: replace(part, classes=numbers[part.classes]) for s, part in parts.items()}
        ids = {name: number for number, name in reversed(list(self.categories.items()))}
        ids |= zip(self.classes, self.category_ids or (), strict=True)
        free = (number for number in count(1) if number not in self.categories and number not in ids.values())
        return replace(
            self,
            classes=classes,
            splits=splits,
            category_ids=tuple(ids[n] if n in ids else next(free) for n in classes),
        )

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the sha256 of classes, splits, ids, sizes, boxes and labels (not of pixels)."""
        digest = hashlib.sha256(repr((self.classes,)).encode())
        for split in SPLITS:
            for name, width, height, content in rows(self.splits[split]):
                digest.update(repr((split, name, width, height)).encode())
                digest.update(content)
        return digest.hexdigest()[:16]

    def describe(self) -> list[str]:
        """Lines for the console: images and boxes per split, boxes per class, and the notes."""
        total = sum(map(len, self.splits.values()))
        lines = [f"data set {self.name}: {counted(self.num_classes, 'class')}, {counted(total, 'image')}"]
        counts = {s: class_counts(examples, self.num_classes) for s, examples in self.splits.items()}
        wide = min(max(map(len, (*self.classes, "no object"))), 40)
        lines.append(f"  {'':{wide}}" + "".join(f"{s:>9}" for s in SPLITS))
        lines.append(f"  {'images':{wide}}" + "".join(f"{len(self.splits[s]):9d}" for s in SPLITS))
        empty = {s: int((Examples.of(self.splits[s]).counts == 0).sum()) for s in SPLITS}
        lines.append(f"  {'no object':{wide}}" + "".join(f"{empty[s]:9d}" for s in SPLITS))
        lines.append(f"  {'boxes':{wide}}" + "".join(f"{int(counts[s].sum()):9d}" for s in SPLITS))
        for i, name in enumerate(map(printable, self.classes)):
            lines.append(f"  {name[:wide]:{wide}}" + "".join(f"{int(counts[s][i]):9d}" for s in SPLITS))
        return lines + [line for note in self.notes for line in _wrapped(note)]


@dataclass(frozen=True, eq=False)
class ClassificationDataset:
    """Labelled pictures in three splits. Each split becomes `Crops`.

    Labels index `classes` from 0; for crops index 0 is "background". drawn: as in `DetectionDataset`.
    Raises DataError for a class named twice and for an id that occurs twice.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[CropExample]]
    notes: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()

    def __post_init__(self):
        _settle(self, Crops.of)

    @property
    def num_classes(self) -> int:
        """Number of classes, including the background if there is one."""
        return len(self.classes)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the sha256 of classes, splits, ids, labels and boxes (not of pixels)."""
        digest = hashlib.sha256(repr((self.classes,)).encode())
        for split in SPLITS:
            crops = Crops.of(self.splits[split])
            whole = np.isnan(crops.boxes[:, 0]).tolist()
            for k, (name, label) in enumerate(zip(crops.ids, crops.labels.tolist(), strict=True)):
                digest.update(repr((split, name, label)).encode())
                digest.update(b"" if whole[k] else crops.boxes[k].tobytes())
        return digest.hexdigest()[:16]

    def describe(self) -> list[str]:
        """Lines for the console: pictures per split and class, and the notes."""
        total = sum(map(len, self.splits.values()))
        lines = [f"data set {self.name}: {counted(self.num_classes, 'class')}, {counted(total, 'picture')}"]
        wide = min(max(map(len, (*self.classes, "pictures"))), 40)
        lines.append(f"  {'':{wide}}" + "".join(f"{s:>9}" for s in SPLITS))
        lines.append(f"  {'pictures':{wide}}" + "".join(f"{len(self.splits[s]):9d}" for s in SPLITS))
        for i, name in enumerate(map(printable, self.classes)):
            counts = (int((Crops.of(self.splits[s]).labels == i).sum()) for s in SPLITS)
            lines.append(f"  {name[:wide]:{wide}}" + "".join(f"{c:9d}" for c in counts))
        return lines + [line for note in self.notes for line in _wrapped(note)]


def class_counts(examples: Iterable[Example], num_classes: int) -> np.ndarray:
    """Boxes per class, int64 [num_classes], of classes 1..num_classes."""
    labels = Examples.of(examples).classes
    known = labels[(labels > 0) & (labels <= num_classes)]
    return np.bincount(known, minlength=num_classes + 1)[1:]


def rows(examples: Iterable[Example]) -> Iterator[tuple[str, int, int, bytes]]:
    """Of each image its id, width, height, and the bytes of its boxes, classes and crowd flags."""
    split = Examples.of(examples)
    ends, sizes = split.ends.tolist(), split.sizes.tolist()
    for k, name in enumerate(split.ids):
        first, end = ends[k], ends[k + 1]
        content = (
            split.boxes[first:end].tobytes() + split.classes[first:end].tobytes() + split.crowd[first:end].tobytes()
        )
        yield name, *sizes[k], content


def _wrapped(note: str) -> list[str]:
    """A note in lines of 80 columns."""
    return textwrap.wrap(printable(note), 80, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _settle(dataset: DetectionDataset | ClassificationDataset, split_of: Callable[[Any], Examples | Crops]) -> None:
    """Fix the types of a frozen data set, and refuse other splits, and duplicate names or ids.

    split_of: makes a split of its images.
    """
    if unknown := [name for name in dataset.splits if name not in SPLITS]:
        legal = ", ".join(SPLITS)
        raise DataError(f"{dataset.name}: its reader gives the split {first_few(unknown)}; legal are {legal}")
    if isinstance(dataset.classes, str):
        raise DataError(f"{dataset.name}: its reader gives the classes {dataset.classes!r}; expected a list of names")
    splits = {name: split_of(dataset.splits.get(name, ())) for name in SPLITS}
    object.__setattr__(dataset, "name", str(dataset.name))
    object.__setattr__(dataset, "splits", splits)
    object.__setattr__(dataset, "classes", tuple(str(c) for c in dataset.classes))
    object.__setattr__(dataset, "notes", tuple(dataset.notes))
    if not dataset.classes:
        raise DataError(f"{dataset.name}: there are no classes; the annotations name none")
    twice = sorted({c for c in dataset.classes if dataset.classes.count(c) > 1})
    if twice:
        raise DataError(f"{dataset.name}: these classes are given twice: {', '.join(twice)}")
    refuse_overlap(dataset.name, {name: split.ids for name, split in splits.items()})
