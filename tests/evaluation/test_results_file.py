"""What another program has found, from a file of COCO's results."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detect.data.dataset import DetectionDataset
from detect.errors import DataError
from detect.evaluation.coco_json import results_file
from detect.evaluation.results_file import read_results
from detect.files import write_json
from tests.evaluation.test_coco import random_case

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


def test_the_programs_own_file_is_read(case, tmp_path):
    examples, detections = case
    dataset = DetectionDataset("random", CLASSES, {"test": examples})
    path = tmp_path / "test_detections.json"
    write_json(path, results_file(dataset, "test", detections))
    found = read_results(path, examples, CLASSES, (1, 2, 3))
    assert sum(len(scores) for _, scores, _ in found.values()) == sum(len(s) for _, s, _ in detections.values())


def test_no_results_are_no_detections(case, tmp_path):
    found = read_results(written(tmp_path, []), case[0], CLASSES, (1, 2, 3))
    assert len(found) == len(case[0]) and all(boxes.shape == (0, 4) for boxes, _, _ in found.values())


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
