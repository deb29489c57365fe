"""Pascal VOC: one XML file per picture, 1-based inclusive corners (Everingham et al. 2010, development kit section 5).

It reads three layouts: that of the development kit (with `ImageSets/Main` lists), the same without lists, and folders
with pictures and XML files side by side.
"""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from detect.config.legal_values import HeldOut
from detect.data.dataset import (
    IMAGE_SUFFIXES,
    SPLITS,
    DetectionDataset,
    Example,
    existing_folder,
    find_images,
    image_sizes,
    settle_size,
)
from detect.data.split import fill_splits, refuse_overlap
from detect.errors import DataError

LISTS = MappingProxyType({"train": "train", "val": "val", "test": "test"})


@dataclass(frozen=True)
class Record:
    """One parsed XML file: names, internal boxes (0-based pixels, y first), difficult flags and (width, height)."""

    names: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    difficult: tuple[bool, ...]
    size: tuple[int, int] | None


def read_voc(
    root: str | Path,
    classes: Sequence[str] | None = None,
    name: str | None = None,
    images: str = "JPEGImages",
    annotations: str = "Annotations",
    splits: Mapping[str, str | None] | None = LISTS,
    val_fraction: HeldOut = 0.15,
    test_fraction: HeldOut = 0.15,
    split_seed: int = 0,
    keep_difficult: bool = False,
    first_pixel: int = 1,
) -> DetectionDataset:
    """Read a VOC folder.

    root: folder with `images`/ and `annotations`/ (and perhaps ImageSets/Main), or a folder with pictures and XML
        files of the same stem side by side. Its subfolders have no meaning; the split is drawn from the seed.
    classes: names in their order; None takes all names of the annotations, sorted.
    splits: the list of ImageSets/Main (without .txt) for each split; None ignores the lists and draws the splits
        from `split_seed`. If val has no list or is None, val is drawn from train (and test too, if it has no list).
    keep_difficult: False marks difficult objects as crowd (not trained and not scored); True makes them ordinary.
    first_pixel: the coordinate of the first pixel in the files: 1 in VOC, 0 for tools that count from 0.

    A box [xmin, ymin, xmax, ymax] of the file becomes [ymin - 1, xmin - 1, ymax, xmax]. If two opposite corners
    coincide, the box has no area (in the kit it is one pixel), and `validate` reports it.
    Raises DataError for a missing or empty folder, malformed XML (file and line), a class outside `classes`, a listed
    image or XML file that is missing, and overlapping lists.
    """
    folder = existing_folder(root)
    name = name or folder.resolve().name
    pairs, notes = _pairs(folder, images, annotations)
    lists, source = None, ""
    if splits is not None and (folder / "ImageSets" / "Main").is_dir():
        lists = _listed(folder / "ImageSets" / "Main", name, splits, pairs)
        source = f"lists of ImageSets/Main ({', '.join(f'{s}: {splits[s]}' for s, ids in lists.items() if ids)})"
    used = sorted(pairs if lists is None else {i for ids in lists.values() for i in ids})

    with ThreadPoolExecutor(8) as pool:
        records = dict(zip(used, pool.map(lambda i: read_xml(pairs[i][1], first_pixel), used), strict=True))
    sizes = dict(zip(used, image_sizes([pairs[i][0] for i in used]), strict=True))
    names = _class_names(classes, records, pairs)
    number = {n: k for k, n in enumerate(names, 1)}

    def example(i: str) -> Example:
        path, xml = pairs[i]
        record = records[i]
        width, height = settle_size(path, sizes[i], record.size)
        labels = np.array([number[n] for n in record.names], np.int32)
        boxes = np.array(record.boxes, np.float32)
        crowd = np.array(record.difficult, bool) & (not keep_difficult)
        return Example(path, width, height, boxes, labels, crowd, i, xml, record.size)

    given = {split: [example(i) for i in ids] for split, ids in (lists or {"train": used}).items()}
    parts, split_note = fill_splits(
        given, lambda e: e.classes.tolist(), val_fraction, test_fraction, split_seed, source
    )
    inferred = f"classes: inferred from {len(used)} XML files, sorted by name"
    notes += ["classes: as given" if classes is not None else inferred, split_note]
    return DetectionDataset(name, names, parts, tuple(notes))


def read_xml(path: Path, first_pixel: int = 1) -> Record:
    """Parse one annotation file. Raises DataError naming the file, and the line or the object of the error."""
    try:
        tree = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        line, column = error.position
        raise DataError(f"{path}, line {line}: malformed XML ({str(error).split(':')[0]}, column {column})") from error
    except OSError as error:
        raise DataError(f"{path}: can't read the annotation: {error.strerror or error}") from error
    except (UnicodeError, ValueError, LookupError) as error:
        raise DataError(f"{path}, line 1: malformed XML ({error})") from error
    if tree.tag != "annotation":
        raise DataError(f"{path}: the root element is <{tree.tag}>; in a VOC file it is <annotation>")
    names, boxes, difficult = [], [], []
    for k, item in enumerate(tree.iter("object"), 1):
        label = (item.findtext("name") or "").strip()
        if not label:
            raise DataError(f"{path}: object {k} has no <name>")
        where = f"{path}: object {k} ({label})"
        corners = item.find("bndbox")
        if corners is None:
            raise DataError(f"{where} has no <bndbox>")
        xmin, ymin, xmax, ymax = (_number(corners, tag, where) for tag in ("xmin", "ymin", "xmax", "ymax"))
        # The last pixel belongs to the box, so its right and lower edges are one further. Equal corners stay equal.
        right = xmax - first_pixel + (xmax != xmin)
        bottom = ymax - first_pixel + (ymax != ymin)
        names.append(label)
        boxes.append((ymin - first_pixel, xmin - first_pixel, bottom, right))
        difficult.append((item.findtext("difficult") or "0").strip() in ("1", "true", "True"))
    return Record(tuple(names), tuple(boxes), tuple(difficult), _size(tree))


def _number(corners: ElementTree.Element, tag: str, where: str) -> float:
    text = corners.findtext(tag)
    if text is None:
        raise DataError(f"{where} has no <{tag}>")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: <{tag}> is '{text.strip()}'; it must be a finite number")
    return value


def _size(tree: ElementTree.Element) -> tuple[int, int] | None:
    """(width, height) in the XML, or None if missing, zero or not a number: the image's header then decides."""
    try:
        width, height = (int(float(tree.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _pairs(folder: Path, images: str, annotations: str) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Image and XML file of every id, in the kit's layout (id: stem) or side by side (id: path without suffix)."""
    kit = (folder / annotations).is_dir()
    xml_root, image_root = (folder / annotations, folder / images) if kit else (folder, folder)
    if not image_root.is_dir():
        raise DataError(f"{folder}: it has {annotations}/ but no folder {images}/ (dataset.images)")
    pictures = {_id(p, image_root): p for p in reversed(find_images(image_root))}
    sources = {_id(p, xml_root): p for p in sorted(xml_root.rglob("*.xml"))}
    if not sources:
        raise DataError(
            f"{folder}: there are no XML annotations in {annotations}/ (dataset.annotations) or beside the pictures"
        )
    without = sorted(set(sources) - set(pictures))
    if without:
        tried = ", ".join(IMAGE_SUFFIXES)
        raise DataError(f"{sources[without[0]]}: no picture {image_root / without[0]} ({tried}){_more(without)}")
    unlabelled = len(set(pictures) - set(sources))
    notes = [f"left out: {unlabelled} pictures without an XML file"] if unlabelled else []
    return {i: (pictures[i], sources[i]) for i in sources}, notes


def _id(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _more(items: Sequence[str]) -> str:
    return f" (and {len(items) - 1} more of this kind)" if len(items) > 1 else ""


def _listed(
    lists: Path, name: str, splits: Mapping[str, str | None], pairs: Mapping[str, tuple[Path, Path]]
) -> dict[str, list[str]]:
    """Ids of each split that has a list in ImageSets/Main."""
    have = ", ".join(sorted(p.stem for p in lists.glob("*.txt"))) or "none"
    parts: dict[str, list[str]] = {}
    for split in SPLITS:
        title = splits.get(split)
        path = lists / f"{title}.txt"
        if title and path.is_file():
            # lists of one class have a second column (1, 0, -1)
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            parts[split] = [line.split()[0] for line in lines if line.strip()]
            missing = [i for i in parts[split] if i not in pairs]
            if missing:
                raise DataError(f"{path}: lists {missing[0]}, which has no XML file with a picture{_more(missing)}")
    if not parts.get("train"):
        raise DataError(
            f"{lists}: dataset.splits.train={splits.get('train')} is not a list with images; the lists are: {have}. "
            "Set it to one of them, or set dataset.splits=null to draw the splits from a seed"
        )
    refuse_overlap(name, parts)
    return parts


def _class_names(
    classes: Sequence[str] | None, records: Mapping[str, Record], pairs: Mapping[str, tuple[Path, Path]]
) -> tuple[str, ...]:
    """The class names in their order. Raises DataError for the first object whose class is not one of those given."""
    if classes is None:
        return tuple(sorted({n for record in records.values() for n in record.names}))
    legal = tuple(map(str, classes))
    for i, record in records.items():
        unknown = next((n for n in record.names if n not in legal), None)
        if unknown is not None:
            raise DataError(f"{pairs[i][1]}: class '{unknown}' is not in dataset.classes; legal: {', '.join(legal)}")
    return legal
