import csv
import random
from pathlib import Path

import pytest
from PIL import Image

from detect.data.formats.tf_csv import read_csv, recognise
from detect.data.formats.voc import read_voc
from detect.errors import ConfigError, DataError
from tests.mutations import count_refusals, damaged

NO_DRAW = {"val_fraction": 0, "test_fraction": 0}
HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
ROWS = HEADER + "a.jpg,60,40,dog,1,1,60,40\na.jpg,60,40,cat,11,21,20,30\nb.jpg,60,40,cat,2,3,4,5\nc.jpg,60,40,,,,,\n"


def picture(path: Path, size=(60, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


@pytest.fixture
def root(tmp_path):
    for name in "abc":
        picture(tmp_path / f"{name}.jpg")
    (tmp_path / "labels.csv").write_text(ROWS)
    return tmp_path


def test_boxes_and_background(root):
    data = read_csv(root, **NO_DRAW)
    assert data.classes == ("cat", "dog")
    a, b, c = data.splits["train"]
    assert a.boxes.tolist() == [[0, 0, 40, 60], [20, 10, 30, 20]]
    assert a.classes.tolist() == [2, 1]
    assert (a.id, a.source, a.annotated_size) == ("a.jpg", root / "labels.csv", (60, 40))
    assert (b.boxes.tolist(), c.boxes.shape) == ([[2, 1, 5, 4]], (0, 4))
    assert "background, rows without class and box: 1 (c.jpg)" in data.notes
    assert read_csv(root / "labels.csv", **NO_DRAW).fingerprint() == data.fingerprint()
    assert recognise(root) == "CSV with the columns filename, class, xmin, ymin, xmax, ymax: labels.csv"


@pytest.mark.parametrize(
    "content",
    [
        ROWS.replace(",", ";").encode(),
        ROWS.replace(",", "\t").encode("utf-16"),
        ROWS.replace("\n", "\r\n").encode("utf-8-sig"),
        ROWS.replace("\n", "\r").replace("filename", '"Filename"').encode(),
        b"sep=;\r\n" + ROWS.replace(",", ";").encode(),
        ROWS.replace("filename", "image_id")
        .replace("class", "Label")
        .replace("xmin", "x_min")
        .replace("cat,", '"cat",')
        .encode(),
    ],
    ids=["semicolons", "tabs, utf-16", "byte order mark", "old line ends", "Excel's line", "other names"],
)
def test_other_ways_to_write_it(root, content):
    expected = read_csv(root, **NO_DRAW).fingerprint()
    (root / "labels.csv").write_bytes(content)
    assert recognise(root)
    assert read_csv(root, **NO_DRAW).fingerprint() == expected


@pytest.mark.parametrize("name", ["class_name", "name", "Label", "Class", "label_name", "Category"])
def test_names_come_before_numbers_of_classes(root, name):
    expected = read_csv(root, **NO_DRAW).fingerprint()
    number = {"class": f"class,{name}", "dog": "16,dog", "cat": "0,cat", ",,,,,": ",,,,,,"}
    text = ROWS
    for old, new in number.items():
        text = text.replace(old, new)
    (root / "labels.csv").write_text(text)
    data = read_csv(root, **NO_DRAW)
    assert data.fingerprint() == expected
    assert "not used, columns of CSV files: 1 (the number of the class of labels.csv with 3 values)" in data.notes
    (root / "labels.csv").write_text(text.replace("0,cat", "cat,0"))
    assert read_csv(root, **NO_DRAW).classes == ("16", "cat")  # not numbers alone
    (root / "labels.csv").write_text(text.replace(",dog,", ",,"))
    assert read_csv(root, **NO_DRAW).classes == ("0", "16")  # a box without a name


def test_a_line_is_counted_after_the_line_of_excel(root):
    (root / "labels.csv").write_text(f"sep=,\n{HEADER}a.jpg,60,40,dog,1,1,x,40\n")
    with pytest.raises(DataError, match=r"labels\.csv:3: xmax is 'x'"):
        read_csv(root)


def test_a_row_with_a_class_and_no_box_is_background(root):
    """As in the files of VinBigData, whose class of such rows is "No finding"."""
    (root / "labels.csv").write_text(ROWS + "b.jpg,60,40,No finding,,,,\n")
    data = read_csv(root, **NO_DRAW)
    assert data.classes == ("cat", "dog") and [len(e.boxes) for e in data.splits["train"]] == [2, 1, 0]
    assert "not used, rows with a class and no box: 1 (No finding of b.jpg)" in data.notes
    (root / "labels.csv").write_text("a.jpg,,,,,none\nb.jpg,1,2,3,4,cat\n")
    assert [len(e.boxes) for e in read_csv(root, **NO_DRAW).splits["train"]] == [0, 1]


@pytest.mark.parametrize(
    "head",
    [
        "filename,Width,Height,class,x1,y1,x2,y2",
        "Image Name,Image Width,Image_Height,Class Name,X Min,Y Min,X Max,Y Max",
        "image-path,image-width,image-height,label,X_1,Y_1,X_2,Y_2",
    ],
)
def test_titles_of_columns_of_many_tools(root, head):
    expected = read_csv(root, **NO_DRAW).fingerprint()
    (root / "labels.csv").write_text(ROWS.replace(HEADER, head + "\n"))
    assert recognise(root) and read_csv(root, **NO_DRAW).fingerprint() == expected


def test_flags_with_blanks_in_their_titles(root):
    text = ROWS.replace("ymax\n", "ymax,Is Group Of\n").replace("40\n", "40,1\n").replace("30\n", "30,0\n")
    (root / "labels.csv").write_text(text.replace("5\n", "5,0\n").replace(",,,,\n", ",,,,,\n"))
    assert read_csv(root, **NO_DRAW).splits["train"][0].crowd.tolist() == [True, False]


def test_the_first_points_of_a_polygon_are_no_corners(root):
    (root / "labels.csv").write_text("filename,class,x1,y1,x2,y2,x3,y3,x4,y4\na.jpg,cat,1,1,9,1,9,8,1,8\n")
    assert recognise(root) is None
    with pytest.raises(DataError, match=r"no CSV below it has the columns filename, class, xmin"):
        read_csv(root)


def test_blanks_after_the_delimiter(root):
    head = 'filename, "class", xmin, ymin, xmax, ymax\n'
    (root / "boxes.csv").write_text(head + 'a.jpg, "a, b", 1, 2, 3, 4\n')
    data = read_csv(root / "boxes.csv")
    assert data.classes == ("a, b",) and len(data.splits["train"][0].boxes) == 1


def test_any_order_of_columns_and_unused_ones(root):
    expected = read_csv(root, **NO_DRAW).fingerprint()
    rows = list(csv.DictReader(ROWS.splitlines()))
    order = ["xmax", "pose", "class", "ymin", "filename", "ymax", "xmin"]
    lines = [",".join({"pose": "left", **row}[name] for name in order) for row in rows]
    (root / "labels.csv").write_text("\n".join([",".join(order), *lines]))
    data = read_csv(root, **NO_DRAW)
    assert data.fingerprint() == expected
    assert "not used, columns of CSV files: 1 (pose of labels.csv with 4 values)" in data.notes


def test_names_of_files_give_the_split_and_folders_of_splits_their_pictures(tmp_path):
    for split, side in (("train", 60), ("test", 50)):
        picture(tmp_path / "images" / split / "a.jpg", (side, 40))
        text = HEADER + f"a.jpg,{side},40,cat,1,1,{side},40\n"
        (tmp_path / f"{split}_labels.csv").write_text(text)
    data = read_csv(tmp_path, val_fraction=0)
    assert {split: [e.id for e in part] for split, part in data.splits.items()} == {
        "train": ["images/train/a.jpg"],
        "val": [],
        "test": ["images/test/a.jpg"],
    }
    assert data.splits["test"][0].boxes.tolist() == [[0, 0, 40, 50]]


def test_folders_of_an_export(tmp_path):
    for split in ("train", "valid", "test"):
        picture(tmp_path / split / f"{split}.jpg")
        (tmp_path / split / "_annotations.csv").write_text(HEADER + f"{split}.jpg,60,40,cat,1,1,60,40\n")
    data = read_csv(tmp_path)
    assert [[e.id for e in part] for part in data.splits.values()] == [
        ["train/train.jpg"],
        ["valid/valid.jpg"],
        ["test/test.jpg"],
    ]


def test_first_pixel(root):
    (root / "labels.csv").write_text(HEADER + "a.jpg,60,40,cat,0,0,59,39\n")
    data = read_csv(root, **NO_DRAW)
    assert data.splits["train"][0].boxes.tolist() == [[0, 0, 40, 60]]
    assert any("first_pixel=0 is inferred from 1 boxes that begin at 0" in note for note in data.notes)
    given = read_csv(root, first_pixel=1, **NO_DRAW)
    assert given.splits["train"][0].boxes.tolist() == [[-1, -1, 39, 59]]


def test_the_form_of_keras_retinanet(root):
    (root / "labels.csv").write_text("a.jpg,0,0,60,40,dog\na.jpg,10,20,20.5,30,cat\nc.jpg,,,,,\n")
    a, c = read_csv(root, **NO_DRAW).splits["train"]
    assert a.boxes.tolist() == [[0, 0, 40, 60], [20, 10, 30, 20.5]]
    assert (a.classes.tolist(), len(c.boxes)) == ([2, 1], 0)
    with pytest.raises(ConfigError, match=r"dataset\.first_pixel=1: .*labels\.csv has no header"):
        read_csv(root, first_pixel=1)
    assert read_csv(root, first_pixel="continuous", **NO_DRAW).splits["train"][0].boxes.tolist() == a.boxes.tolist()


def test_most_corners_with_fractions_are_continuous(root):
    (root / "labels.csv").write_text(HEADER + "a.jpg,60,40,cat,0.0,10.25,30.75,40.0\nb.jpg,60,40,cat,1.5,2.5,4.5,8.5\n")
    data = read_csv(root, **NO_DRAW)
    assert [e.boxes.tolist() for e in data.splits["train"]] == [[[10.25, 0, 40, 30.75]], [[2.5, 1.5, 8.5, 4.5]]]
    assert any("6 of 8 coordinates have fractions: they are taken as continuous" in note for note in data.notes)
    inclusive = read_csv(root, first_pixel=1, **NO_DRAW)
    assert inclusive.splits["train"][1].boxes.tolist() == [[1.5, 0.5, 8.5, 4.5]]


def test_corners_that_are_shares_of_the_sides_are_refused(root):
    (root / "labels.csv").write_text(HEADER + "a.jpg,60,40,cat,0.1,0.25,0.5,1\n")
    with pytest.raises(DataError, match=r"a\.jpg: all corners are from 0 to 1, such as 0\.1; they must be pixels"):
        read_csv(root)


@pytest.mark.parametrize("text", ["a.jpg,0.1,0.2,0.5,1.01,cat\n", HEADER + "a.jpg,60,40,cat,0.1,0.2,0.5,1.01\n"])
@pytest.mark.parametrize("first_pixel", [None, "continuous"])
def test_shares_are_refused_whatever_is_known_of_them(root, text, first_pixel):
    (root / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=r"labels\.csv: a\.jpg: all corners are from 0 to 1\.01, such as 0\.1; they"):
        read_csv(root, first_pixel=first_pixel)


@pytest.mark.parametrize("name", ["a", "C:\\data\\a.jpg", "data/a.jpg", "A.JPG"])
def test_other_names_of_a_picture(root, name):
    (root / "labels.csv").write_text(HEADER + f"{name},60,40, cat ,11,21,20,30\n")
    (a,) = read_csv(root, **NO_DRAW).splits["train"]
    assert (a.id, a.boxes.tolist()) == ("a.jpg", [[20, 10, 30, 20]])


def test_pictures_that_differ_in_letter_case_only(root):
    picture(root / "A.jpg", (50, 30))
    (root / "labels.csv").write_text(HEADER + "a.jpg,60,40,cat,1,1,60,40\nA.jpg,50,30,cat,1,1,50,30\n")
    assert [(e.id, e.width) for e in read_csv(root, **NO_DRAW).splits["train"]] == [("A.jpg", 50), ("a.jpg", 60)]


def test_a_box_that_is_given_twice_is_removed(root):
    (root / "labels.csv").write_text(ROWS + "b.jpg,60,40,cat,2,3,4,5\n")
    data = read_csv(root, **NO_DRAW)
    assert len(data.splits["train"][1].boxes) == 1
    assert "removed, boxes that are given twice: 1 (cat in b.jpg)" in data.notes


def test_a_row_of_zeros_is_no_sign_of_the_first_pixel(root):
    (root / "labels.csv").write_text(ROWS.replace("dog,1,1,", "dog,2,2,") + "c.jpg,60,40,cat,0,0,0,0\n")
    data = read_csv(root, **NO_DRAW)
    assert data.splits["train"][1].boxes.tolist() == [[2, 1, 5, 4]]
    assert not any("first_pixel" in note for note in data.notes)


@pytest.mark.parametrize("column", ["split", "Set", "subset"])
def test_a_column_tells_the_split(root, column):
    text = ROWS.replace("ymax\n", f"ymax,{column}\n").replace("30\n", "30,\n").replace("40\n", "40,TRAIN\n")
    text = text.replace("5\n", "5,Validation\n").replace(",,,,\n", ",,,,,{}\n")
    (root / "labels.csv").write_text(text.format("test"))
    data = read_csv(root)
    assert {s: [e.id for e in part] for s, part in data.splits.items()} == {
        "train": ["a.jpg"], "val": ["b.jpg"], "test": ["c.jpg"],
    }  # fmt: skip
    assert "split: the column of splits of labels.csv" in data.notes
    (root / "labels.csv").write_text(text.format("fold 3"))
    data = read_csv(root)
    assert [len(data.splits[s]) for s in ("train", "val", "test")] == [2, 1, 0]
    assert "taken as train, pictures whose rows name no split: 1 ('fold 3' of c.jpg)" in data.notes
    (root / "labels.csv").write_text(text.replace("30,\n", "30,val\n").format("test"))
    with pytest.raises(DataError, match=r"labels\.csv:3: a\.jpg is of the split 'val' here, but of 'TRAIN' before"):
        read_csv(root)


def test_a_column_of_other_words_tells_no_split(root):
    text = ROWS.replace("ymax\n", "ymax,set\n").replace("0\n", "0,1\n").replace("5\n", "5,2\n").replace(",,\n", ",,,\n")
    (root / "labels.csv").write_text(text)
    data = read_csv(root)
    assert any("DRAWN" in note for note in data.notes)
    assert "not used, columns of CSV files: 1 (that of splits in labels.csv)" in data.notes


def test_columns_of_flags_make_an_object_crowd(root):
    text = ROWS.replace("ymax\n", "ymax,Difficult,IsGroupOf\n").replace("30\n", "30,0,0\n").replace("40\n", "40,,1\n")
    (root / "labels.csv").write_text(text.replace("5\n", "5,True,0\n").replace(",,,,\n", ",,,,,,\n"))
    a, b, _ = read_csv(root, **NO_DRAW).splits["train"]
    assert (a.crowd.tolist(), b.crowd.tolist()) == ([True, False], [True])
    (root / "labels.csv").write_text(text.replace("5\n", "5,hard,0\n"))
    with pytest.raises(DataError, match=r"labels\.csv:4: Difficult is 'hard'; it must be 0 or 1"):
        read_csv(root)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,60,40,cat,1,x,3,4", r":6: ymin is 'x'; it must be a finite number of pixels"),
        ("a.jpg,60,40,cat,1,2,nan,4", r":6: xmax is 'nan'"),
        ("a.jpg,60,40,cat,1,2,,4", r":6: xmax is ''"),
        ("a.jpg,60,40,,1,2,3,4", r":6: there is a box, but no class"),
        (",60,40,cat,1,2,3,4", r":6: there is no filename"),
        ("a.jpg,60,40,cat,1,2,3", r":6: 7 values; a row of this file has 8"),
        ("a.jpg,60,40,cat,1,2,3,4,5", r":6: 9 values; a row of this file has 8"),
        ("a.jpg,61,40,cat,1,2,3,4", r":6: a\.jpg is 61x40 here, but 60x40 in line 2"),
        ("a.jpg,-1,40,cat,1,2,3,4", r":6: width is '-1'"),
        ("z.jpg,60,40,cat,1,2,3,4", r":6: 1 of 4 pictures are missing: z\.jpg; searched below"),
        ("x/a.jpg,60,40,cat,1,2,3,4", r": line 2 and line 6 name one picture, .*'a\.jpg' and 'x/a\.jpg'"),
        ('a.jpg,60,40,"cat,1,2,3,4', r":6: malformed CSV"),
        ('a.jpg,60,40,"cat\n",1,2,3,4', r":6: a value goes on over the end of the line"),
    ],
)
def test_bad_rows_are_named_with_file_and_line(root, row, message):
    (root / "labels.csv").write_text(ROWS + row + "\n")
    with pytest.raises(DataError, match=r"labels\.csv" + message):
        read_csv(root)


def test_messages_for_files(root):
    (root / "more.csv").write_text(ROWS)
    with pytest.raises(DataError, match=r"2 CSV files could be the split train: labels\.csv, more\.csv; name one"):
        read_csv(root)
    (root / "more.csv").unlink()
    (root / "labels.csv").write_text(ROWS.replace("class", "kind"))
    with pytest.raises(DataError, match=r"labels\.csv, line 1: no column 'class'; .*it has kind"):
        read_csv(root)
    (root / "labels.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"dataset\.root=.*no CSV below it has the columns .*labels\.csv"):
        read_csv(root)
    assert recognise(root) is None


def test_a_link_that_leads_nowhere_is_named(root):
    (root / "gone.csv").symlink_to(root / "nowhere.csv")
    with pytest.raises(DataError, match=r"gone\.csv: can't read it"):
        read_csv(root)
    (root / "labels.csv").unlink()
    assert recognise(root) is None


def test_one_picture_in_two_files(root):
    (root / "test.csv").write_text(HEADER + "a.jpg,60,40,cat,1,1,60,40\n")
    with pytest.raises(DataError, match=r"train and test share 1 image: a\.jpg"):
        read_csv(root)


def test_a_missing_picture_that_another_split_has_is_named(tmp_path):
    picture(tmp_path / "images/test/a.jpg")
    (tmp_path / "images/train").mkdir()
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(HEADER + "a.jpg,60,40,cat,1,1,60,40\n")
    found = r"train\.csv:2: 'a\.jpg' was found only at .*images/test/a\.jpg; is its own missing"
    with pytest.raises(DataError, match=rf"train and test share 1 image: images/test/a\.jpg.*{found}"):
        read_csv(tmp_path)


def test_damaged_files_are_refused_with_one_message(root):
    rng = random.Random(0)
    contents = [damaged(ROWS.encode(), rng) for _ in range(200)]
    assert 50 < count_refusals(lambda: read_csv(root, **NO_DRAW), root / "labels.csv", contents) < 200


def test_microcontrollers_has_the_boxes_of_its_xml_files(shared):
    root = shared / "data" / "microcontrollers"
    data, voc = read_csv(root, val_fraction=0), read_voc(root, val_fraction=0)
    assert data.classes == voc.classes
    assert [len(part) for part in data.splits.values()] == [142, 0, 7]
    for split, part in data.splits.items():
        expected = {e.path: e for e in voc.splits[split]}
        for e in part:
            other = expected.pop(e.path)
            boxes = sorted(zip(e.boxes.tolist(), e.classes.tolist(), strict=True))
            assert boxes == sorted(zip(other.boxes.tolist(), other.classes.tolist(), strict=True))
        assert not expected
    rows = list(csv.DictReader((root / "train_labels.csv").open()))
    by_name = {e.path.name: e for e in data.splits["train"]}
    assert sum(len(e.boxes) for e in data.splits["train"]) == len(rows)
    for row in rows:
        box = [int(row["ymin"]) - 1, int(row["xmin"]) - 1, int(row["ymax"]), int(row["xmax"])]
        assert box in by_name[row["filename"]].boxes.tolist()
