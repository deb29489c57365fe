"""Splits, names and flags as real exports have them: none may end in other boxes, other splits or a refusal."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect.data.folder import split_of, split_of_file
from detect.data.formats.auto import read_auto
from detect.data.formats.coco import read_coco, recognise
from detect.data.formats.cvat import read_cvat
from detect.data.formats.labelme import read_labelme
from detect.data.formats.tf_csv import read_csv
from detect.data.formats.values import flag
from detect.data.formats.yolo import read_yolo
from detect.data.image_folder import read_image_folder
from detect.data.notes import Notes
from detect.data.pictures import Pictures
from detect.errors import DataError

HEADER = "filename,class,xmin,ymin,xmax,ymax\n"


def picture(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 60, 3), level, np.uint8)).save(path)
    return path


def coco(path: Path, names: list[str], categories: list[str] | None = None, flags: dict | None = None) -> Path:
    """A file with a picture of each name, and a box of the first category in each."""
    titles = categories or ["cat"]
    content = {
        "images": [{"id": k, "file_name": name, "width": 60, "height": 40} for k, name in enumerate(names)],
        "categories": [{"id": k, "name": title} for k, title in enumerate(titles, 1)],
        "annotations": [
            {"id": k, "image_id": k % len(names), "category_id": 1 + k % len(titles), "bbox": [2, 3, 10, 20]}
            | (flags or {})
            for k in range(max(len(names), len(titles)))
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def cvat(path: Path, names: list[str], inside: str = "") -> Path:
    box = f'<box label="cat" xtl="2" ytl="3" xbr="12" ybr="23" occluded="0">{inside}</box>'
    images = "".join(f'<image id="{k}" name="{n}" width="60" height="40">{box}</image>' for k, n in enumerate(names))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotations><version>1.1</version>{images}</annotations>")
    return path


def splits(data) -> dict[str, list[str]]:
    return {split: [example.id for example in part] for split, part in data.splits.items() if len(part)}


def test_the_folder_of_a_picture_comes_before_letter_case(tmp_path):
    """The photographs of one camera were saved again, with endings in lower case."""
    picture(tmp_path / "camA/img.jpg")
    picture(tmp_path / "camB/img.JPG")
    assert Pictures([tmp_path], Notes()).find("camA/img.JPG", "x") == tmp_path / "camA/img.jpg"
    shape = {"label": "cat", "points": [[2, 3], [12, 23]], "shape_type": "rectangle"}
    about = {
        "version": "5",
        "flags": {},
        "imagePath": "img.JPG",
        "imageWidth": 60,
        "imageHeight": 40,
        "shapes": [shape],
    }
    (tmp_path / "camA/img.json").write_text(json.dumps(about))
    (example,) = read_labelme(tmp_path, val_fraction=0, test_fraction=0).splits["train"]
    assert example.path == tmp_path / "camA/img.jpg"


@pytest.mark.parametrize("name", ["frame.jpg", "frame.JPG", "C:\\\\cam\\\\frame.jpg"])
def test_the_picture_beside_the_annotations_comes_first(tmp_path, name):
    for k, split in enumerate(("train", "val")):
        picture(tmp_path / split / "images/frame.jpg", 50 * k)
        coco(tmp_path / split / "annotations.json", [name.replace("\\\\", "\\")])
    found = read_coco(tmp_path).splits
    assert [found[s][0].path for s in ("train", "val")] == [tmp_path / s / "images/frame.jpg" for s in ("train", "val")]


def test_tasks_of_a_video_have_the_same_names(tmp_path):
    for k, task in enumerate(("task1", "task2")):
        picture(tmp_path / task / "images/frame_000000.png", 50 * k)
        cvat(tmp_path / task / "annotations.xml", ["frame_000000"])
    found = read_cvat(tmp_path, val_fraction=0, test_fraction=0).splits["train"]
    assert {example.path for example in found} == {tmp_path / f"task{k}/images/frame_000000.png" for k in (1, 2)}


def test_two_pictures_of_one_name_are_still_refused(tmp_path):
    for place in ("a", "b"):
        picture(tmp_path / place / "1.jpg")
    coco(tmp_path / "boxes.json", ["1.JPG"])
    with pytest.raises(DataError, match=r"the picture '1\.JPG' could be .*a/1\.jpg, .*b/1\.jpg"):
        read_coco(tmp_path)


@pytest.mark.parametrize(
    "name, split",
    [("test-dev.json", "test"), ("instances_test-dev2017.json", "test"), ("VisDrone2019-DET-test-dev", "test"),
     ("dev.json", "val"), ("test_val.json", "val"), ("latest.json", None)],
)  # fmt: skip
def test_the_split_of_a_name(name, split):
    assert split_of(Path(name)) == split


def test_the_split_of_a_file(tmp_path):
    names = ("test_labels.csv", "val/annotations.xml", "boxes.csv", "test/train.record")
    assert [split_of_file(tmp_path / "x" / name) for name in names] == ["test", "val", None, "train"]


def test_a_file_of_test_takes_the_pictures_of_test(tmp_path):
    """Other pictures of the same names lie in the folder of train."""
    for k, split in enumerate(("train", "test")):
        picture(tmp_path / "images" / split / "a.jpg", 50 * k)
        (tmp_path / f"{split}_labels.csv").write_text(f"{HEADER}a.jpg,cat,2,3,12,23\n")
    data = read_csv(tmp_path / "test_labels.csv")
    assert splits(data) == {"test": ["images/test/a.jpg"]}
    picture(tmp_path / "val/b.jpg")
    assert splits(read_cvat(cvat(tmp_path / "val/annotations.xml", ["b.jpg"]))) == {"val": ["b.jpg"]}


@pytest.mark.parametrize("kind", ["coco", "csv", "cvat"])
def test_one_file_whose_pictures_lie_in_folders_of_splits(tmp_path, kind):
    names = ["train/a.jpg", "train/b.jpg", "val/c.jpg"]
    for name in names:
        picture(tmp_path / name)
    if kind == "coco":
        coco(tmp_path / "annotations.json", names)
    elif kind == "cvat":
        cvat(tmp_path / "annotations.xml", names)
    else:
        (tmp_path / "labels.csv").write_text(HEADER + "".join(f"{name},cat,2,3,12,23\n" for name in names))
    data = read_auto(tmp_path)
    assert splits(data) == {"train": names[:2], "val": names[2:]}
    assert any(note.startswith("split: folders of the pictures") for note in data.notes)


@pytest.mark.parametrize(
    "names",
    [["train/a.jpg", "val/b.jpg", "more/c.jpg"], ["train_station/a.jpg", "train_station/b.jpg", "test_hall/c.jpg"]],
)
def test_folders_that_are_no_splits_are_none(tmp_path, names):
    for name in names:
        picture(tmp_path / name)
    coco(tmp_path / "annotations.json", names)
    assert splits(read_coco(tmp_path, val_fraction=0, test_fraction=0)) == {"train": sorted(names)}


def test_classes_that_are_numbered_in_each_file(tmp_path):
    """As labelme2coco does it, once for each split."""
    for split, categories in (("train", ["cat"]), ("val", ["dog", "cat"])):
        picture(tmp_path / split / f"{split}.jpg")
        coco(tmp_path / split / "boxes.json", [f"{split}.jpg"], categories)
    data = read_coco(tmp_path)
    assert data.classes == ("cat", "dog") and data.category_ids == (1, 3)
    assert data.splits["val"][0].classes.tolist() == [2, 1]
    assert any("dog in boxes.json: 3, not 1" in note for note in data.notes)


def test_a_large_file_whose_lists_begin_in_the_middle(tmp_path):
    """detectron2 writes images, categories and annotations, in this order."""
    many = 14_000
    content = {
        "info": {}, "images": [{"id": k, "file_name": f"{k:060}.jpg"} for k in range(many)],
        "categories": [{"id": 1, "name": "cat"}], "licenses": None,
        "annotations": [{"id": k, "image_id": k, "category_id": 1, "bbox": [1.25, 2.5, 3.75, 4.5], "area": 16.875}
                        for k in range(many)],
    }  # fmt: skip
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    assert recognise(tmp_path) is not None
    content["categories_of_another_program"] = content.pop("categories")
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    assert recognise(tmp_path) is None


@pytest.mark.parametrize("layout", ["set", "darknet"])
def test_a_description_in_a_folder_inside(tmp_path, layout):
    (tmp_path / "LICENSE.txt").write_text("free")
    place = tmp_path / ("set" if layout == "set" else "data")
    picture(place / "images/train/a.jpg")
    (place / "labels/train").mkdir(parents=True)
    (place / "labels/train/a.txt").write_text("0 .5 .5 .2 .2\n")
    if layout == "set":
        (place / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    else:
        (tmp_path / "cfg").mkdir()
        (tmp_path / "cfg/yolo.cfg").write_text("[net]")
        (place / "obj.names").write_text("cat\n")
        (place / "train.txt").write_text("data/images/train/a.jpg\n")
        (place / "obj.data").write_text("classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n")
    for data in (read_auto(tmp_path), read_yolo(tmp_path)):
        assert data.classes == ("cat",) and len(data.splits["train"]) == 1


def test_a_list_of_test_with_a_missing_entry_keeps_the_others(tmp_path):
    for split in ("train", "val", "test"):
        picture(tmp_path / "images" / split / f"{split}.jpg")
        (tmp_path / "labels" / split).mkdir(parents=True)
        (tmp_path / "labels" / split / f"{split}.txt").write_text("0 .5 .5 .2 .2\n")
    start = "train: images/train\nval: images/val\nnames: [cat]\n"
    (tmp_path / "data.yaml").write_text(f"{start}test: [images/test, images/gone]\n")
    data = read_yolo(tmp_path)
    assert [example.path.name for example in data.splits["test"]] == ["test.jpg"]
    assert any("that do not exist: 1 (test: images/gone)" in note for note in data.notes)


def test_a_class_that_is_called_train(tmp_path):
    for name in ("bus", "car", "train"):
        picture(tmp_path / name / "1.jpg")
    data = read_image_folder(tmp_path, val_fraction=0, test_fraction=0)
    assert data.classes == ("bus", "car", "train") and len(data.splits["train"]) == 3


FLAGS = [(2, True), ("2", True), (0, False), ("0.0", False), ("__undefined__", False), ("Unspecified", False),
         (None, False), (True, True), ("yes", True),
         (-1, False), ("-1.0", False), (-2, None), ("maybe", None), ([], None)]  # fmt: skip


@pytest.mark.parametrize("given, meaning", FLAGS)
def test_a_flag(given, meaning):
    assert flag(given) is meaning


@pytest.mark.parametrize("given, crowd", [("2", True), ("__undefined__", False), ("Unspecified", False), ("-1", False)])
def test_flags_mean_the_same_in_all_formats(tmp_path, given, crowd):
    """A level of difficulty, and what tools write for a flag that nobody has set."""
    picture(tmp_path / "csv/a.jpg")
    (tmp_path / "csv/a.csv").write_text(f"{HEADER[:-1]},difficult\na.jpg,cat,2,3,12,23,{given}\n")
    picture(tmp_path / "cvat/a.jpg")
    cvat(tmp_path / "cvat/a.xml", ["a.jpg"], f'<attribute name="difficult">{given}</attribute>')
    picture(tmp_path / "coco/a.jpg")
    coco(tmp_path / "coco/a.json", ["a.jpg"], flags={"attributes": {"difficult": given}})
    for kind in ("csv", "cvat", "coco"):
        (example,) = read_auto(tmp_path / kind, val_fraction=0, test_fraction=0).splits["train"]
        assert example.crowd.tolist() == [crowd], kind
