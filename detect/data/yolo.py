"""YOLO text files in the layout of ultralytics: a data.yaml, and one .txt per picture with normalised centre boxes."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from detect.config.legal_values import HeldOut
from detect.data.dataset import SPLITS, DetectionDataset, Example, existing_folder, find_images, image_sizes
from detect.data.split import fill_splits, refuse_overlap
from detect.errors import DataError

NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def read_yolo(
    root: str | Path,
    classes: Sequence[str] | None = None,
    name: str | None = None,
    val_fraction: HeldOut = 0.15,
    test_fraction: HeldOut = 0.15,
    split_seed: int = 0,
) -> DetectionDataset:
    """Read a YOLO data set.

    root: the data.yaml, or the folder that contains it. Its keys: path (optional), train, val, test (each a folder, a
        list of folders, or a .txt list of pictures) and names (a list, or a map from numbers).
    classes: names that must equal those of the yaml; None takes them. Without val in the yaml, val is drawn from
        train (and test too, if there is none).

    The path of a picture's labels has `labels` in place of the last `images`; without `images`, they are beside it.
    A picture without a label file, or with an empty one, is background. A line is `class cx cy width height`, or
    `class x1 y1 x2 y2 ...`, a polygon that is replaced by its bounding box. Raises DataError naming the file and the
    line of the error.
    """
    path = _yaml_path(Path(root).expanduser())
    content = read_yaml(path)
    names = _class_names(content, path)
    if classes is not None and tuple(classes) != names:
        raise DataError(f"dataset.classes={list(classes)}: the classes of {path} are different: {', '.join(names)}")
    base = _base(content, path)
    given = {s: _examples(base, path, content[s], names) for s in SPLITS if content.get(s)}
    if not given["train"]:
        raise DataError(f"{path}: train: {content['train']} has no pictures")
    if not any(e.source for e in given["train"]):
        first = _labels_of(given["train"][0].path)
        raise DataError(f"{path}: no training picture has a label file; for example, {first} is missing")
    name = name or path.resolve().parent.name
    refuse_overlap(name, {s: [e.id for e in examples] for s, examples in given.items()})
    parts, split_note = fill_splits(
        given,
        lambda e: e.classes.tolist(),
        val_fraction,
        test_fraction,
        split_seed,
        f"{path.name} ({', '.join(given)})",
    )
    return DetectionDataset(name, names, parts, (f"classes: names of {path.name}", split_note))


def read_yaml(path: Path) -> dict[str, Any]:
    """Parse a data.yaml. Raises DataError naming the file, the line of a syntax error, or the missing key."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DataError(f"{path}, line {line}: malformed yaml ({error.problem})") from error
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: can't read it: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: a YOLO data.yaml must have the keys path, train, val, test and names")
    for key in ("train", "names"):
        if not content.get(key):
            raise DataError(f"{path}: no key '{key}'; the file has {', '.join(map(str, content))}")
    return content


def _yaml_path(root: Path) -> Path:
    if root.is_file():
        return root
    folder = existing_folder(root)
    found = [folder / n for n in NAMES if (folder / n).is_file()]
    found = found or sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    if len(found) != 1:
        having = f"it has {', '.join(p.name for p in found)}; give one of them" if found else "it has no yaml file"
        raise DataError(f"dataset.root={folder}: the folder must have one data.yaml, but {having}")
    return found[0]


def _class_names(content: dict[str, Any], path: Path) -> tuple[str, ...]:
    names = content["names"]
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise DataError(f"{path}: names must be numbered 0..{len(names) - 1}, not {', '.join(map(str, names))}")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise DataError(f"{path}: names is '{names}'; it must be a list or a map from numbers")
    if content.get("nc") not in (None, len(names)):
        raise DataError(f"{path}: nc is {content['nc']}, but there are {len(names)} names")
    return tuple(map(str, names))


def _base(content: dict[str, Any], path: Path) -> Path:
    """The base folder of the splits' paths: `path` of the yaml if it exists, else the yaml's own folder."""
    stated = Path(str(content.get("path") or ".")).expanduser()
    return next((p for p in (path.parent / stated, stated) if content.get("path") and p.is_dir()), path.parent)


def _pictures(base: Path, path: Path, entry: str | list[str]) -> list[Path]:
    """Pictures of one split, from its folder, its folders or its list."""
    found: list[Path] = []
    for part in entry if isinstance(entry, list) else [entry]:
        # some exporters write ../train/images for a folder beside the yaml
        without = Path(*[p for p in Path(part).parts if p != ".."])
        tried = list(dict.fromkeys([base / part, path.parent / part, path.parent / without]))
        place = next((p for p in tried if p.exists()), None)
        if place is None:
            raise DataError(f"{path}: {part} does not exist; tried {', '.join(map(str, tried))}")
        if place.is_dir():
            found += find_images(place)
            continue
        listed = [line.strip() for line in place.read_text(encoding="utf-8").splitlines() if line.strip()]
        pictures = [p if (p := place.parent / line).is_file() else base / line for line in listed]
        missing = [k for k, p in enumerate(pictures) if not p.is_file()]
        if missing:
            raise DataError(f"{place}: lists {listed[missing[0]]}, which does not exist ({len(missing)} in all)")
        found += pictures
    return found


def _labels_of(picture: Path) -> Path:
    parts = list(picture.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts) / f"{picture.stem}.txt"


def _examples(base: Path, path: Path, entry: str | list[str], names: tuple[str, ...]) -> list[Example]:
    pictures = _pictures(base, path, entry)
    sizes = image_sizes(pictures)
    unreadable = [p for p, size in zip(pictures, sizes, strict=True) if size is None]
    if unreadable:
        raise DataError(f"{unreadable[0]}: can't read the image, and YOLO labels give no size; replace or remove it")
    sources = [_labels_of(p) for p in pictures]
    with ThreadPoolExecutor(8) as pool:
        labels = list(pool.map(lambda p: read_labels(p, names), sources))
    examples = []
    for picture, size, source, (boxes, classes) in zip(pictures, sizes, sources, labels, strict=True):
        width, height = size or (0, 0)
        where = picture.relative_to(base) if picture.is_relative_to(base) else picture
        boxes = boxes * np.array([height, width, height, width], np.float64)
        examples.append(Example(
            picture, width, height, boxes, classes, np.zeros(len(boxes), bool), where.as_posix(),
            source if source.is_file() else None,
        ))  # fmt: skip
    return examples


def read_labels(path: Path, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float64 [n, 4], [ymin, xmin, ymax, xmax] as shares of the image, and classes int32 [n] in 1..C.

    A missing file means no boxes. Raises DataError naming the file and the line.
    """
    if not path.is_file():
        return np.zeros((0, 4)), np.zeros(0, np.int32)
    boxes, classes = [], []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: can't read the labels: {error}") from error
    for k, line in enumerate(lines, 1):
        if line.strip():
            label, box = _parse(line.split(), f"{path}:{k}", names)
            classes.append(label)
            boxes.append(box)
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(classes, np.int32)


def _parse(words: list[str], where: str, names: Sequence[str]) -> tuple[int, list[float]]:
    """One line of labels: class in 1..C, [ymin, xmin, ymax, xmax] as shares."""
    try:
        label, *values = map(float, words)
    except ValueError as error:
        raise DataError(f"{where}: '{' '.join(words)}' is not a row of numbers") from error
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise DataError(
            f"{where}: {len(words)} numbers; a line is 'class cx cy width height', or a class and 3 or more points"
        )
    if label not in range(len(names)):
        legal = ", ".join(f"{i} {n}" for i, n in enumerate(names))
        raise DataError(f"{where}: class {words[0]} is not a number of names; legal: {legal}")
    if not all(map(math.isfinite, values)):
        raise DataError(f"{where}: '{' '.join(words)}' is not a row of finite numbers")
    if max(map(abs, values)) > 2:
        raise DataError(f"{where}: {max(values, key=abs):g} is not a share of the image; YOLO boxes are scaled to 0..1")
    if len(values) == 4:
        x, y, width, height = values
        return int(label) + 1, [y - height / 2, x - width / 2, y + height / 2, x + width / 2]
    return int(label) + 1, [min(values[1::2]), min(values[::2]), max(values[1::2]), max(values[::2])]
