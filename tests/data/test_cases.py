"""Small inputs that users have, each for its whole kind: what is read, what is said, or what is refused."""

import json
import re
import resource
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detect.data.dataset import DetectionDataset
from detect.data.formats.auto import read_auto
from detect.data.formats.coco import find_jsons, read_coco
from detect.data.formats.voc import read_voc
from detect.data.formats.yolo import read_yolo
from detect.data.image_file import examine, header, read_image
from detect.data.validate import check
from detect.errors import DataError

WIDTH, HEIGHT = 64, 48
BOX = (5, 6, 25, 36)  # xmin, ymin, xmax, ymax


def picture(path: Path, size=(WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, path.name))
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)).save(path)
    return path


def xml(path: Path, *objects, filename: str | None = None, encoding: str = "utf-8", head: str = "") -> Path:
    """objects: (name, xmin, ymin, xmax, ymax) in the file's own numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "".join(
        f"<object><name>{n}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for n, a, b, c, d in objects
    )
    named = f"<filename>{filename}</filename>" if filename else ""
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    path.write_bytes(f"{head}<annotation>{named}{size}{body}</annotation>".encode(encoding))
    return path


CAT = ("cat", 6, 7, 25, 36)  # BOX in VOC's numbers


def pair(root: Path, stem: str, *objects, images="JPEGImages", annotations="Annotations", **more) -> None:
    picture(root / images / f"{stem}.jpg")
    xml(root / annotations / f"{stem}.xml", *(objects or (CAT,)), **more)


def coco(root: Path, images, annotations, categories=((1, "cat"),), name="train.json") -> Path:
    for _, file, *_ in images:
        place = root / "images" / str(file).replace("\\", "/").rpartition("/")[2]
        picture(place)
    content = {
        "images": [{"id": i, "file_name": f, "width": WIDTH, "height": HEIGHT} for i, f in images],
        "annotations": [{"id": k, **a} for k, a in enumerate(annotations, 1)],
        "categories": [{"id": i, "name": n} for i, n in categories],
    }
    (root / name).write_text(json.dumps(content))
    return root


def row(image=1, category=1, box=(5, 6, 20, 30), **more) -> dict:
    return {"image_id": image, "category_id": category, "bbox": list(box), **more}


def yolo(root: Path, labels: dict[str, str], text="train: images/train\nnames: [cat, dog]\n") -> Path:
    for stem, rows in labels.items():
        picture(root / "images/train" / f"{stem}.jpg")
        (root / "labels/train").mkdir(parents=True, exist_ok=True)
        (root / "labels/train" / f"{stem}.txt").write_text(rows)
    (root / "data.yaml").write_text(text)
    return root


def boxes(dataset: DetectionDataset) -> dict[str, list]:
    """Class, crowd flag and xmin, ymin, xmax, ymax of every box, by the stem of its image."""
    found = {}
    for examples in dataset.splits.values():
        for e in examples:
            rows = zip(e.classes, e.crowd, np.round(e.boxes[:, [1, 0, 3, 2]].astype(float), 3).tolist(), strict=True)
            found[Path(e.id).stem] = [(dataset.classes[c - 1], bool(crowd), tuple(box)) for c, crowd, box in rows]
    return found


def said(dataset: DetectionDataset, *words: str) -> bool:
    """Whether one note has all the words."""
    return any(all(word in note for word in words) for note in dataset.notes)


ONE = [("cat", False, BOX)]


# A value is read as something else, or lost


@pytest.mark.parametrize("flag", ["0", "0.0", 0, False, None, "false"])
def test_a_flag_that_is_text_is_no_crowd(tmp_path, flag):
    assert boxes(read_coco(coco(tmp_path, [(1, "a.jpg")], [row(iscrowd=flag)])))["a"] == ONE


@pytest.mark.parametrize("more", [{"iscrowd": "1"}, {"ignore": 1}, {"ignore": True}, {"iscrowd": 1, "ignore": 0}])
def test_crowd_and_ignore_are_neither_trained_nor_scored(tmp_path, more):
    data = read_coco(coco(tmp_path, [(1, "a.jpg")], [row(**more), row(box=(1, 1, 9, 9))]))
    assert boxes(data)["a"] == [("cat", True, BOX), ("cat", False, (1, 1, 10, 10))]


def test_a_flag_of_another_kind_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"train\.json: annotations\[0\]: iscrowd is 'maybe'; .*0 or 1"):
        read_coco(coco(tmp_path, [(1, "a.jpg")], [row(iscrowd="maybe")]))


@pytest.mark.parametrize("other", [1, "1", 1.0])
def test_two_images_of_one_id_are_refused(tmp_path, other):
    with pytest.raises(DataError, match=r"images: the id 1 is given twice: a\.jpg, b\.jpg"):
        read_coco(coco(tmp_path, [(1, "a.jpg"), (other, "b.jpg")], [row()]))


@pytest.mark.parametrize(("shape", "points"), [([3, 2], ".1 .1 .9 .9 .5 .5"), ([2, 3], ".1 .1 2 .9 .9 1")])
def test_key_points_are_no_corners(tmp_path, shape, points):
    text = f"train: images/train\nnames: [cat, dog]\nkpt_shape: {shape}\n"
    data = read_yolo(yolo(tmp_path, {"a": f"0 0.5 0.5 0.2 0.2 {points}"}, text))
    assert boxes(data)["a"] == [("cat", False, (25.6, 19.2, 38.4, 28.8))]


def test_corners_that_count_from_zero_are_inferred(tmp_path):
    for k in range(6):
        pair(tmp_path, f"p{k}", ("cat", 0, 0, WIDTH - 1, HEIGHT - 1), ("dog", 0, 10, 20, 30))
    data = read_voc(tmp_path)
    assert boxes(data)["p0"] == [("cat", False, (0, 0, WIDTH, HEIGHT)), ("dog", False, (0, 10, 21, 31))]
    assert said(data, "first_pixel=0 is inferred", "p0.xml")
    assert boxes(read_voc(tmp_path, first_pixel=1))["p0"][0] == ("cat", False, (-1, -1, WIDTH - 1, HEIGHT - 1))


def test_one_stray_zero_among_corners_that_count_from_one_changes_nothing(tmp_path):
    for k in range(6):
        pair(tmp_path, f"p{k}", ("cat", 1, 1, WIDTH, HEIGHT), ("dog", 0 if k == 3 else 5, 10, 20, 30))
    data = read_voc(tmp_path)
    assert boxes(data)["p0"][0] == ("cat", False, (0, 0, WIDTH, HEIGHT))
    assert said(data, "first_pixel=1 is inferred", "set dataset=voc dataset.first_pixel", "p3.xml")


@pytest.mark.parametrize("seed", range(5))
def test_a_drawn_split_trains_every_class(tmp_path, seed):
    for k in range(12):
        objects = (CAT, ("rare", 1, 1, 9, 9)) if k == 5 else (CAT, ("scarce", 1, 1, 9, 9)) if k < 4 else (CAT,)
        pair(tmp_path, f"p{k:02d}", *objects)
    data = read_voc(tmp_path, split_seed=seed)
    per_class = {
        name: tuple(sum((data.classes.index(name) + 1) in e.classes for e in data.splits[s]) for s in data.splits)
        for name in data.classes
    }
    assert per_class["rare"] == (1, 0, 0) and per_class["scarce"] == (2, 1, 1)
    assert said(data, "DRAWN", f"split_seed={seed}")
    details = [f.detail for f in check(data)]
    assert any("'rare' has no box in val" in d and "too few images" in d for d in details)


@pytest.mark.parametrize(
    "names",
    [
        ("train", "valid", "test"),
        ("Training", "Validation", "Testing"),
        ("train", "val"),
        ("train2017", "val2017", "test2017"),
        ("train_images", "val_images"),
        ("Training Set", "Validation Set"),
        ("images_train", "images_val"),
        ("train", "val_data"),
    ],
)
def test_folders_of_splits_count(tmp_path, names):
    for k, name in enumerate(names):
        for i in range(3 - k):
            pair(tmp_path, f"{name}{i}", images=name, annotations=name)
    data = read_voc(tmp_path)
    assert [len(data.splits[s]) for s in ("train", "val", "test")][: len(names)] == [3, 2, 1][: len(names)]
    assert said(data, "split: the folders' names") and not said(data, "DRAWN")


def test_folders_inside_images_and_annotations_count(tmp_path):
    for split in ("train", "val"):
        for i in range(3):
            pair(tmp_path, f"{split}/{i}", images="images", annotations="annotations")
    data = read_voc(tmp_path)
    assert [len(data.splits[s]) for s in ("train", "val", "test")] == [3, 3, 0]


@pytest.mark.parametrize(("first", "second"), [("train_{}", "val_{}"), ("{}_train", "{}_val")])
def test_folders_of_splits_for_pictures_and_annotations_count(tmp_path, first, second):
    for split in (first, second):
        for i in range(3):
            pair(
                tmp_path,
                f"{split.strip('{}_')}{i}",
                images=split.format("images"),
                annotations=split.format("annotations"),
            )
    data = read_voc(tmp_path)
    assert [len(data.splits[s]) for s in ("train", "val", "test")] == [3, 3, 0]


@pytest.mark.parametrize("name", ["train_station", "set_1", "testimonials", "my test of cats"])
def test_folders_of_other_names_are_no_splits(tmp_path, name):
    for i in range(8):
        pair(tmp_path, f"{i}", images=name, annotations=name)
        pair(tmp_path, f"b{i}", images="other", annotations="other")
    assert said(read_voc(tmp_path), "DRAWN")


def test_val_is_drawn_from_train_beside_a_test_folder(tmp_path):
    for split, count in (("train", 8), ("test", 3)):
        for i in range(count):
            pair(tmp_path, f"{split}{i}", images=split, annotations=split)
    data = read_voc(tmp_path)
    assert {e.path.parent.name for s in ("train", "val") for e in data.splits[s]} == {"train"}
    assert len(data.splits["val"]) == 1 and len(data.splits["test"]) == 3 and said(data, "DRAWN")


@pytest.mark.parametrize("ending", [".XML", ".Xml"])
def test_letter_case_of_an_ending(tmp_path, ending):
    pair(tmp_path, "a", images=".", annotations=".")
    picture(tmp_path / "b.JPG")
    xml(tmp_path / f"b{ending}", CAT)
    assert boxes(read_voc(tmp_path)) == {"a": ONE, "b": ONE}


def test_a_label_file_without_a_picture_is_named(tmp_path):
    yolo(tmp_path, {"a": "0 .5 .5 .25 .5"})
    (tmp_path / "labels/train/zzz.txt").write_text("0 .5 .5 .25 .5")
    assert said(read_yolo(tmp_path), "label files without a picture: 1 (zzz.txt)")


@pytest.mark.parametrize("key", ["val", "validation", "valid", "Val", "VALID", "validate"])
def test_keys_of_the_validation_images(tmp_path, key):
    yolo(tmp_path, {"a": "", "b": "0 .5 .5 .25 .5"}, f"train: images/train\n{key}: images/val\nnames: [cat, dog]\n")
    picture(tmp_path / "images/val/c.jpg")
    data = read_yolo(tmp_path)
    assert [Path(e.id).stem for e in data.splits["val"]] == ["c"]


@pytest.mark.parametrize("name", ["data.yaml", "set.yaml", "obj.data"])
def test_letter_case_of_keys(tmp_path, name):
    yolo(tmp_path, {"a": "0 .5 .5 .25 .5"}).joinpath("data.yaml").unlink()
    (tmp_path / "train.txt").write_text("images/train/a.jpg\n")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    text = "Train: train.txt\nNames: obj.names\nNC: 2\n" if "yaml" in name else "TRAIN = train.txt\nNames = obj.names\n"
    (tmp_path / name).write_text(text)
    assert len(boxes(read_auto(tmp_path))["a"]) == 1
    (tmp_path / name).write_text(text + text.lower().replace("train.txt", "images"))
    with pytest.raises(DataError, match=rf"{name}: '(Train|TRAIN)' and 'train' both mean the key train; "):
        read_yolo(tmp_path)


def test_a_box_that_is_given_three_times_is_one(tmp_path):
    data = read_yolo(yolo(tmp_path, {"a": "0 .5 .5 .25 .5\n" * 3 + "1 .5 .5 .25 .5\n"}))
    assert [name for name, *_ in boxes(data)["a"]] == ["cat", "dog"]
    assert said(data, "boxes that are given twice: 2", "cat in images/train/a.jpg")


def test_two_pictures_of_one_xml_are_both_named(tmp_path):
    pair(tmp_path, "a")
    pair(tmp_path, "b", filename="b.png")
    picture(tmp_path / "JPEGImages/b.png")
    data = read_voc(tmp_path)
    assert said(data, "several pictures", "b.png or b.jpg") and said(data, "not used, pictures: 1 (JPEGImages/b.jpg)")


def test_blanks_around_names_and_names_that_look_alike(tmp_path):
    decomposed = "cafe\u0301"
    pair(
        tmp_path,
        "a",
        CAT,
        (" cat ", 1, 1, 9, 9),
        ("caf\u00e9", 1, 1, 8, 8),
        (decomposed, 2, 2, 9, 9),
        ("Cat", 3, 3, 9, 9),
    )
    data = read_voc(tmp_path)
    assert data.classes == ("Cat", "caf\u00e9", "cat")
    (finding,) = [f for f in check(data) if f.kind == "similar-classes"]
    assert "Cat and cat" in finding.detail and "dataset.rename={Cat: cat}" in finding.detail
    assert read_voc(tmp_path, rename={"Cat": "cat"}).classes == ("caf\u00e9", "cat")


@pytest.mark.parametrize("name", ["cat\u200b", "\ufeffcat", "c\u00adat", "\u200ecat \u200b"])
def test_characters_that_nobody_sees_make_no_other_class(tmp_path, name):
    pair(tmp_path, "a", CAT, (name, 1, 1, 9, 9))
    assert read_voc(tmp_path).classes == read_voc(tmp_path, classes=[name]).classes == ("cat",)
    yolo(tmp_path / "y", {"a": "0 .5 .5 .2 .2\n1 .2 .2 .1 .1"}, f'train: images/train\nnames: [cat, "{name}"]\n')
    assert read_yolo(tmp_path / "y").classes == ("cat",)


def test_categories_that_differ_in_blanks_are_one(tmp_path):
    data = read_coco(coco(tmp_path, [(1, "a.jpg")], [row(), row(1, 2, (1, 1, 9, 9))], ((1, "cat"), (2, " cat "))))
    assert data.classes == ("cat",) and len(boxes(data)["a"]) == 2 and said(data, "merged", "ids 1, 2")


@pytest.mark.parametrize(
    "names", ["[yes, no]", "{0: yes, 1: no}", "[on, off]", "[1, 2]", "[1.0, null]", "[~x, 2020-01-01]"]
)
def test_names_are_the_words_as_written(tmp_path, names):
    data = read_yolo(yolo(tmp_path, {"a": "0 .5 .5 .25 .5"}, f"train: images/train\nnames: {names}\n"))
    words = names.strip("[]{}").replace("0: ", "").replace("1: ", "").split(", ")
    assert data.classes == tuple(words)


def test_the_check_decodes_as_training_does(tmp_path):
    """A float picture, one that a library can't decode; one whose XMP turns it, which OpenCV does not follow."""
    pair(tmp_path, "a")
    xml(tmp_path / "Annotations/f.xml", CAT)
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)).save(tmp_path / "JPEGImages/f.tif")
    xml(tmp_path / "Annotations/x.xml", CAT)
    turned = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "JPEGImages/x.jpg", xmp=turned)
    errors = [f for f in check(read_voc(tmp_path), decode=True) if f.action == "error"]
    assert [(f.path.name, f.kind) for f in errors] == [("f.tif", "unreadable")]
    assert "32 bits for each value" in errors[0].detail
    assert read_image(tmp_path / "JPEGImages/x.jpg").shape[:2] == (HEIGHT, WIDTH)


# Right input


def test_years_side_by_side(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        for k in range(3):
            pair(tmp_path / "VOCdevkit" / year, f"{year}_{k}")
        lists = tmp_path / "VOCdevkit" / year / "ImageSets/Main"
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text(f"{year}_0\n{year}_1\n")
        (lists / "val.txt").write_text(f"{year}_2\n")
    for root in (tmp_path, tmp_path / "VOCdevkit"):
        data = read_voc(root)
        assert [len(data.splits[s]) for s in ("train", "val", "test")] == [4, 2, 0]
        assert {e.path.parent.parent.name for e in data.splits["train"]} == {"VOC2007", "VOC2012"}


@pytest.mark.parametrize(
    ("images", "annotations"), [("images", "annotations"), ("Images", "Annotation"), ("imgs", "xmls"), (".", "annots")]
)
def test_names_of_the_folders(tmp_path, images, annotations):
    pair(tmp_path, "a", images=images, annotations=annotations)
    assert boxes(read_voc(tmp_path)) == {"a": ONE}


def test_a_picture_is_found_by_its_filename_or_a_close_name(tmp_path):
    picture(tmp_path / "JPEGImages/IMG_0.jpg")
    xml(tmp_path / "Annotations/0.xml", CAT, filename="C:\\photos\\IMG_0.jpg")
    picture(tmp_path / "JPEGImages/p1.jpg")
    xml(tmp_path / "Annotations/p1.jpg.xml", CAT)
    picture(tmp_path / "JPEGImages/P2.JPG")
    xml(tmp_path / "Annotations/p2.xml", CAT)
    picture(tmp_path / "JPEGImages/cafe\u0301.jpg")
    xml(tmp_path / "Annotations/caf\u00e9.xml", CAT)
    data = read_voc(tmp_path)
    assert {e.path.name for part in data.splits.values() for e in part} == {
        "IMG_0.jpg", "p1.jpg", "P2.JPG", "cafe\u0301.jpg"
    }  # fmt: skip
    assert said(data, "found by <filename> or a close name", ": 4 (0.xml -> IMG_0.jpg")


def test_a_picture_that_two_files_could_mean_is_refused(tmp_path):
    pair(tmp_path, "a")
    for folder in ("one", "two"):
        picture(tmp_path / "JPEGImages" / folder / "x.jpg")
    xml(tmp_path / "Annotations/0.xml", CAT, filename="x.jpg")
    with pytest.raises(DataError, match=r"0\.xml: the picture 'x\.jpg' could be .*one/x\.jpg, .*two/x\.jpg"):
        read_voc(tmp_path)


def test_two_annotations_of_one_picture_are_refused(tmp_path):
    pair(tmp_path, "a")
    xml(tmp_path / "Annotations/other.xml", CAT, filename="a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: two annotation files .*a\.xml, .*other\.xml"):
        read_voc(tmp_path)


def test_hidden_files_are_passed_over(tmp_path):
    pair(tmp_path, "p0")
    for name in ("Annotations/._p0.xml", "JPEGImages/._p0.jpg", "__MACOSX/Annotations/._p0.xml", ".cache/x.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    data = read_voc(tmp_path)
    assert boxes(data) == {"p0": ONE} and not said(data, "not used")


@pytest.mark.parametrize(
    ("encoding", "head", "name"),
    [
        ("latin-1", "", "caf\u00e9"),
        ("gb2312", '<?xml version="1.0" encoding="gb2312"?>', "\u732b"),
        ("shift_jis", "<?xml version='1.0' encoding='Shift_JIS'?>", "\u732b"),
        ("utf-16", "", "\u732b"),
        ("utf-16", '<?xml version="1.0" encoding="utf-16"?>', "\u732b"),
        ("utf-16-le", "", "cat"),
        ("utf-8-sig", '<?xml version="1.0" encoding="utf-8"?>', "\u732b"),
        ("utf-8", '<?xml version="1.0" encoding="utf-16"?>', "\u732b"),
    ],
)
def test_encodings(tmp_path, encoding, head, name):
    pair(tmp_path, "a", (name, *CAT[1:]), encoding=encoding, head=head)
    data = read_voc(tmp_path)
    assert data.classes == (name,) and said(data, "read as Latin-1") == (encoding == "latin-1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'<?xml version="1.0" encoding="utf-9"?><annotation/>', "encoding 'utf-9', which does not exist"),
        (b'<?xml version="1.0" encoding="gb2312"?><annotation>\xff\xff</annotation>', "not text in gb2312"),
        (b"<annotation>\0\0\0\0\0\0\xff</annotation>", "zero bytes|malformed XML"),
    ],
)
def test_what_is_no_text_is_refused_with_its_encoding(tmp_path, text, message):
    pair(tmp_path, "a")
    (tmp_path / "Annotations/a.xml").write_bytes(text)
    with pytest.raises(DataError, match=rf"a\.xml.*({message})"):
        read_voc(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_lists_in_any_encoding_with_blanks_in_names(tmp_path, encoding):
    for stem in ("my cat", "p0", "p1", "p2"):
        pair(tmp_path, stem)
    lists = tmp_path / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_bytes("p0\r\nmy cat\r\nP2.jpg\r\n".encode(encoding))
    data = read_voc(tmp_path, val_fraction=0, test_fraction=0)
    assert sorted(e.id for e in data.splits["train"]) == ["my cat", "p0", "p2"]
    assert said(data, "not used, .xml files: 1 (Annotations/p1.xml)")


def test_a_subset_of_the_classes(tmp_path):
    pair(tmp_path, "a", CAT, ("dog", 1, 1, 9, 9))
    pair(tmp_path, "b", ("dog", 1, 1, 9, 9))
    data = read_voc(tmp_path, classes=["cat"])
    assert boxes(data) == {"a": ONE, "b": []} and said(data, "left out by dataset.classes", "dog with 2 boxes")


def test_categories_without_a_box_are_left_out(tmp_path):
    """Roboflow's files have a supercategory as category 0, at times of the same name as a class."""
    rows = [row(1, 1), row(1, 5, (1, 1, 9, 9))]
    data = read_coco(coco(tmp_path, [(1, "a.jpg")], rows, ((0, "cat"), (1, "cat"), (5, "dog"), (7, "cow"))))
    assert data.classes == ("cat", "dog") and data.category_ids == (1, 5)
    assert said(data, "repeat a name: 1 (cat (id 0))") and said(data, "classes without a box: 1 (cow)")


@pytest.mark.parametrize("name", ["images\\a.jpg", "./images/a.jpg", "images/A.JPG", "C:\\x\\images\\a.jpg", "a%2Ejpg"])
def test_names_of_pictures_from_other_systems(tmp_path, name):
    coco(tmp_path, [(1, "a.jpg")], [row()])
    content = json.loads((tmp_path / "train.json").read_text())
    content["images"][0]["file_name"] = name
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert boxes(read_coco(tmp_path))["a"] == ONE


def test_boxes_of_segmentations(tmp_path):
    polygon = {"segmentation": [[5, 6, 25, 6, 25, 36, 5, 36]]}
    mask = {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [5 * HEIGHT + 6, 30, *[18, 30] * 19, 9999999]}}
    mask["segmentation"]["counts"][-1] = HEIGHT * WIDTH - sum(mask["segmentation"]["counts"][:-1])
    rows = [{"image_id": k, "category_id": 1, **s} for k, s in enumerate((polygon, mask), 1)]
    data = read_coco(coco(tmp_path, [(1, "a.jpg"), (2, "b.jpg")], rows))
    assert boxes(data) == {"a": ONE, "b": ONE} and said(data, "made from segmentations: 2")
    with pytest.raises(DataError, match=r"annotations\[0\] has no 'bbox', and no segmentation"):
        read_coco(coco(tmp_path, [(1, "a.jpg")], [{"image_id": 1, "category_id": 1}]))


def test_ids_that_are_text_here_and_numbers_there(tmp_path):
    data = read_coco(coco(tmp_path, [("1", "a.jpg"), (2, "b.jpg")], [row(1, "1"), row("2", 1.0)]))
    assert boxes(data) == {"a": ONE, "b": ONE}
    assert [e.source_id for e in data.splits["train"]] == ["1", 2]


@pytest.mark.parametrize("names", ["{'0': cat, '1': dog}", "{0: cat, 1: dog}", "[cat, dog]", "{1: dog, 0: cat}"])
@pytest.mark.parametrize("count", ["", 'nc: "2"\n', "nc: 2\n"])
def test_forms_of_the_names(tmp_path, names, count):
    data = read_yolo(yolo(tmp_path, {"a": "0 .5 .5 .25 .5"}, f"train: images/train\n{count}names: {names}\n"))
    assert data.classes == ("cat", "dog")


def test_a_number_of_classes_without_names(tmp_path):
    data = read_yolo(yolo(tmp_path, {"a": "1 .5 .5 .25 .5"}, "train: images/train\nnc: 2\n"))
    assert data.classes == ("class_0", "class_1")


@pytest.mark.parametrize(
    "train",
    ["images/train", "[images/train]", "images/train/*.jpg", "images\\train", "/srv/set/images/train", "train.txt",
     "./images/train/", "images/*"],
)  # fmt: skip
@pytest.mark.parametrize("base", ["", "path: /content/drive/set\n", "path: .\n", "path: ../elsewhere\n"])
def test_forms_of_the_paths(tmp_path, train, base):
    yolo(
        tmp_path,
        {"a": "0 .5 .5 .25 .5"},
        f"{base}train: '{train}'\ntest: images/none\nnames: [cat, dog]\n".replace("'[images/train]'", "[images/train]"),
    )
    (tmp_path / "train.txt").write_bytes("\ufeffimages\\train\\a.jpg\r\n".encode())
    data = read_yolo(tmp_path)
    assert list(boxes(data)) == ["a"] and said(data, "do not exist: 1 (test: images/none)")


def test_darknet(tmp_path):
    picture(tmp_path / "obj_train_data/a.jpg")
    (tmp_path / "obj_train_data/a.txt").write_text("1 .5 .5 .25 .5")
    (tmp_path / "obj.data").write_text(
        "classes = 2\ntrain  = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/a.jpg\n")
    assert boxes(read_yolo(tmp_path))["a"] == [("dog", False, (24, 12, 40, 36))]


@pytest.mark.parametrize("layout", [".", "images"])
def test_a_list_of_classes(tmp_path, layout):
    picture(tmp_path / layout / "a.jpg")
    labels = tmp_path / layout.replace("images", "labels")
    labels.mkdir(exist_ok=True)
    (labels / "a.txt").write_text("1 .5 .5 .25 .5")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "notes.json").write_text('{"categories": []}')
    data = read_auto(tmp_path)
    assert boxes(data)["a"] == [("dog", False, (24, 12, 40, 36))] and said(data, "format: yolo (classes.txt")


# One message in place of a traceback


def test_categories_whose_ids_are_of_two_types(tmp_path):
    assert read_coco(coco(tmp_path, [(1, "a.jpg")], [row(1, 2)], (("1", "cat"), (2, "dog")))).classes == ("dog",)


def test_names_that_are_numbers(tmp_path):
    assert read_coco(coco(tmp_path, [(1, "a.jpg")], [row()], ((1, 7),))).classes == ("7",)


def test_sides_that_are_text(tmp_path):
    coco(tmp_path, [(1, "a.jpg")], [row()])
    text = (tmp_path / "train.json").read_text()
    (tmp_path / "train.json").write_text(text.replace('"width": 64', '"width": "64.0"'))
    assert boxes(read_coco(tmp_path))["a"] == ONE
    (tmp_path / "train.json").write_text(text.replace('"width": 64', '"width": "wide"'))
    with pytest.raises(DataError, match=r"image a\.jpg: width is 'wide'; .*pixels"):
        read_coco(tmp_path)


def test_an_id_that_is_a_list(tmp_path):
    with pytest.raises(DataError, match=r"annotations\[0\]: category_id is \[1\], .*categories; legal: 1"):
        read_coco(coco(tmp_path, [(1, "a.jpg")], [row(1, [1])]))


def test_a_path_that_is_a_number(tmp_path):
    with pytest.raises(DataError, match=r"data\.yaml: train: 5 does not exist"):
        read_yolo(yolo(tmp_path, {"a": ""}, "train: 5\nnames: [cat, dog]\n"))


# Pictures


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_boxes_of_turned_pictures(tmp_path, orientation, ending):
    """A bright patch, boxed in the pixels as stored, is inside the box of the displayed picture."""
    stored = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stored[8:20, 10:40] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    more = {"tiffinfo": {0x0112: orientation}} if ending == "tif" else {"exif": exif}
    (tmp_path / "images").mkdir()
    path = tmp_path / f"images/a.{ending}"
    Image.fromarray(stored).save(path, **more)
    shown = read_image(path)
    assert header(path)[:2] == shown.shape[1::-1]
    if ending == "tif":  # its decoder turns the pixels: nothing is left to be done
        return
    xml(tmp_path / "annotations/a.xml", ("cat", 11, 9, 40, 20))
    data = read_voc(tmp_path, exif="stored")
    (example,) = data.splits["train"]
    y0, x0, y1, x1 = example.boxes[0].astype(int)
    assert shown[y0:y1, x0:x1].mean() > 240 and shown.sum() - shown[y0:y1, x0:x1].sum() < shown.sum() * 0.06
    assert not [f for f in check(data) if f.action == "error"]
    if orientation >= 5:
        (finding,) = [f for f in check(read_voc(tmp_path)) if f.action == "error"]
        assert finding.kind == "wrong-size" and "dataset.exif=stored" in finding.detail


@pytest.mark.parametrize(("bits", "ending"), [(10, "png"), (12, "png"), (12, "tif"), (14, "png"), (16, "png")])
def test_pictures_of_16_bits_are_scaled_by_their_range(tmp_path, bits, ending):
    pair(tmp_path, "a")
    ramp = np.linspace(0, 2**bits - 1, WIDTH).astype(np.uint16)
    cv2.imwrite(str(tmp_path / f"JPEGImages/b.{ending}"), np.tile(ramp, (HEIGHT, 1)))
    xml(tmp_path / "Annotations/b.xml", CAT)
    image = read_image(tmp_path / f"JPEGImages/b.{ending}")
    assert image[0, 0, 0] == 0 and image[0, -1, 0] == 255 and abs(int(image[0, WIDTH // 2, 0]) - 128) <= 3
    findings = [f for f in check(read_voc(tmp_path), decode=True) if f.kind == "depth"]
    assert [f"use {bits} bits" in f.detail for f in findings] == [True]


@pytest.mark.parametrize("ending", ["gif", "jfif", "JPE", "bmp", "webp", "tiff", "jp2", "ppm"])
def test_formats_of_pictures(tmp_path, ending):
    Image.new("RGB", (WIDTH, HEIGHT), (200, 10, 10)).save(
        tmp_path / f"a.{ending}", "JPEG" if ending in ("jfif", "JPE") else None
    )
    xml(tmp_path / "a.xml", CAT)
    data = read_voc(tmp_path)
    assert boxes(data) == {"a": ONE} and not [f for f in check(data, decode=True) if f.action == "error"]
    assert abs(int(read_image(tmp_path / f"a.{ending}")[0, 0, 0]) - 200) < 8


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".webp", ".tif", ".gif", ".jp2", ".ppm"])
def test_pictures_of_a_few_pixels_pass_the_check(tmp_path, ending):
    for size in ((1, 1), (7, 30), (30, 7)):
        path = picture(tmp_path / f"a{ending}", size)
        assert read_image(path).shape == (size[1], size[0], 3)
        assert examine(path) == (None, 8)


def test_the_bits_of_one_bright_pixel_count(tmp_path):
    values = np.full((16, 16), 100, np.uint16)
    values[3, 3] = 60_000
    cv2.imwrite(str(tmp_path / "a.png"), values)
    assert examine(tmp_path / "a.png") == (None, 16)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS.*git lfs pull"),
     (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "a HEIC picture.*not read; save it as PNG or JPEG"),
     (b"<!DOCTYPE html>", "not an image file")],
)  # fmt: skip
def test_what_is_no_picture_is_said(tmp_path, content, reason):
    pair(tmp_path, "a")
    (tmp_path / "JPEGImages/a.jpg").write_bytes(content)
    assert [f.kind for f in check(read_voc(tmp_path)) if re.search(f"a.jpg: this is {reason}", str(f))] == [
        "unreadable"
    ]


def test_an_annotation_that_git_lfs_has_not_fetched_is_refused(tmp_path):
    (coco(tmp_path, [(1, "a.jpg")], [row()]) / "train.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"train\.json: this is a pointer of Git LFS.*run git lfs pull"):
        read_coco(tmp_path, train="train.json")


def test_a_format_that_is_not_read_is_named(tmp_path):
    pair(tmp_path, "a", images=".", annotations=".")
    (tmp_path / "b.heic").write_bytes(b"\0\0\0\x18ftypheic")
    assert said(read_voc(tmp_path), ".heic pictures, a format that is not read", "b.heic")


# The format is recognised


def test_two_formats_ask_for_a_choice(tmp_path):
    yolo(tmp_path, {"a": "0 .5 .5 .25 .5"})
    xml(tmp_path / "annotations/a.xml", CAT)
    with pytest.raises(
        DataError, match=r"2 formats fit; choose one:\n  dataset=voc: .*a\.xml\n  dataset=yolo: data\.yaml"
    ):
        read_auto(tmp_path)


def test_nothing_is_recognised(tmp_path):
    picture(tmp_path / "a.jpg")
    with pytest.raises(
        DataError, match=r"no format of boxes is recognised \(it has 1 of \.jpg\)\. Legal: voc, coco, yolo"
    ):
        read_auto(tmp_path)


def test_an_annotation_with_attributes_is_recognised(tmp_path):
    """labelImg writes `verified="yes"` into the root element."""
    pair(tmp_path, "a")
    path = tmp_path / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<annotation>", '<annotation verified="yes">'))
    assert said(read_auto(tmp_path), "format: voc")


def test_a_folder_in_a_folder(tmp_path):
    pair(tmp_path / "export" / "set", "a")
    data = read_auto(tmp_path)
    assert boxes(data) == {"a": ONE} and data.name == "set"


@pytest.mark.parametrize(
    "names",
    [
        ("train/_annotations.coco.json", "valid/_annotations.coco.json", "test/_annotations.coco.json"),
        (
            "annotations/instances_train2017.json",
            "annotations/instances_val2017.json",
            "annotations/instances_test.json",
        ),
        ("my_train.json", "my-val-v2.json", "labels.test.json"),
    ],
)
def test_json_files_of_any_name(tmp_path, names):
    for k, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        coco(tmp_path, [(1, f"{k}.jpg")], [row()], name=name)
        if name.endswith("coco.json"):
            (tmp_path / "images" / f"{k}.jpg").rename((tmp_path / name).parent / f"{k}.jpg")
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "annotations/captions_train2017.json").write_text('{"images": [], "annotations": []}')
    data = read_auto(tmp_path)
    assert [[Path(e.id).stem for e in data.splits[s]] for s in ("train", "val", "test")] == [["0"], ["1"], ["2"]]


@pytest.mark.parametrize("other", ["val.json", "instances_val.json"])
def test_key_points_beside_the_boxes_of_a_split_are_not_read(tmp_path, other):
    for name in ("instances_train.json", "person_keypoints_train.json", other):
        coco(tmp_path, [], [], name=name)
    assert {split: [path.name for path in paths] for split, paths in find_jsons(tmp_path).items()} == {
        "train": ["instances_train.json"],
        "val": [other],
    }


def test_several_json_files_of_one_split_ask_for_a_choice(tmp_path):
    coco(tmp_path, [(1, "a.jpg")], [row()])
    coco(tmp_path, [(1, "a.jpg")], [row()], name="train_old.json")
    with pytest.raises(
        DataError, match=r"2 json files could be the split train: train\.json, train_old\.json; .*dataset\.train"
    ):
        read_coco(tmp_path)


@pytest.mark.parametrize("train", ["~nobody-of-this-name/images", "~"])
def test_a_home_folder_that_does_not_exist(tmp_path, train):
    with pytest.raises(DataError, match=r"data\.yaml: train: ~?.*(does not exist|has no pictures)|share|no training"):
        read_yolo(yolo(tmp_path, {"a": ""}, f"path: ~nobody-of-this-name\ntrain: '{train}/none'\nnames: [cat]\n"))


def test_a_header_that_claims_more_pixels_than_the_bytes_hold(tmp_path):
    """The decoder would take gigabytes for a file of some bytes."""
    pair(tmp_path, "a")
    path = tmp_path / "JPEGImages/a.jpg"
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = b"\x7f\xff\x7f\xff"  # height and width
    path.write_bytes(content)
    (finding,) = [f for f in check(read_voc(tmp_path), decode=True) if f.action == "error"]
    assert "can't hold 32767x32767 pixels" in finding.detail
    with pytest.raises(DataError, match=r"a\.jpg: .*can't hold"):
        read_image(path)


@pytest.mark.parametrize("kind", [b"IDAT", b"IEND"])
def test_a_chunk_that_claims_more_bytes_than_the_file_has(kind, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    content = bytearray(path.read_bytes())
    place = content.index(kind)
    content[place - 4 : place] = b"\x7f\xff\xff\xff"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"a\.png: the file is truncated or damaged"):
        read_image(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_many_copies_of_an_image_are_one_finding_each(tmp_path):
    for split in ("train", "test"):
        for i in range(30):
            pair(tmp_path, f"{split}/{i}", images="images", annotations="annotations")
            (tmp_path / f"images/{split}/{i}.jpg").write_bytes((tmp_path / "images/train/0.jpg").read_bytes())
    findings = [f for f in check(read_voc(tmp_path, val_fraction=0)) if f.kind == "duplicate"]
    assert len(findings) == 30 and {f.split for f in findings} == {"train/test"}
