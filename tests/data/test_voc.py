from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.formats.auto import read_auto
from detect.data.formats.voc import read_voc, recognise
from detect.data.formats.voc_xml import read_xml
from detect.data.formats.writing import write_voc
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


def test_a_list_that_repeats_an_image_is_named(kit):
    write_list(kit, "train", "a", "b", "", "JPEGImages/a.jpg", "a")
    with pytest.raises(DataError, match=r"ImageSets/Main/train\.txt: it lists a twice, in lines 1 and 4; remove"):
        read_voc(kit)


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


def test_xml_files_of_other_programs_are_left_out(tmp_path):
    write_xml(tmp_path, "a", bndbox(1, 1, 9, 9))
    (tmp_path / "a.png.aux.xml").write_text("<PAMDataset><Metadata/></PAMDataset>")
    data = read_auto(tmp_path, val_fraction=0, test_fraction=0)
    assert data.classes == ("cat",) and "not used, .xml files: 1 (a.png.aux.xml)" in data.notes
    (tmp_path / "val").mkdir()
    (tmp_path / "a.png.aux.xml").rename(tmp_path / "val/b.png.aux.xml")
    assert ids(tmp_path) == {"train": ["a"]}
    (tmp_path / "a.xml").unlink()
    with pytest.raises(DataError, match=r"aux\.xml: the root element is <pamdataset>; in a VOC file"):
        read_voc(tmp_path)


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


@pytest.mark.parametrize("splits", [{"train": "mytrian"}, {"train": "train", "val": "vla"}, {"train": "VAL"}])
def test_a_list_that_is_named_must_be_there(kit, splits):
    key, title = list(splits.items())[-1]
    with pytest.raises(DataError, match=rf"splits\.{key}={title} is not a list .*the lists are: train, val\. Set it"):
        read_voc(kit, splits={"train": "train", "val": "val", "test": "test", **splits})


def test_a_list_that_is_named_may_be_missing_in_one_year(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        for stem in "ab":
            write(tmp_path / year, stem, [("cat", 1, 1, 9, 9)])
        write_list(tmp_path / year, "train", "a")
    write_list(tmp_path / "VOC2007", "holdout", "b")
    splits = {"train": "train", "val": "holdout"}
    assert ids(tmp_path, splits=splits) == {"train": ["VOC2007/a", "VOC2012/a"], "val": ["VOC2007/b"]}
    with pytest.raises(DataError, match=r"splits\.test=vla is not a list .*the lists are: holdout, train\."):
        read_voc(tmp_path, splits={**splits, "test": "vla"})


def test_a_list_that_is_named_may_be_beside_the_folders(tmp_path):
    several(tmp_path)
    with pytest.raises(DataError, match=r"splits\.train=first is not a list .*the lists are: none"):
        read_voc(tmp_path, splits={"train": "first"})
    (tmp_path / "first.txt").write_text("a\nb\n")
    assert ids(tmp_path, splits={"train": "first"}) == {"train": ["a", "b"]}


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
    with pytest.raises(DataError, match=r"no folder pictures/ \(dataset=voc dataset\.images\)"):
        read_voc(kit, images="pictures")


def write_xml(root: Path, stem: str, body: str, size=(60, 40)) -> Path:
    """One picture and its XML with `body`, side by side."""
    Image.new("RGB", size).save(root / f"{stem}.png")
    (root / f"{stem}.xml").write_text(f"<annotation>{body}</annotation>")
    return root / f"{stem}.xml"


def bndbox(*corners, name="cat", more="") -> str:
    box = "".join(f"<{t}>{v}</{t}>" for t, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"


def boxes(root: Path, **keys) -> list:
    """The boxes of all images as [xmin, ymin, xmax, ymax], to a thousandth of a pixel."""
    data = read_voc(root, val_fraction=0, test_fraction=0, **keys)
    rows = (box for examples in data.splits.values() for e in examples for box in e.boxes[:, [1, 0, 3, 2]].tolist())
    return [[round(value, 3) for value in row] for row in rows]


def ids(root: Path, **keys) -> dict[str, list[str]]:
    splits = read_voc(root, val_fraction=0, test_fraction=0, **keys).splits
    return {split: [e.id for e in examples] for split, examples in splits.items() if examples}


def several(root: Path, stems: str = "abcd") -> None:
    for stem in stems:
        write(root, stem, [("cat", 1, 1, 9, 9)])


# Lists of images, as other tools name and write them


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({"default": "abcd"}, {"train": "abcd"}),
        ({"Default": "abcd", "cat_default": "ab"}, {"train": "abcd"}),
        ({"Train": "ab", "Validation": "cd"}, {"train": "ab", "val": "cd"}),
        ({"train": "ab", "valid": "c", "Testing": "d"}, {"train": "ab", "val": "c", "test": "d"}),
        ({"default": "abc", "Test": "d"}, {"train": "abc", "test": "d"}),
        ({"TRAINVAL": "abc", "test": "d", "default": "ab"}, {"train": "abc", "test": "d"}),
    ],
)
def test_lists_are_found_by_other_names_of_their_splits(tmp_path, lists, expected):
    several(tmp_path)
    for title, stems in lists.items():
        write_list(tmp_path, title, *stems)
    assert ids(tmp_path) == {split: list(stems) for split, stems in expected.items()}


def test_a_list_of_the_exact_name_comes_first_and_the_other_is_noted(kit):
    write_list(kit, "valid", "a", "c")
    data = read_voc(kit)
    assert [e.id for e in data.splits["val"]] == ["b"]
    assert "not used, lists of a split that has another list: 1 (valid.txt)" in data.notes


def test_a_list_of_images_without_a_subset_is_train_beside_a_list_of_train(tmp_path):
    several(tmp_path, "abcd")
    write_list(tmp_path, "Train", "a")
    write_list(tmp_path, "default", "b", "d")
    write_list(tmp_path, "Validation", "c")
    assert ids(tmp_path) == {"train": ["a", "b", "d"], "val": ["c"]}
    assert "taken as train, lists of images without a subset: 1 (default.txt)" in read_voc(tmp_path).notes
    write_list(tmp_path, "default", "b", "c", "d", "gone")  # all images, of which somebody has made the other lists
    assert ids(tmp_path) == {"train": ["a"], "val": ["c"]}
    assert "not used, lists of a split that has another list: 1 (default.txt)" in read_voc(tmp_path).notes


@pytest.mark.parametrize("names", [("train", "val"), ("train_list", "val_list"), ("Train", "valid")])
@pytest.mark.parametrize("line", ["{0}", "JPEGImages/{0}.png Annotations/{0}.xml", "./Annotations/{0}.xml"])
@pytest.mark.parametrize("folder", [".", "Main"])
def test_lists_beside_the_folders_of_pictures_and_annotations(tmp_path, names, line, folder):
    several(tmp_path)
    (tmp_path / folder).mkdir(exist_ok=True)
    for name, stems in zip(names, ("abc", "d"), strict=True):
        (tmp_path / folder / f"{name}.txt").write_text("".join(f"{line.format(stem)}\n" for stem in stems))
    (tmp_path / "label_list.txt").write_text("cat\n")
    assert ids(tmp_path) == {"train": ["a", "b", "c"], "val": ["d"]}
    assert ids(tmp_path, splits=None) == {"train": ["a", "b", "c", "d"]}


def test_a_list_of_test_images_beside_the_folders_is_none_of_the_split(tmp_path):
    several(tmp_path)
    (tmp_path / "test.txt").write_text("a\n")
    assert ids(tmp_path) == {"train": ["a", "b", "c", "d"]}
    assert "not used, .txt files: 1 (test.txt)" in read_voc(tmp_path).notes


def test_lists_in_the_folder_above(tmp_path):
    several(tmp_path)
    write_list(tmp_path, "train", "a", "b")
    write_list(tmp_path, "val", "c", "d")
    for path in (tmp_path / "ImageSets/Main").iterdir():
        path.rename(tmp_path / "ImageSets" / path.name)
    (tmp_path / "ImageSets/Main").rmdir()
    assert ids(tmp_path) == {"train": ["a", "b"], "val": ["c", "d"]}
    assert "split: lists of ImageSets (train: train, val: val); no test images" in read_voc(tmp_path).notes
    (tmp_path / "ImageSets/Segmentation").mkdir()
    for path in (tmp_path / "ImageSets").glob("*.txt"):
        path.rename(tmp_path / "ImageSets/Segmentation" / path.name)
    assert ids(tmp_path) == {"train": ["a", "b", "c", "d"]}  # lists of pictures with a mask are no split of the boxes


def test_years_at_any_depth_keep_their_lists(tmp_path):
    for place, lists in (
        ("VOCtrainval_06-Nov-2007/VOCdevkit/VOC2007", {"train": "ab", "val": "c"}),
        ("VOCtest_06-Nov-2007/VOCdevkit/VOC2007", {"test": "d"}),
        ("VOC2012", {"train": "e"}),
    ):
        several(tmp_path / place, "".join(lists.values()))
        for title, stems in lists.items():
            write_list(tmp_path / place, title, *stems)
    found = {split: [i[-1] for i in part] for split, part in ids(tmp_path).items()}
    assert found == {"train": ["e", "a", "b"], "val": ["c"], "test": ["d"]}


def test_a_link_to_a_folder_above_is_not_followed_for_ever(tmp_path):
    several(tmp_path / "x/y/z", "ab")
    (tmp_path / "x/y/up").symlink_to(tmp_path, target_is_directory=True)
    assert ids(tmp_path) == {"train": ["x/y/z/a", "x/y/z/b"]}


@pytest.mark.parametrize("train", ["trainval", "Default"])
def test_lists_of_train_and_val_together_beside_the_folders(tmp_path, train):
    several(tmp_path)
    (tmp_path / f"{train}.txt").write_text("a\nb\nc\n")
    (tmp_path / "test.txt").write_text("d\n")
    assert ids(tmp_path) == {"train": ["a", "b", "c"], "test": ["d"]}


def test_an_empty_folder_of_lists_is_none(tmp_path):
    several(tmp_path)
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/readme.md").write_text("to be written")
    assert ids(tmp_path) == {"train": ["a", "b", "c", "d"]}
    (tmp_path / "train.txt").write_text("a\nb\n")
    assert ids(tmp_path) == {"train": ["a", "b"]}


def test_lists_of_each_class_alone_are_joined(tmp_path):
    """VoTT writes no others. A line tells whether the image has the class; both kinds of lines list it."""
    several(tmp_path)
    write_list(tmp_path, "cat_train", "a.jpg 1", "b.jpg -1")
    write_list(tmp_path, "my dog_train", "a.jpg -1", "b.jpg 1", "c.jpg 1")
    write_list(tmp_path, "cat_val", "d.jpg 1")
    assert ids(tmp_path) == {"train": ["a", "b", "c"], "val": ["d"]}
    data = read_voc(tmp_path)
    assert any("(train: cat_train and my dog_train, val: cat_val)" in note for note in data.notes)
    assert not any("not used" in note for note in data.notes)
    write_list(tmp_path, "my dog_val", "a.jpg 1")
    with pytest.raises(DataError, match="train and val share 1 image: a"):
        read_voc(tmp_path)
    for path in (tmp_path / "ImageSets/Main").glob("*_train.txt"):
        path.unlink()
    with pytest.raises(DataError, match=r"the lists are: cat_val, my dog_val\."):
        read_voc(tmp_path)


def test_folders_of_splits_for_the_annotations_alone(tmp_path):
    for split, stems in (("train", "ab"), ("val", "c")):
        for stem in stems:
            write(tmp_path, stem, [("cat", 1, 1, 9, 9)], xml=f"Annotations/{split}")
    assert ids(tmp_path) == {"train": ["a", "b"], "val": ["c"]}


@pytest.mark.parametrize("images", ["{}", "{}/JPEGImages", "JPEGImages/{}"])
def test_a_class_that_is_called_train(tmp_path, images):
    for name in ("bus", "car", "train"):
        place = images.format(name)
        write(tmp_path, f"{name}1", [(name, 1, 1, 9, 9)], images=place, xml=place.replace("JPEGImages", "Annotations"))
    data = read_voc(tmp_path, val_fraction=0, test_fraction=0)
    assert data.classes == ("bus", "car", "train") and len(data.splits["train"]) == 3
    assert not any("not used" in note or "left out" in note for note in data.notes)


@pytest.mark.parametrize(
    ("rest", "held"),
    [
        (".", "test"),
        (".", "test/{}"),
        ("{}", "test/{}"),
        ("{}", "test"),
        ("{}", "{}/test"),
        ("VOC2007/{}", "test/{}"),
        ("photos", "test/{}"),
    ],
)
def test_beside_a_folder_of_test_images_the_others_are_train(tmp_path, rest, held):
    for stem, place in (("a", rest), ("b", rest), ("c", held)):
        folders = {"images": place.format("JPEGImages"), "xml": place.format("Annotations")}
        write(tmp_path, stem, [("cat", 1, 1, 9, 9)], **folders)
    data = read_voc(tmp_path, val_fraction=0)
    assert {split: [e.path.stem for e in part] for split, part in data.splits.items() if part} == {
        "train": ["a", "b"],
        "test": ["c"],
    }
    assert "the folders' names" in data.notes[1] and not any("not used" in note for note in data.notes)


def test_lists_come_before_a_folder_of_test_images(tmp_path):
    for stem, place in (("a", "."), ("b", "."), ("c", "test")):
        write(tmp_path, stem, [("cat", 1, 1, 9, 9)], images=place, xml=place)
    for split, line in (("train", "a"), ("val", "b"), ("test", "test/c")):
        (tmp_path / f"{split}.txt").write_text(line)
    assert ids(tmp_path) == {"train": ["a"], "val": ["b"], "test": ["test/c"]}


def test_two_lists_that_mean_one_split_are_refused(tmp_path):
    several(tmp_path)
    write_list(tmp_path, "train", "a", "b")
    write_list(tmp_path, "Validation", "c")
    write_list(tmp_path, "valid", "d")
    with pytest.raises(DataError, match=r"Main: Validation\.txt and valid\.txt both mean the split val; .*splits\.val"):
        read_voc(tmp_path)
    assert ids(tmp_path, splits={"train": "train", "val": "valid"}) == {"train": ["a", "b"], "val": ["d"]}


def test_a_list_that_is_named_is_that_one_alone(tmp_path):
    several(tmp_path)
    write_list(tmp_path, "holdout", "a", "b")
    with pytest.raises(DataError, match=r"splits\.train=train .*the lists are: holdout\. .*dataset=voc"):
        read_voc(tmp_path)
    assert ids(tmp_path, splits={"train": "holdout"}) == {"train": ["a", "b"]}


@pytest.mark.parametrize(
    "line",
    ["a.jpg", "./a", "JPEGImages/a.jpg", "jpegimages\\a.jpg", "/data/VOC/JPEGImages/a.jpg", "Annotations/a.xml",
     "a -1", "a.jpg\t1", "JPEGImages/a.jpg 0", '"a"', '"a.jpg" 1'],
)  # fmt: skip
def test_a_line_of_a_list_may_have_folders_an_ending_and_a_flag(tmp_path, line):
    several(tmp_path, "ab")
    several(tmp_path, ["my cat"])
    write_list(tmp_path, "train", "b", line, '"my cat"' if '"' in line else "my cat")
    assert ids(tmp_path) == {"train": ["a", "b", "my cat"]}


def test_folders_of_pictures_stay_in_a_line_of_a_list(tmp_path):
    for folder in ("one", "two"):
        write(tmp_path, "a", [("cat", 1, 1, 9, 9)], images=f"JPEGImages/{folder}", xml=f"Annotations/{folder}")
    write_list(tmp_path, "train", "JPEGImages/one/a.jpg")
    assert ids(tmp_path) == {"train": ["one/a"]}
    write_list(tmp_path, "train", "a")
    with pytest.raises(DataError, match=r"train\.txt: it lists a,"):
        read_voc(tmp_path)


def test_names_that_differ_in_letter_case_only(tmp_path):
    several(tmp_path, "Aa")
    write_list(tmp_path, "train", "A", "a")
    assert ids(tmp_path) == {"train": ["A", "a"]}
    several(tmp_path, ["cow", "Cow", "dog"])
    write_list(tmp_path, "train", "DOG.JPG", "Cow.JPG")
    assert ids(tmp_path) == {"train": ["Cow", "dog"]}
    write_list(tmp_path, "train", "COW")
    with pytest.raises(DataError, match=r"train\.txt: it lists COW, .*letter case"):
        read_voc(tmp_path)


def test_a_line_as_it_is_written_comes_first(tmp_path):
    several(tmp_path, ["c  d", "c d", "e  f"])
    write_list(tmp_path, "train", "c  d", "e f  1")
    write_list(tmp_path, "val", "JPEGImages/c d.jpg")
    assert ids(tmp_path) == {"train": ["c  d", "e  f"], "val": ["c d"]}


def test_a_name_with_a_line_end_is_written_in_one_line(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    box = np.array([[0, 0, 40, 60]], np.float32)
    example = Example(tmp_path / "a.png", 60, 40, box, np.ones(1, np.int32), np.zeros(1, bool), "a\nb\r.png")
    write_voc(DetectionDataset("x", ("cat",), {"train": (example,), "val": (), "test": ()}), tmp_path / "out", Notes())
    assert ids(tmp_path / "out") == {"train": ["a_b_"]}


# Corners that are continuous


def test_most_corners_with_fractions_are_continuous(tmp_path):
    write_xml(tmp_path, "a", bndbox("0.0", "0.0", "59.84", "39.91") + bndbox("10.25", "20.5", "30.75", "25.12"))
    write_xml(tmp_path, "b", bndbox("4.5", "6.0", "60.0", "8.5"))
    expected = [[0, 0, 59.84, 39.91], [10.25, 20.5, 30.75, 25.12], [4.5, 6, 60, 8.5]]
    assert boxes(tmp_path) == boxes(tmp_path, first_pixel="continuous") == expected
    (note,) = [n for n in read_voc(tmp_path).notes if "fractions" in n]
    assert "8 of 12 coordinates have fractions: they are taken as continuous" in note
    assert "dataset.first_pixel=1" in note and "2 (a.xml, b.xml)" in note
    assert boxes(tmp_path, first_pixel=1)[2] == [3.5, 5, 60, 8.5]


def test_a_few_corners_with_fractions_are_noted_and_change_nothing(tmp_path):
    write_xml(tmp_path, "a", bndbox(1, 1, 60, 40) + bndbox("10.5", 20, 30, 25))
    assert boxes(tmp_path) == [[0, 0, 60, 40], [9.5, 19, 30, 25]]
    (note,) = [n for n in read_voc(tmp_path).notes if "fractions" in n]
    assert "1 of 8 coordinates have fractions" in note and "dataset.first_pixel=continuous" in note and "a.xml" in note


def test_what_the_program_writes_is_inclusive_and_counts_from_one(tmp_path):
    picture = tmp_path / "a.png"
    Image.new("RGB", (60, 40)).save(picture)
    box = np.array([[1.25, -0.5, 30.75, 40.25], [-1, -1, 10.5, 60]])  # y first; outside of the picture, too
    example = Example(picture, 60, 40, box, np.array([1, 1]), np.array([False, True]), "a")
    dataset = DetectionDataset("made", ("cat",), {"train": [example], "val": [], "test": []}, ())
    write_voc(dataset, tmp_path / "voc", Notes())
    assert "<xmin>0.5</xmin><ymin>2.25</ymin>" in (tmp_path / "voc/Annotations/a.xml").read_text()
    assert boxes(tmp_path / "voc") == box[:, [1, 0, 3, 2]].tolist()
    assert not any("first_pixel" in note for note in read_voc(tmp_path / "voc").notes)
    write_xml(tmp_path / "voc", "b", "")
    (tmp_path / "voc/b.xml").rename(tmp_path / "voc/Annotations/b.xml")
    (tmp_path / "voc/Annotations/b.xml").write_text(f"<annotation>{bndbox(1.5, 2.5, 3.5, 4.5)}</annotation>")
    (tmp_path / "voc/ImageSets/Main/val.txt").write_text("b\n")
    assert boxes(tmp_path / "voc") == [*box[:, [1, 0, 3, 2]].tolist(), [1.5, 2.5, 3.5, 4.5]]  # each by its own rule


def test_corners_that_are_shares_of_the_sides_are_refused(tmp_path):
    write_xml(tmp_path, "a", bndbox(0.1, 0.25, 0.5, 1))
    with pytest.raises(DataError, match=r"a\.xml: all corners are from 0 to 1, such as 0\.1; they must be pixels"):
        read_voc(tmp_path)


@pytest.mark.parametrize("first_pixel", [None, 0, 1, "continuous"])
@pytest.mark.parametrize("high", [1, 1.02])
def test_shares_are_refused_whatever_is_known_of_them(tmp_path, first_pixel, high):
    write_xml(tmp_path, "a", bndbox(-0.01, 0.25, 0.5, high))
    with pytest.raises(
        DataError, match=rf"a\.xml: all corners are from -0\.01 to {high}, such as -0\.01; they must be"
    ):
        read_voc(tmp_path, first_pixel=first_pixel)


def test_shares_of_a_polygon_are_refused(tmp_path):
    polygon = "<polygon><x1>0.5</x1><y1>0.6</y1><x2>0.9</x2><y2>0.7</y2><x3>0.5</x3><y3>1</y3></polygon>"
    write_xml(tmp_path, "a", f"<object><name>cat</name>{polygon}</object>")
    with pytest.raises(DataError, match=r"a\.xml: all corners are from 0 to 1, such as 0\.5; they must be pixels"):
        read_voc(tmp_path)


HULLS = {
    "LabelMe": "<polygon><username>me</username>{}</polygon>".format(
        "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((5, 6), (25, 6), (25, 16), (5, 16)))
    ),
    "Roboflow": "<polygon><x1>5</x1><y1>6</y1><x2>25</x2><y2>16</y2><x3>5</x3><y3>16</y3></polygon>",
    "turned": "<robndbox><cx>15</cx><cy>11</cy><w>20</w><h>10</h><angle>0</angle></robndbox>",
    "mask": "<segm><box><xmin>5</xmin><ymin>6</ymin><xmax>25</xmax><ymax>16</ymax></box><mask>m.png</mask>"
    "<scribbles><xmin>0</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></scribbles></segm>",
}


@pytest.mark.parametrize("kind", HULLS)
@pytest.mark.parametrize("first_pixel", [None, 0, 1, "continuous"])
def test_hulls_are_continuous(tmp_path, kind, first_pixel):
    hull = f"<object><name>cat</name><deleted>0</deleted>{HULLS[kind]}</object>"
    write_xml(tmp_path, "a", hull + bndbox(6, 7, 25, 36))
    first = {0: [6, 7, 26, 37], "continuous": [6, 7, 25, 36]}.get(first_pixel, [5, 6, 25, 36])
    assert boxes(tmp_path, first_pixel=first_pixel) == [[5, 6, 25, 16], first]
    notes = read_voc(tmp_path).notes
    assert "boxes made from polygons, masks and turned boxes: 1 (a.xml)" in notes
    assert not any("first_pixel" in note for note in notes)


@pytest.mark.parametrize(
    ("degrees", "expected"), [("0.0", [9, 0, 30, 31]), ("90.0", [5, 6, 35, 26]), ("450", [5, 6, 35, 26])]
)
def test_a_box_that_cvat_turned_is_the_box_around_it(tmp_path, degrees, expected):
    turn = f"<attributes><attribute><name>rotation</name><value>{degrees}</value></attribute></attributes>"
    write_xml(tmp_path, "a", bndbox(10, 1, 30, 31, more=turn))
    assert boxes(tmp_path) == [expected]
    noted = "boxes made from polygons, masks and turned boxes: 1 (a.xml)" in read_voc(tmp_path).notes
    assert noted == (degrees != "0.0")


@pytest.mark.parametrize(("value", "more"), [("left", ""), ("", ""), ("90", HULLS["Roboflow"])])
def test_a_rotation_of_the_users_own_turns_no_box(tmp_path, value, more):
    turn = f"<attributes><attribute><name>rotation</name><value>{value}</value></attribute></attributes>"
    write_xml(tmp_path, "a", bndbox(10, 1, 30, 31, more=turn + more))
    assert boxes(tmp_path) == [[9, 0, 30, 31]]


# Objects and their flags


def test_deleted_objects_are_left_out(tmp_path):
    deleted = "<object><name></name><deleted>\n1\n</deleted></object>" + bndbox(1, 1, 9, 9, more="<deleted>1</deleted>")
    write_xml(tmp_path, "a", deleted + bndbox(6, 7, 25, 36, more="<deleted>0</deleted>"))
    assert boxes(tmp_path) == [[5, 6, 25, 36]]
    assert "left out, objects that are marked as deleted: 2 (a.xml, a.xml)" in read_voc(tmp_path).notes


@pytest.mark.parametrize("flag", ["ignore", "iscrowd", "Crowd"])
@pytest.mark.parametrize(
    "form", ["<{0}>1</{0}>", "<attributes><attribute><name>{0}</name><value>True</value></attribute></attributes>"]
)
def test_other_flags_that_make_an_object_crowd(tmp_path, flag, form):
    write_xml(tmp_path, "a", bndbox(6, 7, 25, 36, more=form.format(flag)) + bndbox(1, 1, 9, 9))
    (e,) = read_voc(tmp_path, keep_difficult=True, val_fraction=0, test_fraction=0).splits["train"]
    assert e.crowd.tolist() == [True, False]


@pytest.mark.parametrize("tag", ["difficult", "deleted"])
@pytest.mark.parametrize(
    ("text", "value"),
    [("", False), ("None", False), ("Unspecified", False), ("N/A", False), ("null", False), (" False ", False),
     ("0", False), ("0.0", False), ("1", True), (" True", True), ("2", True)],
)  # fmt: skip
def test_words_of_a_flag(tmp_path, tag, text, value):
    path = write_xml(tmp_path, "a", bndbox(6, 7, 25, 36, more=f"<{tag}>{text}</{tag}>"))
    annotation = read_xml(path, Notes())
    assert (annotation.difficult, annotation.deleted) == {
        "difficult": ((value,), 0),
        "deleted": ((), 1) if value else ((False,), 0),
    }[tag]


@pytest.mark.parametrize("text", ["maybe", "-2", "nan"])
def test_another_word_of_a_flag_is_refused(tmp_path, text):
    write_xml(tmp_path, "a", bndbox(6, 7, 25, 36, more=f"<difficult>{text}</difficult>"))
    with pytest.raises(DataError, match=rf"a\.xml: object 1 \(cat\): <difficult> is '{text}'; it must be 0 or 1"):
        read_voc(tmp_path)


# Other things that tools write


@pytest.mark.parametrize(
    "body",
    [
        bndbox(" 6 ", "\n7\n", "25.0", "36.00", name=" cat "),
        bndbox(6, 7, 25, 36).upper().replace("CAT", "cat"),
        "<size/>" + bndbox(6, 7, 25, 36),
        "<size><width>0</width><height>0</height></size>" + bndbox(6, 7, 25, 36),
        "<size><width>?</width><height/></size>" + bndbox(6, 7, 25, 36),
        "<size><width>64000000000</width><height>1e400</height></size>" + bndbox(6, 7, 25, 36),
        "<size><width>64000000000</width><height>48</height></size>" + bndbox(6, 7, 25, 36),
        "<size><width>3000000000</width><height>48</height></size>" + bndbox(6, 7, 25, 36),
        bndbox(6, 7, 25, 36, more="<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"),
        bndbox(6, 7, 25, 36, more="<attributes><attribute><name>age</name><value>3</value></attribute></attributes>"),
        "<filename>a</filename>" + bndbox(6, 7, 25, 36),
        "<filename>C:\\data\\a.PNG</filename>" + bndbox(6, 7, 25, 36),
    ],
)
def test_other_ways_to_write_one_object(tmp_path, body):
    write_xml(tmp_path, "a", body)
    assert boxes(tmp_path) == [[5, 6, 25, 36]]
    assert read_voc(tmp_path).classes == ("cat",)


@pytest.mark.parametrize("filename", ["frame", "C:\\data\\frame.png", "/mnt/data/frame.jpg", "FRAME.PNG"])
def test_a_picture_is_found_by_its_filename_alone(tmp_path, filename):
    path = write_xml(tmp_path, "frame", f"<filename>{filename}</filename>{bndbox(6, 7, 25, 36)}")
    path.rename(tmp_path / "0001.xml")
    assert ids(tmp_path) == {"train": ["frame"]}


@pytest.mark.parametrize(
    "images, annotations", [("Data/{}", "Annotations/{}"), ("{}/pics", "{}/boxes"), ("A/{}", "B/{}")]
)
def test_a_filename_that_two_folders_have_means_the_picture_in_the_folder_of_the_xml(tmp_path, images, annotations):
    for k, camera in enumerate(("cam1", "cam2"), 1):
        stem, folders = str(tmp_path / images.format(camera) / "000"), (tmp_path / annotations.format(camera))
        folders.mkdir(parents=True)
        path = write_xml(tmp_path, "000", f"<filename>000.png</filename>{bndbox(6, 7, 25, 30 + k)}")
        Path(stem).parent.mkdir(parents=True, exist_ok=True)
        path.rename(folders / "000.xml")
        path.with_suffix(".png").rename(f"{stem}.png")
    examples = read_voc(tmp_path).splits["train"]
    read = {e.path.relative_to(tmp_path).as_posix(): e.boxes[0, 2] for e in examples}
    assert read == {f"{images.format(camera)}/000.png": high for camera, high in (("cam1", 31), ("cam2", 32))}


def test_another_picture_that_filename_names_is_noted(tmp_path):
    write_xml(tmp_path, "a", f"<filename>b.png</filename>{bndbox(6, 7, 25, 36)}")
    write_xml(tmp_path, "b", f"<filename>C:\\x\\b.jpg</filename>{bndbox(6, 7, 25, 36)}")
    write_xml(tmp_path, "c", f"<filename>gone.png</filename>{bndbox(6, 7, 25, 36)}")
    assert ids(tmp_path) == {"train": ["a", "b", "c"]}
    kind = "<filename> names another picture, which is there, too; the one with the name of the XML file is taken"
    assert [note for note in read_voc(tmp_path).notes if "filename" in note] == [f"{kind}: 1 (a.xml names b.png)"]


def test_upper_case_tags_of_the_root_are_recognised(tmp_path):
    path = write_xml(tmp_path, "a", bndbox(6, 7, 25, 36))
    path.write_text(path.read_text().upper())
    assert recognise(tmp_path) and read_voc(tmp_path).classes == ("CAT",)


@pytest.mark.parametrize(
    "root, prefix",
    [('annotation xmlns="http://a.org/voc"', ""), ('v:annotation xmlns:v="http://a.org/voc"', "v:")],
)
def test_a_namespace_does_not_matter(tmp_path, root, prefix):
    path = write_xml(tmp_path, "a", bndbox(6, 7, 25, 36))
    text = path.read_text().replace("<", f"<{prefix}").replace(f"<{prefix}/", f"</{prefix}")
    path.write_text(text.replace(f"<{prefix}annotation", f"<{root}"))
    assert recognise(tmp_path) and boxes(tmp_path) == [[5, 6, 25, 36]]
    with pytest.raises(DataError, match=r"a\.xml: it is one of the files of"):
        read_auto(path)


def test_two_names_of_one_object_are_refused(tmp_path):
    write_xml(tmp_path, "a", bndbox(6, 7, 25, 36, more="<name> cat </name>"))
    assert boxes(tmp_path) == [[5, 6, 25, 36]]
    write_xml(tmp_path, "a", bndbox(6, 7, 25, 36, more="<name>dog</name>"))
    with pytest.raises(DataError, match=r"a\.xml: object 1 \(cat\) has another <name>, 'dog'; .* must have one"):
        read_voc(tmp_path)


def test_two_boxes_in_one_object_are_refused(tmp_path):
    corners = "<xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"
    write_xml(tmp_path, "a", bndbox(6, 7, 25, 36, more=f"<bndbox>{corners}</bndbox>"))
    with pytest.raises(DataError, match=r"a\.xml: object 1 \(cat\) has 2 <bndbox>; .* one"):
        read_voc(tmp_path)


@pytest.mark.parametrize("text", ["12,5", "1_0", "", "1e999"])
def test_text_that_is_no_number_is_refused(tmp_path, text):
    write_xml(tmp_path, "a", bndbox(6, 7, text, 36))
    with pytest.raises(DataError, match=rf"a\.xml: object 1 \(cat\): <xmax> is '{text}'; .*finite number of pixels"):
        read_voc(tmp_path)


@pytest.mark.parametrize(
    ("folder", "images", "annotations"), [("train", "", ""), ("VOC2007", "JPEGImages", "Annotations")]
)
def test_a_picture_of_another_split_or_year_does_not_replace_one_that_is_missing(tmp_path, folder, images, annotations):
    other = {"train": "test", "VOC2007": "VOC2012"}[folder]
    for place in (folder, other):
        for stem in "12":
            write(tmp_path / place, stem, [("cat", 1, 1, 9, 9)], images=images, xml=annotations)
    (tmp_path / folder / images / "1.jpg").unlink()
    missing = rf"{folder}/.*1\.xml: '1' was found only at .*{other}/.*1\.jpg; is its own missing"
    with pytest.raises(DataError, match=rf"{other}/.*1\.jpg: it is the picture of 2 images: .*{missing}"):
        read_voc(tmp_path)


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
