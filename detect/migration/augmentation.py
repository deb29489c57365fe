"""The augmentation of a pipeline.config as transforms of albumentations."""

import math
from collections.abc import Callable
from typing import Any

from detect.migration.message import Message
from detect.migration.translation import Translation

Transform = dict[str, Any]
STEADY = {"brightness": [1.0, 1.0], "contrast": [1.0, 1.0], "saturation": [1.0, 1.0], "hue": [0.0, 0.0]}
"""A ColorJitter that changes nothing."""


def augmentation(train: Message, into: Translation) -> None:
    """Sets the transforms, in their order; those without a counterpart are told."""
    into.choices["augment"] = "none"
    transforms: dict[str, Transform] = {}
    for option in train.messages("data_augmentation_options"):
        for name in [field.name for field in option.fields]:
            if name not in STEPS:
                option.ignore(name)
                into.left_out.append(f"train_config.data_augmentation_options.{name} (line {option.line})")
                continue
            made = STEPS[name](option.message(name), into)
            if made is not None:
                key = name if name not in transforms else f"{name}_{len(transforms)}"
                transforms[key] = made
    into.values["augment"] = {"transforms": transforms} if transforms else {}


def _flip(kind: str) -> Callable[[Message, Translation], Transform]:
    def make(given: Message, into: Translation) -> Transform:
        given.ignore("keypoint_flip_permutation")
        return {"_target_": f"albumentations.{kind}", "p": _share(given, "probability", 0.5)}

    return make


def _turn(given: Message, into: Translation) -> Transform:
    into.differ("random_rotation90: by any multiple of 90 degrees, not by 90 alone")
    return {"_target_": "albumentations.RandomRotate90", "p": _share(given, "probability", 0.5)}


def _grey(given: Message, into: Translation) -> Transform:
    return {"_target_": "albumentations.ToGray", "p": _share(given, "probability", 0.1)}


def _brightness(given: Message, into: Translation) -> Transform:
    delta = _share(given, "max_delta", 0.2)
    return {
        "_target_": "albumentations.RandomBrightnessContrast",
        "brightness_limit": [-delta, delta],
        "contrast_limit": [0.0, 0.0],
        "p": 1.0,
    }


def _jitter(**changes: list[float]) -> Transform:
    return {"_target_": "albumentations.ColorJitter", **STEADY, **changes, "p": 1.0}


def _contrast(given: Message, into: Translation) -> Transform:
    into.differ("random_adjust_contrast: about the mean of the grey image, not of each channel")
    return _jitter(contrast=[given.number("min_delta", 0.8), given.number("max_delta", 1.25)])


def _saturation(given: Message, into: Translation) -> Transform:
    return _jitter(saturation=[given.number("min_delta", 0.8), given.number("max_delta", 1.25)])


def _hue(given: Message, into: Translation) -> Transform:
    delta = min(_share(given, "max_delta", 0.02), 0.5)
    return _jitter(hue=[-delta, delta])


def _ssd_crop(given: Message, into: Translation) -> Transform:
    if given.messages("operations"):
        given.ignore("operations")
        into.differ("ssd_random_crop: the patches of Liu 2016, not the operations of the file")
    into.differ(
        "random patches (ssd_random_crop): a patch overlaps a box by an IoU that is drawn; the API's covers a share of "
        "the box; a box stays if min_visibility of its area does"
    )
    overlaps = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9]
    return _patch([math.sqrt(0.1), 1.0], [0.5, 2.0], overlaps, 0.85)


def _fixed_crop(given: Message, into: Translation) -> Transform:
    aspect = given.number("aspect_ratio", 1.0)
    into.differ(
        f"ssd_random_crop_fixed_aspect_ratio: the ratio of a patch is drawn from 0.5 to 2; the API's is {aspect:g}"
    )
    return _ssd_crop(given, into)


def _crop(given: Message, into: Translation) -> Transform:
    low, high = (_share(given, name, default) for name, default in (("min_area", 0.1), ("max_area", 1.0)))
    aspect = [given.number("min_aspect_ratio", 0.75), given.number("max_aspect_ratio", 1.33)]
    covered, kept = _share(given, "min_object_covered", 1.0), _share(given, "overlap_thresh", 0.3)
    given.flag("clip_boxes", True)
    if not 0 <= low <= high or not 0 < aspect[0] <= aspect[1]:
        raise given.error("min_area", "expected min_area <= max_area and 0 < min_aspect_ratio <= max_aspect_ratio")
    into.differ(
        f"random_crop_image: a patch has the centre of a box; the API's covers a share of {covered:g} of a box; a box "
        f"stays if min_visibility of its area does, not {kept:g}"
    )
    sides = [math.sqrt(max(low, 1e-4)), math.sqrt(max(high, 1e-4))]
    return _patch(sides, aspect, [0.0], 1 - _share(given, "random_coef", 0.0))


def _patch(scale: list[float], aspect: list[float], overlaps: list[float], p: float) -> Transform:
    return {
        "_target_": "detect.data.augment.RandomIoUCrop",
        "scale": scale,
        "aspect": aspect,
        "overlaps": overlaps,
        "tries": 40,
        "p": p,
    }


def _scaling(given: Message, into: Translation) -> None:
    names = {"original_minval": 0.0, "original_maxval": 0.0, "target_minval": 0.0, "target_maxval": 1.0}
    low, high, new_low, new_high = (given.number(name, default) for name, default in names.items())
    if (low, high) != (new_low, new_high):
        into.differ(
            f"normalize_image: none; the API maps {low:g}..{high:g} of training images, and of no others, to "
            f"{new_low:g}..{new_high:g} before the network scales its input"
        )


def _share(given: Message, name: str, default: float) -> float:
    value = given.number(name, default)
    if not 0 <= value <= 1:
        raise given.error(name, f"{value:g} is not legal: expected a number from 0 to 1")
    return value


STEPS: dict[str, Callable[[Message, Translation], Transform | None]] = {
    "random_horizontal_flip": _flip("HorizontalFlip"),
    "random_vertical_flip": _flip("VerticalFlip"),
    "random_rotation90": _turn,
    "random_rgb_to_gray": _grey,
    "random_adjust_brightness": _brightness,
    "random_adjust_contrast": _contrast,
    "random_adjust_saturation": _saturation,
    "random_adjust_hue": _hue,
    "ssd_random_crop": _ssd_crop,
    "ssd_random_crop_fixed_aspect_ratio": _fixed_crop,
    "random_crop_image": _crop,
    "normalize_image": _scaling,
}
"""The steps of the API's preprocessor that exist here."""
