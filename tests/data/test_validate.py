from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from detect.data.dataset import ClassificationDataset, DetectionDataset
from detect.data.examples import CropExample, Example
from detect.data.formats.voc import read_voc
from detect.data.validate import check, clean, summarise


@pytest.fixture
def make(tmp_path):
    """Makes an example with a picture of 60 x 40 noisy pixels, of its own for every name."""

    def make(name="a", boxes=((5, 5, 25, 35),), classes=None, **more):
        rng = np.random.default_rng(sum(map(ord, name)))
        path = tmp_path / f"{name}.jpg"
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(path)
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        classes = np.ones(len(boxes)) if classes is None else np.array(classes)
        return Example(path, 60, 40, boxes, classes, np.zeros(len(boxes), bool), name, **more)

    return make


def dataset(*train, **splits):
    return DetectionDataset("toy", ("cat",), {"train": train, **splits})


def test_nothing_to_find(make):
    data = dataset(make("a"), make("empty", ()), val=[make("b", ((0, 0, 40, 60),))])
    assert check(data, decode=True) == []
    cleaned, findings = clean(data)
    assert findings == []
    assert cleaned.fingerprint() == data.fingerprint()
    assert cleaned.splits["train"][1].boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "kind", "action", "detail"),
    [
        ((5, 5, 5, 35), "zero-area", "dropped", "box 2 (cat), x 5..35, y 5..5: 30 x 0 pixels"),
        ((5, 5, 5, 5), "zero-area", "dropped", "0 x 0 pixels"),
        ((25, 5, 5, 35), "reversed", "dropped", "x 5..35, y 25..5: "),
        ((-5, 5, 25, 63), "outside", "clipped", "5 pixels outside the image of 60x40"),
        ((41, 5, 50, 35), "outside", "dropped", "outside the image of 60x40"),
    ],
)
def test_boxes_that_clean_drops_or_clips(make, box, kind, action, detail):
    data = dataset(make("a", ((1, 2, 11, 22), box), (1, 1)))
    cleaned, (finding,) = clean(data)
    assert (finding.kind, finding.action, finding.split) == (kind, action, "train")
    assert finding.path == data.splits["train"][0].path
    assert detail in finding.detail
    assert str(finding).startswith(f"{action}: {kind}: train ")
    (e,) = cleaned.splits["train"]
    assert e.boxes.tolist() == [[1, 2, 11, 22]] + ([[0, 5, 25, 60]] if action == "clipped" else [])
    assert len(e.classes) == len(e.crowd) == len(e.boxes)
    dropped = int(action == "dropped")
    assert cleaned.notes[-1] == f"cleaned: {dropped} boxes dropped, {1 - dropped} boxes clipped"
    assert finding in check(data)
    assert clean(cleaned)[1] == []


def test_an_image_that_loses_all_boxes_is_kept_as_background(make):
    cleaned, _ = clean(dataset(make("a", ((5, 5, 5, 5),))))
    assert cleaned.splits["train"][0].boxes.shape == (0, 4)


def test_rounding_is_cut_without_a_finding(make):
    cleaned, findings = clean(dataset(make("a", ((-1, 0, 40.00001, 60.9),))))
    assert findings == []
    assert cleaned.splits["train"][0].boxes.tolist() == [[0, 0, 40, 60]]


def test_unreadable_and_missing_files(make):
    a, b = make("a"), make("b")
    a.path.write_bytes(b"not an image")
    b.path.unlink()
    first, second = check(dataset(a, b))
    assert (first.kind, first.action, first.path) == ("unreadable", "error", a.path)
    assert "not an image file" in first.detail and "replace or remove it" in first.detail
    assert (second.kind, second.detail) == ("unreadable", "no such file; replace or remove it")


@pytest.mark.parametrize("decode", [False, True])
def test_truncated_jpeg_is_found_with_and_without_decoding_all(make, decode):
    a = make("a")
    data = a.path.read_bytes()
    a.path.write_bytes(data[: len(data) * 2 // 3])
    (finding,) = check(dataset(a, make("b")), decode=decode)
    assert (finding.kind, finding.action, finding.path) == ("truncated", "error", a.path)
    assert finding.detail.startswith("the file is truncated")


def test_truncated_png_is_found_by_decoding(make):
    a = make("a")
    path = a.path.with_suffix(".png")
    Image.open(a.path).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    a = replace(a, path=path)
    assert check(dataset(a)) == []
    (finding,) = check(dataset(a), decode=True)
    assert finding.kind == "truncated"


def test_wrong_size_names_both(make):
    a = make("a", annotated_size=(120, 80))
    (finding,) = check(dataset(a, make("b", annotated_size=(60, 40))))
    assert (finding.kind, finding.action) == ("wrong-size", "error")
    assert "the file has 60x40 pixels, its annotation says 120x80" in finding.detail
    assert check(dataset(a), ignore=["wrong-size"]) == []


def test_duplicates_across_splits_only(make):
    a, b, c = make("a"), make("b"), make("c")
    b.path.write_bytes(a.path.read_bytes())
    assert check(dataset(a, b)) == []
    (finding,) = check(dataset(a, c, test=[b]))
    assert (finding.kind, finding.split, finding.action) == ("duplicate", "train/test", "warning")
    assert f"the same image as test {b.path}" in finding.detail


def test_unknown_and_empty_classes(make):
    splits = {"train": [make("a", classes=(3,))], "val": [make("b", classes=(2,))]}
    data = DetectionDataset("toy", ("cat", "dog"), splits)
    unknown, cat, dog = check(data)
    assert (unknown.kind, unknown.action) == ("unknown-class", "error")
    assert "(class 3), x 5..35, y 5..25: the class must be 1..2 (cat, dog)" in unknown.detail
    assert (cat.kind, cat.action, str(cat.path)) == ("empty-class", "warning", "toy")
    assert dog.detail == "class 'dog' has no box in train (val 1, test 0): it can't be learned"


def test_a_split_of_the_source_is_not_called_too_small(make):
    splits = {"train": [make("a", classes=(1,)), make("c", classes=(2,))], "val": [make("b", classes=(2,))]}
    data = DetectionDataset("toy", ("cat", "dog"), splits)
    (finding,) = check(data)
    assert finding.detail.endswith("has no box in val (train 1, test 0): it is not scored there")
    (finding,) = check(replace(data, drawn=("val",)))
    assert finding.detail.endswith("it is not scored there; the split has too few images")


def test_a_class_of_crowds_alone_can_not_be_learned(make):
    crowd = replace(make("a"), crowd=np.ones(1, bool))
    (finding,) = check(dataset(crowd))
    assert finding.detail == (
        "class 'cat' has no box that is trained in train (crowd or difficult 1, val 0, test 0): it can't be learned"
    )


def test_all_spellings_of_a_class_are_renamed(make):
    splits = {"train": [make(name, classes=(k,)) for k, name in enumerate("abc", 1)]}
    (finding,) = check(DetectionDataset("toy", ("CAT", "Cat", "cat"), splits))
    assert finding.detail.startswith("the classes CAT and Cat and cat differ in letter case")
    assert finding.detail.endswith("if they are one class: 'dataset.rename={CAT: cat, Cat: cat}'")


def test_tiny_boxes(make):
    data = dataset(make("a", ((5, 5, 25, 7), (5, 5, 9, 9)), (1, 1)))
    (finding,) = check(data)
    assert (finding.kind, finding.action) == ("tiny", "warning")
    assert "box 1 (cat), x 5..7, y 5..25: a side of 2 pixels" in finding.detail
    assert len(check(data, min_side=5)) == 2


def test_no_training_images(make):
    (finding,) = [f for f in check(dataset(val=[make()]))]
    assert (finding.kind, finding.action) == ("empty-split", "warning"), "a test set alone is scored"


def test_classification_sets_are_checked_too(make):
    a, b, c = (make(n).path for n in "abc")
    b.write_bytes(b"")
    c.write_bytes(a.read_bytes())
    splits = {
        "train": [CropExample(a, 0, None, "a"), CropExample(b, 0, None, "b")],
        "test": [CropExample(c, 1, None, "c")],
    }
    findings = check(ClassificationDataset("toy", ("cat", "dog"), splits), decode=True)
    assert [f.kind for f in findings] == ["unreadable", "duplicate", "empty-class", "empty-class"]
    assert findings[-1].detail == "class 'dog' has no picture in train (val 0, test 1): it can't be learned"


def test_summary_puts_the_worst_first(make):
    data = dataset(make("a", ((5, 5, 5, 5), (5, 5, 7, 7), (5, 5, 7, 7)), (1, 1, 1)), make("b", annotated_size=(1, 1)))
    assert summarise(check(data)) == [
        "     1 wrong-size (error)", "     1 zero-area (dropped)", "     2 tiny (warning)"
    ]  # fmt: skip


def test_bccd_names_its_two_empty_boxes(shared):
    data = read_voc(shared / "data" / "bccd")
    findings = check(data, decode=True)
    assert sorted((f.path.stem, f.kind, f.action) for f in findings) == [
        ("BloodImage_00338", "zero-area", "dropped"), ("BloodImage_00343", "zero-area", "dropped")
    ]  # fmt: skip
    cleaned, _ = clean(data)
    assert sum(len(e.boxes) for examples in cleaned.splits.values() for e in examples) == 4888 - 2
