"""The contact sheets of `detect inspect` say which file each picture is of, and which class."""

import csv
import shutil

import cv2
import numpy as np
import pytest

from detect.cli import inspect
from detect.data.dataset import ClassificationDataset
from detect.data.examples import CropExample
from detect.errors import ConfigError, DataError
from tests.cli.conftest import picture
from tests.verbs import call


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


def test_a_crop_outside_of_its_picture_is_named(tmp_path, sheets):
    crop = CropExample(picture(tmp_path / "a.png", 1), 0, np.array([50, 70, 60, 80], np.float32), "a#0")
    with pytest.raises(DataError, match=r"a\.png: the crop a#0 at .* lies outside the image of 64x48 px"):
        inspect.draw_pictures(ClassificationDataset("crops", ("cat",), {"train": (crop,)}), tmp_path, 4)


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


def test_errors_of_an_image_folder_end_the_command_as_those_of_boxes_do(tmp_path):
    for number in range(3):
        for split in ("train", "val"):
            picture(tmp_path / "data" / split / "cat" / f"{number}.png", 1)
            picture(tmp_path / "data" / split / "dog" / f"{number}.png", 2)
    path = tmp_path / "data" / "train" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"it has 1 error, listed above"):
        call("inspect", "only=data", "dataset=image_folder", f"dataset.root={tmp_path}/data", f"output={tmp_path}/out")


def test_all_faults_are_in_a_file_if_the_console_does_not_have_them(tmp_path, caplog):
    caplog.set_level("INFO")
    for number in range(25):
        path = picture(tmp_path / "data" / "train" / "images" / f"{number}.png", 1)
        path.write_bytes(path.read_bytes()[:60])
        (tmp_path / "data" / "train" / "labels").mkdir(exist_ok=True)
        (tmp_path / "data" / "train" / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    picture(tmp_path / "data" / "train" / "images" / "whole.png", 1)
    (tmp_path / "data" / "data.yaml").write_text("train: train/images\nnames: [cat]\n")
    with pytest.raises(DataError, match="25 errors"):
        call("inspect", "only=data", "dataset=yolo", f"dataset.root={tmp_path}/data", f"output={tmp_path}/out")
    rows = list(csv.DictReader((tmp_path / "out" / "findings.csv").open()))
    assert len({row["path"] for row in rows if row["action"] == "error"}) == 25
    assert "findings are in" in caplog.text
    for name in ("raw_train.png", "raw_test.png", "augmented.png"):
        (tmp_path / "out" / name).write_bytes(b"of other data")
    shutil.rmtree(tmp_path / "data")
    for split in ("train", "val"):
        picture(tmp_path / "data" / split / "images" / f"{split}.png", 1)
        (tmp_path / "data" / split / "labels").mkdir()
        (tmp_path / "data" / split / "labels" / f"{split}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (tmp_path / "data" / "data.yaml").write_text("train: train/images\nval: val/images\nnames: [cat]\n")
    call("inspect", "only=data", "dataset=yolo", f"dataset.root={tmp_path}/data", f"output={tmp_path}/out")
    assert not (tmp_path / "out" / "findings.csv").exists()  # it told faults that are mended
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"raw_train.png", "raw_val.png", "augmented.png"}
    assert b"of other data" not in {path.read_bytes() for path in (tmp_path / "out").iterdir()}
