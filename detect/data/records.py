"""What a reader found of each image, before classes have numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from detect.data.examples import SourceId, Texts, joined_areas, packed_ids


@dataclass(frozen=True, eq=False)
class Record:
    """One image as its files describe it, before classes have numbers.

    path: image file. id: unique in the data set. names: class name of each box. boxes: [n, 4] yxyx in pixels of the
    image, counted from 0, or as shares of its sides if `shares` is true. crowd: flag of each box (neither trained nor
    scored). source, size, source_id, areas: as in `Example`.
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
    areas: Sequence[float] | np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Records:
    """Many `Record` in arrays, for readers of large data sets.

    paths, ids: of n images. ends: int64 [n + 1]; the boxes of image i are those from ends[i] to ends[i + 1]. names:
    int32 [m], the class name of each box as its place in `titles`, which each have a box. boxes: float64 [m, 4].
    crowd: bool [m]. sources, source: the annotation files, and int32 [n] the place of each image's own, or -1.
    sizes: int32 [n, 2], or -1. source_ids, areas: as in `detect.data.examples.Examples`. shares: bool [n].
    """

    paths: Texts
    ids: Texts
    ends: np.ndarray
    titles: tuple[str, ...]
    names: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray
    sources: tuple[Path, ...]
    source: np.ndarray
    sizes: np.ndarray
    source_ids: np.ndarray | Sequence[SourceId] | None
    shares: np.ndarray
    areas: np.ndarray | None = None

    @classmethod
    def of(cls, records: "Sequence[Record] | Records") -> "Records":
        """The records in their order. Those that are `Records` already are not copied."""
        if isinstance(records, Records):
            return records
        titles = {title: k for k, title in enumerate(dict.fromkeys(name for r in records for name in r.names))}
        files = {source: k for k, source in enumerate(dict.fromkeys(r.source for r in records if r.source))}
        boxes = [np.asarray(r.boxes, np.float64).reshape(-1, 4) for r in records]
        return cls(
            Texts.of(str(r.path) for r in records),
            Texts.of(r.id for r in records),
            np.cumsum([0, *map(len, boxes)], dtype=np.int64),
            tuple(titles),
            np.array([titles[name] for r in records for name in r.names], np.int32),
            np.concatenate([np.zeros((0, 4)), *boxes]),
            np.array([bool(flag) for r in records for flag in r.crowd], bool),
            tuple(files),
            np.array([files[r.source] if r.source else -1 for r in records], np.int32),
            np.array([r.size or (-1, -1) for r in records], np.int32).reshape(-1, 2),
            packed_ids([r.source_id for r in records]),
            np.array([r.shares for r in records], bool),
            joined_areas(records),
        )

    @classmethod
    def joined(cls, parts: "Sequence[Records]") -> "Records":
        """The records of all parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        titles = {title: k for k, title in enumerate(dict.fromkeys(chain.from_iterable(p.titles for p in parts)))}
        names = [np.array([titles[title] for title in p.titles], np.int32)[p.names] for p in parts]
        starts = np.cumsum([0, *(len(p.boxes) for p in parts)])
        files = np.cumsum([0, *(len(p.sources) for p in parts)])
        areas = [np.full(len(p.boxes), np.nan, np.float32) if p.areas is None else p.areas for p in parts]
        own = [[None] * len(p) if p.source_ids is None else list(p.source_ids) for p in parts]
        return cls(
            Texts.of(chain.from_iterable(p.paths for p in parts)),
            Texts.of(chain.from_iterable(p.ids for p in parts)),
            np.concatenate([np.zeros(1, np.int64), *(p.ends[1:] + n for p, n in zip(parts, starts, strict=False))]),
            tuple(titles),
            np.concatenate(names),
            np.concatenate([p.boxes for p in parts]),
            np.concatenate([p.crowd for p in parts]),
            tuple(chain.from_iterable(p.sources for p in parts)),
            np.concatenate(
                [np.where(p.source < 0, -1, p.source + n) for p, n in zip(parts, files, strict=False)]
            ).astype(np.int32),
            np.concatenate([p.sizes for p in parts]),
            packed_ids([i.item() if isinstance(i, np.integer) else i for i in chain.from_iterable(own)]),
            np.concatenate([p.shares for p in parts]),
            None if all(p.areas is None for p in parts) else np.concatenate(areas),
        )

    def __len__(self) -> int:
        return len(self.ids)
