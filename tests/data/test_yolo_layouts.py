"""Where the files of a YOLO data set lie, as the tools that write them lay them out."""

from pathlib import Path

import pytest
from PIL import Image

from detect.data.dataset import DetectionDataset
from detect.data.formats.auto import read_auto
from detect.data.formats.yolo import read_yolo
from detect.data.formats.yolo_rows import parse_line
from detect.errors import DataError
from tests.data.test_cases import said

CAT, DOG = "0 .5 .5 .5 .5\n", "1 .5 .5 .5 .5\n"


def put(root: Path, **files: str) -> Path:
    """Writes files: text as it is, and a picture for each word of `pictures`."""
    for name in files.pop("pictures", "").split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20), (len(name) * 3, 0, 0)).save(root / name, "JPEG")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def found(dataset: DetectionDataset) -> dict[str, dict[str, str]]:
    """The classes of the boxes of each image, by split and id."""
    return {
        split: {e.id: " ".join(dataset.classes[c - 1] for c in e.classes) for e in part}
        for split, part in dataset.splits.items()
        if len(part)
    }


# Another data set does not take the place of this one


@pytest.fixture
def neighbours(tmp_path) -> Path:
    """The data set `ds` as Roboflow writes it, and the folders of another one beside it."""
    for split in ("train", "valid", "test"):
        put(tmp_path, pictures=f"{split}/images/other.jpg", **{f"{split}/labels/other.txt": CAT})
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [cat, dog]\n"
    put(tmp_path / "ds", pictures="train/images/a.jpg valid/images/b.jpg", **{"data.yaml": text})
    put(tmp_path / "ds", **{"train/labels/a.txt": DOG, "valid/labels/b.txt": CAT})
    return tmp_path / "ds"


def test_roboflows_entries_mean_the_folder_of_the_yaml(neighbours):
    data = read_yolo(neighbours)
    assert found(data) == {"train": {"train/images/a.jpg": "dog"}, "val": {"valid/images/b.jpg": "cat"}}
    assert said(data, "below the folder of data.yaml", "train: ../train/images -> train/images", ": 2 (")
    assert said(data, "entries of data.yaml that do not exist: 1 (test: ../test/images)")


def test_no_split_comes_from_the_neighbour(neighbours):
    (neighbours / "valid").rename(neighbours / "later")
    with pytest.raises(
        DataError, match=r"data\.yaml: val: \.\./valid/images does not exist, below .*; to read .*valid"
    ):
        read_yolo(neighbours)


@pytest.mark.parametrize("train", ["'../train/images/*.jpg'", "..\\train\\images", "../train.txt", "lists/train.txt"])
def test_forms_of_entries_that_leave_the_folder(neighbours, train):
    put(neighbours.parent, **{"train.txt": "train/images/other.jpg\n"})
    put(neighbours, **{"train.txt": "train/images/a.jpg\n", "lists/train.txt": "../../train/images/a.jpg\n"})
    put(neighbours.parent, pictures="train/images/a.jpg")
    put(neighbours, **{"data.yaml": f"train: {train}\nnames: [cat, dog]\n"})
    assert found(read_yolo(neighbours)) == {"train": {"train/images/a.jpg": "dog"}}


def test_a_list_in_a_folder_of_its_own(neighbours):
    """`..` leads from it to the data set; a picture that the data set lacks is not the neighbour's."""
    put(neighbours, **{"lists/train.txt": "../train/images/a.jpg\n"})
    put(neighbours, **{"data.yaml": "train: lists/train.txt\nnames: [cat, dog]\n"})
    assert found(read_yolo(neighbours)) == {"train": {"train/images/a.jpg": "dog"}}
    put(neighbours, **{"lists/train.txt": "../train/images/other.jpg\n"})
    with pytest.raises(DataError, match=r"lists/train\.txt: it lists train/images/other\.jpg, which does not exist"):
        read_yolo(neighbours)


def test_entries_that_exist_outside_alone_are_read_and_noted(neighbours):
    text = "train: ../../train/images\nval: ../../valid/images\nnames: [cat, dog]\n"
    put(neighbours, **{"conf/data.yaml": text})
    data = read_yolo(neighbours / "conf")
    assert [e.path.name for e in data.splits["train"]] == ["other.jpg"]
    assert said(data, "outside of the folder of data.yaml", "train: ../../train/images -> ", ": 2 (")


def test_a_path_that_only_the_current_folder_has_is_no_rival(neighbours, monkeypatch):
    put(neighbours.parent, pictures="sets/coco8/train/images/other.jpg")
    text = "path: sets/coco8\ntrain: train/images\nval: valid/images\nnames: [cat, dog]\n"
    put(neighbours, **{"data.yaml": text})
    monkeypatch.chdir(neighbours.parent)
    assert found(read_yolo(neighbours))["train"] == {"train/images/a.jpg": "dog"}


def test_a_path_beside_the_yaml_is_read_and_noted(neighbours):
    text = "path: ../ds\ntrain: train/images\nnames: [cat, dog]\n"
    put(neighbours.parent, **{"conf/x.yaml": text})
    data = read_yolo(neighbours.parent / "conf/x.yaml")
    assert found(data) == {"train": {"train/images/a.jpg": "dog"}}
    assert said(data, "outside of the folder of x.yaml: 1 (path: ../ds -> ")


def test_the_folder_of_one_split_is_not_read_as_another(tmp_path):
    """An archive without test images whose yaml names them; its other pictures lie in `images`."""
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": CAT})
    put(tmp_path, **{"data.yaml": "train: images\ntest: ../test/images\nnames: [cat]\n"})
    data = read_yolo(tmp_path)
    assert found(data) == {"train": {"images/a.jpg": "cat"}} and said(data, "do not exist: 1 (test: ../test/images)")


# Lists of classes


@pytest.mark.parametrize(
    ("pictures", "labels", "classes"),
    [
        ("images", "labels", "labels/classes.txt"),
        ("Images", "Labels", "Labels/classes.txt"),
        ("JPEGImages", "labels", "classes.txt"),
        (".", "labels", "labels/classes.txt"),
        (".", "labels", "classes.txt"),
        (".", ".", "classes.txt"),
        ("images", "images", "images/classes.txt"),
        ("train/images", "train/labels", "train/labels/classes.txt"),
        ("images/train", "labels/train", "labels/train/classes.txt"),
        ("train", "train", "train/_darknet.labels"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_list_of_classes_beside_pictures_or_labels(tmp_path, pictures, labels, classes, named, monkeypatch):
    put(tmp_path, pictures=f"{pictures}/a.jpg {pictures}/b.jpg", **{classes: "cat\ndog\n", f"{labels}/a.txt": DOG})
    data = read_auto(tmp_path / classes if named else tmp_path)
    assert {Path(i).name: c for i, c in found(data)["train"].items()} == {"a.jpg": "dog", "b.jpg": ""}
    assert said(data, "format: yolo") and not said(data, "not used")
    monkeypatch.chdir((tmp_path / classes).parent)
    assert found(read_auto(Path(classes).name)) == found(read_auto(tmp_path / classes))


def test_lists_of_classes_of_several_folders(tmp_path):
    """labelImg writes one into each folder of labels, and appends the classes that it meets there."""
    for split, classes in (("train", "cat\ndog\n"), ("val", "cat\n")):
        put(tmp_path, pictures=f"images/{split}/{split}.jpg")
        put(tmp_path, **{f"labels/{split}/{split}.txt": CAT, f"labels/{split}/classes.txt": classes})
    data = read_auto(tmp_path)
    assert data.classes == ("cat", "dog") and not said(data, "not used")
    assert found(data) == {"train": {"images/train/train.jpg": "cat"}, "val": {"images/val/val.jpg": "cat"}}
    put(tmp_path, **{"labels/val/classes.txt": "dog\ncat\n"})
    with pytest.raises(DataError, match=r"train/classes\.txt and .*val/classes\.txt number the classes differently"):
        read_auto(tmp_path)


@pytest.mark.parametrize("classes", ["_darknet.labels", "classes.txt"])
@pytest.mark.parametrize("named", [".", "images"])
def test_lists_of_classes_in_the_folders_of_splits(tmp_path, classes, named):
    for split in ("train", "valid", "test"):
        put(tmp_path, pictures=f"{named}/{split}/{split}.jpg")
        put(tmp_path, **{f"{named}/{split}/{split}.txt": CAT, f"{named}/{split}/{classes}": "cat\n"})
    read = {split: [Path(i).name for i in part] for split, part in found(read_auto(tmp_path)).items()}
    assert read == {"train": ["train.jpg"], "val": ["valid.jpg"], "test": ["test.jpg"]}


@pytest.mark.parametrize("names", ["classes.txt", "obj.names", "labels/classes.txt"])
@pytest.mark.parametrize("line", ["images/{}", "./images/{}", "/srv/set/images/{}", "{}"])
def test_lists_of_pictures_beside_a_list_of_classes(tmp_path, names, line):
    put(tmp_path, pictures="images/a.jpg images/b.jpg images/c.jpg", **{"labels/a.txt": DOG, names: "cat\ndog\n"})
    put(tmp_path, **{"train.txt": line.format("a.jpg"), "valid_list.txt": f"{line.format('b.jpg')}\n"})
    data = read_auto(tmp_path)
    assert found(data) == {"train": {"images/a.jpg": "dog"}, "val": {"images/b.jpg": ""}}
    assert said(data, "not used, pictures: 1 (images/c.jpg)") and not said(data, ".txt files")
    put(tmp_path, **{"train.txt": "images/z.jpg\n"})
    with pytest.raises(DataError, match=r"train\.txt: it lists images/z\.jpg, which does not exist"):
        read_auto(tmp_path)
    put(tmp_path, **{"train.txt": "images/a.jpg\n", "val.txt": "images/b.jpg\n"})
    with pytest.raises(DataError, match=r"val\.txt and valid_list\.txt both mean the split val"):
        read_auto(tmp_path)


def test_labels_of_a_picture_that_is_called_train_are_no_list(tmp_path):
    put(tmp_path, pictures="train.jpg b.jpg", **{"classes.txt": "cat\n", "train.txt": CAT})
    assert found(read_yolo(tmp_path, val_fraction=0, test_fraction=0)) == {"train": {"b.jpg": "", "train.jpg": "cat"}}


def test_a_list_of_test_images_alone_is_none_of_the_split(tmp_path):
    put(tmp_path, pictures="a.jpg b.jpg", **{"classes.txt": "cat\n", "a.txt": CAT, "test.txt": "b.jpg\n"})
    data = read_yolo(tmp_path, val_fraction=0, test_fraction=0)
    assert len(data.splits["train"]) == 2 and said(data, ": 1 (test.txt)")


@pytest.mark.parametrize("images", ["images", "JPEGImages"])
def test_pictures_outside_of_the_folder_of_pictures_are_no_background(tmp_path, images):
    put(tmp_path, pictures=f"{images}/a.jpg {images}/x/b.jpg masks/a.png preview.png")
    put(tmp_path, **{"labels/a.txt": CAT, "classes.txt": "cat\n"})
    data = read_yolo(tmp_path, val_fraction=0, test_fraction=0)
    assert found(data) == {"train": {f"{images}/a.jpg": "cat", f"{images}/x/b.jpg": ""}}
    assert said(data, "not used, pictures: 2 (masks/a.png, preview.png)")
    put(tmp_path, pictures="more/c.jpg", **{"more/c.txt": CAT})
    assert len(read_yolo(tmp_path, val_fraction=0, test_fraction=0).splits["train"]) == 5  # its labels are not lost


@pytest.mark.parametrize(
    ("pictures", "labels", "held", "its"),
    [
        ("images", "labels", "images/test", "labels/test"),
        ("images", "labels", "test/images", "test/labels"),
        (".", "labels", "test", "test/labels"),
        (".", ".", "test", "test"),
        ("photos", "photos", "test2017", "test2017"),
    ],
)
def test_beside_a_folder_of_test_images_the_others_are_train(tmp_path, pictures, labels, held, its, monkeypatch):
    put(tmp_path, pictures=f"{pictures}/a.jpg {pictures}/b.jpg {held}/c.jpg", **{"classes.txt": "cat\ndog\n"})
    put(tmp_path, **{f"{labels}/a.txt": CAT, f"{its}/c.txt": DOG})
    data = read_auto(tmp_path, val_fraction=0)
    names = {split: {Path(i).name: title for i, title in part.items()} for split, part in found(data).items()}
    assert names == {"train": {"a.jpg": "cat", "b.jpg": ""}, "test": {"c.jpg": "dog"}} and not said(data, "not used")
    monkeypatch.chdir(tmp_path)
    assert found(read_auto(".", val_fraction=0)) == found(data)


def test_a_folder_called_test_without_labels_is_no_split(tmp_path):
    put(tmp_path, pictures="images/a.jpg test/preview.png", **{"classes.txt": "cat\n", "labels/a.txt": CAT})
    data = read_auto(tmp_path)
    assert found(data) == {"train": {"images/a.jpg": "cat"}} and said(data, "not used, pictures: 1 (test/preview.png)")


def test_a_class_that_is_called_train(tmp_path):
    for name in ("bus", "train"):
        put(tmp_path, pictures=f"{name}/{name}1.jpg", **{f"{name}/{name}1.txt": CAT, "classes.txt": "bus\ntrain\n"})
    data = read_yolo(tmp_path, val_fraction=0, test_fraction=0)
    assert len(data.splits["train"]) == 2
    (tmp_path / "bus/bus1.txt").unlink()
    data = read_yolo(tmp_path, val_fraction=0, test_fraction=0)
    assert len(data.splits["train"]) == 1 and said(data, "not used, pictures: 1 (bus/bus1.jpg)")


@pytest.mark.parametrize("folder", [".", "sets"])
def test_two_files_that_describe_the_data_are_named(tmp_path, folder):
    put(tmp_path, pictures="images/train/a.jpg", **{"labels/train/a.txt": CAT})
    for name in ("coco.yaml", "coco_local.yaml"):
        put(tmp_path, **{f"{folder}/{name}": "train: images/train\nval: images/train\nnames: [cat]\n"})
    place = "" if folder == "." else "sets/"
    with pytest.raises(DataError, match=rf"{place}coco\.yaml, {place}coco_local\.yaml; name one: dataset\.root=FILE"):
        read_auto(tmp_path)


YAML = "train: images\nnames: [{}]\n"


@pytest.mark.parametrize(
    "files",
    [
        {"obj.names": "cat\n", "classes.txt": "dog\n"},
        {"a.names": "cat\n", "b.names": "dog\n"},
        {"data.yaml": YAML.format("cat"), "classes.txt": "dog\n"},
        {"data.yaml": YAML.format("cat"), "labels/classes.txt": "dog\n"},
        {"data.yaml": YAML.format("cat"), "dataset.yaml": YAML.format("dog")},
        {"data.yaml": YAML.format("cat"), "data.yml": YAML.format("dog")},
        {"data.yaml": YAML.format("cat"), "obj.data": "train = t.txt\nnames = o.names\n", "o.names": "dog\n"},
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("read", [read_auto, read_yolo])
def test_two_files_that_name_the_classes_differently_are_refused(tmp_path, files, read):
    put(tmp_path, pictures="images/a.jpg images/b.jpg", **{"labels/a.txt": CAT, "labels/b.txt": CAT}, **files)
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert all(name in str(error.value) for name in list(files)[:2])
    assert "number the classes differently; correct one, or " in str(error.value)
    put(tmp_path, **{name: text.replace("dog", "cat") for name, text in files.items()})
    assert found(read(tmp_path, val_fraction=0, test_fraction=0)) == {
        "train": {"images/a.jpg": "cat", "images/b.jpg": "cat"}
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [("obj.data", "train = t\nnames = gone\n"), ("classes.txt", "cat\ndog\nbird\n"), ("old.yml", "val: x\nnames: [\n")],
)
def test_a_list_that_goes_on_and_a_damaged_file_are_no_other_names(tmp_path, name, text):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": DOG, name: text})
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat, dog]\n"})
    assert found(read_yolo(tmp_path)) == {"train": {"images/a.jpg": "dog"}}


@pytest.mark.parametrize("read", [read_auto, read_yolo])
def test_a_list_of_classes_without_label_files_says_where_they_are_searched(tmp_path, read):
    put(tmp_path, pictures="images/a.jpg", **{"classes.txt": "cat\n", "boxes/a.txt": CAT})
    with pytest.raises(
        DataError, match=r": classes\.txt is there, but no picture .*, .*labels/a\.txt and .* is missing$"
    ):
        read(tmp_path)
    (tmp_path / "images/a.jpg").unlink()
    with pytest.raises(DataError, match=r": classes\.txt is there, but there is no picture below the folder$"):
        read(tmp_path)


def test_keys_of_a_yaml_that_are_not_used_are_noted(tmp_path):
    text = "train: images\nnames: [cat]\nfoo: 3\nroboflow: {version: 1}\ndownload: x\nNC: 1\n"
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": CAT, "data.yaml": text})
    assert said(read_yolo(tmp_path), "not used, keys of a data.yaml: 1 (foo of data.yaml)")


def test_a_list_of_labels_is_no_list_of_pictures(tmp_path):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": CAT, "t.txt": "labels/a.txt\n"})
    put(tmp_path, **{"data.yaml": "train: t.txt\nnames: [cat]\n"})
    with pytest.raises(DataError, match=r"t\.txt: .*labels/a\.txt is no picture"):
        read_yolo(tmp_path)


@pytest.mark.parametrize("row", ["0 0,5 0,5 0,25 0,5", "0 1 1 0,1 0,2", "0\t0,5\t0,5\t0,25\t0,5"])
def test_decimal_commas_are_refused(row):
    with pytest.raises(DataError, match=r"a:1: '.*' has decimal commas; write 0\.5, not 0,5"):
        parse_line(row, "a:1", ["cat"])
    for other in ("0,0.5,0.5,0.25,0.5", "0, 0.5, 0.5, 0.25, 0.5", "0,1,1,1,1"):
        assert parse_line(other, "a:1", ["cat"])[0] == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.yaml", "train: images\nval: v\n{}: w\nnames: [cat]\n"),
        ("obj.data", "train = t.txt\nval = v\n{} = w\nnames = o\n"),
    ],
)
def test_two_keys_of_one_split_are_refused(tmp_path, name, text):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": CAT, "t.txt": "images/a.jpg\n", "o": "cat\n"})
    put(tmp_path, **{name: text.format("valid")})
    with pytest.raises(DataError, match=rf"{name}: 'val' and 'valid' both mean the key val; keep one value, or join"):
        read_yolo(tmp_path)


@pytest.mark.parametrize(("text", "told"), [("\n\n", "txt: the file is"), ("cat\n\ndog\n", "txt:2: the line is")])
def test_an_empty_line_of_a_list_of_classes_is_named(tmp_path, text, told):
    put(tmp_path, pictures="a.jpg", **{"a.txt": CAT, "classes.txt": text})
    with pytest.raises(DataError, match=rf"classes\.{told} empty; each line must have the name of one class"):
        read_yolo(tmp_path)


def test_labels_without_names_of_classes_ask_for_them(tmp_path):
    put(tmp_path, pictures="images/a.jpg images/b.jpg", **{"labels/b.txt": DOG, "labels/a.txt": "", "notes.txt": "x"})
    with pytest.raises(DataError, match=r"labels/b\.txt has YOLO labels, .*classes\.txt.*data\.yaml"):
        read_auto(tmp_path)
    (tmp_path / "labels/b.txt").write_text("a photograph of two dogs")
    with pytest.raises(DataError, match="no format of boxes is recognised"):
        read_auto(tmp_path)


@pytest.mark.parametrize(
    ("text", "what"), [("a.jpg\nb.jpg\n", "'a.jpg' is a picture"), (CAT, "'0 .5 .5 .5 .5' is a box")]
)
def test_a_file_that_lists_no_classes_is_refused(tmp_path, text, what):
    put(tmp_path, pictures="a.jpg", **{"a.txt": CAT, "list.txt": text})
    with pytest.raises(DataError, match=rf"list\.txt:1: {what}.*data\.yaml, obj\.data or classes\.txt"):
        read_auto(tmp_path / "list.txt")


# Names that differ in letter case


def test_names_that_differ_in_letter_case_alone(tmp_path):
    put(tmp_path, pictures="images/IMG.jpg images/img.jpg images/Two.jpg images/two.jpg images/ONE.JPG")
    put(tmp_path, **{"labels/IMG.txt": CAT, "labels/img.txt": DOG, "labels/two.txt": DOG, "labels/one.TXT": CAT})
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat, dog]\n"})
    (got,) = found(read_yolo(tmp_path, val_fraction=0, test_fraction=0)).values()
    assert {Path(i).name: c for i, c in got.items()} == {
        "IMG.jpg": "cat", "img.jpg": "dog", "Two.jpg": "", "two.jpg": "dog", "ONE.JPG": "cat"
    }  # fmt: skip


def test_names_with_percent_escapes(tmp_path):
    """Label Studio writes them, but the pictures that one downloads have other names."""
    put(tmp_path, pictures="images/a%20b.jpg images/8ef-ä.jpg")
    put(tmp_path, **{"classes.txt": "cat\ndog\n", "labels/8ef-%C3%A4.txt": CAT, "labels/a%20b.txt": DOG})
    assert found(read_auto(tmp_path)) == {"train": {"images/8ef-ä.jpg": "cat", "images/a%20b.jpg": "dog"}}


@pytest.mark.parametrize("listing", ["data.yaml", "classes.txt"])
def test_labels_that_two_files_could_be_are_refused(tmp_path, listing):
    put(tmp_path, pictures="images/IMG.jpg", **{"labels/Img.txt": CAT, "labels/img.txt": DOG})
    put(tmp_path, **{listing: "cat\ndog\n" if listing == "classes.txt" else "train: images\nnames: [cat, dog]\n"})
    with pytest.raises(DataError, match=r"images/IMG\.jpg: .*labels/Img\.txt, .*labels/img\.txt"):
        read_auto(tmp_path)


def test_pictures_that_share_a_label_file_are_noted(tmp_path):
    put(tmp_path, pictures="images/a.jpg images/a.png", **{"labels/a.txt": CAT})
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat]\n"})
    assert said(read_yolo(tmp_path), "pictures that share a label file with another one: 1 (images/a.png)")


# Folders of labels


@pytest.mark.parametrize(
    ("pictures", "labels"),
    [
        ("VOC2007/JPEGImages", "VOC2007/labels"),
        ("Images/Train", "Labels/train"),
        ("IMAGES", "LABELS"),
        ("images/a/images", "images/a/labels"),
        ("JPEGImages/images", "JPEGImages/labels"),
    ],
)
def test_the_folder_of_labels_is_beside_that_of_pictures(tmp_path, pictures, labels):
    put(tmp_path, pictures=f"{pictures}/a.jpg", **{f"{labels}/a.txt": DOG, "train.txt": f"{pictures}/a.jpg\n"})
    put(tmp_path, **{"voc.data": "classes= 2\ntrain  = train.txt\nnames = voc.names\n", "voc.names": "cat\ndog\n"})
    assert found(read_auto(tmp_path)) == {"train": {f"{pictures}/a.jpg": "dog"}}


def test_folders_of_years_are_splits(tmp_path):
    for name in ("train2017", "val2017"):
        for kind in ("images", "labels"):
            (tmp_path / kind / name).mkdir(parents=True)
        Image.new("RGB", (60, 40)).save(tmp_path / "images" / name / f"{name[0]}.jpg")
        (tmp_path / "labels" / name / f"{name[0]}.txt").write_text("0 .5 .5 .2 .2")
    (tmp_path / "classes.txt").write_text("cat")
    data = read_yolo(tmp_path)
    assert [[e.path.name for e in data.splits[s]] for s in ("train", "val")] == [["t.jpg"], ["v.jpg"]]


def test_labels_of_the_exact_name_come_first(tmp_path):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": DOG, "Labels/a.txt": CAT})
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat, dog]\n"})
    assert found(read_yolo(tmp_path)) == {"train": {"images/a.jpg": "dog"}}


# What exports of tools write


@pytest.mark.parametrize("rest", ["", "test: ''\n", "test:\n", "test: null\nval: null\n", "test: []\n"])
def test_splits_that_a_yaml_leaves_empty(tmp_path, rest):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": CAT})
    put(tmp_path, **{"data.yaml": f"train: images\n{rest}names: [cat]\n"})
    assert found(read_yolo(tmp_path)) == {"train": {"images/a.jpg": "cat"}}


def test_cvats_export(tmp_path):
    text = "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"
    put(tmp_path, **{"obj.data": text, "obj.names": "cat\ndog\n"})
    for split, folder in (("train", "obj_train_data"), ("valid", "obj_valid_data")):
        put(tmp_path, pictures=f"{folder}/sub/a.jpg", **{f"{folder}/sub/a.txt": DOG})
        put(tmp_path, **{f"{split}.txt": f"data/{folder}/sub/a.jpg\n"})
    assert found(read_auto(tmp_path)) == {
        "train": {"obj_train_data/sub/a.jpg": "dog"}, "val": {"obj_valid_data/sub/a.jpg": "dog"}
    }  # fmt: skip


@pytest.mark.parametrize("count, told", [("3", True), ("two", True), ("2", False)])
def test_a_number_of_classes_that_darknet_does_not_train_with_is_told(tmp_path, count, told):
    """Darknet takes the number from its .cfg, and such files are in use."""
    text = f"classes = {count}\ntrain = train.txt\nnames = obj.names\n"
    put(
        tmp_path,
        pictures="a.jpg",
        **{"obj.data": text, "obj.names": "cat\ndog\n", "train.txt": "a.jpg\n", "a.txt": DOG},
    )
    data = read_yolo(tmp_path)
    assert data.classes == ("cat", "dog")
    note = f"the names are taken, not the number of classes: 1 (obj.data: classes = {count}, obj.names: 2 names)"
    assert (note in data.notes) == told


def test_turned_boxes_and_windows_text(tmp_path):
    """A turned box has four corners: the box around them is read. The files have a mark, CRLF and upper case."""
    put(tmp_path, pictures="images/a.JPG background/b.jpg")
    put(tmp_path, **{"labels/a.TXT": "\ufeff0 .25 .5 .5 .25 .75 .5 .5 .75\r\n\r\n"})
    put(tmp_path, **{"data.yaml": "\ufefftrain:\r\n  - D:\\sets\\images\r\n  - background\r\nnames: [cat]\r\n"})
    data = read_yolo(tmp_path, val_fraction=0, test_fraction=0)
    assert found(data) == {"train": {"images/a.JPG": "cat", "background/b.jpg": ""}}
    (box,) = next(e.boxes for e in data.splits["train"] if e.path.name == "a.JPG")
    assert box.tolist() == [5, 10, 15, 30]


@pytest.mark.parametrize("val", ["/srv/val/val.txt", "D:\\val\\lists\\val_list.txt", "/srv/val/images/val"])
def test_a_path_of_another_machine_whose_folders_have_the_word_of_the_split(tmp_path, val):
    put(tmp_path, pictures="images/train/a.jpg images/val/b.jpg", **{"labels/train/a.txt": CAT})
    put(tmp_path, **{"val.txt": "images/val/b.jpg\n", "val_list.txt": "images/val/b.jpg\n"})
    put(tmp_path, **{"data.yaml": f"train: images/train\nval: {val}\nnames: [cat]\n"})
    assert found(read_yolo(tmp_path))["val"] == {"images/val/b.jpg": ""}


@pytest.mark.parametrize(
    "row", ["0 .5 .5 .2 .2 .4 .4 1 .6 .6 1", "0 .2 .2 .4 .2 .4 .4", "0 .5 .5 .2 .2 .4 .4 1 .6 .6 1 .5 .5 0 .9"]
)
def test_a_row_that_does_not_fit_the_shape_of_the_key_points_is_no_polygon(tmp_path, row):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": f"0 .5 .5 .2 .2\n{row}\n"})
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat]\nkpt_shape: [3, 3]\n"})
    with pytest.raises(DataError, match=r"labels/a\.txt:2: \d+ numbers; by kpt_shape a line is a class, a box and 9"):
        read_yolo(tmp_path)


@pytest.mark.parametrize(
    "row",
    [
        "0 .5 .5 .2 .2 .1 .1 2 .2 .2 1",
        "0 .5 .5 .2 .2 .1 .1 1 .2 .2 1 .3 .3 1 .4 .4 1",
        "0 .5 .5 .2 .2 .1 .1 1 .2 .2 1 .3 .3 0",  # an odd number of corners
    ],
)
def test_key_points_without_their_shape_are_no_polygon(tmp_path, row):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": row})
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat]\n"})
    with pytest.raises(DataError, match=r"labels/a\.txt:1: .*key points.*kpt_shape"):
        read_yolo(tmp_path)


@pytest.mark.parametrize(
    "rows", ["0 .5 .5 .2 .2 .9 1", "0 .5 .5 .2 .2 .9 2\n1 .2 .2 .1 .1 .8 1\n", "0,.5,.5,.2,.2,.9,37"]
)
def test_rows_of_a_tracker_are_no_polygons(tmp_path, rows):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": rows})
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat, dog]\n"})
    with pytest.raises(DataError, match=r"labels/a\.txt: each row has 7 numbers, the last of which is that of a track"):
        read_yolo(tmp_path)


def test_one_key_point_at_the_edge_is_no_track(tmp_path):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": "0 .5 .5 .2 .2 .9 1\n"})
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat]\nkpt_shape: [1, 2]\n"})
    assert found(read_yolo(tmp_path)) == {"train": {"images/a.jpg": "cat"}}


@pytest.mark.parametrize("rows", ["0 .1 .5 .9 .5 .5 1.0", "0 .1 .5 .9 .5 .5 1\n0 .5 .5 .2 .2", "0 .1 .5 .9 .5 .5 0"])
def test_triangles_that_end_at_the_edge_are_polygons(tmp_path, rows):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": rows})
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat]\n"})
    (e,) = read_yolo(tmp_path).splits["train"]
    assert e.boxes[0, [1, 3]].tolist() == [4, 36]


def test_names_that_are_empty_or_given_twice(tmp_path):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": CAT})
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat, ' ']\n"})
    with pytest.raises(DataError, match=r"data\.yaml: names: the name of class 1 is empty"):
        read_yolo(tmp_path)
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat, dog, cat]\n"})
    assert said(read_yolo(tmp_path), "classes of one name are one class: 1 (cat)")


# Labels that no picture finds


@pytest.mark.parametrize(
    ("pictures", "labels", "text", "told"),
    [
        ("images/train/a.jpg images/val/b.jpg", "labels/valid/b.txt", "train: images/train\nval: images/val\n", "val"),
        ("a/images/a.jpg b/img/b.jpg", "b/labels/b.txt", "train: [a/images, b/img]\n", "train"),
        ("images/a.jpg x/b.jpg", "x_labels/b.txt", "train: images\nval: val.txt\n", "val"),
    ],
)
def test_a_folder_whose_labels_lie_elsewhere_is_no_background(tmp_path, pictures, labels, text, told):
    first = pictures.split()[0].replace("images", "labels").replace(".jpg", ".txt")
    put(tmp_path, pictures=pictures, **{first: CAT, labels: CAT, "val.txt": "x/b.jpg\n"})
    put(tmp_path, **{"data.yaml": f"{text}names: [cat]\n"})
    with pytest.raises(
        DataError, match=rf"data\.yaml: {told}: .* has a label file, but {labels}, .*b\.txt.* is missing"
    ):
        read_yolo(tmp_path)
    (tmp_path / labels).rename(tmp_path / "notes.txt")
    assert said(read_yolo(tmp_path, val_fraction=0, test_fraction=0), "background, pictures without a label file: 1 (")


def test_a_folder_of_background_and_a_split_of_test_without_labels_are_read(tmp_path):
    """A label file of no listed picture is no reason if it is that of a picture, or of another name."""
    put(tmp_path, pictures="images/a.jpg empty/b.jpg other/b.jpg test/c.jpg")
    put(tmp_path, **{"labels/a.txt": CAT, "other/b.txt": CAT, "labels/gone.txt": CAT, "x/c.txt": CAT})
    put(tmp_path, **{"data.yaml": "train: [images, empty]\ntest: test\nnames: [cat]\n"})
    data = read_yolo(tmp_path, val_fraction=0)
    assert found(data) == {"train": {"images/a.jpg": "cat", "empty/b.jpg": ""}, "test": {"test/c.jpg": ""}}
    assert said(data, "background, pictures without a label file: 2 (empty/b.jpg, test/c.jpg)")


# What is made of rows, and lines that are not used


def test_boxes_made_from_other_rows_are_noted(tmp_path):
    put(tmp_path, pictures="images/a.jpg images/b.jpg", **{"labels/a.txt": f"{CAT}1 .1 .2 .5 .25 .3 .9\n"})
    put(
        tmp_path,
        **{"labels/b.txt": "0 .25 .5 .5 .25 .75 .5 .5 .75\n", "data.yaml": "train: images\nnames: [cat, dog]\n"},
    )
    data = read_yolo(tmp_path)
    assert "boxes made from polygons and turned boxes: 2 (dog in a.txt, cat in b.txt)" in data.notes
    put(tmp_path, **{"labels/a.txt": CAT, "labels/b.txt": CAT})
    assert not said(read_yolo(tmp_path), "made from")


def test_key_points_that_are_left_out_are_noted(tmp_path):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": f"{CAT}0 .5 .5 .2 .2 .4 .4 1\n"})
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat]\nkpt_shape: [1, 3]\n"})
    assert said(read_yolo(tmp_path), "left out, key points of boxes: 1 (cat in a.txt)")


EDGES = "0 0 0 .5 0 1 .3 1 1 0 1 .2 .2 0 .5 .1 1\n"
POSE = "0 .5 .5 .2 .2 .1 .1 1 .2 .2 1 .3 .3 1 .4 .4 1\n"


@pytest.mark.parametrize("rows", [EDGES, f"{POSE}0 .1 .2 .5 .25 .3 .9\n"])
def test_polygons_of_eight_points_at_the_edges_are_polygons(tmp_path, rows):
    """A row alone can look like key points; the rows of a data set tell what they are."""
    put(tmp_path, pictures="images/a.jpg images/b.jpg", **{"labels/a.txt": rows, "labels/b.txt": CAT})
    put(tmp_path, **{"data.yaml": "train: images\nnames: [cat]\n"})
    assert said(read_yolo(tmp_path), "boxes made from polygons and turned boxes: ")
    of_no_object = f"0{' 0' * 16}\n"
    put(tmp_path, **{"labels/a.txt": POSE, "labels/b.txt": CAT + POSE + of_no_object})
    with pytest.raises(DataError, match=r"labels/a\.txt:1: a box and 4 key points; .*kpt_shape: \[4, 3\]"):
        read_yolo(tmp_path)


def test_lines_of_a_list_that_repeat_a_picture_are_noted(tmp_path):
    put(tmp_path, pictures="images/a.jpg images/b.jpg", **{"labels/a.txt": CAT, "labels/b.txt": CAT})
    put(tmp_path, **{"train.txt": "images/a.jpg\nimages/b.jpg\n./images/a.jpg\n", "more.txt": "images/b.jpg\n"})
    put(tmp_path, **{"data.yaml": "train: [train.txt, more.txt]\nnames: [cat]\n"})
    data = read_yolo(tmp_path, val_fraction=0, test_fraction=0)
    assert len(data.splits["train"]) == 2
    assert said(data, "of a list that repeat a picture: 2 (./images/a.jpg in train.txt, images/b.jpg in more.txt)")


@pytest.mark.parametrize("name", ["darknet.labels", "_darknet.labels"])
def test_lists_of_classes_of_v7_and_roboflow(tmp_path, name):
    put(tmp_path, pictures="images/a.jpg", **{"labels/a.txt": DOG, name: "cat\ndog\n"})
    assert found(read_auto(tmp_path)) == {"train": {"images/a.jpg": "dog"}}


def test_val_and_test_that_are_one_folder_have_a_way_out(tmp_path):
    put(tmp_path, pictures="images/a.jpg val/b.jpg", **{"labels/a.txt": CAT, "val/b.txt": CAT})
    put(tmp_path, **{"data.yaml": "train: images\nval: val\ntest: val\nnames: [cat]\n"})
    with pytest.raises(DataError, match=r"data\.yaml: val and test have the same 1 image; .*remove the line of test"):
        read_yolo(tmp_path)
