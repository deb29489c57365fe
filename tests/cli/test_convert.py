"""`detect convert` from the command line: formats, pre-labels, and what it refuses."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from detect.cli.convert import WRITERS, write
from detect.data.digits import make_digits
from detect.data.formats.auto import read_auto
from detect.data.notes import Notes
from detect.errors import ConfigError, DataError
from detect.files import cache_folder
from tests import program
from tests.verbs import call

DIGITS = ["dataset=digits", "dataset.images={train:16,val:4,test:4}"]


@pytest.fixture
def convert(caplog):
    """Runs the verb in this process and returns what it logs."""

    def run(*words: str) -> str:
        caplog.clear()
        with caplog.at_level("INFO", "detect"):
            call("convert", *words)
        return caplog.text

    return run


def test_a_subset_in_another_format(tmp_path, convert):
    told = convert(*DIGITS, "to=coco", f"output={tmp_path}/coco")
    assert f"24 images are in {tmp_path}/coco, as coco" in told
    told = convert(f"dataset.root={tmp_path}/coco", "dataset.classes=['7','3']", "to=voc", f"output={tmp_path}/voc")
    assert "left out by dataset.classes, classes: 8" in told
    source = make_digits(cache_folder(), {"train": 16, "val": 4, "test": 4})
    back = read_auto(tmp_path / "voc")
    assert back.classes == ("3", "7") and {s: len(e) for s, e in back.splits.items()} == {
        "train": 16,
        "val": 4,
        "test": 4,
    }
    for split, examples in source.splits.items():
        by_stem = {Path(e.id).stem: e for e in back.splits[split]}
        for e in examples:
            keep = np.isin([source.classes[c - 1] for c in e.classes], ["3", "7"])
            np.testing.assert_allclose(by_stem[Path(e.id).stem].boxes, e.boxes[keep], atol=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["output=full"], "output=full: the folder is not empty"),
        (["output=null"], "^output=null: name a new folder: output=DIR$"),
        (["output="], "^output=: name a new folder: output=DIR$"),
        (["output=new", "images=full"], "^boxes of a detector need both"),
        (["output=new", "run=full"], "^boxes of a detector need both"),
        (["output=new", "score=.3"], "^score=0.3 is not legal here: "),
        (["output=new", "run=full", "images=full", "decode=false"], "^decode=false is not legal here: "),
        (["output=new", "run=full", "model=full", "images=full"], "^name either a run folder .* or an exported model"),
    ],
)
def test_what_is_refused(tmp_path, convert, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ConfigError, match=message):
        convert(*DIGITS, "to=voc", *words)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]


def test_a_data_set_beside_a_detector_is_refused(convert):
    with pytest.raises(ConfigError, match=r"^dataset\.root=data is not legal here: "):
        convert("run=run", "images=photos", "dataset.root=data", "to=voc", "output=new")


def test_the_current_folder_is_not_replaced(tmp_path, convert, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"output=\.: this is the current folder"):
        convert(*DIGITS, "to=voc", "output=.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_an_empty_folder_keeps_its_place(tmp_path, convert, there):
    (tmp_path / "disk").mkdir()
    if there:
        (tmp_path / "disk/out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk/out")
    convert(*DIGITS, "to=yolo", f"output={tmp_path}/link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk/out/data.yaml").is_file()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["out"]


def test_a_mount_point_is_refused_before_the_work(tmp_path, convert, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "out")
    with pytest.raises(ConfigError, match=r"output=.*/out: a mount point can't be replaced; name a new folder"):
        convert(*DIGITS, "to=yolo", f"output={tmp_path}/out")


def test_what_a_conversion_to_another_format_left_is_not_delivered(tmp_path, monkeypatch):
    """A writer that goes on where it was stopped finds the files of its own format only."""
    source, seen = make_digits(cache_folder(), {"train": 4, "val": 2, "test": 2}), []
    (tmp_path / ".out.new").mkdir()
    (tmp_path / ".out.new/left.xml").touch()
    (tmp_path / ".out.arrayrecord.new").mkdir()
    (tmp_path / ".out.arrayrecord.new/own").touch()
    monkeypatch.setitem(WRITERS, "arrayrecord", lambda dataset, folder, notes: seen.extend(folder.iterdir()))
    write(source, "arrayrecord", tmp_path / "out", Notes())
    assert [path.name for path in seen] == ["own"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_is_written_below_the_data_or_of_bad_data(tmp_path, convert):
    convert(*DIGITS, "to=voc", f"output={tmp_path}/voc")
    with pytest.raises(ConfigError, match=r"output=.* is below dataset\.root="):
        convert(f"dataset.root={tmp_path}/voc", "to=coco", f"output={tmp_path}/voc/coco")
    picture = next((tmp_path / "voc/JPEGImages").rglob("*.jpg"))
    picture.write_bytes(b"no image")
    with pytest.raises(DataError, match=picture.name):
        convert(f"dataset.root={tmp_path}/voc", "to=coco", f"output={tmp_path}/coco")
    assert not (tmp_path / "coco").exists()


def test_the_command_line(tmp_path):
    done = program.run("convert", *DIGITS, "to=pascal", f"output={tmp_path}/new")
    assert done.returncode == 2 and "to=pascal is not legal: expected one of voc, coco, yolo, tfrecord" in done.stderr
    done = program.run("convert", *DIGITS, "to=yolo", f"output={tmp_path}/new")
    assert done.returncode == 0 and f"24 images are in {tmp_path}/new, as yolo" in done.stdout, done.stderr


def test_boxes_of_a_detector_as_first_labels(small_run, tmp_path, convert):
    photographs = tmp_path / "photographs"
    source = make_digits(cache_folder(), {"train": 16, "val": 4, "test": 4})
    photographs.mkdir()
    for e in source.splits["val"]:
        (photographs / e.path.name).write_bytes(e.path.read_bytes())
    (photographs / "bad.jpg").write_bytes(b"")
    told = convert(f"run={small_run[0]}", f"images={photographs}", "to=coco", f"output={tmp_path}/coco", "score=0.01")
    assert "bad.jpg" in told
    content = json.loads((tmp_path / "coco/annotations/train.json").read_text())
    assert sorted(i["file_name"] for i in content["images"]) == sorted(e.path.name for e in source.splits["val"])
    assert [c["name"] for c in content["categories"]] == list(source.classes) and content["annotations"]
