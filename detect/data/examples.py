"""The images of a split and their boxes. A split holds them in arrays, and gives an `Example` of each on access.

A million images take some hundred megabytes in arrays. As objects of Python they would take gigabytes, and Python would
look at all of them whenever it searches for garbage.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, overload

import numpy as np
from numpy.typing import DTypeLike

from detect.errors import DataError

SourceId = int | str | None


@dataclass(frozen=True, eq=False)
class Example:
    """One image with its boxes. The arrays are read-only, so that no consumer can change the data set.

    path: image file. width, height: pixels of the image file, as displayed (EXIF rotation applied).
    boxes: float32 [n, 4]. classes: int32 [n] in 1..C. crowd: bool [n], regions left out of training and scoring.
    id: unique in the data set. source: annotation file, for messages.
    annotated_size: (width, height) in the annotation, if it has one; `validate` compares it with the file.
    source_id: the id of the image in the user's own files, if these have one (COCO); results carry it.
    areas: float32 [n], square pixels of each object in the user's own files (COCO), NaN where they tell none; None:
    they tell none at all. Scores for small, medium and large objects are by these, or else by the areas of the boxes.
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
    source_id: SourceId = None
    areas: np.ndarray | None = None

    def __post_init__(self):
        boxes = _fixed(self.boxes, np.float32).reshape(-1, 4)
        classes = _fixed(self.classes, np.int32).reshape(-1)
        crowd = _fixed(self.crowd, bool).reshape(-1)
        if not isinstance(self.id, str):
            raise DataError(f"{self.path}: its reader gives the id {self.id!r}; expected a text")
        if not len(boxes) == len(classes) == len(crowd):
            raise DataError(f"{self.path}: {len(boxes)} boxes, {len(classes)} classes, {len(crowd)} crowd flags")
        areas = None if self.areas is None else _fixed(self.areas, np.float32).reshape(-1)
        if areas is not None and len(areas) != len(boxes):
            raise DataError(f"{self.path}: {len(boxes)} boxes, but {len(areas)} areas")
        for name, values in (("boxes", boxes), ("classes", classes), ("crowd", crowd), ("areas", areas)):
            object.__setattr__(self, name, values)


@dataclass(frozen=True, eq=False)
class CropExample:
    """One labelled picture: a whole image (`box` None) or a crop of one (float32 [4], pixels of the image file)."""

    path: Path
    label: int
    box: np.ndarray | None
    id: str


@dataclass(frozen=True, eq=False)
class Texts(Sequence[str]):
    """Texts in one array. content: uint8, the UTF-8 of all texts. ends: int64 [n + 1], 0 and the end of each text."""

    content: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """The texts in their order. Those that are `Texts` already are not copied."""
        if isinstance(texts, Texts):
            return texts
        content, ends = bytearray(), array("q", [0])
        for text in texts:
            content += text.encode("utf-8", "surrogatepass")  # names of files may have bytes that are no text
            ends.append(len(content))
        return cls(np.frombuffer(content, np.uint8), np.frombuffer(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> "Texts": ...
    def __getitem__(self, place: int | slice) -> "str | Texts":
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        place = _index(place, len(self))
        first, end = self.ends[place : place + 2]
        return self.content[first:end].tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        content, ends = self.content.tobytes(), self.ends.tolist()
        for first, end in pairwise(ends):
            yield content[first:end].decode("utf-8", "surrogatepass")

    def take(self, places: np.ndarray) -> "Texts":
        """The texts at some places, in the order of these."""
        rows, ends = _rows(self.ends, places)
        return Texts(self.content[rows], ends)


@dataclass(frozen=True, eq=False)
class Examples(Sequence[Example]):
    """Images with boxes: a sequence of `Example` that is backed by arrays, which are read-only.

    paths, ids: of n images. sizes: int32 [n, 2], width and height. ends: int64 [n + 1]; the boxes of image i are those
    from ends[i] to ends[i + 1] of boxes float32 [m, 4], classes int32 [m] and crowd bool [m]. sources: the annotation
    files, and source int32 [n] the place of each image's own among them, or -1. annotated: int32 [n, 2], or -1.
    source_ids: int64 [n] if all are whole numbers, or a list; None if no image has one. areas: float32 [m] as in
    `Example`, or None.
    """

    paths: Texts
    ids: Texts
    sizes: np.ndarray
    ends: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    sources: tuple[Path, ...]
    source: np.ndarray
    annotated: np.ndarray
    source_ids: "np.ndarray | Sequence[SourceId] | None"
    areas: np.ndarray | None = None

    def __post_init__(self):
        for name, kind in (("boxes", np.float32), ("classes", np.int32), ("crowd", bool), ("areas", np.float32)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _fixed(getattr(self, name), kind))

    @classmethod
    def of(cls, examples: Iterable[Example]) -> "Examples":
        """The examples in their order. Those that are `Examples` already are not copied."""
        if isinstance(examples, Examples):
            return examples
        listed = list(examples)
        files = {source: k for k, source in enumerate(dict.fromkeys(e.source for e in listed if e.source))}
        return cls(
            Texts.of(str(e.path) for e in listed),
            Texts.of(e.id for e in listed),
            np.array([(e.width, e.height) for e in listed], np.int32).reshape(-1, 2),
            np.cumsum([0, *(len(e.boxes) for e in listed)], dtype=np.int64),
            np.concatenate([np.zeros((0, 4), np.float32), *(e.boxes for e in listed)]),
            np.concatenate([np.zeros(0, np.int32), *(e.classes for e in listed)]),
            np.concatenate([np.zeros(0, bool), *(e.crowd for e in listed)]),
            tuple(files),
            np.array([files[e.source] if e.source else -1 for e in listed], np.int32),
            np.array([e.annotated_size or (-1, -1) for e in listed], np.int32).reshape(-1, 2),
            packed_ids([e.source_id for e in listed]),
            joined_areas(listed),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> "Examples": ...
    def __getitem__(self, place: int | slice) -> "Example | Examples":
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        return self._example(_index(place, len(self)), self.paths[place], self.ids[place])

    def __iter__(self) -> Iterator[Example]:
        return map(self._example, range(len(self)), self.paths, self.ids)

    def _example(self, place: int, path: str, id: str) -> Example:
        here = slice(self.ends[place], self.ends[place + 1])
        (width, height), (wide, high) = self.sizes[place].tolist(), self.annotated[place].tolist()
        source, number = self.source[place], None if self.source_ids is None else self.source_ids[place]
        return Example(
            Path(path), width, height, self.boxes[here], self.classes[here], self.crowd[here], id,
            None if source < 0 else self.sources[source], None if wide < 0 else (wide, high),
            int(number) if isinstance(number, np.integer) else number,
            None if self.areas is None else self.areas[here],
        )  # fmt: skip

    @property
    def counts(self) -> np.ndarray:
        """The number of boxes of each image, int64 [n]."""
        return np.diff(self.ends)

    @property
    def owners(self) -> np.ndarray:
        """The place of each box's image, int64 [m]."""
        return np.repeat(np.arange(len(self)), self.counts)

    def box_sizes(self) -> np.ndarray:
        """Width and height of each box's image, int32 [m, 2]."""
        return np.repeat(self.sizes, self.counts, axis=0)

    def take(self, places: np.ndarray) -> "Examples":
        """The images at some places, in the order of these."""
        rows, ends = _rows(self.ends, places)
        ids = self.source_ids
        return Examples(
            self.paths.take(places), self.ids.take(places), self.sizes[places], ends, self.boxes[rows],
            self.classes[rows], self.crowd[rows], self.sources, self.source[places], self.annotated[places],
            ids[places] if isinstance(ids, np.ndarray) else ids and packed_ids([ids[k] for k in places]),
            None if self.areas is None else self.areas[rows],
        )  # fmt: skip

    def learned(self) -> "Examples":
        """The same images with the boxes that training learns from: without crowds."""
        return self.with_boxes(self.boxes, ~self.crowd)

    def with_boxes(self, boxes: np.ndarray, keep: np.ndarray) -> "Examples":
        """The same images with other boxes, float32 [m, 4], of which those of `keep`, bool [m], stay."""
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep, dtype=np.int64)])[self.ends]
        return Examples(
            self.paths, self.ids, self.sizes, ends, boxes[keep], self.classes[keep], self.crowd[keep], self.sources,
            self.source, self.annotated, self.source_ids, None if self.areas is None else self.areas[keep],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Crops(Sequence[CropExample]):
    """Labelled pictures: a sequence of `CropExample` that is backed by arrays.

    paths: of the image files. image: int32 [n], the place of each picture's file among them. labels: int32 [n]. boxes:
    float32 [n, 4], NaN for a whole image. ids: of n pictures.
    """

    paths: Texts
    image: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    ids: Texts

    def __post_init__(self):
        object.__setattr__(self, "boxes", _fixed(self.boxes, np.float32))

    @classmethod
    def of(cls, crops: Iterable[CropExample]) -> "Crops":
        """The pictures in their order. Those that are `Crops` already are not copied."""
        if isinstance(crops, Crops):
            return crops
        listed, whole = list(crops), np.full(4, np.nan, np.float32)
        files = {path: k for k, path in enumerate(dict.fromkeys(str(c.path) for c in listed))}
        return cls(
            Texts.of(files),
            np.array([files[str(c.path)] for c in listed], np.int32),
            np.array([c.label for c in listed], np.int32),
            np.array([whole if c.box is None else c.box for c in listed], np.float32).reshape(-1, 4),
            Texts.of(c.id for c in listed),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, place: int) -> CropExample: ...
    @overload
    def __getitem__(self, place: slice) -> "Crops": ...
    def __getitem__(self, place: int | slice) -> "CropExample | Crops":
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        return self._crop(_index(place, len(self)), self.ids[place])

    def __iter__(self) -> Iterator[CropExample]:
        return map(self._crop, range(len(self)), self.ids)

    def _crop(self, place: int, id: str) -> CropExample:
        box = None if np.isnan(self.boxes[place, 0]) else self.boxes[place]
        return CropExample(Path(self.paths[int(self.image[place])]), int(self.labels[place]), box, id)

    def take(self, places: np.ndarray) -> "Crops":
        """The pictures at some places, in the order of these."""
        return Crops(self.paths, self.image[places], self.labels[places], self.boxes[places], self.ids.take(places))


def packed_ids(ids: Sequence[SourceId]) -> "np.ndarray | Sequence[SourceId] | None":
    """Ids as an array if all are whole numbers of 64 bits; None if all are None."""
    if all(type(number) is int and abs(number) < 1 << 62 for number in ids):
        return np.array(ids, np.int64) if ids else None
    return None if all(number is None for number in ids) else list(ids)


class Measured(Protocol):
    """What has boxes, and the areas of their objects if it tells them."""

    @property
    def boxes(self) -> np.ndarray: ...

    @property
    def areas(self) -> "Sequence[float] | np.ndarray | None": ...


def joined_areas(examples: Sequence[Measured]) -> np.ndarray | None:
    """The areas of all boxes, NaN for those of an image without areas; None if no image has some."""
    if all(e.areas is None for e in examples):
        return None
    return np.concatenate([np.full(len(e.boxes), np.nan) if e.areas is None else e.areas for e in examples])


def _rows(ends: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of some parts of an array, one part after the other, and where each part ends in the result."""
    first, counts = ends[:-1][places], np.diff(ends)[places]
    new = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    return np.arange(new[-1]) + np.repeat(first - new[:-1], counts), new


def _index(place: int, count: int) -> int:
    """A place counted from the start. Raises IndexError outside of the sequence."""
    if not -count <= place < count:
        raise IndexError(f"{place} of {count}")
    return place % count


def _fixed(values: object, kind: DTypeLike) -> np.ndarray:
    """A read-only array of a type. An array that is read-only already is not copied."""
    if isinstance(values, np.ndarray) and values.dtype == kind and not values.flags.writeable:
        return values
    array = np.array(values, kind)
    array.setflags(write=False)
    return array
