"""COCO json (cocodataset.org/#format-data): one file per split, 0-based boxes [x, y, width, height]."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.config.legal_values import HeldOut
from detect.data.dataset import DetectionDataset, Example, existing_folder, image_sizes, settle_size
from detect.data.split import fill_splits, refuse_overlap
from detect.errors import DataError


def read_coco(
    root: str | Path,
    train: str = "annotations/instances_train2017.json",
    val: str | None = "annotations/instances_val2017.json",
    test: str | None = None,
    images: Mapping[str, str | None] | None = None,
    classes: Sequence[str] | None = None,
    name: str | None = None,
    val_fraction: HeldOut = 0.15,
    test_fraction: HeldOut = 0.15,
    split_seed: int = 0,
) -> DetectionDataset:
    """Read a data set of COCO json files.

    root: the other paths are relative to this folder.
    train, val, test: the json of each split. If val is None, val is drawn from train (and test too, if test is None).
    images: folder of each split's pictures; None searches the usual places (the json's folder, root, root/images,
        root/train2017 ...).
    classes: names in their order; None takes the categories in the order of their ids, which may be any numbers.

    Annotations with iscrowd become crowd. Raises DataError, naming the file, for json that can't be parsed (with the
    line), missing keys, unknown categories or images, a missing picture, and overlapping splits.
    """
    folder = existing_folder(root)
    files = {s: folder / f for s, f in (("train", train), ("val", val), ("test", test)) if f}
    contents = {s: read_json(path) for s, path in files.items()}
    names = _class_names(classes, contents, files)
    given = {}
    for split, path in files.items():
        pictures = _picture_folder(folder, split, path, contents[split], (images or {}).get(split))
        given[split] = _examples(folder, path, contents[split], pictures, names)
    name = name or folder.resolve().name
    refuse_overlap(name, {s: [e.id for e in examples] for s, examples in given.items()})
    parts, split_note = fill_splits(
        given,
        lambda e: e.classes.tolist(),
        val_fraction,
        test_fraction,
        split_seed,
        f"json files ({', '.join(f'{s}: {p.name}' for s, p in files.items())})",
    )
    note = "classes: as given" if classes is not None else "classes: the json's categories, in the order of their ids"
    return DetectionDataset(name, names, parts, (note, split_note))


def read_json(path: Path) -> dict[str, Any]:
    """Parse one COCO file and check its keys. Raises DataError naming the file, and the line of a syntax error."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: malformed json ({error.msg}, column {error.colno})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: this is not a json file ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{path}: can't read it: {error.strerror or error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: a COCO file must be one object with images, annotations and categories")
    for key, needs in (("categories", ("id", "name")), ("images", ("id", "file_name")),
                       ("annotations", ("image_id", "category_id", "bbox"))):  # fmt: skip
        entries = content.get(key)
        if not isinstance(entries, list):
            raise DataError(f"{path}: no list '{key}'; the file has {', '.join(map(str, content)) or 'no keys'}")
        for k, entry in enumerate(entries):
            missing = [n for n in needs if not isinstance(entry, dict) or n not in entry]
            if missing:
                raise DataError(f"{path}: {key}[{k}] has no '{missing[0]}'")
    return content


def _class_names(
    classes: Sequence[str] | None, contents: Mapping[str, dict[str, Any]], files: Mapping[str, Path]
) -> tuple[str, ...]:
    """Class names in order; DataError if an annotation's category is unknown in its file or not among the names."""
    if classes is None:
        categories = sorted(contents["train"]["categories"], key=lambda c: c["id"])
        names = tuple(str(c["name"]) for c in categories)
        legal = f"the classes of {files['train']}: {', '.join(names)}"
    else:
        names = tuple(map(str, classes))
        legal = f"dataset.classes: {', '.join(names)}"
    for split, content in contents.items():
        titles = {c["id"]: str(c["name"]) for c in content["categories"]}
        for category in {a["category_id"] for a in content["annotations"]}:
            if category not in titles:
                raise DataError(f"{files[split]}: category_id {category} is not in categories: {sorted(titles)}")
            if titles[category] not in names:
                raise DataError(f"{files[split]}: class '{titles[category]}' is not a class; legal: {legal}")
    return names


def _picture_folder(root: Path, split: str, path: Path, content: dict[str, Any], given: str | None) -> Path:
    """The folder of the file names. Raises DataError naming the first picture if no folder contains it."""
    if given:
        return existing_folder(root / given, f"dataset.images.{split}")
    stem = path.stem.split("_")[-1]  # instances_train2017 -> train2017
    tried = [path.parent, root, *(root / f for f in ("images", split, stem, f"images/{split}", f"images/{stem}"))]
    if not content["images"]:
        return root
    first = content["images"][0]["file_name"]
    for folder in tried:
        if (folder / first).is_file():
            return folder
    raise DataError(
        f"{path}: picture {first} is in none of {', '.join(map(str, dict.fromkeys(tried)))}; "
        f"set dataset.images.{split} to the folder of the pictures"
    )


def _examples(
    root: Path, source: Path, content: dict[str, Any], pictures: Path, names: tuple[str, ...]
) -> list[Example]:
    """The examples of one file, in its order of images."""
    number = {c["id"]: names.index(c["name"]) + 1 for c in content["categories"] if c["name"] in names}
    objects: dict[Any, list[tuple[list[float], int, bool]]] = {image["id"]: [] for image in content["images"]}
    for k, annotation in enumerate(content["annotations"]):
        if annotation["image_id"] not in objects:
            raise DataError(f"{source}: annotations[{k}]: image_id {annotation['image_id']} is not in images")
        box = _box(annotation["bbox"], f"{source}: annotations[{k}]")
        region = bool(annotation.get("iscrowd", 0))
        objects[annotation["image_id"]].append((box, number[annotation["category_id"]], region))
    paths = [pictures / image["file_name"] for image in content["images"]]
    missing = [p for p in paths if not p.is_file()]
    if missing:
        raise DataError(f"{source}: {len(missing)} of {len(paths)} pictures are missing; the first one is {missing[0]}")
    examples = []
    for image, path, found in zip(content["images"], paths, image_sizes(paths), strict=True):
        width, height = image.get("width"), image.get("height")
        annotated = (int(width), int(height)) if width and height else None
        here = objects[image["id"]]
        boxes = np.array([b for b, _, _ in here], np.float64).reshape(-1, 4)
        classes, crowd = np.array([c for _, c, _ in here], np.int32), np.array([c for _, _, c in here], bool)
        where = path.relative_to(root) if path.is_relative_to(root) else path
        size = settle_size(path, found, annotated)
        examples.append(Example(path, *size, boxes, classes, crowd, where.as_posix(), source, annotated))
    return examples


def _box(bbox: Any, where: str) -> list[float]:
    """COCO [x, y, width, height] -> [ymin, xmin, ymax, xmax]."""
    try:
        x, y, width, height = map(float, bbox)
    except (TypeError, ValueError):
        x = y = width = height = math.nan
    if not all(map(math.isfinite, (x, y, width, height))):
        raise DataError(f"{where}: bbox is {bbox}; it must be four numbers [x, y, width, height]")
    return [y, x, y + height, x + width]
