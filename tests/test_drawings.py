"""The drawings of the study fixed_backbone: a set that `detect` reads, with boxes of the ink, the same each time."""

import sys

import numpy as np
import pytest

from detect import api
from detect.data.image_file import read_image
from tests import outside


@pytest.fixture(scope="module")
def drawings():
    return outside.module("scripts/drawings.py")


def test_the_folder_is_read_back(drawings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(drawings, "IMAGES", 12)
    monkeypatch.setattr(sys, "argv", ["drawings.py", str(tmp_path / "drawings")])
    assert drawings.main() == 0
    assert "12 drawings, " in capsys.readouterr().out
    dataset = api.read_dataset("voc", root=str(tmp_path / "drawings"), splits=None)
    assert set(dataset.classes) == {"queen", "rook", "bishop", "knight"}
    examples = [example for split in dataset.splits.values() for example in split]
    assert len(examples) == 12
    drawn = drawings.draw(3, tmp_path / "again.png")
    (read,) = (example for example in examples if example.id.endswith("drawing_003"))
    assert (read_image(read.path) == read_image(drawn.path)).all()  # the same pixels
    assert read.boxes.tolist() == drawn.boxes.tolist()


def test_a_box_is_that_of_the_ink(drawings, tmp_path, monkeypatch):
    blank = lambda rng: drawings.Image.new("RGB", drawings.SIZE, drawings.PAPER)  # noqa: E731
    monkeypatch.setattr(drawings, "paper", blank)
    for seed in range(10):
        example = drawings.draw(seed, tmp_path / f"{seed}.png")
        dark = read_image(example.path).astype(int).sum(axis=2) < (sum(drawings.PAPER) + sum(drawings.INK)) / 2
        inside = np.zeros_like(dark)
        for top, left, bottom, right in example.boxes.astype(int):
            piece = dark[top:bottom, left:right]
            assert piece[0].any() and piece[-1].any() and piece[:, 0].any() and piece[:, -1].any()
            inside[top:bottom, left:right] = True
        assert not (dark & ~inside).any()
