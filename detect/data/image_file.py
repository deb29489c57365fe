"""The one decoder of image files. Everything that reads pixels or their size uses it: checks, crops, training, scoring.

OpenCV decodes. Pillow reads headers, and it explains why OpenCV could not decode a file.
"""

import io
import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from detect.data import tiff
from detect.data.shards import Picture
from detect.errors import DataError

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif", ".jp2", ".ppm", ".pgm",
)  # fmt: skip
"""Endings of the image files that are read, in the order in which one of two files of the same stem is taken."""
UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".jxl", ".raw", ".dng", ".cr2", ".nef", ".svg", ".psd")
"""Endings of image files that are not read: they are named, so that nobody misses them."""
UNREAD = "a format that is not read; save it as PNG or JPEG"  # what messages say of such a file

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""What a file begins with that Git LFS has not fetched."""

_DECODE = {
    1: cv2.IMREAD_COLOR_BGR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_MOST_PIXELS = 2**30  # OpenCV's own limit, without OPENCV_IO_MAX_IMAGE_PIXELS
_LARGE, _DENSEST = 50_000_000, 5000  # from so many pixels on, so many pixels to a byte are damage, not an image
_START = 1 << 12  # bytes of a file in which a plain JPEG begins its scan
_SEGMENT = struct.Struct(">BBHBHHB").unpack_from
"""A segment of a JPEG: 255, marker, length; and of the segment of a frame: precision, height, width, components."""
_FRAMES, _SCAN = (0xC0, 0xC1, 0xC2), 0xDA  # frames: baseline, extended and progressive
_PLAIN = {*_FRAMES, _SCAN, 0xC4, 0xDB, 0xDD, 0xE0, 0xFE, *range(0xE2, 0xF0)}
_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112
_TEXTS = (0x010E, 0x010F, 0x0110)  # EXIF's tags of texts that come before the orientation
_TURNED = ("JPEG", "MPO", "PNG", "WEBP")  # formats whose EXIF orientation OpenCV applies; of TIFF it is a tag
_BITS = (8, 10, 12, 14, 16)
_TOO_DEEP = "the {} has {} bits for each value, which training does not read; save it with 8 or 16 bits"

Image.MAX_IMAGE_PIXELS = None  # the limits of this module take the place of Pillow's
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the messages below tell the errors


class Header(NamedTuple):
    """What the header of an image file tells. width, height: pixels as displayed. orientation: EXIF's 1..8."""

    width: int
    height: int
    orientation: int


def read_image(path: str | Path, reduction: int = 1) -> np.ndarray:
    """An image file as uint8 [height, width, 3] RGB with EXIF rotation applied, as in `header`.

    reduction: 1, 2, 4 or 8; a JPEG is decoded at this fraction of its size (other formats are decoded, then shrunk).
    Pictures of 16 bits are scaled by their range: `depth`. Of an animation, the first picture is taken.
    Raises DataError, naming the file, if it is missing, empty, truncated or not an image that OpenCV decodes.
    """
    try:
        content = _content(path)
    except OSError as error:
        raise DataError(f"{path}: can't read the image ({error.strerror})") from None
    image = _decode(content, reduction)
    if image is None:
        raise DataError(f"{path}: {_reason(content.tobytes())}")
    image = eight_bits(image)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def eight_bits(image: np.ndarray) -> np.ndarray:
    """A picture of 16 bits in uint8, scaled by its range; one of 8 bits as it is."""
    return cv2.convertScaleAbs(image, alpha=255 / (2 ** depth(image) - 1)) if image.dtype == np.uint16 else image


def depth(image: np.ndarray) -> int:
    """The bits that the values of a uint16 picture use: 8, 10, 12, 14 or 16. Many cameras store 12 bits in 16."""
    return next(bits for bits in _BITS if int(image.max(initial=0)) < 2**bits)


def header(path: Path) -> Header | None:
    """The header of an image file; None if it can't be read."""
    try:
        with _stream(path) as file:
            return _plain_jpeg(file.read(_START)) or _header(file)
    except UNREADABLE:
        return None


def header_and_end(path: str | Path) -> tuple[Header | None, bool]:
    """The `header`, and whether the file is a JPEG without an end-of-image marker in its last 4 KB: it may be cut."""
    cut = False
    try:
        with _stream(path) as file:
            start = end = file.read(_START)
            if str(path).lower().endswith((".jpg", ".jpeg", ".jpe", ".jfif")):
                if len(start) == _START:
                    file.seek(max(file.seek(0, os.SEEK_END) - _START, 0))
                    end = file.read()
                cut = b"\xff\xd9" not in end
            return _plain_jpeg(start) or _header(file), cut
    except UNREADABLE:
        return None, cut


def image_size(path: Path) -> tuple[int, int] | None:
    """(width, height) from the file's header, as displayed (EXIF rotation applied); None if it can't be read."""
    found = header(path)
    return found and (found.width, found.height)


def examine(path: Path) -> tuple[str | None, int]:
    """(the reason why training can't use an image file, or None; the bits of its values: 8, or `depth`).

    It decodes as training does, JPEGs at 1/8 of their size, from all of their data. Other formats have no smaller form,
    and OpenCV refuses to shrink a picture of less than 8 pixels.
    """
    try:
        content = _content(path)
    except OSError as error:
        return f"can't read it ({error.strerror})", 8
    image = _decode(content, 8 if content[:2].tobytes() == b"\xff\xd8" else 1)
    if image is None:
        return _reason(content.tobytes()), 8
    return None, depth(image) if image.dtype == np.uint16 else 8


def picture_bytes(path: str | Path) -> bytes:
    """The bytes of an image file, or of a picture inside an ArrayRecord file. Raises OSError."""
    picture = Picture.at(path)
    return picture.read() if picture else Path(path).read_bytes()


def stamp(path: str) -> tuple[int, int]:
    """Two numbers that change with an image; (-1, -1) for a file that can't be read.

    They are the bytes and the time of the last change in nanoseconds; of a picture inside an ArrayRecord file, the
    bytes and the checksum.
    """
    if picture := Picture.at(path):
        return (picture.length, picture.checksum) if os.path.isfile(picture.file) else (-1, -1)
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def length(path: str) -> int | None:
    """The bytes of an image; None for a folder, and for what can't be read."""
    if Picture.at(path):
        return stamp(path)[0] if stamp(path)[0] >= 0 else None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def ends(path: str) -> bytes:
    """The bytes at both ends of an image, or of a picture inside an ArrayRecord file its checksum. Raises OSError."""
    if picture := Picture.at(path):
        return picture.checksum.to_bytes(4)
    with open(path, "rb") as file:
        first = file.read(_START)
        file.seek(max(0, file.seek(0, os.SEEK_END) - _START))
        return first + file.read(_START)


def _content(path: str | Path) -> np.ndarray:
    picture = Picture.at(path)
    return np.frombuffer(picture.read(), np.uint8) if picture else np.fromfile(path, np.uint8)


def _stream(path: str | Path) -> BinaryIO:
    picture = Picture.at(path)
    return io.BytesIO(picture.read()) if picture else open(path, "rb")


def turned(boxes: np.ndarray, orientation: int, width: int, height: int) -> np.ndarray:
    """Boxes of the stored pixels as boxes of the displayed ones.

    boxes: [n, 4] yxyx. orientation: EXIF's 1..8. width, height: pixels as displayed.
    """
    ymin, xmin, ymax, xmax = np.asarray(boxes, np.float64).reshape(-1, 4).T
    if orientation >= 5:  # rows are columns
        ymin, xmin, ymax, xmax = xmin, ymin, xmax, ymax
    if orientation in (3, 4, 7, 8):
        ymin, ymax = height - ymax, height - ymin
    if orientation in (2, 3, 6, 7):
        xmin, xmax = width - xmax, width - xmin
    return np.stack([ymin, xmin, ymax, xmax], axis=1)


UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, OverflowError, EOFError, MemoryError)
"""What Pillow raises for files that are damaged or no images."""


def _plain_jpeg(start: bytes) -> Header | None:
    """The header of a JPEG by its first bytes, up to the scan; None for other files, and for one with an APP1 segment.

    APP1 holds EXIF. Pillow reads such files, and takes ten times as long (ITU-T T.81, Annex B, has the segments).
    """
    place, found = 2 if start[:2] == b"\xff\xd8" else len(start), None
    while place + 10 <= len(start):
        first, marker, length, precision, high, wide, components = _SEGMENT(start, place)
        if first != 0xFF or marker not in _PLAIN or length < 2:
            return None
        if marker == _SCAN:
            return found
        if marker in _FRAMES:
            if found or precision != 8 or components not in (1, 3) or not (high and wide):
                return None
            found = Header(wide, high, 1)
        place += 2 + length
    return None


def _header(file: BinaryIO) -> Header:
    file.seek(0)
    with Image.open(file) as image:
        if image.format == "PNG" and "exif" not in image.info:
            image.info["exif"] = _late_exif(file)
        return _displayed(image)


def _displayed(image: Image.Image) -> Header:
    (width, height), orientation = image.size, 1
    if isinstance(image, TiffImageFile):
        width, height, orientation = tiff.stored(image)
    elif image.format in _TURNED:
        orientation = _orientation(image.info.get("exif", b""))
    return Header(height, width, orientation) if orientation >= 5 else Header(width, height, orientation)


def _orientation(exif: bytes) -> int:
    """EXIF's orientation 1..8 as OpenCV reads it, so that sizes and boxes fit the decoded pixels; 1 if it reads none.

    It takes two bytes of the value, whatever its type is, and gives up at a text that ends after the data.
    """
    data = exif.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"

    def number(place: int, size: int) -> int:
        if place + size > len(data):
            raise IndexError
        return int.from_bytes(data[place : place + size], order)

    try:
        first = number(4, 4) if data[:2] in (b"II", b"MM") and number(2, 2) == 42 else len(data)
        for entry in range(first + 2, first + 2 + 12 * number(first, 2), 12):
            tag, size = number(entry, 2), number(entry + 4, 4)
            if tag == _ORIENTATION:
                value = number(entry + 8, 2)
                return value if 1 <= value <= 8 else 1
            if tag in _TEXTS and size > 4 and number(entry + 8, 4) + size > len(data):
                return 1
    except IndexError:
        pass
    return 1


def _late_exif(file: BinaryIO) -> bytes:
    """The EXIF data of a PNG that has them after its pixels, where Pillow looks when it decodes; b"" without them."""
    place = file.seek(len(_PNG))
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4]), head[4:]
        if kind in (b"eXIf", b"IEND"):
            return file.read(length) if kind == b"eXIf" else b""
        place = file.seek(place + 12 + length)
    return b""


def _decode(content: np.ndarray, reduction: int) -> np.ndarray | None:
    """BGR uint8 or uint16 [h, w, 3]; None if OpenCV can't decode it."""
    if content.size < _MOST_PIXELS // _DENSEST and _claims_too_much(content.tobytes()):
        return None
    if content[:8].tobytes() == _PNG and _is_cut(content):
        return None
    content = tiff.with_plain_colours(content)
    try:
        image = cv2.imdecode(content, _DECODE[reduction] | cv2.IMREAD_ANYDEPTH)
    except cv2.error:  # an empty file, or a header with too many pixels
        return None
    return image if image is not None and image.dtype in (np.uint8, np.uint16) and image.size else None


def _is_cut(content: np.ndarray) -> bool:
    """Whether a chunk of a PNG claims more bytes than the file has: the decoder would take memory for all of them."""
    place = len(_PNG)
    while place + 8 <= content.size:
        length, kind = int.from_bytes(content[place : place + 4].tobytes()), content[place + 4 : place + 8].tobytes()
        place += 12 + length  # length, kind, content, checksum
        if kind == b"IEND":
            return place > content.size
    return place != content.size


def _claims_too_much(content: bytes) -> bool:
    """Whether the header tells of far more pixels than the bytes can hold: decoding would fill the memory."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = image.width * image.height
    except UNREADABLE:
        return False
    return pixels > max(_LARGE, _DENSEST * len(content))


def _reason(content: bytes) -> str:
    """Why OpenCV can't decode a file of these bytes."""
    if not content:
        return "the file is empty (0 bytes)"
    if content.startswith(LFS_POINTER):
        return "this is a pointer of Git LFS, not the picture itself: run git lfs pull"
    if content[4:8] == b"ftyp" and content[8:11] in (b"hei", b"hev", b"mif"):
        return f"this is a HEIC picture by its content, {UNREAD}"
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind, pixels, mode = image.format, image.width * image.height, image.mode
            if pixels > _MOST_PIXELS:
                return (
                    f"{image.width}x{image.height} pixels are above the limit of OpenCV (2^30 pixels); the file may be "
                    "whole. Make the image smaller, or set OPENCV_IO_MAX_IMAGE_PIXELS"
                )
            if pixels > max(_LARGE, _DENSEST * len(content)):
                return f"the file is damaged: {len(content)} bytes can't hold {image.width}x{image.height} pixels"
            if kind == "PNG" and _is_cut(np.frombuffer(content, np.uint8)):
                return f"the file is truncated or damaged ({len(content)} bytes)"
            image.load()
    except UNREADABLE as error:
        if tiff.bits(content) > 32:  # Pillow knows no such pictures
            return _TOO_DEEP.format("TIFF", tiff.bits(content))
        other = "cannot identify" in str(error) and "truncated" not in str(error)
        what = "this is not an image file" if other else "the file is truncated or damaged"
        return f"{what} ({len(content)} bytes)"
    if mode in ("F", "I"):
        return _TOO_DEEP.format(kind, 32)
    return f"OpenCV does not decode this kind of {kind} (mode {mode}); save it again as PNG or JPEG with 8 bits"
