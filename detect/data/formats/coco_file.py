"""One file of COCO's json: its three lists, checked entry by entry, and its images with their boxes in arrays."""

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from detect.data.examples import Texts, packed_ids
from detect.data.folder import below
from detect.data.formats.coco_ids import Codes, id_text, numbers_of
from detect.data.formats.corners import around_turned
from detect.data.formats.masks import mask_box
from detect.data.formats.values import CROWD, MOST, finite, flag
from detect.data.notes import Notes
from detect.data.pictures import Pictures
from detect.data.records import Records
from detect.data.text import one_name
from detect.errors import DataError, first_few

KEYS = {"categories": ("id", "name"), "images": ("id", "file_name"), "annotations": ("image_id", "category_id")}
"""The lists of a COCO file, and what each of their entries must have."""
EMPTY: tuple[object, ...] = (None, [], [[]])
"""What stands in place of a box or a segmentation that an annotation does not have."""


class CocoFile:
    """One COCO file, checked: ids are compared as text, so that 1, "1" and 1.0 are the same id.

    categories: name by id as text, of which two may have one. titles: their entries. numbers: the id as a number.
    boxes: how many annotations each has.
    images: the place of each image by its id as text; file_names, sizes and ids have an item for each image.
    """

    def __init__(self, path: Path, values: Iterable[tuple[str, int, Any]], notes: Notes):
        self.path, self.notes = path, notes
        lists: dict[str, object] = {}
        for key, place, value in values:
            if place >= 0:
                if key in KEYS and not (key == "annotations" and self._plain(value)):
                    for k, entry in enumerate(value, place):
                        self._entry(key, k, entry)
            else:
                if key in KEYS and key in lists:
                    raise DataError(f"{path}: the list '{key}' is given twice; join the two")
                lists[key] = value
                self._begin(key)
        for key in KEYS:
            if not isinstance(lists.get(key), list):
                raise DataError(f"{path}: no list '{key}'; the file has {first_few(lists, 10) or 'no keys'}")
        self.categories = {i: one_name(entry["name"]) for i, entry in self.titles.items()}
        self.numbers = numbers_of(self.categories)
        self.kinds = self._places("category_id", self.kind_codes, {i: k for k, i in enumerate(self.categories)})
        shaped = ~np.isnan(np.frombuffer(self.corners, np.float64)[::4])
        counts = np.bincount(self.kinds[shaped], minlength=len(self.categories)).tolist()
        self.boxes = dict(zip(self.categories, counts, strict=True))
        for i, title in self.categories.items():
            if self.boxes[i] and not title:
                raise DataError(f"{self.path}: categories: the name of id {i} is empty; it must be text")

    def _begin(self, key: str) -> None:
        """Makes place for the entries of a list."""
        if key == "images":
            self.images: dict[str, int] = {}
            self.file_names: list[str] = []
            self.sizes = array("q")
            self.ids: list[int | str] = []
        elif key == "categories":
            self.titles: dict[str, dict[str, Any]] = {}
        elif key == "annotations":
            self.image_codes, self.kind_codes = Codes(), Codes()
            self.corners, self.crowd, self.areas = array("d"), bytearray(), array("f")

    def _plain(self, entries: Sequence[Any]) -> bool:
        """Takes annotations at once, as `_entry` takes them one by one; False if one of them needs a closer look."""
        try:
            ids = [[entry[key] for entry in entries] for key in KEYS["annotations"]]
            boxes = [entry["bbox"] for entry in entries]
            flags = [[entry.get(key, 0) for entry in entries] for key in ("iscrowd", "ignore")]
            areas = [entry.get("area") for entry in entries]
            attributes = [entry["attributes"] for entry in entries if entry.get("attributes")]
            keys = {*chain(*entries)} - {"iscrowd", "ignore"} | {*chain(*attributes)}
            numbers = list(chain.from_iterable(boxes))
            sides, sizes = np.array(numbers, np.float64), np.array(areas, np.float64)  # None is NaN
            plain = (
                not any(map(_is_crowd, keys))
                and not any(told.get("rotation") for told in attributes)
                and set(map(type, boxes)) == {list}
                and set(map(len, boxes)) == {4}
                and set(map(type, numbers)) <= {int, float}
                and bool((np.abs(sides) <= MOST).all())
                and set(map(type, areas)) <= {int, float, NoneType}
                and int(((sizes >= 0) & (sizes <= MOST)).sum()) == len(areas) - areas.count(None)
                and set(map(type, chain(*ids))) <= {int, str}
                and set(map(type, chain(*flags))) == {int}
                and set(chain(*flags)) <= {0, 1}
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            return False
        if plain:
            x, y, width, height = sides.reshape(-1, 4).T
            self.corners.frombytes(np.stack([y, x, y + height, x + width], axis=1).tobytes())
            self.image_codes.extend(ids[0])
            self.kind_codes.extend(ids[1])
            self.crowd.extend(map(max, *flags))
            self.areas.frombytes(sizes.astype(np.float32).tobytes())
        return plain

    def _entry(self, key: str, k: int, entry: Any) -> None:
        """An entry of one of the lists."""
        if key == "images":
            entry = with_file_name(entry)
        if type(entry) is not dict or None in map(entry.get, KEYS[key]):
            missing = next(name for name in KEYS[key] if not isinstance(entry, dict) or entry.get(name) is None)
            raise DataError(f"{self.path}: {key}[{k}] has no '{missing}'")
        if key == "annotations":
            self.image_codes.add(entry["image_id"])
            self.kind_codes.add(entry["category_id"])
            self.corners.extend(self._box(k, entry))
            flags = [self._flag(k, told, key) for told in (entry, _attributes(entry)) for key in told if _is_crowd(key)]
            self.crowd.append(any(flags))
            self.areas.append(self._area(k, entry))
            return
        i, title = id_text(entry["id"]), KEYS[key][1]
        if i is None:
            raise DataError(f"{self.path}: {key}[{k}]: id is {entry['id']!r}; it must be a number or text")
        if i in (self.images if key == "images" else self.titles):
            before = self.file_names[self.images[i]] if key == "images" else self.titles[i][title]
            raise DataError(f"{self.path}: {key}: the id {i} is given twice: {before}, {entry[title]}; ids must differ")
        if isinstance(entry[title], bool) or not isinstance(entry[title], str | int | float):
            raise DataError(f"{self.path}: {key}[{k}]: {title} is {entry[title]!r}; it must be text")
        if key == "categories":
            self.titles[i] = entry
            return
        self.images[i] = k
        self.file_names.append(str(entry["file_name"]))
        self.sizes.extend(self._size(entry))
        self.ids.append(entry["id"] if isinstance(entry["id"], int | str) else int(entry["id"]))

    def _places(self, key: str, codes: Codes, legal: Mapping[str, int]) -> np.ndarray:
        """The place of each annotation's id, int64 [m]. legal: the place of each id."""
        table = np.array([legal.get(id_text(value) or "", -1) for value in codes.values], np.int64)
        rows = np.frombuffer(codes.rows, np.int64)
        for k in np.flatnonzero(table[rows] < 0)[:1].tolist() if len(rows) else ():
            listed = "images" if key == "image_id" else "categories"
            value = codes.values[rows[k]]
            raise DataError(
                f"{self.path}: annotations[{k}]: {key} is {value!r}, which is no id of {listed}; legal: "
                f"{first_few(legal, 10)}"
            )
        return table[rows] if len(rows) else rows

    def records(self, root: Path, pictures: Pictures) -> Records:
        """The images of the file with their boxes, in its order. It is called once: the ids are given up for them."""
        owners = self._places("image_id", self.image_codes, self.images)
        del self.image_codes, self.images  # they take as much memory as the records
        boxes, areas = np.frombuffer(self.corners, np.float64).reshape(-1, 4), np.frombuffer(self.areas, np.float32)
        order = np.argsort(owners, kind="stable")
        order = order[~np.isnan(boxes[order, 0])]  # those without a shape are left out
        asked_by = f"{self.path}: images"
        paths = Texts.of(pictures.locate(name, asked_by) or "" for name in self.file_names)
        missing = [name for name, path in zip(self.file_names, paths, strict=True) if not path]
        if missing:
            raise DataError(
                f"{self.path}: {len(missing)} of {len(paths)} pictures are missing: {first_few(missing, 3)}; searched "
                f"below {first_few(pictures.folders, 9)}; {pictures.way_out}"
            )
        titles = {title: k for k, title in enumerate(dict.fromkeys(self.categories.values()))}
        names = np.array([titles.get(self.categories.get(i, ""), -1) for i in self.boxes], np.int32)[self.kinds]
        counts = np.bincount(owners[order], minlength=len(paths))
        return Records(
            paths,
            Texts.of(_ids(paths, root)),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)]),
            tuple(titles),
            names[order],
            boxes[order],
            np.frombuffer(self.crowd, bool)[order],
            (self.path,),
            np.zeros(len(paths), np.int32),
            np.frombuffer(self.sizes, np.int64).reshape(-1, 2).astype(np.int32),
            packed_ids(self.ids),
            np.zeros(len(paths), bool),
            None if np.isnan(areas[order]).all() else areas[order],
        )

    def _size(self, entry: dict[str, Any]) -> tuple[int, int]:
        """(width, height) of an entry of images; (-1, -1) if it has none."""
        sides = []
        for key in ("width", "height"):
            value = finite(entry.get(key) or 0)
            if value is None or value < 0:
                raise DataError(
                    f"{self.path}: image {entry['file_name']}: {key} is {entry[key]!r}; it must be a number of pixels"
                )
            sides.append(round(value))
        return (sides[0], sides[1]) if all(sides) else (-1, -1)

    def _flag(self, k: int, annotation: Mapping[str, Any], key: str) -> bool:
        given = annotation.get(key)
        if given is None:
            return False
        value = bool(given) if type(given) is int and 0 <= given <= 1 else flag(given)
        if value is None:
            raise DataError(f"{self.path}: annotations[{k}]: {key} is {given!r}; it must be 0 or 1")
        return value

    def _area(self, k: int, annotation: dict[str, Any]) -> float:
        """The area of an object, which is that of its segmentation in COCO's own files; NaN if there is none."""
        area = annotation.get("area")
        if area is None:
            return math.nan
        number = finite(area)
        if number is None or number < 0:
            self.notes.add("not used, areas that are no number of pixels", f"annotation {annotation.get('id', k)}")
            return math.nan
        return number

    def _box(self, k: int, annotation: dict[str, Any]) -> list[float]:
        """COCO [x, y, width, height] -> [ymin, xmin, ymax, xmax]; without bbox, the box of the segmentation.

        NaN for an annotation that has both keys empty, or one empty and no other.
        """
        box, segmentation = annotation.get("bbox"), annotation.get("segmentation")
        if not box:
            hull = _hull(segmentation)
            if hull is None and box in EMPTY and segmentation in EMPTY and (box, segmentation) != (None, None):
                kind = "left out, annotations whose bbox and segmentation are empty"
                self.notes.add(kind, f"annotation {annotation.get('id', k)}")
                return [math.nan] * 4
            if hull is None:
                raise DataError(f"{self.path}: annotations[{k}] has no 'bbox', and no segmentation that gives one")
            self.notes.add("boxes made from segmentations", f"annotation {annotation.get('id', k)}")
            return hull
        numbers = list(map(finite, box)) if isinstance(box, list) and len(box) == 4 else [None]
        if None in numbers:
            raise DataError(
                f"{self.path}: annotations[{k}]: bbox is {box!r}; it must be four numbers [x, y, width, height]"
            )
        x, y, width, height = numbers  # type: ignore[misc]
        corners = x, y, x + width, y + height  # type: ignore[operator]
        turn = finite(_attributes(annotation).get("rotation") or 0)
        if turn is None or (turn % 360 and segmentation not in EMPTY):
            kind = "not used, attributes 'rotation' that are no turn of a box"
            self.notes.add(kind, f"annotation {annotation.get('id', k)}")
        elif turn % 360:  # of CVAT, whose bbox is the box before it is turned, and which then has no segmentation
            self.notes.add("boxes made around turned boxes", f"annotation {annotation.get('id', k)}")
            return around_turned(*corners, turn)  # type: ignore[arg-type]
        return [corners[1], corners[0], corners[3], corners[2]]  # type: ignore[list-item]


def with_file_name(image: object) -> object:
    """An entry of images; the address `coco_url` is the name of one that has no other, as in LVIS."""
    if isinstance(image, dict) and image.get("file_name") is None and image.get("coco_url"):
        return image | {"file_name": image["coco_url"]}
    return image


def _is_crowd(key: str) -> bool:
    return key in CROWD or key.lower() in CROWD


def _attributes(annotation: Mapping[str, Any]) -> Mapping[str, Any]:
    """What CVAT and Datumaro tell of an object beside COCO's own keys."""
    given = annotation.get("attributes")
    return given if isinstance(given, dict) else {}


def _ids(paths: Iterable[str], root: Path) -> Iterator[str]:
    """Paths as ids, as `detect.data.folder.below`."""
    prefix = f"{root}/"
    for path in paths:
        yield path.removeprefix(prefix) if path.startswith(prefix) else below(Path(path), root)


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
