"""Recognises the format of a folder: `dataset=auto`, the default."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from detect.config.legal_values import HeldOut, Seed
from detect.data.assemble import Exif, SplitBy
from detect.data.dataset import DetectionDataset
from detect.data.folder import below, existing_folder, find_files, listed_once, passed_over, split_named, unread
from detect.data.formats import arrayrecord, coco, cvat, labelme, tf_csv, tfrecord, voc, voc_xml, yolo
from detect.data.formats.yolo_names import class_lists
from detect.data.split import HELD_OUT, SPLITS
from detect.data.text import first_bytes
from detect.errors import DataError, first_few
from detect.files import expanded

FORMATS: dict[str, tuple[Callable[[Path], str | None], Callable[..., DetectionDataset]]] = {
    "voc": (voc.recognise, voc.read_voc),
    "coco": (coco.recognise, coco.read_coco),
    "yolo": (yolo.recognise, yolo.read_yolo),
    "tfrecord": (tfrecord.recognise, tfrecord.read_tfrecord),
    "arrayrecord": (arrayrecord.recognise, arrayrecord.read_arrayrecord),
    "csv": (tf_csv.recognise, tf_csv.read_csv),
    "labelme": (labelme.recognise, labelme.read_labelme),
    "cvat": (cvat.recognise, cvat.read_cvat),
}
"""By option of the group `dataset`: why a folder has the format (or None), and the reader."""

FILES = {
    "yolo": (".yaml", ".yml", ".data", ".names", ".txt", ".labels"),
    "csv": tf_csv.SUFFIXES,
    "cvat": (".xml",),
    "coco": (".json",),
    "tfrecord": (".record", ".tfrecord", ".tfrec"),
}
"""Endings of the files that `dataset.root` can name in place of a folder. Names of TFRecord files have more forms."""

ONE_OF_MANY = {
    "labelme": coco.LABELME,
    "arrayrecord": re.compile(rb'"kind"\s*:\s*"arrayrecord"'),
    "voc": voc_xml.ROOT,
}
"""What files have that are read with others of their folder, by format."""

MADE_FROM = {"csv": "voc"}
"""Formats that tools make from another one, beside it: the other one is read, unless it has lost the split."""


def read_auto(
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
    """Reads a data set of any format: the notes say which one was recognised, and why.

    root: folder of the data set, or the file that describes it, such as a data.yaml. If the folder holds nothing but
        one folder, that one is read; but if its name is that of val or test, its images are this split. The name of a
        file and that of its folder tell its split.
    Other arguments: `detect.data.assemble.Selection`. The keys of one format need that format's option.
    Raises DataError if no format fits, or if two fit.
    """
    place = expanded(root)
    folder = place if place.is_file() else _inner(existing_folder(root))
    with listed_once():
        kind, why = recognised(folder)
        dataset = FORMATS[kind][1](
            folder, classes=classes, rename=rename, name=name, val_fraction=val_fraction, test_fraction=test_fraction,
            split_seed=split_seed, split_by=split_by, exif=exif,
        )  # fmt: skip
    return replace(dataset, notes=(f"format: {kind} ({why})", *dataset.notes))


def recognised(folder: Path) -> tuple[str, str]:
    """The format of a folder (or of a yaml), and why. Raises DataError if none fits, or if two fit."""
    if folder.is_file():
        return _kind_of(folder), f"{folder.name} is named"
    found = {kind: why for kind, (recognise, _) in FORMATS.items() if (why := recognise(folder))}
    for made, source in MADE_FROM.items():
        if source in found and made in found and (told := _told_by_csv_alone(folder)):
            found[made] += f"; the names of these files tell {' and '.join(told)}, and nothing else tells a split"
        elif source in found and made in found:
            found[source] += f"; not used: {found.pop(made)}, which tools make from these files"
    if not found and (why := yolo.recognise_last(folder)):
        return "yolo", why
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        choices = "\n".join(f"  dataset={kind}: {why}" for kind, why in found.items())
        raise DataError(f"dataset.root={folder}: {len(found)} formats fit; choose one:\n{choices}")
    if labels := yolo.nameless(folder):
        raise DataError(
            f"dataset.root={folder}: {below(labels, folder)} has YOLO labels, but no file names their classes. Add a "
            "classes.txt, which has the name of each class in a line of its own, in the order of their numbers from 0; "
            "or a data.yaml"
        )
    if why := tf_csv.recognise_last(folder):
        return "csv", why
    if lists := class_lists(folder):
        return "yolo", f"{below(lists[0], folder)}, which names classes"
    endings = Counter(path.suffix.lower() or "no ending" for path in find_files(folder))
    holds = first_few([f"{count} of {ending}" for ending, count in endings.most_common()]) or "no files"
    raise DataError(
        f"dataset.root={folder}: no format of boxes is recognised (it has {holds}). Legal: {', '.join(FORMATS)}; "
        "one picture folder for each class is dataset=image_folder, and dataset=digits is the embedded data set"
        f"{unread(folder)}{tf_csv.needed_columns(folder)}"
    )


def _told_by_csv_alone(folder: Path) -> list[str]:
    """The splits that the names of CSV files tell, if they are several, and VOC's folders and lists tell none."""
    told = set(tf_csv.named_splits(folder).values())
    return [split for split in SPLITS if split in told] if len(told) > 1 and not voc.tells_splits(folder) else []


def _kind_of(file: Path) -> str:
    """The format of a file, by its name. Raises DataError if it is none, or one of many that are read together."""
    ending = file.suffix.lower()
    kind = next((kind for kind, endings in FILES.items() if ending in endings), None)
    kind = "tfrecord" if tfrecord.NAME.search(file.name) else kind
    if kind is None:
        legal = "; ".join(f"{kind}: {', '.join(endings)}" for kind, endings in FILES.items())
        raise DataError(
            f"dataset.root={file}: the ending '{ending}' is none of a data set; legal: a folder, or a file ({legal}). "
            "An archive has to be unpacked; a TFRecord file of any name is read with dataset=tfrecord"
        )
    if kind in ("coco", "cvat"):
        head = first_bytes(file)
        for other, mark in ONE_OF_MANY.items():
            if mark.search(head):
                raise DataError(
                    f"dataset.root={file}: it is one of the files of a data set of the format {other}; name the folder "
                    "of the data set"
                )
    return kind


def _inner(folder: Path) -> Path:
    """The folder itself, or the only folder in it, as archives often have it.

    Images in the only folder `test` are a test set: its name has to be seen by the reader.
    """
    inside = [path for path in folder.iterdir() if not passed_over(path.name)]
    if (
        len(inside) == 1
        and inside[0].is_dir()
        and any(inside[0].iterdir())
        and split_named(inside[0].name) not in HELD_OUT
    ):
        return _inner(inside[0])
    return folder
