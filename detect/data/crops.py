"""The pictures of stage 1: crops of the objects of a detection data set with some context, and of the background.

Nothing is written to disk: a crop is a box of an image file and is cut when its batch is built. Each split's crops come
only from that split's images, so the classifier never sees the images that the detector is scored on. This follows the
warped regions and the background class of R-CNN's fine-tuning (Girshick et al. 2014).
"""

import zlib
from collections.abc import Sequence

import numpy as np

from detect.data.dataset import BACKGROUND, ClassificationDataset, CropExample, DetectionDataset, Example
from detect.data.split import SPLITS
from detect.errors import ConfigError, DataError
from detect.geometry.boxes import intersection

TRIES = 50  # random positions for each background crop; if none is free, there is no crop


def crop_dataset(
    dataset: DetectionDataset,
    margin: float = 0.15,
    square: bool = True,
    background_per_image: float = 1.0,
    min_size: float = 8.0,
    seed: int = 0,
) -> ClassificationDataset:
    """Crops of every object, labelled 1..C, and of background, labelled 0; `classes` begins with "background".

    margin: context added on each side, as a share of the box's side. square: the shorter side is lengthened, so that
        resizing keeps the object's shape. Neither exceeds the image (a square is moved inside before it is cut).
    background_per_image: background crops per image; a fraction is a probability. They have the size of an object's
        crop, drawn from the same split, and touch no box of the image, crowd boxes included.
    min_size: objects with a shorter side below this many pixels of the file are left out, and so are crowd boxes.
    Each image's draws depend only on (seed, its id), not on the other images.
    Raises ConfigError for a value out of range, DataError if no object of the train split is large enough.
    """
    for key, value in (("margin", margin), ("background_per_image", background_per_image), ("min_size", min_size)):
        if value < 0:
            raise ConfigError(f"classify.dataset.{key}={value}: it must be 0 or more")
    splits, notes = {}, []
    for split in SPLITS:
        objects, small = _objects(dataset.splits[split], margin, square, min_size)
        background, wanted = _backgrounds(dataset.splits[split], objects, background_per_image, seed)
        splits[split] = tuple(objects + background)
        if small:
            notes.append(f"{split}: {small} objects below {min_size:g} px are left out")
        if len(background) < wanted:
            notes.append(f"{split}: there is space for {len(background)} of {wanted} background crops")
    if not any(e.label for e in splits["train"]):
        raise DataError(
            f"{dataset.name}: no object of the train split has a shorter side of {min_size:g} px or more, so there is "
            "nothing to classify; lower classify.dataset.min_size or set classify.enabled=false"
        )
    return ClassificationDataset(f"{dataset.name}-crops", (BACKGROUND, *dataset.classes), splits, tuple(notes))


def context_box(box: np.ndarray, height: int, width: int, margin: float, square: bool) -> np.ndarray:
    """A box [4] yxyx px extended by `margin` of its sides each way, made square, kept in the image; float32 [4]."""
    box = np.asarray(box, np.float64)
    sides = (box[2:] - box[:2]) * (1 + 2 * margin)
    if square:
        sides = np.maximum(sides, sides.max())
    sides = np.minimum(sides, (height, width))
    corner = np.clip((box[:2] + box[2:] - sides) / 2, 0, (height, width) - sides)
    return np.concatenate([corner, corner + sides]).astype(np.float32)


def _objects(
    examples: Sequence[Example], margin: float, square: bool, min_size: float
) -> tuple[list[CropExample], int]:
    """The objects' crops, and the number of objects that are too small."""
    crops, small = [], 0
    for e in examples:
        for i in np.flatnonzero(~e.crowd):
            box = np.clip(e.boxes[i], 0, (e.height, e.width, e.height, e.width))
            if (box[2:] - box[:2]).min() < max(min_size, 1e-3):
                small += 1
                continue
            cut = context_box(box, e.height, e.width, margin, square)
            crops.append(CropExample(e.path, int(e.classes[i]), cut, f"{e.id}#{i}"))
    return crops, small


def _backgrounds(
    examples: Sequence[Example], objects: Sequence[CropExample], per_image: float, seed: int
) -> tuple[list[CropExample], int]:
    """Crops that touch no box, and the number requested. Their sides are an object crop's, at most the image's."""
    boxes = np.array([c.box for c in objects], np.float64).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    crops, wanted = [], 0
    for e in examples if len(sides) else ():
        generator = np.random.default_rng((seed, zlib.crc32(e.id.encode())))
        number = int(per_image + generator.random())
        wanted += number
        for k in range(number):
            tried = np.minimum(generator.choice(sides, TRIES), (e.height, e.width))
            corners = generator.random((TRIES, 2)) * ((e.height, e.width) - tried)
            places = np.concatenate([np.floor(corners), np.floor(corners) + np.ceil(tried)], axis=1)
            places = np.minimum(places, (e.height, e.width, e.height, e.width))
            free = intersection(places, e.boxes).sum(axis=1) == 0
            if free.any():
                crops.append(CropExample(e.path, 0, places[free.argmax()].astype(np.float32), f"{e.id}#background{k}"))
    return crops, wanted
