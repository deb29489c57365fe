"""A file that `dataset.root` names in place of a folder."""

import json

import numpy as np
import pytest
from PIL import Image

from detect.data.formats.auto import read_auto, recognised
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


@pytest.mark.parametrize("name", ["a.record", "a.TFRecord", "train.tfrecord-00000-of-00001", "a.tfrec.gz"])
def test_the_names_of_tfrecord_files_are_those_of_their_reader(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert recognised(tmp_path / name) == ("tfrecord", f"{name} is named")
