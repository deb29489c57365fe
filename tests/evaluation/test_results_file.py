"""What another program has found, from a file of COCO's results."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from detect.data.dataset import DetectionDataset
from detect.data.formats.coco import read_coco
from detect.data.text import loose
from detect.errors import DataError
from detect.evaluation import image_names
from detect.evaluation.coco_json import results_file
from detect.evaluation.image_names import ImageNames
from detect.evaluation.results_file import ResultsFile, read_results
from detect.files import write_json
from tests.evaluation.test_coco import pycocotools_figures, random_case

CLASSES = ("one", "two", "three")


@pytest.fixture
def case(tmp_path):
    """Pictures in two folders, whose names are numbers with zeros, and random detections on them."""
    examples, _, detections = random_case(3, images=12, classes=3)
    names = [tmp_path / ("a" if k % 2 else "b") / f"{100 + 7 * k:06d}.jpg" for k in range(len(examples))]
    moved = [replace(e, path=path, source_id=None) for e, path in zip(examples, names, strict=True)]
    return moved, detections


def written(tmp_path, rows) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    return path


def rows_of(examples, detections, name, number=lambda kind: kind):
    """COCO's rows; `name` gives the image of each row."""
    return [
        {
            "image_id": name(place, example),
            "category_id": number(int(kind)),
            "bbox": [float(v) for v in (box[1], box[0], box[3] - box[1], box[2] - box[0])],
            "score": float(score),
        }
        for place, example in enumerate(examples)
        for box, score, kind in zip(*detections.get(example.id, ([], [], [])), strict=True)
    ]


def equal(found, wanted, examples):
    assert list(found) == [e.id for e in examples]
    for example in examples:
        boxes, scores, kinds = wanted.get(example.id, (np.zeros((0, 4)), np.zeros(0), np.zeros(0)))
        np.testing.assert_allclose(found[example.id][0], boxes, atol=1e-4)
        np.testing.assert_allclose(found[example.id][1], scores, rtol=1e-6)
        assert found[example.id][2].tolist() == list(kinds)


NAMES = {
    "place": lambda place, example: place + 1,
    "path": lambda place, example: f"{example.path.parent.name}/{example.path.name}",
    "file name": lambda place, example: example.path.name,
    "stem": lambda place, example: example.path.stem,
    "number": lambda place, example: int(example.path.stem),
}


@pytest.mark.parametrize("way", NAMES)
def test_each_way_to_name_an_image(case, tmp_path, way):
    examples, detections = case
    path = written(tmp_path, rows_of(examples, detections, NAMES[way]))
    equal(read_results(path, examples, CLASSES, (1, 2, 3)), detections, examples)


def test_ids_and_numbers_of_classes_are_those_of_the_source(case, tmp_path):
    examples, detections = case
    examples = [replace(e, source_id=900 - k) for k, e in enumerate(examples)]
    rows = rows_of(examples, detections, lambda place, e: e.source_id, lambda kind: (18, 44, 90)[kind - 1])
    equal(read_results(written(tmp_path, rows), examples, CLASSES, (18, 44, 90)), detections, examples)


def test_ids_of_the_source_go_before_numbers_of_files(case, tmp_path):
    """COCO counts 1.jpg, 10.jpg, 2.jpg, ... in the order of their names."""
    names = sorted(f"{k + 1}.jpg" for k in range(len(case[0])))
    examples = [
        replace(e, path=tmp_path / name, source_id=k) for k, (e, name) in enumerate(zip(case[0], names, strict=True), 1)
    ]
    path = written(tmp_path, rows_of(examples, case[1], lambda place, e: e.source_id))
    equal(read_results(path, examples, CLASSES, (1, 2, 3)), case[1], examples)


def test_the_programs_own_file_is_read(case, tmp_path):
    examples, detections = case
    dataset = DetectionDataset("random", CLASSES, {"test": examples})
    path = tmp_path / "test_detections.json"
    write_json(path, results_file(dataset, "test", detections))
    found = read_results(path, examples, CLASSES, (1, 2, 3))
    assert sum(len(scores) for _, scores, _ in found.values()) == sum(len(s) for _, s, _ in detections.values())


NAMED = {
    "a float": lambda e: {"image_id": float(e.source_id)},
    "no file name": lambda e: {"image_id": e.source_id, "file_name": None},
    "other folders and only a fitting id": lambda e: {"image_id": e.source_id, "file_name": f"elsewhere/{e.source_id}"},
    "an absolute path": lambda e: {"image_id": 0, "file_name": f"/{e.path.parent.name}/{e.path.name}"},
    "a folder more": lambda e: {"image_id": 0, "file_name": f"./data/{e.path.parent.name}/{e.path.name}"},
    "backslashes": lambda e: {"image_id": 0, "file_name": f"{e.path.parent.name}\\{e.path.name.upper()}"},
    "letters in two parts": lambda e: {"image_id": 0, "file_name": unicodedata.normalize("NFD", e.path.name)},
}


@pytest.mark.parametrize("way", NAMED)
def test_each_way_to_write_a_name(case, tmp_path, way):
    examples, detections = case
    named = [e.path.with_name(f"é{e.path.name}") for e in examples]
    examples = [replace(e, path=named[k], source_id=900 - k) for k, e in enumerate(examples)]
    rows = rows_of(examples, detections, lambda place, e: place, str)
    rows = [row | NAMED[way](examples[row["image_id"]]) for row in rows]
    path = written(tmp_path, rows)
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    equal(read_results(path, examples, CLASSES, (1, 2, 3)), detections, examples)


def test_a_number_is_never_the_name_of_a_class(case, tmp_path):
    path = written(tmp_path, [GOOD | {"category_id": "3"}, GOOD | {"category": "3"}])
    found = read_results(path, case[0], tuple("0123456789"), range(1, 11))
    assert sorted(kind for _, _, kinds in found.values() for kind in kinds) == [3, 4]


def test_rows_of_a_category_without_a_box_change_no_figure(tmp_path, caplog):
    """A detector knows 80 classes, and 70 of them have a box in the split."""
    caplog.set_level("INFO")
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((48, 64, 3), np.uint8))
    titles = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "Cat"}]
    box = {"image_id": 7, "area": 400, "iscrowd": 0}
    boxes = [{"id": k, "category_id": kind, "bbox": [20 * k, 4, 20, 20]} | box for k, kind in ((1, 1), (2, 3))]
    truth = {"images": [{"id": 7, "file_name": "1.png"}], "categories": titles, "annotations": boxes}
    (tmp_path / "test.json").write_text(json.dumps(truth))
    rows = [{"image_id": 7, "category_id": 2, "bbox": [20, 4, 20, 20], "score": 0.9}]
    rows += [{"image_id": 7, "category_id": kind, "bbox": [20 * kind, 4, 20, 20], "score": 0.5} for kind in (1, 3)]
    path = written(tmp_path, rows)
    dataset = read_coco(tmp_path, test="test.json")
    scores, _ = ResultsFile(path, dataset, "test").evaluate(dataset, "test")
    stats = pycocotools_figures({"info": {}} | truth, rows).stats
    assert scores.summary["AP"] == pytest.approx(stats[0], abs=1e-9) and 0 < stats[0] < 1
    assert "1 of 3 rows are left out" in caplog.text
    merged = read_coco(tmp_path, test="test.json", rename={"Cat": "cat"})
    found = ResultsFile(path, merged, "test").detections
    assert merged.classes == ("cat",) and [kinds.tolist() for _, _, kinds in found.values()] == [[1, 1]]
    detector = dataset.with_classes(("dog", "cow", "cat", "Cat"))
    assert detector.category_ids == (2, 4, 1, 3)


class Compared(str):
    """Text that counts how often it is compared."""

    times = 0

    def __eq__(self, other):
        Compared.times += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_many_images_of_one_name_take_no_longer_each(monkeypatch):
    monkeypatch.setattr(image_names, "loose", lambda text: Compared(loose(text)))
    names = [Compared(f"{video}/{frame:06d}.jpg") for video in range(30) for frame in range(100)]
    known = ImageNames((name, place) for place, name in enumerate(names))
    Compared.times = 0
    for prefix in ("", "train/"):
        assert [known.fitting(Compared(prefix + name))[0][1] for name in names] == list(range(len(names)))
    assert Compared.times < 10 * len(names)


def test_an_image_may_be_named_by_an_address_or_with_percent_escapes():
    known = ImageNames([("a%20b.jpg", 1), ("https://x.org/set/1.jpg?sig=3", 2), ("c%20d.jpg", 3), ("c d.jpg", 4)])
    names = (
        "a b.jpg",
        "set/1.jpg",
        "c%20d.jpg",
        "c d.jpg",
        "s3://bucket/a%20b.jpg",
        "/data/local-files/?d=set%2F1.jpg",
    )
    assert [[image for _, image in known.fitting(name)] for name in names] == [[1], [2], [3], [4], [1], [2]]


def test_no_results_are_no_detections(case, tmp_path):
    found = read_results(written(tmp_path, []), case[0], CLASSES, (1, 2, 3))
    assert len(found) == len(case[0]) and all(boxes.shape == (0, 4) for boxes, _, _ in found.values())


@pytest.mark.parametrize("given", [str, int, float])
def test_large_ids_of_categories(case, tmp_path, given):
    """Those of V7 are checksums of the names; the last two are one number in float32."""
    examples, detections = case
    large = (7, 3000000001, 3000000002)
    rows = rows_of(examples, detections, lambda place, e: place + 1, lambda kind: given(large[kind - 1]))
    equal(read_results(written(tmp_path, rows), examples, CLASSES, large), detections, examples)
    with pytest.raises(DataError, match="category 3000000003 is not legal; legal: 7"):
        read_results(written(tmp_path, [GOOD | {"category_id": 3000000003}]), examples, CLASSES, large)


GOOD = {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image_id": "c.jpg"}, r"row 1: image 'c.jpg' is none of the split"),
        ({"image_id": None}, r"row 1: image 'None'"),
        ({"category_id": 4}, r"row 1: category 4 is not legal; legal: 1 \(one\), 2 \(two\), 3 \(three\)"),
        ({"category_id": True}, "row 1: category True"),
        ({"category_id": 10**400}, "row 1: category 1000"),
        ({"category": "four"}, "row 1: category 'four'"),
        ({"category_id": [1]}, r"row 1: category \[1\]"),
        ({"bbox": [1, 2, 3]}, r"row 1: bbox is \[1, 2, 3\]; it must be \[x, y, width, height\] in pixels"),
        ({"bbox": [1, 2, -3, 4]}, "row 1: bbox"),
        ({"bbox": [1, 2, float("nan"), 4]}, "row 1: bbox"),
        ({"bbox": ["1", 2, 3, 4]}, "row 1: bbox"),
        ({"bbox": None}, "row 1: bbox"),
        ({"score": 50}, "row 1: score is 50; it must be a number from 0 to 1"),
        ({"score": float("nan")}, "row 1: score"),
        ({"score": "0.5"}, "row 1: score"),
    ],
)
def test_a_wrong_row_is_named(case, tmp_path, change, told):
    path = written(tmp_path, [GOOD, GOOD | change])
    with pytest.raises(DataError, match=told) as error:
        read_results(path, case[0], CLASSES, (1, 2, 3))
    assert f"detections={path}" in str(error.value)


def test_an_image_that_two_ways_name_differently_is_refused(case, tmp_path):
    examples = [replace(e, path=e.path.with_name(f"{12 - k}.jpg")) for k, e in enumerate(case[0])]
    path = written(tmp_path, [GOOD])
    with pytest.raises(DataError, match=r"by their ids or their file names without ending.*name them by file_name"):
        read_results(path, examples, CLASSES, (1, 2, 3))
    path = written(tmp_path, [GOOD | {"file_name": "3.jpg"}])
    found = read_results(path, examples, CLASSES, (1, 2, 3))
    assert [len(found[e.id][1]) for e in examples] == [0] * 9 + [1] + [0] * 2


@pytest.mark.parametrize("content", ["{}", "[1]", "[[]]", "not json", '{"annotations": []}'])
def test_what_is_no_list_of_results_is_refused(case, tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(DataError, match=str(path)):
        read_results(path, case[0], CLASSES, (1, 2, 3))
