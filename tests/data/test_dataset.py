import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from detect.config.grammar import parse
from detect.data.dataset import ClassificationDataset, DetectionDataset, class_counts
from detect.data.examples import CropExample, Example
from detect.data.folder import existing_folder, find_files, find_images, listed_once
from detect.data.image_file import image_size
from detect.data.text import renaming
from detect.errors import DataError


def example(name="a", boxes=((1, 2, 3, 4),), classes=(1,)):
    return Example(Path(f"{name}.jpg"), 20, 10, np.array(boxes), np.array(classes), np.zeros(len(classes), bool), name)


def dataset(**splits):
    return DetectionDataset("toy", ("cat", "dog"), splits, ("split: by hand",))


def test_example_fixes_types_and_refuses_writing():
    e = example()
    assert (e.boxes.dtype, e.classes.dtype, e.crowd.dtype) == (np.float32, np.int32, bool)
    with pytest.raises(ValueError):
        e.boxes[0, 0] = 9


def test_example_without_boxes():
    e = example(boxes=(), classes=())
    assert e.boxes.shape == (0, 4)


def test_example_with_more_labels_than_boxes():
    with pytest.raises(DataError, match=r"a\.jpg: 1 boxes, 2 classes"):
        example(classes=(1, 2))


def test_an_id_that_is_no_text():
    with pytest.raises(DataError, match=r"7\.jpg: its reader gives the id 7; expected a text"):
        example(7)


def test_a_name_that_hydra_read_as_a_number_is_text():
    assert DetectionDataset(2024, ("cat",), {}).name == "2024"


def test_a_split_of_another_name():
    with pytest.raises(DataError, match=r"toy: its reader gives the split valid; legal are train, val, test"):
        dataset(train=[example("a")], valid=[example("b")])


def test_missing_splits_are_empty():
    data = dataset(train=[example()])
    assert not data.splits["val"] and not data.splits["test"]
    assert data.num_classes == 2


def test_overlapping_splits_are_named():
    with pytest.raises(DataError, match=r"toy: train and test share 2 images: a, b\."):
        dataset(train=[example("a"), example("b"), example("c")], test=[example("b"), example("a")])


def test_image_listed_twice_is_named():
    with pytest.raises(DataError, match="toy: train lists 1 image twice: a"):
        dataset(train=[example("a"), example("a")])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((), "no classes"),
        ("cat", "the classes 'cat'; expected a list"),
        (("cat", "cat"), "twice: cat"),
        (("background",), "'background' is reserved"),
        (("Background",), r"'Background' is reserved; .*'dataset\.rename={Background: NAME}', .*dataset\.classes"),
    ],
)
def test_illegal_classes(classes, message):
    with pytest.raises(DataError, match=message):
        DetectionDataset("toy", classes, {})


def test_fingerprint_follows_boxes_classes_and_split_but_not_place():
    one = dataset(train=[example("a"), example("b")])
    assert one.fingerprint() == dataset(train=[example("a"), example("b")]).fingerprint()
    moved = dataset(train=[replace(example("a"), path=Path("/elsewhere/a.jpg")), example("b")])
    assert moved.fingerprint() == one.fingerprint()
    others = [
        dataset(train=[example("a")], val=[example("b")]),
        dataset(train=[example("a", boxes=((1, 2, 3, 5),)), example("b")]),
        dataset(train=[example("a", classes=(2,)), example("b")]),
        DetectionDataset("toy", ("dog", "cat"), one.splits),
    ]
    assert len({d.fingerprint() for d in [one, *others]}) == 5
    assert len(one.fingerprint()) == 16


def test_describe_counts_what_is_there():
    data = dataset(
        train=[example("a", ((0, 0, 1, 1),) * 3, (1, 2, 2)), example("b", (), ())], test=[example("c", classes=(2,))]
    )
    lines = data.describe()
    assert lines[0] == "data set toy: 2 classes, 3 images"
    table = {line.rsplit(maxsplit=3)[0].strip(): line.split()[-3:] for line in lines[2:7]}
    assert table == {
        "images": ["2", "0", "1"],
        "no object": ["1", "0", "0"],
        "boxes": ["3", "0", "1"],
        "cat": ["1", "0", "0"],
        "dog": ["2", "0", "1"],
    }
    assert lines[-1] == "  split: by hand"
    assert max(map(len, lines)) <= 80
    assert class_counts(data.splits["train"], 2).tolist() == [1, 2]


def test_classification_dataset():
    items = [CropExample(Path("a.jpg"), 1, None, "a"), CropExample(Path("a.jpg"), 0, np.array([0, 0, 5, 5]), "a#1")]
    data = ClassificationDataset("crops", ("background", "cat"), {"train": items})
    assert data.num_classes == 2
    assert [line.split()[-3] for line in data.describe()[2:]] == ["2", "1", "1"]
    other = ClassificationDataset("crops", ("background", "cat"), {"train": items[:1]})
    assert other.fingerprint() != data.fingerprint()


def test_image_size_is_as_displayed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert image_size(tmp_path / "a.jpg") == (30, 20)
    assert image_size(tmp_path / "turned.jpg") == (20, 30)
    assert image_size(tmp_path / "broken.jpg") is None
    assert image_size(tmp_path / "none.jpg") is None


def test_find_images_passes_hidden_files_over(tmp_path):
    for name in ("b.JPG", "a.png", ".c.jpg", "notes.txt", "deep/d.jpeg", ".cache/e.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.name for p in find_images(tmp_path)] == ["a.png", "b.JPG", "d.jpeg"]
    assert [p.name for p in find_images(tmp_path, recursive=False)] == ["a.png", "b.JPG"]


def test_folder_messages(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, message in (("none", "no such folder"), ("file", "not a folder"), ("empty", "the folder is empty")):
        with pytest.raises(DataError, match=f"dataset.root=.*{name}: {message}"):
            existing_folder(tmp_path / name)


def test_readers_need_no_tensorflow():
    modules = [f"detect.data.{m}" for m in ("dataset", "digits", "validate", "statistics")]
    modules += [f"detect.data.formats.{m}" for m in ("auto", "voc", "coco", "yolo")]
    code = f"import sys, {', '.join(modules)}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_files_are_listed_in_the_order_of_paths(tmp_path):
    for name in ("a-b/x.png", "a/x.PNG", "a/b/y.png", "a.b/z", "z.tar.gz", "noending", ".hidden", "a/x.", "a b/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = sorted(p for p in tmp_path.rglob("*") if p.is_file() and not p.name.startswith("."))
    assert find_files(tmp_path) == expected
    for suffixes in ({".png"}, {".gz"}, {""}, {".b", ".png"}):
        assert find_files(tmp_path, suffixes) == [p for p in expected if p.suffix.lower() in suffixes]
    with listed_once():
        before = find_files(tmp_path)
        (tmp_path / "new.png").touch()
        assert find_files(tmp_path) == before
    assert len(find_files(tmp_path)) == len(before) + 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("car", "vehicle"),
        ("a b", "c"),
        ("Käse", "käse"),
        ("it's", "its"),
        ("a (b)", "A,B"),
        ("7", "seven"),
        ("x", "0"),
        ("007", "bond"),
        ("null", "none"),
        ("1e3", "many"),
    ],
)
def test_what_renames_a_class_can_be_typed(old, new):
    told = renaming(old, new)
    if told.startswith("'"):
        (word,) = shlex.split(told)
        (override,) = parse([word])
        assert {str(key): str(value) for key, value in override.value().items()} == {old: new}
    else:
        line = told.split("`")[1]
        assert yaml.safe_load(line) == {"dataset": {"rename": {old: new}}}
