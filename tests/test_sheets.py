"""The sheets that a case for tiles is made of, read back through the reader of COCO's format."""

import sys

import cv2
import numpy as np

from detect import api
from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.image_file import read_image
from detect.data.notes import Notes
from detect.evaluation.coco_files import write_coco
from tests import outside


def test_images_keep_their_pixels_and_boxes_move_with_them(tmp_path, monkeypatch, capsys):
    (tmp_path / "images").mkdir()
    examples = []
    for i in range(5):  # the fifth is left out: a second sheet would not be full
        path = tmp_path / "images" / f"{i}.png"
        cv2.imwrite(str(path), np.full((20 + i, 30, 3), 40 * i, np.uint8))
        examples.append(Example(path, 30, 20 + i, [[1, 2, 11, 20]], [1 + i % 2], [False], path.stem))
    (tmp_path / "data").mkdir()
    splits = {"train": (), "val": (), "test": tuple(examples)}
    write_coco(DetectionDataset("five", ("cat", "dog"), splits), tmp_path / "data", Notes())

    sheets = outside.module("scripts/sheets.py")
    monkeypatch.setattr(sys, "argv", ["sheets.py", str(tmp_path / "data"), "2", str(tmp_path / "sheets")])
    assert sheets.main() == 0
    assert "1 sheets of 60x46 pixels, 4 objects" in capsys.readouterr().out  # a place is as large as the fourth image

    (sheet,) = api.read_dataset("auto", root=str(tmp_path / "sheets")).splits["test"]
    assert sheet.boxes.tolist() == [[1, 2, 11, 20], [1, 32, 11, 50], [24, 2, 34, 20], [24, 32, 34, 50]]
    assert sheet.classes.tolist() == [1, 2, 1, 2]
    picture = read_image(sheet.path)
    assert picture.shape == (46, 60, 3)
    assert (picture[23:, 30:] == 120).all() and (picture[20:23, :30] == 128).all()
