"""The split of errors by hand, and equal to tidecv (scripts/tide_fixture.py) on drawn boxes and on COCO's example."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detect.data.examples import Example
from detect.evaluation.error_split import KINDS, error_split
from detect.evaluation.scored_files import scored

FIXTURES = Path(__file__).parent / "fixtures"
TIDE = json.loads((FIXTURES / "tide.json").read_text())


def example(boxes, classes, id="a", crowd=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd)
    return Example(Path(f"{id}.jpg"), 640, 480, boxes, np.array(classes, np.int32), crowd, id)


def found(*rows):
    boxes, scores, classes = zip(*rows, strict=True)
    return np.array(boxes, np.float32), np.array(scores, np.float32), np.array(classes, np.int32)


def drawn(case):
    """A case of the fixture as examples and detections."""
    truth = {
        "images": [{"id": i} for i in range(case["images"])],
        "categories": [{"id": k, "name": str(k)} for k in (1, 2, 3)],
    }
    truth["annotations"] = [
        {"image_id": i, "category_id": k, "bbox": box, "iscrowd": crowd} for i, k, box, crowd in case["boxes"]
    ]
    rows = [{"image_id": i, "category_id": k, "score": s, "bbox": box} for i, k, s, box in case["detections"]]
    return scored(truth, rows)


def assert_equal(split, wanted):
    for name in ("ap50", "false_positives", "false_negatives"):
        assert getattr(split, name) == pytest.approx(wanted[name], abs=1e-9), name
    assert split.gains == pytest.approx(wanted["gains"], abs=1e-9)
    assert split.counts == wanted["counts"]
    for size, gains in wanted["by_size"].items():
        assert split.by_size[size] == pytest.approx(gains, abs=1e-9), size


@pytest.mark.parametrize("number", range(4))
def test_drawn_boxes_have_the_errors_that_tidecv_finds(number):
    case = TIDE["drawn"][number]
    data = drawn(case)
    split = error_split(data.examples, data.detections, data.classes)
    assert_equal(split, case)
    for name, gains in case["by_class"].items():
        assert split.by_class[name] == pytest.approx(gains, abs=1e-9)


def of_coco(truth, results):
    """(the split, its classes by id) of files in COCO's format, without detections of classes that have no box."""
    there = {a["category_id"] for a in truth["annotations"] if not a.get("iscrowd", 0)}
    data = scored(truth, [row for row in results if row["category_id"] in there])
    ids = {str(number): name for number, name in zip(data.category_ids, data.classes, strict=True)}
    return error_split(data.examples, data.detections, data.classes), ids


def test_half_of_the_oracle_has_the_errors_that_tidecv_finds():
    half = json.loads((FIXTURES / "coco_half.json").read_text())
    split, ids = of_coco(half["truth"], half["results"])
    assert_equal(split, TIDE["half"])
    for number, gains in TIDE["half"]["by_class"].items():
        assert split.by_class[ids[number]] == pytest.approx(gains, abs=1e-9)
    assert split.ap50 == pytest.approx(half["figures"]["AP50"], abs=0.003)  # tidecv's recalls are rounded otherwise


def test_the_oracle_has_the_errors_that_tidecv_finds(shared):
    folder = shared / "reference" / "coco_eval"
    names = ("sampled_gts_bbox_area.json", "cocoapi_results.json")
    split, _ = of_coco(*(json.loads((folder / name).read_text()) for name in names))
    assert_equal(split, TIDE["whole"])


CAT, DOG, LARGE = [0, 0, 20, 20], [100, 100, 150, 150], [200, 200, 400, 400]


def test_one_error_of_each_kind_by_hand():
    """Boxes: a small cat, a medium dog, a large cat. Only the large cat is found."""
    detections = found(
        (LARGE, 0.9, 1),
        (LARGE, 0.8, 1),  # a duplicate
        (DOG, 0.7, 1),  # a dog that is taken for a cat
        ([300, 0, 320, 20], 0.6, 1),  # background
        ([0, 10, 20, 30], 0.5, 1),  # IoU 1/3 with the cat
        ([100, 125, 150, 175], 0.4, 1),  # IoU 1/3 with the dog, and another class
    )
    split = error_split([example([CAT, DOG, LARGE], [1, 2, 1])], {"a": detections}, ("cat", "dog"))
    assert split.counts == dict.fromkeys(KINDS[:5], 1) | {"missed": 0}
    assert split.ap50 == pytest.approx(51 / 101 / 2)  # a cat of two is found first, and no dog
    assert split.gains["classification"] == pytest.approx(0.5)  # the dog is found
    assert split.gains["localization"] == pytest.approx(50 * 2 / 5 / 101 / 2)  # the second cat, in the fifth place
    assert split.gains["duplicate"] == split.gains["background"] == split.gains["both"] == 0.0
    assert split.by_size["small"]["localization"] == split.gains["localization"]
    assert split.by_size["medium"]["classification"] == split.by_class["dog"]["classification"] == pytest.approx(0.5)
    assert split.by_class["cat"]["classification"] == split.by_size["large"]["classification"] == 0.0
    assert split.counts_by_class["dog"]["classification"] == 1
    assert split.false_positives == 0.0
    assert split.false_negatives == pytest.approx(1 - 51 / 101 / 2)  # no dog is left, so that dogs do not count


def test_sizes_are_those_of_the_source_where_it_tells_them():
    """As in COCO's figures: a large box around a thin object, and a box whose area is not told."""
    told = replace(example([LARGE, CAT, DOG], [1, 1, 1], crowd=[False, True, False]), areas=[900, 1, np.nan])
    found_there = {"b": found((LARGE, 0.9, 1))}
    split = error_split([told, example([LARGE], [1], "b")], found_there, ("cat",))
    assert split.counts["missed"] == 2
    assert [split.by_size[size]["missed"] > 0 for size in ("small", "medium", "large")] == [True, True, False]


def test_a_missed_box_and_a_crowd():
    crowd = example([CAT, LARGE], [1, 1], crowd=[False, True])
    detections = {"a": found(([220, 220, 240, 240], 0.9, 1))}
    split = error_split([crowd, example([DOG], [1], "b")], detections, ("cat", "dog"))
    assert split.counts["missed"] == 2 and split.ap50 == 0.0
    assert split.counts["background"] == 1  # of a detection in a crowd region, which does not count for AP
    assert error_split([example([], [])], {}, ("cat",)).ap50 is None


def test_the_table_fits_80_columns():
    data = drawn(TIDE["drawn"][0])
    lines = error_split(data.examples, data.detections, ("a" * 60, "b", "c")).table().splitlines()
    assert len(lines) > 9 and all(len(line) <= 80 for line in lines)


def test_many_classes_take_no_time():
    """Each of 300 classes is ranked again for the errors at its objects, and only with the classes that these touch."""
    random = np.random.default_rng(0)
    examples, detections = [], {}
    for number in range(400):
        corners = random.uniform(0, 400, (20, 2)).astype(np.float32)
        boxes = np.concatenate([corners, corners + random.uniform(20, 80, (20, 2)).astype(np.float32)], axis=1)
        kinds = random.integers(1, 301, 20).astype(np.int32)
        examples.append(example(boxes, kinds, id=str(number)))
        moved = np.repeat(boxes, 5, axis=0) + random.normal(0, 5, (100, 4)).astype(np.float32)
        guessed = np.where(random.random(100) < 0.5, np.repeat(kinds, 5), random.integers(1, 301, 100)).astype(np.int32)
        detections[str(number)] = (moved, random.random(100).astype(np.float32), guessed)
    began = time.process_time()
    split = error_split(examples, detections, [f"c{k}" for k in range(1, 301)])
    assert time.process_time() - began < 30  # all detections again for each pair of classes took minutes
    assert sum(counts["missed"] for counts in split.counts_by_class.values()) == split.counts["missed"]
    for kind in KINDS[:-1]:
        assert sum(counts[kind] for counts in split.counts_by_class.values()) == split.counts[kind]
