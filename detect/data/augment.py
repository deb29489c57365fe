"""Augmentation with albumentations transforms. This module moves, clips, drops and counts the boxes.

The order is always geometry -> resize to the network's frame -> colour -> pad, whatever the order in the configuration.
Colour on the resized image costs a third of colour on the original, and the padding is the same as in evaluation.
The module avoids three properties of albumentations 2.0.8:
- `Compose.set_random_seed` gives every transform the *same* seed, so a flip with p=.5 and a brightness change with
  p=.5 always happen together. Here all transforms draw from one pair of generators, seeded per example.
- A transform stores the parameters that it draws, so threads that share it overwrite them. Here each thread has copies.
- Its box processor (convert, check, filter after each transform, label columns) costs more than the transforms
  themselves and holds the interpreter lock. Here boxes are normalised rows, and `_Clip` alone follows each transform.
"""

import os
import random
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Annotated, Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks a server for the newest version

import albumentations as A
import cv2
import numpy as np
from albumentations.augmentations.crops.transforms import BaseCrop
from albumentations.core.bbox_utils import BboxProcessor
from pydantic import Field

from detect.config.legal_values import Count, Share, number
from detect.errors import ConfigError, DataError
from detect.geometry.boxes import iou
from detect.geometry.frame import Frame

Side = Annotated[float, number(0, 1, above=True)]
Aspect = Annotated[float, number(0, above=True)]
COLUMNS = 6  # of a box: xmin, ymin, xmax, ymax, index, share of its area
TRIES = 4  # draws of a geometry that fails on an image, for example a crop of less than a pixel


class Augment:
    """Box-safe augmentation, a pure function of (image, boxes, seed) in whatever thread it runs.

    transforms: name -> albumentations transform (or a list of them). Null entries are skipped. Without any
        transform an image is only resized, as in evaluation.
    min_visibility: a box is dropped when less than this share of its area remains in the frame, 0..1.
    min_size: a box is dropped when its shorter side is below this many pixels of the network's frame.
    `counts` holds how many boxes were given ("boxes") and were dropped ("cut", "small") since the start.
    Raises ConfigError for an entry that is not an albumentations transform and for a number out of range.
    """

    def __init__(
        self,
        transforms: Mapping[str, Any] | Sequence[Any] | None = None,
        min_visibility: float = 0.3,
        min_size: float = 2.0,
    ):
        named = transforms if isinstance(transforms, Mapping) else dict(enumerate(transforms or ()))
        named = {str(name): t for name, t in named.items() if t is not None}
        for name, transform in named.items():
            if not isinstance(transform, A.BasicTransform | A.BaseCompose):
                raise ConfigError(f"augment.transforms.{name} is {transform!r}: it must be an albumentations transform")
        if not 0 <= min_visibility <= 1:
            raise ConfigError(f"augment.min_visibility={min_visibility}: it must be in 0..1")
        if min_size < 0:
            raise ConfigError(f"augment.min_size={min_size}: it must be 0 or more (pixels of the network's frame)")
        self.transforms = named
        self.min_visibility = float(min_visibility)
        self.min_size = float(min_size)
        self.counts: Counter[str] = Counter()
        self._unshared()

    def apply(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        classes: np.ndarray,
        frame: Frame,
        seed: int,
        visible: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image uint8 [H, W, 3] RGB, boxes float32 [n, 4] yxyx in its pixels, classes int32 [n] -> the same three in
        the frame, with m <= n boxes. All boxes are inside the part of the frame that the image fills.

        visible: [n], the share of each object's area that its box holds already, for `min_visibility`; None is 1.

        Raises DataError if the transforms fail on this image, ConfigError if they change its type or channels.
        """
        if len(boxes) != len(classes):
            raise ValueError(f"{len(boxes)} boxes with {len(classes)} classes")
        rows = _to_rows(boxes, image.shape[:2])
        if self.transforms:
            image, rows = self._draw(image, rows, frame, seed)
        else:
            image = frame.scale(image)
        kept, index = self._settle(rows, image.shape[:2], len(boxes), visible)
        return frame.pad(image), kept, np.asarray(classes, np.int32)[index]

    def _draw(self, image: np.ndarray, rows: np.ndarray, frame: Frame, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Geometry, resize and colour. If they fail, the next draw is tried."""
        geometry, colour = self._of_this_thread()
        for attempt in range(TRIES):
            generators = np.random.default_rng((seed, attempt)), random.Random(seed * TRIES + attempt)
            geometry.set_random_state(*generators)
            colour.set_random_state(*generators)
            try:
                moved = geometry(image=image, bboxes=rows) if len(geometry) else {"image": image, "bboxes": rows}
                scaled = frame.scale(moved["image"])
                small = colour(image=scaled)["image"] if len(colour) else scaled
            except Exception as error:
                if isinstance(error, MemoryError) or getattr(error, "code", None) == cv2.Error.StsNoMem:
                    raise  # another draw would make a batch that its seed does not give
                failure = error
                continue
            if small.dtype != np.uint8 or small.shape != (*scaled.shape[:2], 3):
                raise ConfigError(
                    f"augment.transforms ({', '.join(self.transforms)}) turn a uint8 RGB image into {small.dtype} "
                    f"{small.shape}: remove scaling and conversion, because the backbone scales its own input"
                )
            return small, np.asarray(moved["bboxes"], np.float64).reshape(-1, COLUMNS)
        height, width = image.shape[:2]
        raise DataError(
            f"the transforms ({', '.join(self.transforms)}) fail on an image of {width}x{height} px with {len(rows)} "
            f"boxes: {type(failure).__name__}: {failure}"
        ) from failure

    def _settle(
        self, rows: np.ndarray, size: tuple[int, int], count: int, visible: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows that the geometry returns -> the boxes to keep, in pixels of the resized image's `size`, and the index
        of each in the input."""
        index = rows[:, 4].round().astype(np.int64)
        if not set(index.tolist()) <= set(range(count)) or len(set(index.tolist())) < len(index):
            raise RuntimeError(f"a transform of {', '.join(self.transforms)} returned boxes that it did not receive")
        frame = np.array((*size, *size), np.float64)
        whole = rows[:, [1, 0, 3, 2]] * frame
        clipped = np.minimum(np.maximum(whole, 0), frame)  # np.clip and np.prod take several times as long
        all_sides, sides = whole[:, 2:] - whole[:, :2], clipped[:, 2:] - clipped[:, :2]
        shorter = np.minimum(sides[:, 0], sides[:, 1])
        seen = sides[:, 0] * sides[:, 1] * rows[:, 5]
        seen = seen if visible is None else seen * visible[index]
        cut = (seen < self.min_visibility * all_sides[:, 0] * all_sides[:, 1]) | (shorter <= 0)
        keep = ~cut & (shorter >= self.min_size)
        lost = count - len(rows) + int(np.count_nonzero(cut))
        with self._lock:
            self.counts.update(boxes=count, cut=lost, small=count - lost - int(np.count_nonzero(keep)))
        return clipped[keep].astype(np.float32), index[keep]

    def _of_this_thread(self) -> tuple[A.Compose, A.Compose]:
        """This thread's own (geometry, colour), copied from `transforms` on first use."""
        if not hasattr(self._local, "composes"):
            copies = list(deepcopy(self.transforms).values())
            geometry = A.Compose([t for t in copies if not _colour_only(t)])
            colour = A.Compose([t for t in copies if _colour_only(t)])
            processor = BboxProcessor(A.BboxParams("albumentations", min_visibility=self.min_visibility))
            for compose in (geometry, *_composes(copies)):
                compose.check_each_transform = (_Clip(),)
            for leaf in _leaves(copies):  # some (dropouts, grid shuffle) ignore boxes without a processor
                leaf.set_processors({"bboxes": processor})
            self._local.composes = geometry, colour
        return self._local.composes

    def _unshared(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_local", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._unshared()


class _Clip:
    """What albumentations calls after each transform: it cuts the boxes to the image. A later transform that shrinks,
    pads or turns the image would bring back what a crop has cut away."""

    data_fields = ("bboxes",)

    def filter(self, rows: np.ndarray, shape: object) -> np.ndarray:
        """Rows [n, 6] -> those that have an area in the image, with the share of their area that is left."""
        rows = np.asarray(rows, np.float64).reshape(-1, COLUMNS)
        inside = np.minimum(np.maximum(rows[:, :4], 0.0), 1.0)
        if np.array_equal(inside, rows[:, :4]):
            return rows
        sides, whole = inside[:, 2:] - inside[:, :2], rows[:, 2:4] - rows[:, :2]
        rows = np.concatenate([inside, rows[:, 4:]], axis=1)
        area, before = sides[:, 0] * sides[:, 1], whole[:, 0] * whole[:, 1]
        rows[:, 5] *= np.divide(area, before, out=np.zeros_like(area), where=before > 0)
        return rows[(sides > 0).all(axis=1)]


class RandomIoUCrop(BaseCrop):
    """SSD's random patch (Liu et al. 2016, section 2.2), for images in which `BBoxSafeRandomCrop` finds no space.

    One of `overlaps` is drawn, and then `tries` random patches. The crop is the first patch that has at least this IoU
    with a box, contains the centre of a box and has an allowed shape. If there is none, the image stays whole.
    `Augment.min_visibility` decides about boxes that the patch cuts (the paper keeps those whose centre is inside).
    scale: range of the patch's sides as shares of the image's. aspect: range of its width / height in pixels.
    """

    class InitSchema(BaseCrop.InitSchema):
        """The schema that albumentations checks the arguments with."""

        scale: tuple[float, float]
        aspect: tuple[float, float]
        overlaps: tuple[float, ...]
        tries: int = Field(ge=1)

    def __init__(
        self,
        scale: tuple[Side, Side] = (0.3, 1.0),
        aspect: tuple[Aspect, Aspect] = (0.5, 2.0),
        overlaps: tuple[Share, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9),
        tries: Count = 40,
        p: Share = 1.0,
    ):
        super().__init__(p=p)
        self.scale = scale
        self.aspect = aspect
        self.overlaps = overlaps
        self.tries = tries

    @property
    def targets_as_params(self) -> list[str]:
        """The patch depends on the boxes."""
        return ["bboxes"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Crop coordinates (xmin, ymin, xmax, ymax) in whole pixels."""
        height, width = params["shape"][:2]
        overlap = self.overlaps[self.random_generator.integers(len(self.overlaps))]
        sides = self.random_generator.uniform(*self.scale, (self.tries, 2)) * (width, height)
        corners = self.random_generator.uniform(0, 1, (self.tries, 2)) * ((width, height) - sides)
        patches = np.concatenate([np.floor(corners), np.ceil(corners + sides)], axis=1)
        patches = np.minimum(patches, (width, height, width, height))
        ratio = sides[:, 0] / sides[:, 1]
        good = (ratio >= self.aspect[0]) & (ratio <= self.aspect[1])
        boxes = np.asarray(data["bboxes"], np.float64)[:, :4] * (width, height, width, height)
        if len(boxes):
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            inside = (centres > patches[:, None, :2]) & (centres < patches[:, None, 2:])
            good &= inside.all(-1).any(1) & (iou(patches, boxes).max(1) >= overlap)
        chosen = patches[good.argmax()] if good.any() else (0, 0, width, height)
        return {"crop_coords": tuple(int(v) for v in chosen)}


def _to_rows(boxes: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
    """Boxes [n, 4] yxyx px -> float64 [m, 6]: normalised xmin, ymin, xmax, ymax clipped to the image, the index, and 1,
    the share of the area that is in the image.

    Boxes with a side of less than a hundredth of a pixel are left out, because crops around them fail.
    """
    limits = np.array((*frame, *frame), np.float64)
    clipped = np.minimum(np.maximum(np.asarray(boxes, np.float64).reshape(-1, 4), 0), limits)
    index = np.flatnonzero((clipped[:, 2] - clipped[:, 0] > 0.01) & (clipped[:, 3] - clipped[:, 1] > 0.01))
    rows = np.ones((len(index), COLUMNS))
    rows[:, :4] = (clipped / limits)[index][:, [1, 0, 3, 2]]
    rows[:, 4] = index
    return rows


def _leaves(transforms: Sequence[Any]) -> list[A.BasicTransform]:
    nested = (_leaves(t.transforms) if isinstance(t, A.BaseCompose) else [t] for t in transforms)
    return [leaf for leaves in nested for leaf in leaves]


def _composes(transforms: Sequence[Any]) -> list[A.BaseCompose]:
    """All composes among transforms, also those within composes."""
    nested = [t for t in transforms if isinstance(t, A.BaseCompose)]
    return [each for t in nested for each in (t, *_composes(t.transforms))]


def _colour_only(transform: Any) -> bool:
    """True if no part of the transform moves pixels."""
    return all(isinstance(leaf, A.ImageOnlyTransform) for leaf in _leaves([transform]))
