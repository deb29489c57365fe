from pathlib import Path

import pytest
from PIL import Image

from detect.data.formats.voc import read_voc
from detect.data.formats.voc_xml import read_xml
from detect.data.notes import Notes
from detect.data.validate import check
from detect.errors import DataError

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def write(root: Path, stem: str, objects=(), size=(60, 40), claimed=None, images="JPEGImages", xml="Annotations"):
    """One picture of `size` (width, height) and its XML; objects are (name, xmin, ymin, xmax, ymax[, difficult])."""
    for folder in (images, xml):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(root / images / f"{stem}.jpg")
    width, height = claimed or size
    body = "".join(OBJECT.format(o[0], *(o[5:] or (0,)), *o[1:5]) for o in objects)
    (root / xml / f"{stem}.xml").write_text(
        f"<annotation><size><width>{width}</width><height>{height}</height></size>{body}</annotation>"
    )


def write_list(root: Path, name: str, *stems: str):
    folder = root / "ImageSets" / "Main"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text("".join(f"{s}\n" for s in stems))


@pytest.fixture
def kit(tmp_path):
    write(tmp_path, "a", [("dog", 1, 1, 60, 40), ("cat", 11, 21, 30, 25)])
    write(tmp_path, "b", [("cat", 5, 6, 7, 8, 1)])
    write(tmp_path, "c")
    write_list(tmp_path, "train", "a", "c")
    write_list(tmp_path, "val", "b")
    return tmp_path


def test_boxes_become_zero_based_and_y_first(kit):
    data = read_voc(kit)
    assert data.classes == ("cat", "dog")
    a, c = data.splits["train"]
    assert (a.id, a.width, a.height, a.classes.tolist()) == ("a", 60, 40, [2, 1])
    assert a.boxes.tolist() == [[0, 0, 40, 60], [20, 10, 25, 30]]
    assert a.source == kit / "Annotations" / "a.xml"
    assert c.boxes.shape == (0, 4)  # background is kept
    assert not data.splits["test"]
    assert data.notes == (
        "classes: all names of the annotations, sorted",
        "split: lists of ImageSets/Main (train: train, val: val); no test images",
    )


def test_given_classes_set_the_order(kit):
    data = read_voc(kit, classes=["dog", "cat", "cow"])
    assert data.classes == ("dog", "cat", "cow")  # no box is left out, so the list may be longer
    assert data.splits["train"][0].classes.tolist() == [1, 2]


def test_difficult_objects(kit):
    assert read_voc(kit).splits["val"][0].crowd.tolist() == [True]
    assert read_voc(kit, keep_difficult=True).splits["val"][0].crowd.tolist() == [False]


def test_first_pixel_zero(kit):
    assert read_voc(kit, first_pixel=0).splits["val"][0].boxes.tolist() == [[6, 5, 9, 8]]


def test_a_click_without_a_drag_has_no_extent(tmp_path):
    write(tmp_path, "a", [("cat", 10, 20, 10, 30), ("cat", 5, 5, 4, 9)])
    assert read_xml(tmp_path / "Annotations" / "a.xml", Notes()).boxes(1).tolist() == [[19, 9, 30, 9], [4, 4, 9, 4]]


def test_other_split_lists(kit):
    write_list(kit, "trainval", "a", "b", "c")
    data = read_voc(kit, splits={"train": "trainval", "val": None, "test": None}, val_fraction=0, test_fraction=0)
    assert [e.id for e in data.splits["train"]] == ["a", "b", "c"]
    assert len(read_voc(kit, splits=None, val_fraction=0.34, test_fraction=0).splits["val"]) == 1


def test_list_with_a_column_of_flags(kit):
    write_list(kit, "dog_train", "a  1", "c -1")
    data = read_voc(kit, splits={"train": "dog_train", "val": "val"})
    assert [e.id for e in data.splits["train"]] == ["a", "c"]


def test_missing_val_list_is_drawn_from_train(tmp_path):
    for i in range(10):
        write(tmp_path, f"{i}", [("cat", 1, 1, 9, 9)])
    write_list(tmp_path, "train", *"01234567")
    write_list(tmp_path, "test", "8", "9")
    data = read_voc(tmp_path, val_fraction=0.25)
    assert {s: len(e) for s, e in data.splits.items()} == {"train": 6, "val": 2, "test": 2}
    assert "test: test); DRAWN" in data.notes[1] and "val 0.25, from split_seed=0" in data.notes[1]


def test_folders_called_train_and_test_are_the_split(tmp_path):
    for folder in ("train", "test"):
        for i in range(5):
            write(tmp_path, f"{i}", [("cat", 1, 1, 9, 9)], images=folder, xml=folder)
    Image.new("RGB", (9, 9)).save(tmp_path / "train" / "extra.jpg")
    data = read_voc(tmp_path, val_fraction=0.2)
    assert {s: len(e) for s, e in data.splits.items()} == {"train": 4, "val": 1, "test": 5}
    assert {e.id for e in data.splits["test"]} == {f"test/{i}" for i in range(5)}
    assert "the folders' names; DRAWN" in data.notes[1] and "val 0.2" in data.notes[1]
    assert "not used, pictures: 1 (train/extra.jpg)" in data.notes
    drawn = read_voc(tmp_path, splits=None, val_fraction=0.2, test_fraction=0.3, split_seed=4)
    assert {s: len(e) for s, e in drawn.splits.items()} == {"train": 5, "val": 2, "test": 3}
    again = read_voc(tmp_path, splits=None, val_fraction=0.2, test_fraction=0.3, split_seed=4)
    assert again.fingerprint() == drawn.fingerprint()
    other = read_voc(tmp_path, splits=None, val_fraction=0.2, test_fraction=0.3, split_seed=5)
    assert other.fingerprint() != drawn.fingerprint()


def test_the_file_decides_its_size(tmp_path):
    write(tmp_path, "a", [("cat", 1, 1, 9, 9)], claimed=(600, 400))
    write(tmp_path, "b", [("cat", 1, 1, 9, 9)], claimed=(0, 0))
    a, b = read_voc(tmp_path, val_fraction=0, test_fraction=0).splits["train"]
    assert (a.width, a.height, a.annotated_size) == (60, 40, (600, 400))
    assert (b.width, b.height, b.annotated_size) == (60, 40, None)


def test_unreadable_picture_takes_the_size_of_its_annotation(tmp_path):
    write(tmp_path, "a", [("cat", 1, 1, 9, 9)])
    (tmp_path / "JPEGImages" / "a.jpg").write_bytes(b"\xff\xd8 no jpeg")
    (a,) = read_voc(tmp_path, val_fraction=0, test_fraction=0).splits["train"]
    assert (a.width, a.height) == (60, 40)
    write(tmp_path, "b", [("cat", 1, 1, 9, 9)], claimed=(0, 0))
    (tmp_path / "JPEGImages" / "b.jpg").write_bytes(b"")
    findings = check(read_voc(tmp_path, val_fraction=0, test_fraction=0))
    assert [(f.kind, f.path.name) for f in findings if f.action == "error"] == [
        ("unreadable", "a.jpg"), ("unreadable", "b.jpg")
    ]  # fmt: skip


def test_message_for_malformed_xml(kit):
    path = kit / "Annotations" / "a.xml"
    path.write_text("<annotation>\n<object>\n<name>cat</nam>\n</annotation>")
    with pytest.raises(DataError, match=r"Annotations/a\.xml, line 3: .*mismatched tag"):
        read_voc(kit)
    path.write_text("")
    with pytest.raises(DataError, match=r"a\.xml, line 1: malformed XML \(no element found"):
        read_voc(kit)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html/>", "the root element is <html>"),
        ("<annotation><object><bndbox/></object></annotation>", "object 1 has no <name>"),
        ("<annotation><object><name>cat</name></object></annotation>", r"object 1 \(cat\) has no <bndbox>"),
        ("<annotation><object><name>cat</name><bndbox/></object></annotation>", r"object 1 \(cat\) has no <xmin>"),
        (f"<annotation>{OBJECT.format('cat', 0, 1, 2, 'x', 4)}</annotation>", r"object 1 \(cat\): <xmax> is 'x'"),
        (f"<annotation>{OBJECT.format('cat', 0, 1, 2, 'nan', 4)}</annotation>", r"object 1 \(cat\): <xmax> is 'nan'"),
    ],
)
def test_messages_for_wrong_content(kit, body, message):
    (kit / "Annotations" / "a.xml").write_text(body)
    with pytest.raises(DataError, match=rf"Annotations/a\.xml: {message}"):
        read_voc(kit)


def test_message_for_a_class_that_is_not_in_the_list(kit):
    with pytest.raises(DataError, match=r"dataset\.classes: .*'cow'.*classes: cat, dog"):
        read_voc(kit, classes=["cat", "cow"])


def test_message_for_overlapping_lists(kit):
    write_list(kit, "test", "a", "c")
    with pytest.raises(DataError, match="train and test share 2 images: a, c"):
        read_voc(kit)


def test_message_for_a_missing_list(kit):
    with pytest.raises(DataError, match=r"splits\.train=trainval .*train, val\. Set it"):
        read_voc(kit, splits={"train": "trainval"})


def test_message_for_a_listed_image_that_is_not_there(kit):
    write_list(kit, "val", "b", "zebra")
    with pytest.raises(DataError, match=r"val\.txt: it lists zebra,"):
        read_voc(kit)


def test_messages_for_what_is_not_there(kit, tmp_path_factory):
    with pytest.raises(DataError, match=r"dataset\.root=/no/such: no such folder"):
        read_voc("/no/such")
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match="the folder is empty"):
        read_voc(empty)
    Image.new("RGB", (4, 4)).save(empty / "a.jpg")
    with pytest.raises(DataError, match=r"no XML annotations .*dataset\.annotations"):
        read_voc(empty)
    (kit / "JPEGImages" / "c.jpg").unlink()
    with pytest.raises(DataError, match=r"Annotations/c\.xml: .*below .*JPEGImages"):
        read_voc(kit)
    with pytest.raises(DataError, match=r"no folder pictures/ \(dataset\.images\)"):
        read_voc(kit, images="pictures")


def test_bccd(shared):
    data = read_voc(shared / "data" / "bccd")
    assert data.classes == ("Platelets", "RBC", "WBC")
    assert {s: len(e) for s, e in data.splits.items()} == {"train": 205, "val": 87, "test": 72}
    assert sum(len(e.boxes) for examples in data.splits.values() for e in examples) == 4155 + 372 + 361


def test_microcontrollers(shared):
    data = read_voc(shared / "data" / "microcontrollers")
    assert data.num_classes == 4
    test = [e for e in data.splits["test"]]
    assert len(test) == len(list((shared / "data" / "microcontrollers" / "test").glob("*.xml")))
    assert all(e.path.parent.name == "test" for e in test)
    assert all(e.path.parent.name == "train" for s in ("train", "val") for e in data.splits[s])
    assert all((e.width, e.height) == (800, 600) for examples in data.splits.values() for e in examples)
