"""What is read of a header: as Pillow tells it, and turned as OpenCV decodes it."""

import io
import random
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from detect.data import image_file
from detect.data.image_file import Header, header, read_image
from detect.errors import DataError

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (11, 23, 3), np.uint8))
EXIF = Image.Exif()
EXIF[0x0112] = 6
KINDS = {
    "baseline": (PICTURE, {"quality": 90}),
    "progressive": (PICTURE, {"progressive": True}),
    "optimised": (PICTURE, {"optimize": True, "subsampling": 0}),
    "gray": (PICTURE.convert("L"), {}),
    "with a comment": (PICTURE, {"comment": b"hello"}),
    "with a profile": (PICTURE, {"icc_profile": b"x" * 1000}),
    "turned": (PICTURE, {"exif": EXIF}),
    "CMYK": (PICTURE.convert("CMYK"), {}),
}


def content(kind: str) -> bytes:
    picture, options = KINDS[kind]
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_tell_the_same(tmp_path, monkeypatch, kind):
    path = tmp_path / "a.jpg"
    path.write_bytes(content(kind))
    fast = header(path)
    assert (image_file._plain_jpeg(content(kind)) is None) == (kind in ("turned", "CMYK"))
    monkeypatch.setattr(image_file, "_plain_jpeg", lambda start: None)
    assert fast == header(path) == (Header(11, 23, 6) if kind == "turned" else Header(23, 11, 1))


def test_a_damaged_header_tells_the_same_or_nothing(tmp_path, monkeypatch):
    """One byte differs, or the file ends early: where Pillow gives another size than the fast way, it fails."""
    rng, path, plain = random.Random(0), tmp_path / "a.jpg", image_file._plain_jpeg
    whole = content("baseline")
    for _ in range(600):
        place = rng.randrange(min(len(whole), 640))
        damaged = (
            whole[:place] if rng.random() < 0.3 else whole[:place] + bytes([rng.randrange(256)]) + whole[place + 1 :]
        )
        path.write_bytes(damaged)
        fast = plain(damaged[: image_file._START])
        monkeypatch.setattr(image_file, "_plain_jpeg", lambda start: None)
        assert fast is None or header(path) in (fast, None)


# EXIF's orientation: OpenCV turns the pixels, and the header has to tell how.

TURNS = [None, *(getattr(Image.Transpose, name) for name in (
    "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"
))]  # fmt: skip
FORMS = {"byte": (1, "B3x"), "short": (3, "H2x"), "long": (4, "I"), "signed": (9, "i"), "undefined": (7, "B3x")}


def exif(orientation: int = 6, form: str = "short", order: str = "<", count: int = 1) -> bytes:
    """EXIF data with the name of a camera and an orientation."""
    kind, layout = FORMS[form]
    value = struct.pack(order + layout, orientation)
    camera = struct.pack(order + "HHII", 0x010F, 2, 6, 38)
    entries = struct.pack(order + "H", 2) + camera + struct.pack(order + "HHI", 0x0112, kind, count) + value + b"\0" * 4
    return {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8) + entries + b"maker\0"


def turned(path: Path, data: bytes, late: bool = False) -> None:
    """A PNG with EXIF data, or a JPEG: its grey and black halves tell how it is turned."""
    pixels = Image.fromarray(np.kron([[0, 80], [160, 240]], np.ones((8, 16))).astype(np.uint8)).convert("RGB")
    file = io.BytesIO()
    pixels.save(file, "PNG" if path.suffix == ".png" else "JPEG")
    whole = file.getvalue()
    if path.suffix == ".png":
        chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
        place = len(whole) - 12 if late else 33
    else:
        chunk, place = b"\xff\xe1" + struct.pack(">H", len(data) + 8) + b"Exif\0\0" + data, 2
    path.write_bytes(whole[:place] + chunk + whole[place:])
    found, decoded = header(path), read_image(path)
    assert found is not None and (found.width, found.height) == decoded.shape[1::-1]
    turn = TURNS[found.orientation - 1]
    expected = pixels if turn is None else pixels.transpose(turn)
    np.testing.assert_allclose(decoded.astype(int), np.asarray(expected), atol=8)


@pytest.mark.parametrize("ending", [".jpg", ".png"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", FORMS)
def test_the_header_is_turned_as_the_pixels(tmp_path, ending, order, form):
    for orientation in range(10):
        for count in (0, 1, 2):
            turned(tmp_path / f"a{ending}", exif(orientation, form, order, count))


def test_exif_after_the_pixels_of_a_png(tmp_path):
    turned(tmp_path / "a.png", exif(6), late=True)
    assert header(tmp_path / "a.png") == Header(16, 32, 6)


@pytest.mark.filterwarnings("ignore")  # of Pillow, about the same data
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_damaged_exif_turns_the_header_as_the_pixels(tmp_path, ending):
    rng, whole = random.Random(0), exif()
    for _ in range(300):
        data = bytearray(whole[: rng.randrange(9, len(whole))] if rng.random() < 0.2 else whole)
        for _ in range(rng.randrange(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        turned(tmp_path / f"a{ending}", bytes(data))


# TIFF: its orientation is a tag of the file itself. OpenCV turns the pixels by it, and multiplies colours by alpha.


def tiff(path: Path, pixels: Image.Image, orientation: object, kind: int = 3) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[0x0112] = kind
    tags[0x0112] = orientation
    pixels.save(path, tiffinfo=tags)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_of_a_tiff_is_turned_as_its_pixels(tmp_path, mode, orientation):
    path, turn = tmp_path / "a.tif", TURNS[orientation - 1]
    tiff(path, PICTURE.convert(mode), orientation)
    expected = PICTURE.convert(mode).convert("RGB")
    expected = expected if turn is None else expected.transpose(turn)
    np.testing.assert_array_equal(read_image(path), np.asarray(expected))
    assert header(path) == Header(*expected.size, orientation)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("value", "kind"), [(6, 4), (6, 9), (6.0, 11), (b"\6", 7), ("6", 2), (9, 3)])
def test_an_orientation_of_another_type_counts_as_opencv_takes_it(tmp_path, value, kind):
    path = tmp_path / "a.tif"
    tiff(path, PICTURE, value, kind)
    turns = kind in (4, 9)
    assert read_image(path).shape == ((23, 11, 3) if turns else (11, 23, 3))
    assert header(path) == (Header(11, 23, 6) if turns else Header(23, 11, 1))


def test_alpha_of_a_tiff_is_left_out_as_that_of_a_png(tmp_path):
    picture = PICTURE.copy()
    picture.putalpha(100)
    for name in ("a.png", "a.tif"):
        picture.save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), np.asarray(PICTURE))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 2), read_image(tmp_path / "a.png", 2))


def test_a_tiff_in_lab_has_its_colours(tmp_path):
    smooth = Image.fromarray(np.kron([[0, 80], [160, 240]], np.ones((8, 16))).astype(np.uint8)).convert("RGB")
    spaces = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    ImageCms.profileToProfile(smooth, *spaces, outputMode="LAB").save(tmp_path / "a.tif")
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").astype(int), np.asarray(smooth), atol=4)


@pytest.mark.filterwarnings("ignore")
def test_a_tiff_of_64_bits_is_told(tmp_path):
    cv2.imwrite(str(tmp_path / "a.tif"), np.zeros((4, 4), np.float64))
    with pytest.raises(DataError, match=r"a\.tif: the TIFF has 64 bits for each value, .*save it with 8 or 16 bits"):
        read_image(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0\xff\xff")
    with pytest.raises(DataError, match=r"a\.tif: this is not an image file"):
        read_image(tmp_path / "a.tif")


def test_a_tiff_for_which_pillow_raises_anything_is_one_message(tmp_path):
    path = tmp_path / "a.tif"
    PICTURE.save(path)
    offsets = struct.pack("<HH", 273, 4)  # of the strips; bytes in place of numbers are a TypeError of Pillow
    path.write_bytes(path.read_bytes().replace(offsets, struct.pack("<HH", 273, 7)))
    with pytest.raises(DataError, match=r"a\.tif: the file is truncated or damaged"):
        read_image(path)
