"""A fault of home-made Faster R-CNNs, for the study fixed_backbone: the scale of the proposals is forgotten.

Usage: PYTHONPATH=scripts detect train ... 'trust=[home_made]' detector.roi._target_=home_made.UnscaledCrop
"""

from dataclasses import dataclass

import tensorflow as tf

from detect.modeling.roi import RoiCrop


@dataclass(frozen=True)
class UnscaledCrop(RoiCrop):
    """Gives tf.image.crop_and_resize pixels of the frame as they are. It expects shares of the map, from 0 to 1.

    The corners of nearly all boxes then lie far beyond the map. What it reads there is 0.
    """

    def __call__(self, features, boxes, size: tuple[int, int]):
        """As in `RoiCrop`."""
        return super().__call__(features, boxes * tf.constant([*size, *size], tf.float32), size)
