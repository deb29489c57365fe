"""Writes a data set as files of another format. The readers of this package read them back as the same data set.

Pictures are copied byte for byte. A box is written with as many digits as it needs.
"""

import os
import re
import shutil
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

import numpy as np
import yaml

from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.folder import split_named
from detect.data.formats.voc_xml import OURS
from detect.data.image_file import IMAGE_SUFFIXES, picture_bytes
from detect.data.notes import Notes
from detect.data.shards import Picture
from detect.data.split import SPLITS
from detect.data.text import printable

FOLDERS = ("images", "labels", "jpegimages", "annotations")
THIN = 5e-5
"""Pixels that VOC's writer adds to a side of one pixel: equal corners would mean a box without extent."""


def file_names(dataset: DetectionDataset, split: str | None = None) -> dict[str, PurePosixPath]:
    """A path for the picture of each image, by id: the id without its ending, with the ending of the file.

    split: only of this split, without a folder of the split's name; None: of all images.
    Names are unique without their ending, because a label file has the name of its picture.
    """
    examples = [e for name in SPLITS for e in dataset.splits[name] if split in (None, name)]
    plain = {e.id: _plain(e.id, split) for e in examples}
    names: dict[str, PurePosixPath] = {}
    taken: set[str] = set()
    for e in examples:
        stem = str(plain[e.id])
        number = 1
        while (wanted := stem if number == 1 else f"{stem}_{number}").casefold() in taken:
            number += 1
        taken.add(wanted.casefold())
        names[e.id] = PurePosixPath(f"{wanted}{e.path.suffix.lower()}")
    return names


def write_voc(dataset: DetectionDataset, folder: Path, notes: Notes) -> None:
    """Pascal VOC: JPEGImages/, Annotations/ and ImageSets/Main/. Crowd boxes become difficult objects."""
    names = file_names(dataset)
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in SPLITS:
        ids = [names[e.id].with_suffix("").as_posix() for e in dataset.splits[split]]
        (lists / f"{split}.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
        for e in dataset.splits[split]:
            copy(e.path, folder / "JPEGImages" / names[e.id])
            path = (folder / "Annotations" / names[e.id]).with_suffix(".xml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(voc_xml(e, dataset.classes, names[e.id].name), encoding="utf-8")


def voc_xml(e: Example, classes: tuple[str, ...], filename: str) -> str:
    """The text of one annotation file: inclusive corners that count from 1."""
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotation>",
        f"  <filename>{escape(printable(filename))}</filename>",
        f"  <source><annotation>{OURS}</annotation></source>",
    ]
    lines.append(f"  <size><width>{e.width}</width><height>{e.height}</height><depth>3</depth></size>")
    for (ymin, xmin, ymax, xmax), label, crowd in zip(e.boxes.tolist(), e.classes, e.crowd, strict=True):
        corners = {"xmin": xmin + 1, "ymin": ymin + 1, "xmax": xmax, "ymax": ymax}
        for low, high, side in (("xmin", "xmax", xmax - xmin), ("ymin", "ymax", ymax - ymin)):
            if side and _number(corners[low]) == _number(corners[high]):
                corners[high] += THIN
        box = "".join(f"<{tag}>{_number(value)}</{tag}>" for tag, value in corners.items())
        name = escape(printable(classes[label - 1]))
        lines.append(f"  <object><name>{name}</name><difficult>{int(crowd)}</difficult><bndbox>{box}</bndbox></object>")
    return "\n".join([*lines, "</annotation>", ""])


def write_yolo(dataset: DetectionDataset, folder: Path, notes: Notes) -> None:
    """YOLO: data.yaml, images/SPLIT/ and labels/SPLIT/. The format has no crowd boxes: they are left out and noted."""
    for split in SPLITS:
        names = file_names(dataset, split)
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for e in dataset.splits[split]:
            copy(e.path, folder / "images" / split / names[e.id])
            path = (folder / "labels" / split / names[e.id]).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = []
            for box, label, crowd in zip(e.boxes.astype(np.float64), e.classes, e.crowd, strict=True):
                if crowd:
                    notes.add("left out, crowd boxes, which YOLO does not have", e.id)
                    continue
                ymin, xmin, ymax, xmax = box / (e.height, e.width, e.height, e.width)
                shares = ((xmin + xmax) / 2, (ymin + ymax) / 2, xmax - xmin, ymax - ymin)
                rows.append(f"{label - 1} " + " ".join(f"{share:.10g}" for share in shares))
            path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    content = {split: f"images/{split}" for split in SPLITS} | {"names": dict(enumerate(dataset.classes))}
    (folder / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def copy(source: Path, target: Path) -> None:
    """Copies a picture, and makes the folder for it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if Picture.at(source):
        target.write_bytes(picture_bytes(source))
    else:
        shutil.copyfile(source, target)


def _plain(name: str, split: str | None) -> PurePosixPath:
    """An id as a relative path without the ending of a picture, and without folders that the formats give a meaning.

    A name that is no UTF-8, as of an archive from another system, is taken as Latin-1: the files are text in UTF-8.
    A line end, and any other control character, is replaced: a list of VOC has one name in a line.
    """
    name = re.sub(r"[\x00-\x1f\x7f]", "_", name if name.isascii() else _as_text(name))
    parts = name.replace("\\", "/").split("/")
    parts = [part for part in parts if part.casefold() not in ("", ".", "..", *FOLDERS)] or ["image"]
    if split and len(parts) > 1 and split_named(parts[0]) == split:
        parts = parts[1:]
    stem, dot, ending = parts[-1].rpartition(".")
    last = stem if dot and stem and f".{ending.lower()}" in IMAGE_SUFFIXES else parts[-1]
    return PurePosixPath(*parts[:-1], last)


def _as_text(name: str) -> str:
    raw = os.fsencode(name)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _number(value: float) -> str:
    """A coordinate in as few digits as give the same value to 1e-6 px."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
