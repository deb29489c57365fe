"""Batches of labelled pictures for stage 1, with the order, seeds and threads of `detect.data.pipeline`."""

from collections.abc import Sequence

import numpy as np

from detect.data.augment import Augment
from detect.data.examples import CropExample, Crops
from detect.data.image_file import image_size
from detect.data.interface import Batch
from detect.data.pipeline import ImageStream
from detect.errors import DataError


class ClassificationStream(ImageStream):
    """Labelled pictures, whole or cropped to their box (rounded outwards, clipped to the image). A batch is a dict of
    image uint8 [B, h, w, 3] RGB; label int32 [B], -1 in rows of padding; index int32 [B], as in DetectionStream.

    balanced: every epoch has the same number of examples of each class that has any. Examples of a rare class are
        repeated with different augmentation, those of a frequent class are drawn without repetition.
    Other arguments as in DetectionStream. Raises DataError for a label outside 0..num_classes-1.
    """

    def __init__(
        self,
        examples: Sequence[CropExample],
        num_classes: int,
        size: tuple[int, int],
        batch_size: int,
        augment: Augment,
        seed: int = 0,
        threads: int = 2,
        balanced: bool = False,
        shuffle: bool = True,
        shard: tuple[int, int] = (0, 1),
        reduced_decode: bool = False,
    ):
        crops = Crops.of(examples)
        super().__init__(crops, size, batch_size, augment, seed, threads, shuffle, shard, reduced_decode)
        for k in np.flatnonzero((crops.labels < 0) | (crops.labels >= num_classes))[:1].tolist():
            e = crops[k]
            raise DataError(f"{e.path}: label {e.label} of {e.id} is not a class; legal: 0..{num_classes - 1}")
        self.balanced = balanced and shuffle
        self._members = [np.flatnonzero(crops.labels == c) for c in range(num_classes)]
        self._members = [m for m in self._members if len(m)]
        self.spec = {
            "image": ((*self.size, 3), np.uint8, 0),
            "label": ((), np.int32, -1),
            "index": ((), np.int32, -1),
        }

    def _draw_order(self, generator: np.random.Generator) -> np.ndarray:
        """When balanced, the k-th repetition of example i is i + k * n, which gives it another seed."""
        if not self.balanced:
            return super()._draw_order(generator)
        n, classes = len(self.examples), len(self._members)
        shares = np.full(classes, n // classes)
        shares[generator.permutation(classes)[: n % classes]] += 1
        drawn = []
        for members, share in zip(self._members, shares, strict=True):
            rounds = range(-(-int(share) // len(members)))
            repeated = [generator.permutation(members) + k * n for k in rounds]
            drawn.append(np.concatenate([members[:0], *repeated])[:share])
        return generator.permutation(np.concatenate(drawn))

    def _fill(self, batch: Batch, row: int, example: CropExample, seed: int, step: int | None) -> None:
        box = example.box
        if self.reduced_decode and box is None:
            width, height = image_size(example.path) or (1, 1)
        else:
            height, width = (1, 1) if box is None else (box[2] - box[0], box[3] - box[1])
        reduction = self._reduction(height, width)
        image = self._decoded(example.path, reduction)
        if box is not None:
            image = cut(image, np.asarray(box) / reduction, example)
        nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
        batch["image"][row] = self._apply(image, *nothing, seed, example.path)[0]
        batch["label"][row] = example.label


def cut(image: np.ndarray, box: np.ndarray, example: CropExample) -> np.ndarray:
    """The pixels of a box, rounded outwards and clipped to the image. Raises DataError if there are none."""
    ymin, xmin = np.floor(np.maximum(box[:2], 0)).astype(int)
    ymax, xmax = np.ceil(box[2:]).astype(int)
    pixels = image[ymin : max(ymax, 0), xmin : max(xmax, 0)]
    if not pixels.size:
        raise DataError(
            f"{example.path}: the crop {example.id} at {np.round(box, 1).tolist()} (ymin, xmin, ymax, xmax) lies "
            f"outside the image of {image.shape[1]}x{image.shape[0]} px; `detect inspect` lists all such boxes"
        )
    return pixels
