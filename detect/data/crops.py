"""The pictures of stage 1: crops of the objects of a detection data set with some context, and of the background.

Nothing is written to disk: a crop is a box of an image file and is cut when its batch is built. Each split's crops come
only from that split's images, so the classifier never sees the images that the detector is scored on. This follows the
warped regions and the background class of R-CNN's fine-tuning (Girshick et al. 2014).
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detect.data.dataset import BACKGROUND, ClassificationDataset, DetectionDataset
from detect.data.examples import Crops, Example, Examples, Texts
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
        splits[split] = _joined(Examples.of(dataset.splits[split]).paths, objects, background)
        if small:
            notes.append(f"{split}: {small} objects below {min_size:g} px are left out")
        if len(background) < wanted:
            notes.append(f"{split}: there is space for {len(background)} of {wanted} background crops")
    if not splits["train"].labels.any():
        if not Examples.of(dataset.splits["train"]).learned().counts.any():
            raise DataError(f"{dataset.name}: no image of the train split has a box, so there is nothing to classify")
        raise DataError(
            f"{dataset.name}: no object of the train split has a shorter side of {min_size:g} px or more, so there is "
            "nothing to classify; lower classify.dataset.min_size or set classify.enabled=false"
        )
    titles = (BACKGROUND, *dataset.classes)
    return ClassificationDataset(f"{dataset.name}-crops", titles, splits, tuple(notes), dataset.drawn)


def context_box(
    box: np.ndarray, height: int | np.ndarray, width: int | np.ndarray, margin: float, square: bool
) -> np.ndarray:
    """A box [4] yxyx px extended by `margin` of its sides each way, made square, kept in the image; float32 [4].

    Several boxes [n, 4] may have images of their own: height [n], width [n].
    """
    box, most = np.asarray(box, np.float64), np.stack([height, width], axis=-1)
    sides = (box[..., 2:] - box[..., :2]) * (1 + 2 * margin)
    if square:
        sides = np.maximum(sides, sides.max(axis=-1, keepdims=True))
    sides = np.minimum(sides, most)
    corner = np.clip((box[..., :2] + box[..., 2:] - sides) / 2, 0, most - sides)
    return np.concatenate([corner, corner + sides], axis=-1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Cuts:
    """Crops of one kind: the place of each one's image [n], labels [n], boxes [n, 4] and ids."""

    image: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    ids: Texts

    def __len__(self) -> int:
        return len(self.ids)


def _joined(paths: Texts, *parts: _Cuts) -> Crops:
    """The crops of all kinds, one kind after the other."""
    image, labels = (np.concatenate(values) for values in zip(*((p.image, p.labels) for p in parts), strict=True))
    ids = Texts.of(name for part in parts for name in part.ids)
    return Crops(paths, image.astype(np.int32), labels.astype(np.int32), np.concatenate([p.boxes for p in parts]), ids)


def _objects(examples: Sequence[Example], margin: float, square: bool, min_size: float) -> tuple[_Cuts, int]:
    """The objects' crops, and the number of objects that are too small."""
    split = Examples.of(examples)
    image, (width, height) = split.owners, split.box_sizes().T
    number = np.arange(len(image)) - split.ends[:-1][image]  # of each box in its image
    boxes = np.clip(split.boxes.astype(np.float64), 0, np.stack([height, width, height, width], axis=1))
    large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= max(min_size, 1e-3)
    kept = np.flatnonzero(large & ~split.crowd)
    cut = context_box(boxes[kept], height[kept], width[kept], margin, square)
    names = list(split.ids)
    ids = Texts.of(f"{names[i]}#{k}" for i, k in zip(image[kept].tolist(), number[kept].tolist(), strict=True))
    return _Cuts(image[kept], split.classes[kept], cut, ids), int((~large & ~split.crowd).sum())


def _backgrounds(examples: Sequence[Example], objects: _Cuts, per_image: float, seed: int) -> tuple[_Cuts, int]:
    """Crops that touch no box, and the number requested. Their sides are an object crop's, at most the image's."""
    split, boxes = Examples.of(examples), objects.boxes.astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    image, places, ids, wanted = [], [np.zeros((0, 4), np.float32)], [], 0
    for place, name in enumerate(split.ids if len(sides) else ()):
        generator = np.random.default_rng((seed, zlib.crc32(name.encode("utf-8", "surrogatepass"))))
        number = int(per_image + generator.random())
        wanted += number
        most, taken = split.sizes[place, ::-1], split.boxes[split.ends[place] : split.ends[place + 1]]
        for k in range(number):
            tried = np.minimum(generator.choice(sides, TRIES), most)
            corners = generator.random((TRIES, 2)) * (most - tried)
            cuts = np.concatenate([np.floor(corners), np.floor(corners) + np.ceil(tried)], axis=1)
            cuts = np.minimum(cuts, np.tile(most, 2))
            free = intersection(cuts, taken).sum(axis=1) == 0
            if free.any():
                image.append(place)
                places.append(cuts[free.argmax()][None].astype(np.float32))
                ids.append(f"{name}#background{k}")
    labels = np.zeros(len(ids), np.int32)
    return _Cuts(np.array(image, np.int64), labels, np.concatenate(places), Texts.of(ids)), wanted
