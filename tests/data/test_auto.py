"""A file that `dataset.root` names in place of a folder."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect.data.formats.auto import read_auto, recognised
from detect.data.formats.coco import read_coco
from detect.data.formats.join import read_join
from detect.data.formats.tf_csv import read_csv
from detect.data.formats.voc import read_voc
from detect.errors import DataError

ONE = {"images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 20}],
       "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
       "categories": [{"id": 1, "name": "cat"}]}  # fmt: skip
LABELME = {"version": "5", "shapes": [], "imagePath": "a.jpg"}


def picture(path, level=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 40, 3), level, np.uint8)).save(path)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".TSV"])
def test_a_table_is_csv(tmp_path, ending):
    picture(tmp_path / "a.jpg")
    rows = ("filename", "class", "xmin", "ymin", "xmax", "ymax"), ("a.jpg", "cat", "2", "3", "4", "6")
    (tmp_path / f"boxes{ending}").write_text("\n".join("\t".join(row) for row in rows))
    data = read_auto(tmp_path / f"boxes{ending}")
    assert data.splits["train"][0].boxes.tolist() == [[2, 1, 6, 4]] and "format: csv (" in data.notes[0]


@pytest.mark.parametrize(
    ("file", "image", "split"),
    [
        ("boxes.json", "a.jpg", "train"),
        ("boxes.json", "images/a.jpg", "train"),
        ("valid/_annotations.coco.json", "valid/a.jpg", "val"),
        ("annotations/instances_train2017.json", "train2017/a.jpg", "train"),
        ("annotations/instances_val2017.json", "val2017/a.jpg", "val"),
    ],
)
def test_a_coco_file_is_the_split_of_its_name(tmp_path, file, image, split):
    """Its pictures may be above its folder. Those of another split have the same names."""
    for k, name in enumerate(("train2017/a.jpg", "val2017/a.jpg") if "2017" in image else (image,)):
        picture(tmp_path / name, 50 * k)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(json.dumps(ONE))
    data = read_auto(tmp_path / file)
    assert {s: [e.path for e in part] for s, part in data.splits.items() if len(part)} == {split: [tmp_path / image]}
    assert data.splits[split][0].boxes.tolist() == [[2, 1, 6, 4]] and "format: coco (" in data.notes[0]
    assert read_coco(tmp_path / file).fingerprint() == data.fingerprint()
    with pytest.raises(DataError, match=rf"dataset\.root=.*{file}: not a folder"):
        read_coco(tmp_path / file, train=file)


def test_a_damaged_coco_file_is_named(tmp_path):
    (tmp_path / "boxes.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(DataError, match=r"boxes\.json: no list 'categories'; the file has images, annotations"):
        read_auto(tmp_path / "boxes.json")


@pytest.mark.parametrize(
    ("file", "text", "kind"),
    [
        ("a.json", json.dumps(LABELME), "labelme"),
        ("index.json", '{"kind": "arrayrecord"}', "arrayrecord"),
        ("a.xml", "<annotation><object/></annotation>", "voc"),
    ],
)
def test_one_of_the_files_of_a_data_set_asks_for_its_folder(tmp_path, file, text, kind):
    (tmp_path / file).write_text(text)
    with pytest.raises(DataError, match=rf"dataset\.root=.*{file}: .*one of the files .*{kind}.*folder"):
        read_auto(tmp_path / file)


@pytest.mark.parametrize("file", ["set.zip", "best.pt", "a.jpg", "records", "a.record.txt~", "notes.md"])
def test_another_ending_is_refused(tmp_path, file):
    (tmp_path / file).write_bytes(b"\0\1\2")
    with pytest.raises(DataError, match=rf"dataset\.root=.*{file}: .*\.yaml.*\.tsv.*\.xml.*\.json.*\.tfrecord"):
        read_auto(tmp_path / file)


def raccoons(root, folder="images"):
    """The pictures and XML files of a tutorial, and the CSV files that its scripts make of them."""
    for k, name in enumerate("ab"):
        picture(root / folder / f"{name}.jpg", 50 * k)
        corners = "<xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax>"
        text = f"<annotation><object><name>cat</name><bndbox>{corners}</bndbox></object></annotation>"
        (root / folder / f"{name}.xml").write_text(text)
    (root / "data").mkdir()
    for split, name in (("train", "a"), ("test", "b")):
        (root / f"data/{split}_labels.csv").write_text(f"filename,class,xmin,ymin,xmax,ymax\n{name}.jpg,cat,2,3,9,9\n")


def as_voc(root):
    (root / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><object><name>cat</name><bndbox><xmin>2</xmin><ymin>3</ymin>"
        "<xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>"
    )


def as_yolo(root):
    (root / "a.txt").write_text("0 .5 .5 .2 .2\n")
    (root / "classes.txt").write_text("cat\n")


def as_yolo_yaml(root):
    as_yolo(root)
    (root / "data.yaml").write_text("train: .\nnames: [cat]\n")


def as_coco(root):
    (root / "boxes.json").write_text(json.dumps(ONE))


def as_labelme(root):
    shape = {"label": "cat", "points": [[1, 2], [9, 8]], "shape_type": "rectangle"}
    (root / "a.json").write_text(json.dumps(LABELME | {"shapes": [shape]}))


def as_csv(root):
    (root / "boxes.csv").write_text("filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,2,3,9,8\n")


def as_cvat(root):
    box = '<box label="cat" xtl="1" ytl="2" xbr="9" ybr="8"/>'
    (root / "boxes.xml").write_text(f'<annotations><image name="a.jpg">{box}</image></annotations>')


@pytest.mark.parametrize("form", [as_voc, as_yolo, as_yolo_yaml, as_coco, as_labelme, as_csv, as_cvat])
@pytest.mark.parametrize("ending", ["heic", "avif"])
def test_a_picture_in_a_format_that_is_not_read_is_named(tmp_path, form, ending):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / f"a.{ending}")
    form(tmp_path)
    with pytest.raises(DataError, match=rf"a\.{ending} has a format that is not read; save it as PNG or JPEG$"):
        read_auto(tmp_path)


@pytest.mark.parametrize("form", [as_voc, as_yolo, as_coco, as_labelme, as_csv, as_cvat])
@pytest.mark.parametrize("name", ["set", "images", "[a] *"])
def test_a_relative_root_is_the_same_data_set(tmp_path, form, name, monkeypatch):
    root = tmp_path / name
    for k, split in enumerate(("train", "val")):
        picture(root / split / "a.jpg", 50 * k)
        form(root / split)

    def read(folder, here):
        monkeypatch.chdir(here)
        data = read_auto(folder)
        found = [(s, e.id, os.path.abspath(e.path), e.boxes.tolist()) for s in data.splits for e in data.splits[s]]
        return data.name, found, data.notes[1:]

    known = read(root, tmp_path)
    assert [(split, Path(file).stem) for split, file, *_ in known[1]] == [("train", "a"), ("val", "a")]
    for folder, here in ((name, tmp_path), (".", root), ("..", root / "val"), (f"../{name}", root), ("val/..", root)):
        assert read(folder, here) == known


@pytest.mark.parametrize("form", [as_voc, as_yolo, as_coco, as_labelme, as_csv])
@pytest.mark.parametrize(
    ("name", "beside", "split"),
    [("test", "train", "test"), ("valid", "train", "val"), ("photos", "train", "train"), ("test", "other", "train")],
)
def test_the_name_of_the_folder_tells_the_split_if_nothing_in_it_does(tmp_path, form, name, beside, split):
    """`test` alone may be anything; beside a folder `train`, it is the test set."""
    root = tmp_path / name
    (tmp_path / beside).mkdir()
    picture(root / "a.jpg")
    form(root)
    data = read_auto(root)
    assert [part for part, images in data.splits.items() if len(images)] == [split]
    assert any("the name of the folder" in note for note in data.notes) is (split != "train")


@pytest.mark.parametrize("form", [as_voc, as_yolo, as_coco, as_labelme, as_csv, as_cvat])
@pytest.mark.parametrize(
    ("name", "split"),
    [("test_A", "test"), ("my val", "val"), ("evaluation", "val"), ("evaluate", "val"), ("minival", "val")],
)
def test_a_folder_beside_train_is_the_split_that_its_name_speaks_for(tmp_path, form, name, split):
    for k, folder in enumerate(("train", name)):
        picture(tmp_path / folder / "a.jpg", 50 * k)
        form(tmp_path / folder)
    data = read_auto(tmp_path, val_fraction=0, test_fraction=0)
    assert {part: len(images) for part, images in data.splits.items() if len(images)} == {"train": 1, split: 1}


def test_what_names_the_training_images_comes_before_the_name_of_the_folder(tmp_path):
    root = tmp_path / "test"
    (tmp_path / "train").mkdir()
    picture(root / "a.jpg")
    as_yolo(root)
    (root / "data.yaml").write_text("train: .\nnames: [cat]\n")
    assert len(read_auto(root).splits["train"]) == 1
    as_voc(root)
    assert len(read_voc(root, splits=None).splits["train"]) == 1


def test_csv_files_that_alone_tell_the_split_ask_for_a_choice(tmp_path):
    raccoons(tmp_path)
    with pytest.raises(DataError, match=r"2 formats fit; .*\n  dataset=voc: .*\n  dataset=csv: .*tell train and test"):
        read_auto(tmp_path)
    data = read_csv(tmp_path, val_fraction=0)
    assert {s: [e.id for e in part] for s, part in data.splits.items() if len(part)} == {
        "train": ["images/a.jpg"], "test": ["images/b.jpg"]
    }  # fmt: skip
    (tmp_path / "train.txt").write_text("images/a\nimages/b\n")
    assert "format: voc (" in read_auto(tmp_path).notes[0]


@pytest.mark.parametrize("name", ["train", "images/train"])
def test_folders_of_splits_come_before_csv_files(tmp_path, name):
    raccoons(tmp_path, name)
    assert "not used: CSV" in read_auto(tmp_path).notes[0]


def test_a_column_that_a_csv_lacks_is_named(tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / "boxes.csv").write_text("filename,kind,xmin,ymin,xmax,ymax\na.jpg,cat,2,3,9,9\n")
    with pytest.raises(DataError, match=r"boxes\.csv, line 1: no column 'class'; .*; it has kind"):
        read_auto(tmp_path)
    as_yolo(tmp_path)
    assert read_auto(tmp_path).classes == ("cat",)


@pytest.mark.parametrize("row", ["a.jpg,1,2,9,9,cat,60,40", "cat,1,2,9,9,a.jpg,60,40"])
def test_a_csv_of_another_form_is_told_the_columns(tmp_path, row):
    """SKU-110K and MakeSense write no header."""
    picture(tmp_path / "a.jpg")
    (tmp_path / "boxes.csv").write_text(row + "\n")
    told = r"no format of boxes is recognised .*boxes\.csv: .* header .*filename, class, xmin, ymin, xmax, ymax$"
    with pytest.raises(DataError, match=told):
        read_auto(tmp_path)


def test_a_csv_of_all_images_beside_those_of_splits_is_named(tmp_path):
    raccoons(tmp_path)
    (tmp_path / "data/raccoon_labels.csv").write_text("filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,2,3,9,9\n")
    with pytest.raises(DataError, match=r"raccoon_labels\.csv: neither .* train, val or test.*; rename it, or"):
        read_csv(tmp_path)


@pytest.mark.parametrize("form", [as_yolo_yaml, as_coco, as_csv])
def test_tasks_side_by_side_can_be_joined(tmp_path, form):
    """The message names a way that loses none of them."""
    tasks = [tmp_path / "task_1", tmp_path / "task_2"]
    for k, task in enumerate(tasks):
        picture(task / "a.jpg", 50 * k)
        form(task)
    with pytest.raises(DataError, match=r"name one: .*; or .*: dataset=join 'dataset\.roots=\[DIR,DIR\]'$"):
        read_auto(tmp_path)
    joined = read_join(tasks, val_fraction=0, test_fraction=0).splits["train"]
    assert [(e.id, len(e.boxes)) for e in joined] == [("task_1/a.jpg", 1), ("task_2/a.jpg", 1)]


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("z.xml", "<annotation><filename>a.jpg</filename></annotation>", "voc"),
        ("z.xml", "<annotations><version>1.1</version></annotations>", "cvat"),
        ("z.json", json.dumps(LABELME), "labelme"),
        ("z.csv", "filename,class,xmin,ymin,xmax,ymax\n", "csv"),
    ],
)
def test_files_of_other_kinds_may_come_first(tmp_path, name, text, kind):
    for k in range(30):
        (tmp_path / f"a{k}.{name[2:]}").write_text("<x/>")
    (tmp_path / name).write_text(text)
    assert recognised(tmp_path)[0] == kind


@pytest.mark.parametrize("name", ["a.record", "a.TFRecord", "train.tfrecord-00000-of-00001", "a.tfrec.gz"])
def test_the_names_of_tfrecord_files_are_those_of_their_reader(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert recognised(tmp_path / name) == ("tfrecord", f"{name} is named")
