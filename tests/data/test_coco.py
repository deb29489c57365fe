import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect.data.formats.coco import read_coco
from detect.data.formats.join import read_join
from detect.data.formats.voc import read_voc
from detect.data.formats.yolo import read_yolo
from detect.data.notes import Notes
from detect.data.validate import check
from detect.errors import ConfigError, DataError
from detect.evaluation.coco import ground_truth_check
from detect.evaluation.coco_files import write_coco
from tests.evaluation.score_files import score_files

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}]


def content(stems, annotations=(), categories=CATEGORIES, size=(60, 40), **image):
    """A COCO object; images are numbered from 100 in the order of `stems`."""
    images = [
        {"id": 100 + k, "file_name": f"{s}.jpg", "width": size[0], "height": size[1], **image}
        for k, s in enumerate(stems)
    ]
    return {"images": images, "annotations": list(annotations), "categories": categories}


def box(image, category, bbox, **more):
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


def write(root: Path, name: str, what: dict, pictures: str = "images", size=(60, 40)):
    (root / pictures).mkdir(parents=True, exist_ok=True)
    for image in what["images"]:
        Image.new("RGB", size).save(root / pictures / image["file_name"])
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(what))


@pytest.fixture
def root(tmp_path):
    boxes = [box(100, 18, [0, 10, 50, 20]), box(100, 3, [1.5, 2.5, 3, 4], iscrowd=1)]
    write(tmp_path, "annotations/train.json", content(["a", "b"], boxes))
    write(tmp_path, "annotations/val.json", content(["c"], [box(100, 3, [0, 0, 60, 40])]))
    return tmp_path


def read(root, **more):
    return read_coco(root, **{"train": "annotations/train.json", "val": "annotations/val.json", **more})


def test_boxes_classes_and_crowd(root):
    data = read(root)
    assert data.classes == ("cat", "dog")  # in the order of their ids, 3 and 18
    a, b = data.splits["train"]
    assert a.boxes.tolist() == [[10, 0, 30, 50], [2.5, 1.5, 6.5, 4.5]]
    assert (a.classes.tolist(), a.crowd.tolist()) == ([2, 1], [False, True])
    assert (a.id, a.width, a.height, a.annotated_size) == ("images/a.jpg", 60, 40, (60, 40))
    assert b.boxes.shape == (0, 4)
    assert data.splits["val"][0].boxes.tolist() == [[0, 0, 40, 60]]
    assert data.notes[1] == "split: json files (train: train.json, val: val.json); no test images"
    assert data.category_ids == (3, 18) and [e.source_id for e in data.splits["train"]] == [100, 101]


@pytest.mark.parametrize("number", ["--1", "-", "1-"])
def test_an_id_that_is_no_number_is_text(root, number):
    file = root / "annotations" / "train.json"
    content = json.loads(file.read_text())
    content["categories"].append({"id": number, "name": "odd"})
    file.write_text(json.dumps(content))
    assert read(root).classes == ("cat", "dog")


def test_a_list_of_no_classes_is_refused(root):
    with pytest.raises(ConfigError, match=r"^dataset\.classes=\[\] is not legal: expected names of classes"):
        read(root, classes=[])


def test_given_classes_set_the_order_and_leave_others_out(root):
    data = read(root, classes=["dog", "cat"])
    assert data.splits["train"][0].classes.tolist() == [1, 2] and data.category_ids == (18, 3)
    only = read(root, classes=["cat"])
    assert [e.classes.tolist() for e in only.splits["train"]] == [[1], []]
    assert "left out by dataset.classes, classes: 1 (dog with 1 boxes)" in only.notes
    with pytest.raises(DataError, match=r"dataset\.classes: .*'cow'.*classes: cat, dog"):
        read(root, classes=["cat", "cow"])


def test_classes_are_renamed_and_merged(root):
    data = read(root, rename={"cat": "animal", "dog": "animal"})
    assert data.classes == ("animal",) and data.splits["train"][0].classes.tolist() == [1, 1]
    with pytest.raises(DataError, match=r"dataset\.rename: .*'dogs'; did you mean 'dog'"):
        read(root, rename={"dogs": "dog"})


def test_same_names_under_other_ids_in_val(root):
    other = content(["c"], [box(100, 7, [0, 0, 6, 4])], [{"id": 7, "name": "dog"}])
    write(root, "annotations/val.json", other)
    data = read(root)
    assert data.splits["val"][0].classes.tolist() == [2] and data.category_ids == (3, 18)
    assert any("other ids" in note and "dog in val.json: 7, not 18" in note for note in data.notes)


def test_class_of_val_that_train_does_not_have(root):
    write(root, "annotations/val.json", content(["c"], [box(100, 7, [0, 0, 6, 4])], [{"id": 7, "name": "cow"}]))
    data = read(root)
    assert data.classes == ("cat", "cow", "dog") and data.category_ids == (3, 7, 18)
    assert any("'cow' has no box in train" in f.detail for f in check(data))


def test_val_is_drawn_from_train_without_one(tmp_path):
    write(tmp_path, "all.json", content([f"{i}" for i in range(10)]))
    data = read_coco(tmp_path, "all.json", None, val_fraction=0.2, test_fraction=0.3)
    assert {s: len(e) for s, e in data.splits.items()} == {"train": 5, "val": 2, "test": 3}


@pytest.mark.parametrize("pictures", [".", "images", "train", "images/train2017", "train2017", "annotations"])
def test_pictures_are_looked_for_where_they_usually_lie(tmp_path, pictures):
    name = "annotations/instances_train2017.json"
    write(tmp_path, name, content(["a"]), pictures)
    data = read_coco(tmp_path, name, None, val_fraction=0, test_fraction=0)
    assert data.splits["train"][0].path == tmp_path / pictures / "a.jpg"


def test_same_file_names_in_two_folders_are_two_images(tmp_path):
    for split in ("train", "valid"):
        write(tmp_path, f"{split}/_annotations.coco.json", content(["0"]), split)
    data = read_coco(tmp_path, "train/_annotations.coco.json", "valid/_annotations.coco.json")
    assert data.splits["val"][0].id == "valid/0.jpg"


def test_missing_pictures(root):
    (root / "images" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"train\.json: 1 of 2 pictures .*b\.jpg.*dataset=coco dataset\.images\.train"):
        read(root)
    with pytest.raises(DataError, match=r"dataset\.images\.train=.*elsewhere: no such folder"):
        read(root, images={"train": "elsewhere"})


def test_overlapping_splits(root):
    with pytest.raises(DataError, match=r"train and val share 2 images: images/a\.jpg, images/b\.jpg"):
        read(root, val="annotations/train.json")


def test_a_missing_picture_that_another_split_has_is_named(tmp_path):
    for split in ("train", "val"):
        write(tmp_path, f"annotations/instances_{split}2017.json", content(["5", "6"]), f"{split}2017")
    (tmp_path / "train2017/5.jpg").unlink()
    found = r"train2017\.json: images: '5\.jpg' was found only at .*val2017/5\.jpg; is its own missing"
    with pytest.raises(DataError, match=rf"train and val share 1 image: val2017/5\.jpg.*{found}"):
        read_coco(tmp_path)


def test_a_picture_that_one_file_lists_twice_is_no_missing_one(tmp_path):
    """Label Studio exports a task once for each of its annotations."""
    write(tmp_path, "result.json", content(["a"]))
    (tmp_path / "result.json").write_text(json.dumps(content(["images/1/a", "images/1/a"])))
    told = r"train lists 1 image twice: images/a\.jpg\. .*result\.json: images: 'images/1/a\.jpg' is listed twice; join"
    with pytest.raises(DataError, match=told):
        read_coco(tmp_path)


@pytest.mark.parametrize("ids", [(1, 2), ("x7", "x9")])
def test_the_ids_of_a_picture_that_one_file_lists_twice_are_named(tmp_path, ids):
    images = [{"id": i, "file_name": "a.jpg", "width": 60, "height": 40} for i in ids]
    write(tmp_path, "result.json", content([]) | {"images": images})
    first, second = (rf"images/a\.jpg \(id {i} in .*result\.json\)" for i in ids)
    told = rf"lists 1 image twice: images/a\.jpg\. .*images/a\.jpg: .* of 2 images: {first}, {second}"
    with pytest.raises(DataError, match=told):
        read_coco(tmp_path)


def test_a_picture_under_two_ids_is_refused(tmp_path):
    """The file of val names the picture of train by a path that leaves its folder."""
    for split in ("train", "val"):
        write(tmp_path, f"{split}/_annotations.coco.json", content(["0"]), split)
    (tmp_path / "val/_annotations.coco.json").write_text(json.dumps(content(["../train/0"])))
    with pytest.raises(
        DataError, match=r"train/0\.jpg: it is the picture of 2 images: train/0\.jpg .*, val/\.\./train"
    ):
        read_coco(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [],\n "annotations": [}', r"train\.json, line 2: malformed json \(Expecting value, column 18\)"),
        ("", "line 1: malformed json"),
        ("[]", "one object with images, annotations and categories"),
        ('{"images": []}', "no list 'categories'; .* has images"),
        (json.dumps({**content(["a"]), "annotations": {}}), "no list 'annotations'"),
        (json.dumps({**content(["a"]), "images": [{"id": 1}]}), r"images\[0\] has no 'file_name'"),
        (json.dumps(content(["a"], [{"image_id": 100, "bbox": [1, 1, 1, 1]}])), r"\[0\] has no 'category_id'"),
        (
            json.dumps(content(["a"], [box(100, 5, [1, 1, 1, 1])])),
            r"annotations\[0\]: category_id is 5, .*categories; legal: 18, 3",
        ),
        (
            json.dumps(content(["a"], [box(9, 3, [1, 1, 1, 1])])),
            r"annotations\[0\]: image_id is 9, .*images; legal: 100",
        ),
        (
            json.dumps(content(["a"], [box(100, 3, [1, 1, 1, 1])], [{"id": 3, "name": " "}])),
            "categories: the name of id 3 is empty; it must be text",
        ),
        (json.dumps(content(["a"], [], [{"id": 3, "name": True}])), r"categories\[0\]: name is True; it must be text"),
        (json.dumps(content(["a"], [box(100, 3, [1, 1, 1])])), r"\[0\]: bbox is \[1, 1, 1\]; .*four numbers"),
        (json.dumps(content(["a"], [box(100, 3, [1, 1, 1, float("nan")])])), "nan.*four numbers"),
    ],
)
def test_messages_for_wrong_content(root, text, message):
    (root / "annotations" / "train.json").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read(root)
    assert "train.json" in str(caught.value)


def test_a_list_that_is_given_twice_is_refused(tmp_path):
    write(tmp_path, "all.json", content(["a"], [box(100, 18, [1, 2, 3, 4])]))
    text = (tmp_path / "all.json").read_text()
    (tmp_path / "all.json").write_text(text[:-1] + ', "annotations": []}')
    with pytest.raises(DataError, match=r"all\.json: the list 'annotations' is given twice; join the two"):
        read_coco(tmp_path)


def test_an_empty_name_without_a_box_is_left_out(tmp_path):
    categories = [{"id": 0, "name": ""}, {"id": 18, "name": "cat"}]
    assert one_file(tmp_path, [box(100, 18, [1, 2, 3, 4])], categories=categories).classes == ("cat",)


def test_missing_file(root):
    with pytest.raises(DataError, match=r"none\.json: no such file"):
        read(root, train="none.json")
    with pytest.raises(
        DataError, match=r"a\.jpg: (this is not a text file|malformed json)|a\.jpg, line 1: malformed json"
    ):
        read(root, train="images/a.jpg")


@pytest.mark.parametrize("size", [(61, 37), (40, 90)])
def test_the_same_boxes_from_voc_coco_and_yolo(tmp_path, size):
    """[ymin, xmin, ymax, xmax] of whole pixels, written in the three notations, come back as the same examples."""
    width, height = size
    truth = np.array([[0, 0, height, width], [3, 7, 20, 31], [height - 1, width - 2, height, width]], np.float64)
    labels = ["dog", "cat", "dog"]
    voc, coco, yolo = (tmp_path / n for n in ("voc", "coco", "yolo"))
    for folder in (voc / "JPEGImages", voc / "Annotations", yolo / "images", yolo / "labels"):
        folder.mkdir(parents=True)
    number = {"cat": 3, "dog": 18}
    annotations = [
        box(100, number[n], [x0, y0, x1 - x0, y1 - y0]) for n, (y0, x0, y1, x1) in zip(labels, truth, strict=True)
    ]
    write(coco, "train.json", content(["a"], annotations, size=size), size=size)
    Image.new("RGB", size).save(voc / "JPEGImages" / "a.jpg")
    Image.new("RGB", size).save(yolo / "images" / "a.jpg")
    objects = "".join(
        f"<object><name>{n}</name><bndbox><xmin>{x0 + 1:g}</xmin><ymin>{y0 + 1:g}</ymin>"
        f"<xmax>{x1:g}</xmax><ymax>{y1:g}</ymax></bndbox></object>"
        for n, (y0, x0, y1, x1) in zip(labels, truth[:2], strict=False)
    )
    # one pixel of height, which the inclusive corners of VOC can't tell from none, is left to the other two
    (voc / "Annotations" / "a.xml").write_text(f"<annotation>{objects}</annotation>")
    rows = (
        f"{['cat', 'dog'].index(n)} {(x0 + x1) / 2 / width} {(y0 + y1) / 2 / height} "
        f"{(x1 - x0) / width} {(y1 - y0) / height}"
        for n, (y0, x0, y1, x1) in zip(labels, truth, strict=True)
    )
    (yolo / "labels" / "a.txt").write_text("\n".join(rows))
    (yolo / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")

    fractions = {"val_fraction": 0, "test_fraction": 0}
    from_coco = read_coco(coco, "train.json", None, **fractions)
    from_yolo = read_yolo(yolo, **fractions)
    from_voc = read_voc(voc, **fractions)
    for data, n in ((from_coco, 3), (from_yolo, 3), (from_voc, 2)):
        (e,) = data.splits["train"]
        assert data.classes == ("cat", "dog")
        assert (e.width, e.height, e.classes.tolist()) == (*size, [2, 1, 2][:n])
        np.testing.assert_array_equal(e.boxes, truth[:n].astype(np.float32))


def test_the_layout_of_coco_itself(tmp_path):
    """Each split has its folder, and a picture of the same name in another split's folder is another picture."""
    write(
        tmp_path, "annotations/instances_train2017.json", content(["a", "b"], [box(100, 18, [1, 2, 3, 4])]), "train2017"
    )
    write(tmp_path, "annotations/instances_val2017.json", content(["a"], [box(100, 18, [1, 2, 3, 4])]), "val2017")
    data = read_coco(tmp_path)
    assert [e.id for e in data.splits["train"]] == ["train2017/a.jpg", "train2017/b.jpg"]
    assert [e.id for e in data.splits["val"]] == ["val2017/a.jpg"]
    assert not any("matched by a name" in note for note in data.notes)


@pytest.mark.parametrize(
    ("train", "val"),
    [
        (("annotations/train.json", "train/images"), ("annotations/val.json", "val/images")),
        (("train.json", "train/images"), ("val.json", "valid/images")),
        (("train/annotations/instances.json", "train/images"), ("val/annotations/instances.json", "val/images")),
        (
            ("data/train/annotations/a.json", "data/train/images"),
            ("data/valid/annotations/a.json", "data/valid/images"),
        ),
        (("annotations/instances_default.json", "images/default"), ("annotations/instances_val.json", "images/val")),
        (("annotations/person_keypoints_default.json", "default/x"), ("annotations/val.json", "val/x")),
    ],
)
def test_equal_names_in_the_folders_of_the_splits(tmp_path, train, val):
    for name, pictures in (train, val):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path, name, content(["1", "2"], [box(100, 18, [1, 2, 3, 4])]), pictures)
    data = read_coco(tmp_path)
    for split, (_, pictures) in (("train", train), ("val", val)):
        assert [e.path for e in data.splits[split]] == [tmp_path / pictures / f"{k}.jpg" for k in (1, 2)]


def test_two_pictures_of_one_name_name_the_key_that_chooses(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path, "all.json", content(["1"], [box(100, 18, [1, 2, 3, 4])]), f"pictures/{folder}")
    with pytest.raises(
        DataError, match=r"'1\.jpg' could be .*a/1\.jpg, .*b/1\.jpg; set dataset=coco dataset\.images\.train"
    ):
        read_coco(tmp_path)
    assert len(read_coco(tmp_path, images={"train": "pictures/b"}).splits["train"]) == 1


def one_file(root, annotations, **more):
    """A data set of two pictures in one file; `more` replaces lists of the file."""
    write(root, "all.json", content(["a", "b"], annotations))
    (root / "all.json").write_text(json.dumps({**content(["a", "b"], annotations), **more}))
    return read_coco(root, val_fraction=0, test_fraction=0)


EMPTY = [
    {"bbox": [], "segmentation": []},
    {"bbox": [], "segmentation": [[]]},
    {"bbox": []},
    {"segmentation": []},
    {"bbox": None, "segmentation": []},
]


@pytest.mark.parametrize("empty", EMPTY, ids=str)
def test_an_annotation_without_a_shape_is_left_out_and_noted(tmp_path, empty):
    """Its category and image are those of an annotation nonetheless, and the places of the others stay."""
    rows = [
        {"id": 5, "image_id": 100, "category_id": 3, **empty},
        box(101, 18, [1, 2, 3, 4]),
        box(100, 18, [0, 0, 9, 9]),
    ]
    data = one_file(tmp_path, rows)
    assert data.classes == ("dog",) and [e.boxes.tolist() for e in data.splits["train"]] == [
        [[0, 0, 9, 9]],
        [[2, 1, 6, 4]],
    ]
    assert "left out, annotations whose bbox and segmentation are empty: 1 (annotation 5)" in data.notes
    assert "left out, classes without a box: 1 (cat)" in data.notes
    with pytest.raises(DataError, match=r"annotations\[1\]: category_id is 4"):
        one_file(tmp_path, [rows[0], box(101, 4, [1, 2, 3, 4])])
    with pytest.raises(DataError, match=r"annotations\[0\]: image_id is 7"):
        one_file(tmp_path, [rows[0] | {"image_id": 7}])


def test_areas_of_the_file_stay_with_their_boxes(tmp_path):
    rows = [
        box(101, 18, [1, 2, 3, 4], area=7.5),
        box(100, 18, [0, 0, 9, 9]),
        box(100, 3, [0, 0, 9, 9], area="40"),
        {"image_id": 100, "category_id": 3, "bbox": [], "segmentation": [], "area": 99},
        box(100, 3, [0, 0, 8, 9], area=0),
    ]
    a, b = one_file(tmp_path, rows).splits["train"]
    assert (repr(a.areas.tolist()), b.areas.tolist()) == ("[nan, 40.0, 0.0]", [7.5])
    assert [e.areas for e in one_file(tmp_path, [box(100, 3, [0, 0, 9, 9])]).splits["train"]] == [None, None]


def test_small_objects_are_those_of_the_file(tmp_path):
    """The figures are those of the file itself, also after a conversion: the object is smaller than its box."""
    row = box(100, 18, [10, 10, 40, 25], area=800, iscrowd=0)
    data = one_file(tmp_path, [row])
    found = [{"image_id": 100, "category_id": 18, "bbox": [10, 10, 40, 25], "score": 0.5}]
    (tmp_path / "found.json").write_text(json.dumps(found))
    scores = ground_truth_check(data.splits["train"], data.classes).summary
    assert scores == score_files(tmp_path / "all.json", tmp_path / "found.json").summary
    assert (scores["APs"], scores["APm"]) == (1, None)
    write_coco(data, tmp_path / "new", Notes())
    assert json.loads((tmp_path / "new/annotations/train.json").read_text())["annotations"][0]["area"] == 800


@pytest.mark.parametrize("area", ["wide", -1, [], float("nan"), True])
def test_an_area_that_is_none_is_noted(tmp_path, area):
    data = one_file(tmp_path, [box(100, 3, [0, 0, 9, 9], area=area, id=4)])
    assert data.splits["train"][0].areas is None
    assert any(note.startswith("not used, areas that are no number of pixels: 1 (") for note in data.notes)


@pytest.mark.parametrize(
    "more",
    [
        {"category_id": "18"},
        {"image_id": "100"},
        {"bbox": ["1.0", "2", 3, 4]},
        {"iscrowd": False},
        {"score": 0.5, "attributes": {"occluded": False}, "keypoints": [1, 2, 2], "num_keypoints": 1},
        {"segmentation": {"size": [40, 60], "counts": [5]}},
        {"segmentation": [[1.0]]},
    ],
    ids=str,
)
def test_annotations_of_many_tools(tmp_path, more):
    data = one_file(tmp_path, [box(100, 18, [1, 2, 3, 4]) | more])
    assert data.splits["train"][0].boxes.tolist() == [[2, 1, 6, 4]] and not data.splits["train"][0].crowd.any()


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [(90.0, [11, 5, 31, 35]), ("270", [11, 5, 31, 35]), (360, [6, 10, 36, 30]), (None, [6, 10, 36, 30])],
)
def test_a_box_that_cvat_turned_is_the_box_around_it(tmp_path, rotation, expected):
    turned = box(100, 18, [10, 6, 20, 30], attributes={"occluded": False, "rotation": rotation})
    data = one_file(tmp_path, [turned])
    assert data.splits["train"][0].boxes.tolist() == [expected]
    assert any(note.startswith("boxes made around turned boxes: 1") for note in data.notes) == (expected[0] == 11)


@pytest.mark.parametrize(
    ("rotation", "outline"),
    [("90", [[10, 6, 30, 6, 30, 36]]), (45.0, {"size": [40, 60], "counts": [5]}), ("left", [[1, 2, 5, 2, 5, 9]]),
     ("left", []), (True, None)],
)  # fmt: skip
def test_a_rotation_of_the_users_own_turns_no_box(tmp_path, rotation, outline):
    """CVAT tells the turn of a box that has no outline, in degrees."""
    own = box(100, 18, [10, 6, 20, 30], segmentation=outline, attributes={"rotation": rotation}, id=4)
    data = one_file(tmp_path, [own])
    assert data.splits["train"][0].boxes.tolist() == [[6, 10, 36, 30]]
    assert "not used, attributes 'rotation' that are no turn of a box: 1 (annotation 4)" in data.notes


def test_a_turned_box_of_cvat_has_an_empty_segmentation(tmp_path):
    turned = box(100, 18, [10, 6, 20, 30], segmentation=[], attributes={"rotation": 90.0})
    assert one_file(tmp_path, [turned]).splits["train"][0].boxes.tolist() == [[11, 5, 31, 35]]


@pytest.mark.parametrize(
    "more",
    [{"difficult": 1}, {"isGroupOf": "1"}, {"attributes": {"difficult": True}}, {"attributes": {"is_crowd": "true"}}],
)
def test_other_flags_that_make_an_object_crowd(tmp_path, more):
    data = one_file(tmp_path, [box(100, 18, [1, 2, 3, 4], **more), box(100, 18, [1, 2, 9, 9], difficult=0)])
    assert data.splits["train"][0].crowd.tolist() == [True, False]


@pytest.mark.parametrize("sides", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}, {"width": 60}])
def test_images_without_sides(tmp_path, sides):
    images = [{"id": 100 + k, "file_name": f"{name}.jpg", **sides} for k, name in enumerate("ab")]
    (a, b) = one_file(tmp_path, [box(101, 18, [1, 2, 3, 4])], images=images).splits["train"]
    assert (a.annotated_size, a.width, a.height, len(b.boxes)) == (None, 60, 40, 1)


@pytest.mark.parametrize(
    "name",
    ["https://host.org/data/a.jpg", "https://host.org/a.jpg?sig=x%2F1&t=2", "/data/upload/1/a.jpg", "s3://bucket/a.jpg",
     "..\\..\\label-studio\\data\\media\\upload\\1\\a.jpg", "file:///data/set/a.jpg",
     "/data/local-files/?d=set%2Fa.jpg", "http://localhost:8080/data/local-files/?d=set/a.jpg"],
)  # fmt: skip
def test_names_of_pictures_that_are_addresses(tmp_path, name):
    data = one_file(tmp_path, [box(100, 18, [1, 2, 3, 4])], images=[{"id": 100, "file_name": name}])
    assert [e.id for e in data.splits["train"]] == ["images/a.jpg"]


def test_the_images_of_lvis_have_an_address_alone(tmp_path):
    """Both folders of COCO have pictures of LVIS's val; here they share a name."""
    write(tmp_path, "lvis_v1_val.json", content(["7"], [box(100, 18, [1, 2, 3, 4])]), "val2017")
    write(tmp_path, "lvis_v1_val.json", content(["7"], [box(100, 18, [1, 2, 3, 4])]), "train2017")
    image = {"id": 100, "coco_url": "http://images.cocodataset.org/train2017/7.jpg", "height": 40, "width": 60}
    named = {**image, "id": 101, "file_name": "val2017/7.jpg", "coco_url": "http://host.org/8.jpg"}
    what = content([], [box(100, 18, [1, 2, 3, 4])]) | {"images": [image, named]}
    (tmp_path / "lvis_v1_val.json").write_text(json.dumps(what))
    assert [e.id for e in read_coco(tmp_path).splits["val"]] == ["train2017/7.jpg", "val2017/7.jpg"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"bbox": [1, 2, None, 4]}, r"annotations\[0\]: bbox is \[1, 2, None, 4\]; it must be four numbers"),
        ({"bbox": {"x": 1}}, r"annotations\[0\]: bbox is \{'x': 1\}; it must be four numbers"),
        ({"attributes": {"difficult": "hard"}}, r"annotations\[0\]: difficult is 'hard'; it must be 0 or 1"),
        ({"category_id": None}, r"annotations\[0\] has no 'category_id'"),
        ({"bbox": None}, r"annotations\[0\] has no 'bbox', and no segmentation that gives one"),
        ({"bbox": None, "segmentation": {"size": [40, 60], "counts": [-1]}}, r"annotations\[0\] has no 'bbox'"),
    ],
)
def test_annotations_that_are_refused(tmp_path, more, message):
    with pytest.raises(DataError, match=r"all\.json: " + message):
        one_file(tmp_path, [box(100, 18, [1, 2, 3, 4]) | more])


def test_corners_that_are_shares_of_the_sides_are_refused(tmp_path):
    shares = [box(100, 18, [0, 0.25, 0.5, 0.5]), box(101, 18, [0, 0, 1, 1])]
    with pytest.raises(DataError, match=r"all\.json: all corners are from 0 to 1, such as 0\.25; they must be pixels"):
        one_file(tmp_path, shares)
    assert one_file(tmp_path, [*shares, box(100, 18, [0, 0, 1.5, 2])]).splits["train"][0].boxes.max() == 2


def test_shares_whose_sum_exceeds_one_are_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"all\.json: all corners are from 0 to 1\.02, such as 0\.25; they must be pixels"
    ):
        one_file(tmp_path, [box(100, 18, [0, 0.25, 0.5, 0.5]), box(101, 18, [0.52, 0, 0.5, 1])])


def test_small_boxes_of_one_split_are_no_shares(tmp_path):
    for split, bbox in (("train", [0, 0, 60, 40]), ("val", [0, 0, 0.5, 1])):
        write(tmp_path, f"{split}.json", content([split], [box(100, 18, bbox)]))
    assert read_coco(tmp_path).splits["val"][0].boxes.tolist() == [[0, 0, 1, 0.5]]


def test_a_reversed_box_is_reported_by_the_check(tmp_path):
    data = one_file(tmp_path, [box(100, 18, [30, 20, -10, -5]), box(101, 18, [1, 2, 3, 4])])
    assert [(f.kind, f.action) for f in check(data) if f.kind == "reversed"] == [("reversed", "dropped")]


def test_a_file_without_annotations_is_refused(tmp_path):
    write(tmp_path, "all.json", content(["a"]))
    (tmp_path / "all.json").write_text(json.dumps({"images": [], "categories": [], "info": {}}))
    with pytest.raises(DataError, match=r"all\.json: no list 'annotations'; the file has images, categories, info"):
        read_coco(tmp_path, "all.json")


RENUMBERED = "categories whose ids are text, or have more than 15 digits: results carry the numbers"


def test_ids_that_are_text_have_numbers_that_no_other_id_has(tmp_path):
    """A result with the number 1 is one of the file's own category 1."""
    categories = [{"id": "c1", "name": "cow"}, {"id": "1", "name": "cat"}, {"id": 2, "name": "dog"}]
    rows = [box(100, "c1", [1, 2, 3, 4]), box(100, "1", [2, 2, 3, 4]), box(100, 2, [3, 2, 3, 4])]
    data = one_file(tmp_path, rows, categories=categories)
    assert (data.classes, data.category_ids) == (("cat", "dog", "cow"), (1, 2, 3))
    assert f"{RENUMBERED}: 1 (cow (c1): 3)" in data.notes
    assert not any("another file" in note for note in data.notes)
    data = one_file(tmp_path, rows[:1], categories=[{"id": "c1", "name": "cow"}, {"id": "c2", "name": "cat"}])
    assert (data.classes, data.category_ids) == (("cow",), (1,))


OTHERS = [{"id": 1, "name": "other", "supercategory": "animal"}, {"id": 2, "name": "other", "supercategory": "plant"}]


def test_categories_of_one_name_are_told_apart_by_their_supercategories(tmp_path):
    """In all files alike: that of val has boxes of one of them alone."""
    for split, kinds in (("train", (1, 2)), ("val", (2,))):
        rows = [box(100, kind, [kind, 2, 3, 4]) for kind in kinds]
        write(tmp_path, f"{split}.json", content([split], rows, OTHERS))
    data = read_coco(tmp_path)
    assert (data.classes, data.category_ids) == (("animal/other", "plant/other"), (1, 2))
    assert [data.splits[s][0].classes.tolist() for s in ("train", "val")] == [[1, 2], [2]]
    told = "told apart by their supercategories, categories of one name: 3 (animal/other (id 1), plant/other (id 2)"
    assert any(note.startswith(told) for note in data.notes)
    assert read_coco(tmp_path, rename={"animal/other": "beast"}).classes == ("beast", "plant/other")


def test_categories_without_a_box_are_told_apart_from_none(tmp_path):
    data = one_file(tmp_path, [box(100, 2, [1, 2, 3, 4])], categories=OTHERS)
    assert (data.classes, data.category_ids) == (("other",), (2,))


@pytest.mark.parametrize("second", [{"supercategory": "animal"}, {"supercategory": None}, {"supercategory": ""}, {}])
def test_categories_of_one_name_that_nothing_tells_apart(tmp_path, second):
    categories = [OTHERS[0], {"id": 2, "name": "other", **second}]
    told = r"the category 'other' is given twice, with the ids 1, 2; rename one of them in the file, or give each a"
    with pytest.raises(DataError, match=told):
        one_file(tmp_path, [box(100, 1, [1, 2, 3, 4]), box(100, 2, [1, 2, 3, 4])], categories=categories)


@pytest.mark.parametrize("number", [3000000001, 999999999999999, "3000000001"])
def test_large_ids_of_categories(tmp_path, number):
    """Those of V7 are checksums of the names."""
    categories = [{"id": number, "name": "cat"}, {"id": 7, "name": "dog"}]
    data = one_file(tmp_path, [box(100, number, [1, 2, 3, 4])], categories=categories)
    assert data.category_ids == (int(number),)


@pytest.mark.parametrize("names", [("instances_default.json", "instances_Train.json"), ("default.json", "train.json")])
def test_the_images_without_a_subset_are_train_beside_those_of_train(tmp_path, names):
    """CVAT numbers the images and categories of each subset from 1, and puts the pictures into folders of subsets."""
    for k, name in enumerate(names):
        categories = [{"id": 1, "name": ("dog", "cat")[k]}, {"id": 2, "name": ("cat", "dog")[k]}]
        rows = [box(100, 1, [k + 1, 2, 3, 4], area=9 - k), box(101, 2, [k + 5, 2, 3, 4])]
        folder = ("images/default", "images/Train")[k]
        write(tmp_path, f"annotations/{name}", content(["1", "2"], rows, categories), folder)
    write(tmp_path, "annotations/instances_Validation.json", content(["3"], [box(100, 3, [1, 2, 3, 4])]), "images/x")
    data = read_coco(tmp_path)
    found = {e.path.relative_to(tmp_path / "images").as_posix(): e for e in data.splits["train"]}
    assert data.classes == ("cat", "dog") and [len(part) for part in data.splits.values()] == [4, 1, 0]
    assert {name: (e.boxes.tolist(), e.classes.tolist(), e.source.name) for name, e in found.items()} == {
        "default/1.jpg": ([[2, 1, 6, 4]], [2], names[0]),
        "default/2.jpg": ([[2, 5, 6, 8]], [1], names[0]),
        "Train/1.jpg": ([[2, 2, 6, 5]], [1], names[1]),
        "Train/2.jpg": ([[2, 6, 6, 9]], [2], names[1]),
    }
    assert (found["default/1.jpg"].areas.tolist(), found["Train/1.jpg"].areas.tolist()) == ([9], [8])
    assert f"taken as train, files of images without a subset: 1 ({names[0]})" in data.notes


def test_one_picture_in_both_files_of_train_is_refused(tmp_path):
    for name in ("default", "train"):
        write(tmp_path, f"annotations/{name}.json", content(["1"], [box(100, 18, [1, 2, 3, 4])]))
    with pytest.raises(DataError, match=r"train lists 1 image twice: images/1\.jpg"):
        read_coco(tmp_path)


def test_files_of_one_folder_can_be_joined(tmp_path):
    for k, name in enumerate(("one", "two")):
        write(tmp_path, f"{name}.json", content([name], [box(100, 18, [k, 2, 3, 4])]))
    told = r"one\.json, two\.json; name one: dataset=coco .*FILE; .* dataset=join 'dataset\.roots=\[FILE,FILE\]'$"
    with pytest.raises(DataError, match=told):
        read_coco(tmp_path)
    joined = read_join([tmp_path / "one.json", tmp_path / "two.json"], val_fraction=0, test_fraction=0)
    assert [e.path.name for e in joined.splits["train"]] == ["one.jpg", "two.jpg"]


def test_a_word_in_a_longer_name_of_a_folder_hides_no_folders_of_pictures(tmp_path):
    for split in ("train", "val"):
        write(tmp_path, "ab test labels/a.json", content([split]), f"images/{split}")
    images = [{"id": k, "file_name": f"{name}.jpg"} for k, name in enumerate(("train", "val"))]
    rows = [box(k, 18, [1, 2, 3, 4]) for k in (0, 1)]
    (tmp_path / "ab test labels/a.json").write_text(json.dumps(content([], rows) | {"images": images}))
    assert [len(part) for part in read_coco(tmp_path).splits.values()] == [1, 1, 0]
