"""What TIFF files have of their own: an orientation in their tags, and colours that OpenCV decodes otherwise."""

import io

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""What a file begins with, by the order of its bytes; the last two are large files."""
_WIDTH, _HEIGHT, _BITS, _ORIENTATION = 256, 257, 258, 274


def stored(image: TiffImageFile) -> tuple[int, int, int]:
    """(width, height, orientation 1..8) of the stored pixels; some versions of Pillow turn `image.size`."""
    tags = image.tag_v2
    told = tags.get(_ORIENTATION)
    return tags[_WIDTH], tags[_HEIGHT], told if isinstance(told, int) and 1 <= told <= 8 else 1


def bits(content: bytes) -> int:
    """The bits of each value of a TIFF, by its tags; 0 for any other file, and for tags that are damaged."""
    if not content.startswith(_STARTS):
        return 0
    file = io.BytesIO(content)
    try:
        tags = ImageFileDirectory_v2(content[: 16 if b"+" in content[:4] else 8])
        file.seek(tags.next)
        tags.load(file)
        return int(max(tags[_BITS]))
    except Exception:  # Pillow raises anything for a damaged file
        return 0


def with_plain_colours(content: np.ndarray) -> np.ndarray:
    """The bytes of a TIFF as those of a BMP in RGB, if OpenCV would multiply its colours by alpha or take LAB for RGB.

    Any other file, and one that Pillow can't decode, is returned as it is.
    """
    if content[:4].tobytes() not in _STARTS:
        return content
    plain = io.BytesIO()
    try:
        with Image.open(io.BytesIO(content.tobytes())) as image:
            if (
                not isinstance(image, TiffImageFile)
                or image.mode not in ("RGBA", "LAB")
                or max(image.tag_v2[_BITS]) > 8
            ):
                return content
            image.convert("RGB").save(plain, "BMP")
    except Exception:  # Pillow raises anything for a damaged file
        return content
    return np.frombuffer(plain.getbuffer(), np.uint8)
