"""The contact sheets of `detect inspect` say which file each picture is of, and which class."""

import cv2
import numpy as np
import pytest

from detect.cli import inspect
from detect.data.dataset import ClassificationDataset, CropExample
from detect.errors import ConfigError
from tests.cli.conftest import call, picture


@pytest.fixture
def sheets(monkeypatch):
    """What is written: shapes of the pictures and captions, by the name of the file."""
    found = {}
    monkeypatch.setattr(inspect.draw, "contact_sheet", lambda images, columns, width, captions: (images, captions))
    monkeypatch.setattr(inspect.draw, "save", lambda path, sheet: found.update({path.name: sheet}))
    return found


def test_crops_carry_class_and_file(tmp_path, sheets):
    path = picture(tmp_path / "a.png", 1)
    whole = CropExample(path, 1, None, "whole")
    crop = CropExample(path, 0, np.array([3.5, 4, 20, 30.2], np.float32), "crop")
    inspect.draw_pictures(ClassificationDataset("crops", ("background", "cat"), {"train": (whole, crop)}), tmp_path, 4)
    images, captions = sheets["raw_train.png"]
    assert captions == ["cat: a.png", "background: a.png"]
    assert [image.shape for image in images] == [(48, 64, 3), (17, 27, 3)]


def test_large_pictures_are_made_small_one_by_one(tmp_path, sheets):
    """Sixteen photographs of 48 megapixels would need 4.6 GB."""
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), np.zeros((3000, 6000, 3), np.uint8))
    pictures = tuple(CropExample(path, 0, None, str(number)) for number in range(4))
    inspect.draw_pictures(ClassificationDataset("large", ("cat",), {"train": pictures}), tmp_path, 4)
    assert [image.shape for image in sheets["raw_train.png"][0]] == [(240, 480, 3)] * 4


def test_images_carry_their_file(tmp_path, sheets):
    for name in ("train/labels", "val/labels"):
        (tmp_path / name).mkdir(parents=True)
    for number, name in enumerate(("train/images/a.png", "train/images/b.png", "val/images/c.png"), 1):
        picture(tmp_path / name, number)
        label = tmp_path / name.replace("images", "labels").replace(".png", ".txt")
        label.write_text("0 0.5 0.5 0.4 0.4\n")
    (tmp_path / "data.yaml").write_text("train: train/images\nval: val/images\nnames: [cat]\n")
    with pytest.raises(ConfigError, match="images=0: legal are whole numbers from 1"):
        call("inspect", "only=data", "dataset=yolo", f"dataset.root={tmp_path}", "images=0")
    call("inspect", "only=data", "dataset=yolo", f"dataset.root={tmp_path}", f"output={tmp_path}_out", "images=4")
    assert sorted(sheets["raw_train.png"][1]) == ["a.png", "b.png"] and sheets["raw_val.png"][1] == ["c.png"]
    assert sorted(sheets["augmented.png"][1]) == ["a.png", "b.png"]
