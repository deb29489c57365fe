"""Training images that are made of several: mosaic, copy-paste and mixup, with a planned end.

Images are mixed before `detect.data.augment` changes the result as if it were one image. All random choices come from
one generator, which the stream seeds for each image of each epoch. The images that are added are drawn from the whole
split, whichever worker builds the batch.

A box keeps the share of its object's area that is still to be seen (`Scene.visible`). It is dropped as soon as this
share is below `Augment.min_visibility`, counted from the image file to the network's frame, through all steps.

albumentations 2.0.8 has a `Mosaic`, which is not used here: it needs the box processor that `detect.data.augment`
avoids, it fits all images to cells of one size, and it takes the same corner of each image.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import cv2
import numpy as np

from detect.config.legal_values import Count, Share, Values, number
from detect.errors import ConfigError
from detect.geometry.boxes import area, intersection
from detect.geometry.frame import Frame, resize

Shares = Annotated[Sequence[Share], Values("low", "high")]
Scales = Annotated[Sequence[Annotated[float, number(0.05, 4)]], Values("low", "high")]
Colour = Annotated[Sequence[Annotated[float, number(0, 255)]], Values("red", "green", "blue")]

MOSAIC_IMAGES = 4


class Scene(NamedTuple):
    """An image with its boxes, before augmentation.

    image: uint8 [H, W, 3]. boxes: float64 [n, 4] yxyx in its pixels, inside the image. classes: int32 [n].
    visible: float64 [n], the share of each object's area in its file that is to be seen here.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    visible: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, boxes: np.ndarray, classes: np.ndarray) -> "Scene":
        """The scene of an image file. Boxes are clipped to the image."""
        height, width = image.shape[:2]
        clipped = np.clip(np.asarray(boxes, np.float64).reshape(-1, 4), 0, (height, width, height, width))
        return cls(image, clipped, np.asarray(classes, np.int32), np.ones(len(clipped)))

    def scaled(self, frame: Frame, share: float = 1.0) -> "Scene":
        """The scene at a share of the size at which it fills the frame alone, as the frame's mode scales an image."""
        size = np.array(frame.used(*self.image.shape[:2]))
        if share != 1:
            size = np.maximum(1, np.rint(size * share)).astype(int)
        factors = size / self.image.shape[:2]
        image = frame.scale_to(self.image, (int(size[0]), int(size[1])))
        return self._replace(image=image, boxes=self.boxes * np.tile(factors, 2))

    def cut(self, window: Sequence[float] | np.ndarray, min_visibility: float) -> "Scene":
        """The same image with the boxes [n, 4] that a window [4] yxyx leaves, clipped to it."""
        window = np.asarray(window, np.float64)
        boxes = np.clip(self.boxes, np.tile(window[:2], 2), np.tile(window[2:], 2))
        visible = self.visible * area(boxes, np.float64) / np.maximum(area(self.boxes, np.float64), 1e-9)
        return self._replace(boxes=boxes, visible=visible).seen(min_visibility)

    def moved(self, down: float, right: float) -> "Scene":
        """The same image with boxes that are moved by some pixels."""
        return self._replace(boxes=self.boxes + np.array([down, right] * 2))

    def seen(self, min_visibility: float) -> "Scene":
        """The same image without the boxes of which too little is to be seen, or nothing."""
        keep = (self.visible >= min_visibility) & (area(self.boxes, np.float64) > 0)
        return Scene(self.image, self.boxes[keep], self.classes[keep], self.visible[keep])

    def with_boxes_of(self, others: "Sequence[Scene]") -> "Scene":
        """The same image with its own boxes and those of others, which are in pixels of this image."""
        parts = [self, *others]
        return Scene(
            self.image,
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.classes for part in parts]),
            np.concatenate([part.visible for part in parts]),
        )


Draw = Callable[[], Scene]
"""Gives another image of the split, at random."""


class Mosaic:
    """Four images around a point of the frame (Bochkovskiy et al. 2020, section 3.3, YOLOv4).

    Each image fills a quarter up to the point, at a size of its own. Of an image that is larger than its quarter, a
    random part is shown; one that is smaller touches the point, and `fill` is around it.
    p: probability. scale: range of the size of each image, as a share of the size at which it fills the frame alone.
    centre: range of the point, as a share of height and width, drawn independently. fill: RGB.
    """

    images = MOSAIC_IMAGES - 1

    def __init__(
        self,
        p: Share = 0.0,
        scale: Scales = (0.5, 1.0),
        centre: Shares = (0.3, 0.7),
        fill: Colour = (124.0, 117.0, 104.0),
    ):
        self.p, self.fill = float(p), tuple(fill)
        self.scale = _ordered("mixing.mosaic.scale", scale)
        self.centre = _ordered("mixing.mosaic.centre", centre)

    def mix(self, first: Scene, draw: Draw, frame: Frame, rng: np.random.Generator, min_visibility: float) -> Scene:
        """The mosaic of the first image and three others, of the size of the frame."""
        scenes = [first, *(draw() for _ in range(self.images))]
        height, width = frame.size
        y = int(np.clip(np.rint(rng.uniform(*self.centre) * height), 1, height - 1))
        x = int(np.clip(np.rint(rng.uniform(*self.centre) * width), 1, width - 1))
        canvas = np.full((height, width, 3), np.rint(self.fill), np.uint8)
        placed = []
        for scene, quarter in zip(scenes, rng.permutation(MOSAIC_IMAGES).tolist(), strict=True):
            tile = scene.scaled(frame, rng.uniform(*self.scale))
            above, left = quarter < 2, quarter % 2 == 0
            row, from_row, rows = _span(tile.image.shape[0], y if above else height - y, above, rng)
            column, from_column, columns = _span(tile.image.shape[1], x if left else width - x, left, rng)
            row, column = row + (0 if above else y), column + (0 if left else x)
            part = tile.image[from_row : from_row + rows, from_column : from_column + columns]
            canvas[row : row + rows, column : column + columns] = part
            moved = tile.moved(row - from_row, column - from_column)
            placed.append(moved.cut((row, column, row + rows, column + columns), min_visibility))
        return placed[0]._replace(image=canvas).with_boxes_of(placed[1:])


class CopyPaste:
    """Objects of another image, as the rectangles of their boxes, at random places.

    Ghiasi et al. 2021 cut objects out along their masks. Boxes have none, so that some background comes along, as in
    the rectangles of Dvornik et al. 2018. Around its box a rectangle fades into the image. Other objects of the
    rectangle keep their boxes under the rule of `min_visibility`.
    p: probability. objects: the most objects that are pasted; their number is drawn from 1 on. scale: range of an
    object's size, as a share of the size that it has in the frame with its own image. margin: width of the part that
    fades, on each side, as a share of the box's. cover: the largest share of a box of the image that an object may
    hide. tries: random places for an object; if none is suitable, it is left out.
    """

    images = 1

    def __init__(
        self,
        p: Share = 0.0,
        objects: Count = 3,
        scale: Scales = (0.7, 1.3),
        margin: Share = 0.1,
        cover: Share = 0.2,
        tries: Count = 20,
    ):
        self.p, self.objects, self.margin, self.cover, self.tries = float(p), objects, margin, cover, tries
        self.scale = _ordered("mixing.copy_paste.scale", scale)

    def mix(self, first: Scene, draw: Draw, frame: Frame, rng: np.random.Generator, min_visibility: float) -> Scene:
        """The first image, of its own size, with objects of another one."""
        donor = draw()
        number = int(rng.integers(self.objects)) + 1
        own, others = (np.array(frame.used(*s.image.shape[:2])) / s.image.shape[:2] for s in (first, donor))
        scene = first._replace(image=first.image.copy())
        for k in rng.permutation(len(donor.boxes))[:number].tolist():
            scene = self._pasted(scene, donor, k, others / own * rng.uniform(*self.scale), rng, min_visibility)
        return scene

    def _pasted(
        self, scene: Scene, donor: Scene, k: int, ratio: np.ndarray, rng: np.random.Generator, min_visibility: float
    ) -> Scene:
        """Pastes box k of the donor into the image of the scene. ratio: pixels of the image in one of the donor."""
        box, limits = donor.boxes[k], np.array(donor.image.shape[:2])
        margin = self.margin * (box[2:] - box[:2])
        start = np.maximum(np.floor(box[:2] - margin), 0).astype(int)
        end = np.minimum(np.ceil(box[2:] + margin), limits).astype(int)
        size, space = np.rint((end - start) * ratio).astype(int), np.array(scene.image.shape[:2])
        if size.min() < 2 or np.any(size > space):
            return scene
        factors = size / (end - start)
        inner = np.concatenate([(box[:2] - start) * factors, (box[2:] - start) * factors])
        places = rng.integers(0, space - size + 1, (self.tries, 2))
        covered = intersection(inner + np.tile(places, 2), scene.boxes, np.float64)
        hidden = covered / np.maximum(area(scene.boxes, np.float64), 1e-9)  # of each box, by the object at each place
        suitable = (hidden <= self.cover).all(axis=1)
        if not suitable.any():
            return scene
        chosen = int(suitable.argmax())
        (y, x), (high, wide) = places[chosen].tolist(), size.tolist()
        patch = resize(donor.image[start[0] : end[0], start[1] : end[1]], (high, wide))
        opacity = np.minimum(_ramp(high, inner[0], inner[2])[:, None], _ramp(wide, inner[1], inner[3]))[..., None]
        under = scene.image[y : y + high, x : x + wide]
        under[:] = np.rint(patch * opacity + under * (1 - opacity))
        pasted = donor.cut(box, min_visibility).moved(-start[0], -start[1])
        pasted = pasted._replace(boxes=pasted.boxes * np.tile(factors, 2)).moved(y, x)
        left = scene._replace(visible=scene.visible * (1 - hidden[chosen])).seen(min_visibility)
        return left.with_boxes_of([pasted])


class MixUp:
    """The weighted mean of two images, with the boxes of both (Zhang et al. 2018; Zhang et al. 2019 for detection).

    Both fill the frame as if they were alone. A box counts fully in the loss, whatever the weight of its image, as in
    YOLOX (Ge et al. 2021); Zhang et al. weigh it. So keep both weights far from 0.
    p: probability. share: range of the weight of the first image.
    """

    images = 1

    def __init__(self, p: Share = 0.0, share: Shares = (0.4, 0.6)):
        self.p = float(p)
        self.share = _ordered("mixing.mixup.share", share)

    def mix(self, first: Scene, draw: Draw, frame: Frame, rng: np.random.Generator, min_visibility: float) -> Scene:
        """The mean of the first image and another one, of the size of the part of the frame that they fill."""
        scenes = [scene.scaled(frame) for scene in (first, draw())]
        height, width = (max(scene.image.shape[side] for scene in scenes) for side in (0, 1))
        both = np.zeros((2, height, width, 3), np.uint8)
        for padded, scene in zip(both, scenes, strict=True):
            padded[: scene.image.shape[0], : scene.image.shape[1]] = scene.image
        share = rng.uniform(*self.share)
        mean = cv2.addWeighted(both[0], share, both[1], 1 - share, 0)
        return scenes[0]._replace(image=mean).with_boxes_of(scenes[1:])


class Mixing:
    """Mixes training images: a mosaic, then pasted objects, then the mean with another image, each by its probability.

    until: the share of a stage's steps after which nothing is mixed, because mixtures do not look like the images to
        come; 1 is never. fade: the share of the steps before that in which all probabilities fall to 0, linearly.
    Raises ConfigError for a `fade` above `until`.
    """

    def __init__(self, mosaic: Mosaic, copy_paste: CopyPaste, mixup: MixUp, until: Share = 0.9, fade: Share = 0.0):
        if fade > until:
            raise ConfigError(f"mixing.fade={fade} is not legal: expected at most mixing.until={until}")
        self.parts = (mosaic, copy_paste, mixup)
        self.until, self.fade = float(until), float(fade)

    @property
    def images(self) -> int:
        """The most images that one training image is made of."""
        return 1 + sum(part.images for part in self.parts if part.p > 0)

    def strength(self, progress: float) -> float:
        """The factor of all probabilities after a share of the steps."""
        if self.fade:
            return min(1.0, max(0.0, (self.until - progress) / self.fade))
        return 0.0 if progress >= self.until < 1 else 1.0

    def mix(
        self,
        scene: Scene,
        draw: Draw,
        frame: Frame,
        rng: np.random.Generator,
        progress: float,
        min_visibility: float,
        max_boxes: int,
    ) -> Scene:
        """The scene, or what is made of it. A mixture of more than `max_boxes` boxes is not used, because objects
        without a box would be learned as background."""
        strength, mixed = self.strength(progress), scene
        for part in self.parts:
            if rng.random() < part.p * strength:
                mixed = part.mix(mixed, draw, frame, rng, min_visibility)
        return mixed if len(mixed.boxes) <= max_boxes else scene


def _ordered(key: str, pair: Sequence[float]) -> tuple[float, float]:
    """A range. Raises ConfigError unless it rises."""
    low, high = pair
    if low > high:
        raise ConfigError(f"{key}={list(pair)} is not legal: expected [low, high], with low at most high")
    return float(low), float(high)


def _span(side: int, space: int, ends: bool, rng: np.random.Generator) -> tuple[int, int, int]:
    """Where a side of an image lies in a space: its place there, its first pixel that is shown, and how many are.

    ends: whether an image that is smaller touches the end of the space, rather than its start.
    """
    spare = side - space
    first = int(rng.integers(max(spare, 0) + 1))
    return (-spare if ends and spare < 0 else 0), first, min(side, space)


def _ramp(length: int, start: float, end: float) -> np.ndarray:
    """float32 [length]: 1 in pixels that touch start..end, falling to 0 at both ends."""
    before, after = np.arange(1, length + 1), np.arange(length, 0, -1)
    start, end = np.floor(start + 1e-6), np.ceil(end - 1e-6)  # pixels, whatever the last bits say
    rise = np.minimum(before / (start + 1), 1)
    fall = np.minimum(after / (length - end + 1), 1)
    return np.minimum(rise, fall).astype(np.float32)
