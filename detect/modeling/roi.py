"""Cuts regions of a feature map into crops of the same size."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import tensorflow as tf

from detect.config.legal_values import demand, whole
from detect.errors import ConfigError
from detect.geometry.anchors import nominal_stride

Method = Literal["align", "crop_and_resize"]
Side = Annotated[int, whole(1, 100)]


@dataclass(frozen=True)
class RoiCrop:
    """Samples every box of a feature map at crop x crop points, then takes the maximum over pool x pool of them.

    method: `align` interpolates at the centre of each of the crop x crop bins of the box (He 2017, 3, in the half-pixel
        form of Detectron2 and torchvision's `aligned=True`). `crop_and_resize` interpolates at points from corner to
        corner of the box, as the Object Detection API does; they are half a cell off, and spread one spacing too wide.
        Both are bilinear.
    crop, pool: None takes the box head's default (`with_defaults`).
    samples: `align` takes the mean of samples x samples points of each bin; None takes the box head's default.

    Both methods use tf.image.crop_and_resize, whose kernel reads the four cells of a point in place. The aligner of
    tf-models-official first gathers all of them into a tensor. It is equal except for the half pixel, and five times
    slower.
    """

    method: Method = "align"
    crop: Side | None = None
    pool: Side | None = None
    samples: Annotated[int, whole(1, 8)] | None = None

    def __post_init__(self):
        demand("roi.method", self.method, Method)

    def with_defaults(self, crop: int, pool: int, samples: int) -> "RoiCrop":
        """A copy in which these values replace None. Raises ConfigError if the pooling leaves nothing of a crop."""
        found = dataclasses.replace(
            self,
            crop=crop if self.crop is None else self.crop,
            pool=pool if self.pool is None else self.pool,
            samples=samples if self.samples is None else self.samples,
        )
        if not found.side:
            raise ConfigError(
                f"roi.crop={found.crop}: legal are values from roi.pool={found.pool}; else no cell is left"
            )
        return found

    @property
    def side(self) -> int:
        """The number of rows, and of columns, of the crops that a call returns."""
        if self.crop is None or self.pool is None:
            raise ValueError("crop and pool are not known yet: call with_defaults() first")
        return self.crop // self.pool

    def __call__(self, features, boxes, size: tuple[int, int]):
        """features: [B, h, w, C], a map of the whole frame; boxes: float32 [B, M, 4] in pixels of a frame of
        `size`, without gradient. Returns float32 [B * M, side, side, C]; the M crops of an image are consecutive.
        """
        shape, features = tf.shape(boxes), tf.cast(features, tf.float32)
        images = tf.repeat(tf.range(shape[0]), shape[1])
        boxes = tf.stop_gradient(tf.reshape(boxes, [-1, 4]))
        if self.method == "align":
            crops = self._align(features, boxes, images, size)
        else:
            frame = tf.constant([*size, *size], tf.float32)
            crops = tf.image.crop_and_resize(features, boxes / frame, images, [self.crop, self.crop])
        return crops if self.pool == 1 else tf.nn.max_pool2d(crops, self.pool, self.pool, "VALID")

    def _align(self, features, boxes, images, size):
        """boxes: [N, 4] in pixels. The map is padded with its outer cells for the points beyond their centres: by one
        cell, and at the end by as many as lie in the frame, where the map of a backbone without padding ends before."""
        points, cells = self.crop * self.samples, tuple(features.shape[1:3])
        strides = [nominal_stride(side, count) for side, count in zip(size, cells, strict=True)]
        bins = (boxes[:, 2:] - boxes[:, :2]) / points
        centres = tf.concat([boxes[:, :2] + bins / 2, boxes[:, 2:] - bins / 2], axis=1)  # of the outer bins, in pixels
        centres = centres / tf.constant(strides * 2) - 0.5 + 1.0  # in cells of the padded map
        padded = tf.pad(features, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
        for axis, (side, stride) in enumerate(zip(size, strides, strict=True), start=1):
            missing = math.ceil(side / stride + 0.5) - (padded.shape[axis] - 1)
            if missing > 0:
                padded = tf.repeat(padded, [*[1] * (padded.shape[axis] - 1), 1 + missing], axis)
        last = tf.constant([count - 1.0 for count in padded.shape[1:3]] * 2)
        crops = tf.image.crop_and_resize(padded, centres / last, images, [points, points])
        return crops if self.samples == 1 else tf.nn.avg_pool2d(crops, self.samples, self.samples, "VALID")
