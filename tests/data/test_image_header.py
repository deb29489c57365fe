"""The fast reading of a JPEG's header tells what Pillow tells, or leaves the file to Pillow."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from detect.data import image_file
from detect.data.image_file import Header, header

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
