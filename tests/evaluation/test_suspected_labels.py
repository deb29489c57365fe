"""Planted wrong labels, missing boxes and extra boxes are found, and right labels are not, from made-up detections."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.errors import DataError
from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.suspected_labels import Faults, image_faults, suspects
from detect.reporting import suspects as files
from detect.reporting.scores import keep_scores, keep_worst
from tests.evaluation.test_coco import random_case

CAT, DOG = 1, 2
LEFT, RIGHT, LOW = [10.0, 5, 40, 35], [10.0, 60, 40, 90], [60.0, 30, 90, 60]


def example(folder, number, boxes, classes, crowd=None, seed=None):
    """An image of noise, 100x100 pixels; images of one seed are equal."""
    path = folder / f"part{number}" / "a.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(number if seed is None else seed).integers(0, 255, (20, 20, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (100, 100), interpolation=cv2.INTER_NEAREST))
    crowd = [False] * len(boxes) if crowd is None else crowd
    return Example(path, 100, 100, boxes, classes, crowd, f"i{number}", source_id=100 + number)


def found(*rows):
    """Detections (boxes, scores, classes) of rows (box, score, class)."""
    boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(classes, np.int32)


def dataset(*examples):
    return DetectionDataset("toy", ("cat", "dog"), {"test": examples}, category_ids=(3, 90))


def told(listed):
    return [(s.place, s.box.tolist(), s.reason, s.label, s.found, round(s.score, 3)) for s in listed]


@pytest.fixture
def planted(tmp_path):
    """Image 0 has a box that nobody labelled, 1 a wrong class, 2 a box around nothing, 3 is right."""
    examples = (
        example(tmp_path, 0, [LEFT], [CAT]),
        example(tmp_path, 1, [LEFT, RIGHT], [CAT, CAT]),
        example(tmp_path, 2, [LEFT, LOW], [CAT, CAT]),
        example(tmp_path, 3, [RIGHT], [DOG]),
    )
    detections = {
        "i0": found((LEFT, 0.9, CAT), (RIGHT, 0.95, DOG), (LOW, 0.4, CAT)),
        "i1": found((LEFT, 0.8, CAT), (RIGHT, 0.9, DOG), (RIGHT, 0.2, CAT)),
        "i2": found((LEFT, 0.8, CAT), (LOW, 0.05, CAT)),
        "i3": found((RIGHT, 0.6, DOG)),
    }
    return dataset(*examples), detections


def test_the_planted_faults_are_found_and_ranked(planted):
    data, detections = planted
    assert told(suspects(data, "test", detections)) == [
        (0, RIGHT, "no box", 0, DOG, 0.95),
        (2, LOW, "never found", CAT, 0, 0.8),  # 4 of 5 cats are found
        (1, RIGHT, "another class", CAT, DOG, 0.7),  # .9 less .2
    ]


def test_right_labels_are_not_suspected(tmp_path):
    data = dataset(example(tmp_path, 0, [LEFT, RIGHT], [CAT, DOG]), example(tmp_path, 1, [], []))
    right = found((LEFT, 0.9, CAT), (RIGHT, 0.3, DOG), (LOW, 0.49, CAT))
    assert suspects(data, "test", {"i0": right}) == []


def test_a_crowd_and_a_detection_beside_a_box_are_no_suspects(tmp_path):
    data = dataset(example(tmp_path, 0, [LEFT, RIGHT], [CAT, DOG], [False, True]))
    beside = [LEFT[0], LEFT[1] + 20, LEFT[2], LEFT[3] + 20]  # an IoU of .2 with the box
    rows = (LEFT, 0.9, CAT), (RIGHT, 0.9, CAT), (beside, 0.9, CAT)
    assert suspects(data, "test", {"i0": found(*rows)}) == []


def test_one_object_with_two_classes_is_one_missing_box(tmp_path):
    data = dataset(example(tmp_path, 0, [], []))
    rows = (LEFT, 0.7, CAT), (LEFT, 0.8, DOG), (RIGHT, 0.6, DOG)
    assert [s[3:] for s in told(suspects(data, "test", {"i0": found(*rows)}))] == [(0, DOG, 0.8), (0, DOG, 0.6)]


def test_without_detections_a_class_that_is_never_found_is_not_suspicious(tmp_path):
    data = dataset(example(tmp_path, 0, [LEFT], [CAT]))
    assert [s[2:] for s in told(suspects(data, "test", {}))] == [("never found", CAT, 0, 0.0)]


def test_near_duplicates_with_different_labels(tmp_path):
    first = example(tmp_path, 0, [LEFT, RIGHT, LOW], [CAT, DOG, DOG], seed=7)
    second = example(tmp_path, 1, [LEFT, RIGHT], [CAT, CAT], seed=7)
    other = example(tmp_path, 2, [LOW], [CAT])
    right = {e.id: found(*((b, 0.9, int(c)) for b, c in zip(e.boxes, e.classes, strict=True)))
             for e in (first, second, other)}  # fmt: skip
    listed = suspects(dataset(first, second, other), "test", right)
    assert told(listed) == [
        (0, RIGHT, "near-duplicate differs", DOG, CAT, 1.0),
        (0, LOW, "near-duplicate differs", DOG, 0, 1.0),
        (1, RIGHT, "near-duplicate differs", CAT, DOG, 1.0),
    ]
    assert [s.twin for s in listed] == [1, 1, 0]


def test_an_object_that_moved_between_two_pictures_is_labelled_rightly(tmp_path):
    examples = []
    for number, box in enumerate((LEFT, LOW)):
        made = example(tmp_path, number, [box], [CAT], seed=7)
        image = cv2.imread(str(made.path))
        ymin, xmin, ymax, xmax = map(int, box)
        image[ymin:ymax, xmin:xmax] = 255 - image[ymin:ymax, xmin:xmax] // 2
        cv2.imwrite(str(made.path), image)
        examples.append(made)
    detections = {e.id: found((e.boxes[0], 0.9, CAT)) for e in examples}
    assert suspects(dataset(*examples), "test", detections) == []


def test_files_of_the_suspects(planted, tmp_path):
    data, detections = planted
    files.write(tmp_path, data, "test", suspects(data, "test", detections))
    rows = list(csv.DictReader((tmp_path / "suspected_labels.csv").open(encoding="utf-8")))
    assert rows[0] == {
        "rank": "1", "file": "part0/a.png", "image_id": "100", "reason": "no box", "score": "0.95", "label": "",
        "found": "dog", "x": "60.0", "y": "10.0", "width": "30.0", "height": "30.0", "twin": "", "split": "test",
    }  # fmt: skip
    assert [row["reason"] for row in rows] == ["no box", "never found", "another class"]
    content = json.loads((tmp_path / "suspected_labels.json").read_text())
    assert [image["id"] for image in content["images"]] == [100, 102, 101]
    assert [(a["image_id"], a["category_id"]) for a in content["annotations"]] == [(100, 90), (102, 3), (101, 3)]
    assert content["annotations"][2]["attributes"] == {
        "reason": "another class", "label": "cat", "found": "dog", "score": 0.7,
    }  # fmt: skip
    from pycocotools.coco import COCO

    opened = COCO(str(tmp_path / "suspected_labels.json"))
    assert len(opened.getAnnIds(imgIds=[100])) == 1 and opened.imgs[100]["file_name"] == "part0/a.png"


def test_files_without_a_suspect_have_a_head(planted, tmp_path):
    files.write(tmp_path, planted[0], "test", [])
    assert (tmp_path / "suspected_labels.csv").read_text().startswith("rank,file,image_id,reason,score,label,found,x,y")
    assert json.loads((tmp_path / "suspected_labels.json").read_text())["annotations"] == []


def test_faults_of_an_image(planted):
    data, detections = planted
    faults = [image_faults(e, detections[e.id]) for e in data.splits["test"]]
    assert [(f.missed, f.extra, f.confused) for f in faults] == [(0, 1, 0), (0, 0, 1), (1, 0, 0), (0, 0, 0)]
    assert [round(f.weight, 2) for f in faults] == [0.95, 0.9, 1.0, 0.0]
    assert str(Faults(2, 0, 1, 3.0)) == "2 missed, 1 of another class"


def test_the_sheet_of_the_worst_images(planted, tmp_path):
    data, detections = planted
    examples = data.splits["test"]
    keep_worst(tmp_path / "worst.png", examples, detections, data.classes)
    sheet = cv2.imread(str(tmp_path / "worst.png"))
    assert sheet.shape[1] > 1600  # two columns, for three images with faults
    right = {e.id: found(*((b, 0.9, int(c)) for b, c in zip(e.boxes, e.classes, strict=True))) for e in examples}
    keep_worst(tmp_path / "worst.png", examples, right, data.classes)
    assert not (tmp_path / "worst.png").exists()


def test_an_image_of_another_size_is_compared_in_shares(tmp_path):
    first = example(tmp_path, 0, [LEFT], [CAT], seed=7)
    second = example(tmp_path, 1, [[2 * v for v in LEFT]], [CAT], seed=7)
    cv2.imwrite(str(second.path), cv2.resize(cv2.imread(str(second.path)), (200, 200), interpolation=cv2.INTER_NEAREST))
    second = replace(second, width=200, height=200)
    right = {e.id: found((e.boxes[0], 0.9, CAT)) for e in (first, second)}
    assert suspects(dataset(first, second), "test", right) == []


def test_pictures_that_can_not_be_drawn_cost_no_scores(tmp_path):
    examples, classes, detections = random_case(0)
    evaluator = CocoEvaluator(examples, classes)
    for name, found in detections.items():
        evaluator.add(name, *found)
    dataset = DetectionDataset("toy", classes, {"test": examples})
    with pytest.raises(DataError, match="i0"):
        keep_scores(tmp_path, "test", dataset, evaluator.result(), evaluator)
    assert (tmp_path / "test_detections.json").exists() and (tmp_path / "test_ground_truth.json").exists()
