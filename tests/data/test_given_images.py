"""Every kind of image that people hold gives the same pixels as its file."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from detect.data.given_images import listed, pixels
from detect.data.image_file import read_image
from detect.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
GREY = RGB[..., 0]
RGBA = np.concatenate([RGB, np.full((5, 7, 1), 9, np.uint8)], axis=2)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (RGB, RGB),
        (RGBA, RGB),
        (GREY, np.stack([GREY] * 3, axis=2)),
        (GREY[..., np.newaxis], np.stack([GREY] * 3, axis=2)),
        (tf.constant(RGB), RGB),
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(RGBA), RGB),
        (Image.fromarray(GREY), np.stack([GREY] * 3, axis=2)),
    ],
)
def test_pixels(given, expected):
    np.testing.assert_array_equal(pixels(given), expected)
    assert pixels(given).dtype == np.uint8


@pytest.mark.parametrize("array", [RGB, RGBA, GREY, GREY.astype(np.uint16) * 16])
def test_a_file_and_its_pil_image_have_the_same_pixels(tmp_path, array):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels(Image.open(tmp_path / "a.png")), read_image(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (RGB / np.float32(255), "float32.*multiply"),
        (RGB.astype(np.uint16), "uint16"),
        (RGB[:0], r"\[0, 7, 3\]"),
        (RGB[..., :2], r"\[5, 7, 2\]"),
        (3, "int is no image"),
        (None, "NoneType"),
    ],
)
def test_anything_else_is_refused(given, said):
    with pytest.raises(DataError, match=f"picture 2.*{said}"):
        pixels(given, "picture 2")


def test_one_image_several_a_batch_and_a_folder(tmp_path):
    for single in (RGB, Image.fromarray(RGB), "a.png", tf.constant(RGB)):
        assert len(listed(single)) == 1
    assert len(listed([RGB, "a.png"])) == len(listed(np.stack([RGB, RGB]))) == len(listed(tf.stack([RGB, RGB]))) == 2
    assert len(listed(iter([RGB, RGB, RGB]))) == 3
    with pytest.raises(DataError, match="no image"):
        listed(tmp_path)
    for name in ("b.png", "a.png"):
        Image.fromarray(RGB).save(tmp_path / name)
    assert [path.name for path in listed(str(tmp_path))] == ["a.png", "b.png"]
    for nothing, said in ((3, "int"), ("", "''"), (b"JFIF", "bytes: this is no image")):
        with pytest.raises(DataError, match=said):
            listed(nothing)


def test_a_picture_that_pillow_cannot_finish_is_named(tmp_path):
    Image.fromarray(np.repeat(RGB, 40, axis=0)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-200])
    with pytest.raises(DataError, match=r"picture 2: Pillow can't read it: .*truncated"):
        pixels(Image.open(tmp_path / "a.jpg"), "picture 2")


def test_pictures_of_a_folder_that_are_not_read_are_named(tmp_path, caplog):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    (tmp_path / "b.HEIC").write_bytes(b"a phone wrote this")
    assert [path.name for path in listed(tmp_path)] == ["a.png"]
    assert "left out, because their formats are not read: b.HEIC" in caplog.text


def test_a_name_that_is_too_long_is_no_image():
    for given in ("x" * 300, Path("x" * 300)):
        with pytest.raises(DataError, match="this name is too long"):
            listed(given)
        with pytest.raises(DataError, match="this name is too long"):
            pixels(given)
