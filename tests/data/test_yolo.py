from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect.data.formats.yolo import read_yolo
from detect.data.formats.yolo_rows import parse_line
from detect.data.validate import check
from detect.errors import DataError

NO_DRAW = {"val_fraction": 0, "test_fraction": 0}


def write(root: Path, picture: str, labels: str | None = "", size=(60, 40)):
    """A picture, and its label file unless None."""
    path = root / picture
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    if labels is not None:
        text = root / picture.replace("images", "labels").replace(".jpg", ".txt")
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(labels)


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "images/train/a.jpg", "1 0.5 0.5 1 1\n\n0 0.25 0.75 0.5 0.25\n")
    write(tmp_path, "images/train/b.jpg", None)
    write(tmp_path, "images/val/a.jpg", "")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n")
    return tmp_path


def test_boxes_and_background(root):
    data = read_yolo(root)
    assert data.classes == ("cat", "dog")
    a, b = data.splits["train"]
    assert a.boxes.tolist() == [[0, 0, 40, 60], [25, 0, 35, 30]]
    assert a.classes.tolist() == [2, 1]
    assert (a.id, a.source) == ("images/train/a.jpg", root / "labels" / "train" / "a.txt")
    assert (b.boxes.shape, b.source) == ((0, 4), None)
    assert data.splits["val"][0].id == "images/val/a.jpg"
    assert data.notes[:2] == ("classes: in the order of the source", "split: data.yaml (train, val); no test images")
    assert "background, pictures without a label file: 1 (images/train/b.jpg)" in data.notes
    assert read_yolo(root / "data.yaml").fingerprint() == data.fingerprint()


def test_labels_around_the_folder_come_last_and_are_noted(tmp_path):
    root = tmp_path / "images" / "set"
    write(root, "a.jpg", "0 0.5 0.5 1 1\n")
    write(root, "b.jpg", None)
    (root / "classes.txt").write_text("cat\n")
    (tmp_path / "labels" / "set").mkdir(parents=True)
    for name in "ab":
        (tmp_path / "labels" / "set" / f"{name}.txt").write_text("0 0.1 0.1 0.1 0.1\n")
    data = read_yolo(root, **NO_DRAW)
    assert [e.source.parent for e in data.splits["train"]] == [root, tmp_path / "labels" / "set"]
    (note,) = (note for note in data.notes if "outside" in note)
    assert note.endswith(f"label files: 1 ({tmp_path / 'labels' / 'set' / 'b.txt'})")


def test_the_names_file_of_a_yaml_is_used(root):
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: names.txt\n")
    (root / "names.txt").write_text("cat\ndog\n")
    assert not [note for note in read_yolo(root).notes if "names.txt" in note or ".txt files" in note]


def test_a_polygon_gives_its_bounds():
    label, box, *_ = parse_line("0 0.1 0.2 0.5 0.25 0.3 0.9", "a.txt:1", ["cat"])
    np.testing.assert_allclose(box, [0.2, 0.1, 0.9, 0.5])
    assert label == 0


def test_path_key_lists_of_pictures_and_several_folders(root, tmp_path):
    write(root, "more/images/c.jpg", "0 .5 .5 .1 .1")
    (root / "val.txt").write_text("./images/val/a.jpg\n")
    (root / "conf").mkdir()
    (root / "conf" / "my.yaml").write_text(
        f"path: {tmp_path}\ntrain: [images/train, more/images]\nval: val.txt\nnames: [cat, dog]\nnc: 2\n"
    )
    data = read_yolo(root / "conf")
    assert [e.id for e in data.splits["train"]] == ["images/train/a.jpg", "images/train/b.jpg", "more/images/c.jpg"]
    assert [e.id for e in data.splits["val"]] == ["images/val/a.jpg"]


def test_folder_beside_the_yaml_written_as_above_it(tmp_path):
    write(tmp_path / "set", "train/images/a.jpg", "0 .5 .5 .5 .5")
    (tmp_path / "set" / "data.yaml").write_text("train: ../train/images\nnames: [cat]\n")
    (e,) = read_yolo(tmp_path / "set", **NO_DRAW).splits["train"]
    assert e.boxes.tolist() == [[10, 15, 30, 45]]


def test_val_is_drawn_from_train_without_one(tmp_path):
    for i in range(10):
        write(tmp_path, f"images/{i}.jpg", "0 .5 .5 .5 .5")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\n")
    data = read_yolo(tmp_path, val_fraction=0.2, test_fraction=0.1)
    assert {s: len(e) for s, e in data.splits.items()} == {"train": 7, "val": 2, "test": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 1", "4 numbers; a line is 'class cx cy width height', or"),
        ("0 0.5 0.5 1 1 0.9", "6 numbers; a line is"),
        ("cat 0.5 0.5 1 1", "'cat 0.5 0.5 1 1' is not a row of numbers"),
        ("0 0.5 0.5 0_1 1", "'0 0.5 0.5 0_1 1' is not a row of numbers"),
        ("2 0.5 0.5 1 1", "class 2 .*legal: 0 cat, 1 dog"),
        ("0.5 0.5 0.5 1 1", r"class 0\.5 "),
        ("0 0.5 nan 1 1", "'0 0.5 nan 1 1' is not a row of finite numbers"),
        ("0 30 20 60 40", "60 is not a share of the image; .* 0\\.\\.1"),
    ],
)
def test_bad_lines_are_named_with_file_and_line(root, line, message):
    (root / "labels" / "train" / "a.txt").write_text(f"0 .5 .5 .1 .1\n{line}\n")
    with pytest.raises(DataError, match=rf"labels/train/a\.txt:2: {message}"):
        read_yolo(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: images/train\nnames: [cat, dog\n", r"data\.yaml, line 3: malformed yaml"),
        ("- a\n", "keys path, train, val, test and names"),
        ("train: images/train\n", "no key 'names'; .*train"),
        ("names: [cat]\nvalue: images/val\n", "no key 'train'; .*names, value"),
        ("train: images/train\nnames: {1: cat, 2: dog}\n", r"names must be numbered 0\.\.1, not 1, 2"),
        ("train: images/train\nnames: cat\n", "names is 'cat'"),
        (
            "train: images/train\nnames:\n  0: cat\n  1: dog\n  1: fox\n",
            r"line 5: malformed yaml \(the key '1' is given twice",
        ),
        (
            "train: images/train\nnames: [cat]\nnames: [cat, dog]\n",
            r"line 3: malformed yaml \(the key 'names' is given",
        ),
        ("train: images/train\nnames: [cat, dog]\nnc: 3\n", "nc is 3, but there are 2 names"),
        ("train: images/train\nnames: list.txt\nnc: 3\n", "nc is 3, but there are 2 names"),
        ("train: images/none\nnames: [cat, dog]\n", "images/none does not exist"),
        ("train: labels\nnames: [cat, dog]\n", "train: labels "),
        ("train: list.txt\nnames: [cat, dog]\n", r"list\.txt: it lists images/x\.jpg, .*1 in all"),
        (
            "train: images/train\nval: images/train\nnames: [cat, dog]\n",
            "train and val have the same 2 images; .* remove the line of val",
        ),
        (
            "train: images/train\nval: images/none\nnames: [cat, dog]\n",
            "val: images/none does not .* remove the line of val",
        ),
    ],
)
def test_messages_for_the_yaml(root, text, message):
    (root / "list.txt").write_text("images/train/a.jpg\nimages/x.jpg\n")
    (root / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_yolo(root)


def test_a_key_that_is_given_twice_with_one_value_is_read(root):
    (root / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\nnc: 2\nnc: 2\n")
    assert read_yolo(root).classes == ("cat", "dog")


def test_messages_for_what_is_not_there(root):
    with pytest.raises(DataError, match=r"dataset\.classes: .*'cow'.*classes: cat, dog"):
        read_yolo(root, classes=["cow"])
    with pytest.raises(DataError, match="no such folder"):
        read_yolo(root / "none")
    with pytest.raises(DataError, match=r"dataset\.root=.*images: .*data\.yaml"):
        read_yolo(root / "images")
    for name in ("x.yaml", "y.yaml"):
        (root / "images" / name).write_text("train: train\nnames: [cat]\n")
    with pytest.raises(DataError, match=r"dataset\.root=.*images: .*x\.yaml, y\.yaml"):
        read_yolo(root / "images")
    (root / "labels" / "train" / "a.txt").unlink()
    with pytest.raises(DataError, match=r"data\.yaml: .*labels/train/a\.txt.* is missing"):
        read_yolo(root)


def test_unreadable_picture(root):
    (root / "images" / "train" / "b.jpg").write_bytes(b"")
    errors = [f for f in check(read_yolo(root)) if f.action == "error"]
    assert [(f.kind, f.path.name) for f in errors] == [("unreadable", "b.jpg")]
