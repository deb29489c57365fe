"""What people hold as images (files, folders, arrays, tensors, PIL images), as RGB pixels."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from PIL import Image as pil
from PIL import ImageOps

from detect.data.folder import find_files, find_images
from detect.data.image_file import UNREAD_SUFFIXES, UNREADABLE, eight_bits, read_image
from detect.errors import ConfigError, DataError, first_few, one_line
from detect.files import expanded

log = logging.getLogger("detect")


class ArrayLike(Protocol):
    """An array or a tensor of any library."""

    def __array__(self) -> np.ndarray: ...


Given = str | Path | pil.Image | ArrayLike
"""An image as people hold it."""
Images = Given | Iterable[Given]
"""One or several; a batch of arrays is an iterable of its images."""

LEGAL = "legal are a path, a PIL image, and a uint8 array or tensor [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] in RGB"


def listed(images: Images) -> list[Given]:
    """The images one by one, not read yet: of a single image, of an iterable or batch of them, of a folder.

    Those of a folder come in the order of their paths. A warning names those of a format that is not read.
    Raises DataError for a folder without an image, and for what is no image.
    """
    if isinstance(images, str | Path):
        if not str(images):
            raise DataError(f"'': this names no image; {LEGAL}, or several of them, or a folder")
        folder = _path(images)
        if not folder.is_dir():
            return [images]
        if unread := [file.name for file in find_files(folder, UNREAD_SUFFIXES)]:
            log.warning("%s: left out, because their formats are not read: %s", folder, first_few(unread, 3))
        if not (found := find_images(folder)):
            raise DataError(f"{images}: the folder has no image")
        return list(found)
    if isinstance(images, pil.Image) or (hasattr(images, "shape") and len(images.shape) < 4):
        return [cast(Given, images)]
    if isinstance(images, bytes | bytearray) or not isinstance(images, Iterable):
        raise DataError(f"{type(images).__name__}: this is no image; {LEGAL}, or several of them")
    return list(images)


def pixels(image: Given, name: str = "the image") -> np.ndarray:
    """uint8 [H, W, 3] in RGB. Grey becomes three equal channels, and an alpha channel is left out, as in files.
    PIL images of 16 bits are scaled as files.

    name: for messages. Raises DataError for what is no such image.
    """
    if isinstance(image, str | Path):
        return read_image(_path(image))
    if isinstance(image, pil.Image):
        try:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):
                image = eight_bits(np.asarray(image).astype(np.uint16))
            elif image.mode not in ("I", "F"):
                image = image.convert("RGB")
            image = np.asarray(image)
        except UNREADABLE as error:  # Pillow reads a file when its pixels are needed
            raise DataError(f"{name}: Pillow can't read it: {one_line(error)}") from error
    if not hasattr(image, "__array__"):
        raise DataError(f"{name}: {type(image).__name__} is no image; {LEGAL}")
    array = np.asarray(image)
    if array.dtype != np.uint8:
        hint = "; multiply values from 0 to 1 by 255" if np.issubdtype(array.dtype, np.floating) else ""
        raise DataError(f"{name}: its values are {array.dtype}; they must be uint8, from 0 to 255{hint}")
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise DataError(f"{name}: its shape is {list(np.shape(image))}; {LEGAL}")
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else np.ascontiguousarray(array[..., :3])


def _path(image: str | Path) -> Path:
    try:
        return expanded(image)
    except ConfigError as error:
        raise DataError(str(error)) from None
