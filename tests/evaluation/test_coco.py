"""The twelve figures against COCO's own evaluator, hand-made cases with known scores, and the messages."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.errors import DataError
from detect.evaluation import coco
from detect.evaluation.coco import FIGURES, CocoEvaluator, ground_truth_check
from detect.evaluation.coco_json import FlatDetections, coco_truth, file_names, remarks_file, results_file, truth_file
from detect.evaluation.matching import NOTHING
from tests.evaluation.score_files import score_files

HALF = Path(__file__).parent / "fixtures" / "coco_half.json"
ORACLE = {
    "AP": 0.503647, "AP50": 0.696973, "AP75": 0.571667, "APs": 0.593252, "APm": 0.557991, "APl": 0.489363,
    "AR1": 0.386813, "AR10": 0.593680, "AR100": 0.595353, "ARs": 0.654764, "ARm": 0.603130, "ARl": 0.553744,
}  # fmt: skip


def example(boxes, classes=None, crowd=None, id="a", width=640, height=480):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    classes = np.ones(len(boxes), int) if classes is None else classes
    crowd = np.zeros(len(boxes), bool) if crowd is None else crowd
    return Example(Path(f"{id}.jpg"), width, height, boxes, classes, crowd, id)


def evaluate(examples, classes, **detections):
    evaluator = CocoEvaluator(examples, classes)
    for id, (boxes, scores, kinds) in detections.items():
        evaluator.add(id, np.array(boxes), np.array(scores), np.array(kinds))
    return evaluator.result()


def random_case(seed, images=12, classes=5):
    rng = np.random.default_rng(seed)
    examples, detections = [], {}
    for number in range(images):
        count = int(rng.integers(0, 9))
        corner = rng.uniform(0, 300, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 160, (count, 2))], axis=1)
        crowd = rng.random(count) < 0.15
        examples.append(
            example(boxes, rng.integers(1, classes, count), crowd, id=f"i{number}")
        )  # none of the last class
        near = np.repeat(boxes, 3, axis=0) + rng.normal(0, 9, (3 * count, 4))
        corner = rng.uniform(0, 300, (130, 2))
        far = np.concatenate([corner, corner + rng.uniform(8, 160, (130, 2))], axis=1)
        found = np.concatenate([near, far])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)  # COCO ignores a reversed box
        kinds = np.concatenate([np.repeat(examples[-1].classes, 3), np.full(120, 1), rng.integers(1, classes + 1, 10)])
        # scores of two digits: ties are part of the case
        detections[f"i{number}"] = found, np.round(rng.random(len(found)), 2), kinds
    return examples, tuple(f"class {number}" for number in range(1, classes + 1)), detections


def pycocotools_figures(truth, results):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        evaluator = COCOeval(gt, gt.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def test_twelve_figures_equal_the_oracle(shared):
    folder = shared / "reference" / "coco_eval"
    scores = score_files(folder / "sampled_gts_bbox_area.json", folder / "cocoapi_results.json")
    assert scores.summary == pytest.approx(ORACLE, abs=1e-6)
    assert (scores.images, scores.detections) == (100, 734)


def test_half_of_the_oracle_equals_the_recorded_figures_of_pycocotools(tmp_path):
    half = json.loads(HALF.read_text())
    for name in ("truth", "results"):
        (tmp_path / f"{name}.json").write_text(json.dumps(half[name]))
    scores = score_files(tmp_path / "truth.json", tmp_path / "results.json")
    assert scores.summary == pytest.approx(half["figures"], abs=1e-9)
    assert list(scores.summary) == list(FIGURES)


@pytest.mark.parametrize("at_once", [1, 150, 10**9])
def test_classes_are_scored_in_groups_of_any_size_with_equal_figures(monkeypatch, at_once):
    examples, classes, detections = random_case(3)
    evaluator = CocoEvaluator(examples, classes)
    for id, found in detections.items():
        evaluator.add(id, *found)
    whole = evaluator.result()
    monkeypatch.setattr(coco, "AT_ONCE", at_once)
    parts = evaluator.result()
    assert parts.summary == whole.summary and parts.per_class == whole.per_class
    np.testing.assert_array_equal(parts.precision, whole.precision)


def test_groups_are_bounded_by_images_and_classes_too():
    """A large vocabulary with few detections: pairs of an image and a class take the memory."""
    groups = list(coco._groups(range(1, 1204), {1: 7}, 20_000))
    assert [kind for group in groups for kind in group] == list(range(1, 1204))
    assert max(map(len, groups)) == 25 and len(list(coco._groups(range(1, 81), {}, 5_000))) == 1
    assert [len(group) for group in coco._groups([1, 2, 3], {1: 40_000, 2: 20_000}, 10)] == [1, 2]


@pytest.mark.parametrize("seed", [0, 1])
def test_random_case_equals_pycocotools_in_summary_and_per_class(seed):
    examples, classes, detections = random_case(seed)
    evaluator = CocoEvaluator(examples, classes)
    for id, found in detections.items():
        evaluator.add(id, *found)
    scores = evaluator.result()
    theirs = pycocotools_figures(
        coco_truth(examples, classes), FlatDetections.of(examples, evaluator.detections).results()
    )
    assert list(scores.summary.values()) == pytest.approx(theirs.stats.tolist(), abs=1e-9)
    precision, recall = theirs.eval["precision"], theirs.eval["recall"]
    for index, name in enumerate(classes[:-1]):
        expected = {
            "AP": precision[:, :, index, 0, 2].mean(),
            "AP50": precision[0, :, index, 0, 2].mean(),
            "AP75": precision[5, :, index, 0, 2].mean(),
            "AR100": recall[:, index, 0, 2].mean(),
            "boxes": sum(((e.classes == index + 1) & ~e.crowd).sum() for e in examples),
        }
        assert scores.per_class[name] == pytest.approx(expected, abs=1e-9)
        np.testing.assert_allclose(scores.precision[:, :, index], precision[:, :, index, 0, 2])
    assert scores.per_class[classes[-1]] == {"AP": None, "AP50": None, "AP75": None, "AR100": None, "boxes": 0}


@pytest.mark.parametrize("seed", [0, 1])
def test_areas_of_the_source_equal_pycocotools_with_the_areas_of_its_file(seed):
    examples, classes, detections = random_case(seed)
    rng = np.random.default_rng(seed)
    for k, e in enumerate(examples):
        areas = np.round(rng.uniform(0.2, 1, len(e.boxes)) * np.prod(e.boxes[:, 2:] - e.boxes[:, :2], axis=1))
        areas[rng.random(len(areas)) < 0.2] = np.nan
        examples[k] = replace(e, areas=None if k == 3 else areas)
    evaluator = CocoEvaluator(examples, classes)
    for id, found in detections.items():
        evaluator.add(id, *found)
    truth = coco_truth(examples, classes)
    places = [(e, m) for e in examples for m in range(len(e.boxes))]
    for row, (e, m) in zip(truth["annotations"], places, strict=True):
        own = np.nan if e.areas is None else e.areas[m]
        assert row["area"] == (row["bbox"][2] * row["bbox"][3] if np.isnan(own) else own)
    theirs = pycocotools_figures(truth, FlatDetections.of(examples, evaluator.detections).results())
    assert list(evaluator.result().summary.values()) == pytest.approx(theirs.stats.tolist(), abs=1e-9)


def test_an_object_that_is_smaller_than_its_box_is_small(tmp_path):
    """A box of 40 x 40 pixels, and an object of 800 pixels in it: below 32 * 32, it counts as small."""
    (e,) = (replace(example([[10, 10, 50, 50]]), areas=[800]),)
    found = np.array([[10.0, 10, 50, 50]]), np.array([0.9]), np.array([1])
    ours = evaluate([e], ("cat",), a=found).summary
    dataset = DetectionDataset("toy", ("cat",), {"test": [e]})
    (tmp_path / "truth.json").write_text(json.dumps(truth_file(dataset, "test")))
    (tmp_path / "results.json").write_text(json.dumps(results_file(dataset, "test", {"a": found})))
    assert ours == score_files(tmp_path / "truth.json", tmp_path / "results.json").summary
    assert (ours["AP"], ours["APs"], ours["APm"], ours["ARs"], ours["ARm"]) == (1, 1, None, 1, None)


@pytest.mark.parametrize("seed", [0, 1])
def test_ranking_gives_the_recall_and_precision_that_coco_has_at_iou_50(seed):
    examples, classes, detections = random_case(seed)
    for place, (id, (boxes, found, kinds)) in enumerate(detections.items()):
        # no ties here: the order of equal scores over images is free, and the curve depends on it
        ranked = np.argsort(np.argsort(found, kind="stable"))
        detections[id] = boxes, ranked / 256 + place / 8192, kinds
    scores = evaluate(examples, classes, **detections)
    for index, name in enumerate(classes[:-1]):
        ranking = scores.rankings[name]
        assert (np.diff(ranking.scores) <= 0).all()
        true = np.cumsum(ranking.hits)
        precision, recall = true / np.arange(1, len(true) + 1), true / ranking.boxes
        best_behind = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, np.linspace(0, 1, 101))
        interpolated = [best_behind[place] if place < len(recall) else 0 for place in places]
        np.testing.assert_allclose(interpolated, scores.precision[0, :, index], atol=1e-9)
    assert scores.rankings[classes[-1]].boxes == 0


def test_by_hand_one_hit_one_miss_one_false():
    # Two boxes; the best detection hits the first exactly, the second hits nothing: recall 1/2 at precision 1, so
    # COCO's interpolated AP is 51 of 101 recall points (0, .01 ... .50) at every IoU.
    truth = example([[10, 10, 50, 50], [100, 100, 180, 180]])
    scores = evaluate([truth], ("cat",), a=([[10, 10, 50, 50], [300, 300, 340, 340]], [0.9, 0.8], [1, 1]))
    assert scores.summary["AP"] == scores.summary["AP50"] == pytest.approx(51 / 101)
    assert scores.summary["AR100"] == 0.5 and scores.summary["AR1"] == 0.5
    # 40x40 px is a medium box, 80x80 too: there is no small and no large one
    assert scores.summary["APs"] is None and scores.summary["ARl"] is None
    assert scores.summary["ARm"] == 0.5
    ranking = scores.rankings["cat"]
    assert ranking.hits.tolist() == [True, False] and ranking.boxes == 2


def test_y_comes_first_and_pixels_are_those_of_a_non_square_image():
    truth = example([[0, 500, 40, 640]], width=640, height=48)
    right = evaluate([truth], ("cat",), a=([[0, 500, 40, 640]], [1], [1]))
    turned = evaluate([truth], ("cat",), a=([[500, 0, 640, 40]], [1], [1]))
    assert right.summary["AP"] == pytest.approx(1) and turned.summary["AP"] == 0


def test_a_detection_in_a_crowd_region_is_neither_hit_nor_false():
    truth = example([[0, 0, 40, 40], [100, 100, 400, 400]], crowd=[False, True])
    found = ([[150, 150, 200, 200], [0, 0, 40, 40]], [0.9, 0.8], [1, 1])
    scores = evaluate([truth], ("cat",), a=found)
    assert scores.summary["AP"] == pytest.approx(1)
    assert scores.rankings["cat"].hits.tolist() == [True]
    assert scores.per_class["cat"]["boxes"] == 1


def test_nothing_to_score_is_none_and_a_missed_class_is_zero():
    empty = evaluate([example([]), example([], id="b")], ("cat", "dog"), a=([[0, 0, 9, 9]], [0.5], [1]))
    assert set(empty.summary.values()) == {None}
    assert "n/a" in empty.table() and "-1" not in empty.table()
    missed = evaluate([example([[0, 0, 40, 40]])], ("cat", "dog"))
    assert missed.summary["AP"] == 0
    assert missed.per_class["cat"]["AP"] == 0 and missed.per_class["dog"]["AP"] is None


def test_only_the_hundred_best_detections_of_a_class_count():
    truth = example([[0, 0, 40, 40]])
    false = np.tile([[200.0, 200, 240, 240]], (100, 1))
    boxes = np.concatenate([false, [[0, 0, 40, 40]]])
    scores = evaluate([truth], ("cat",), a=(boxes, np.linspace(1, 0.1, 101), np.ones(101, int)))
    assert scores.summary["AP"] == 0
    assert len(scores.rankings["cat"].scores) == 100 and not scores.rankings["cat"].hits.any()


def test_adding_refuses_what_cannot_be_meant():
    evaluator = CocoEvaluator([example([]), example([], id="b")], ("cat",))
    evaluator.add("a", np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    for id, boxes, scores, classes, message in (
        ("a", [[0, 0, 1, 1]], [1], [1], "'a' was already added"),
        ("x", [[0, 0, 1, 1]], [1], [1], "'x' is not in the split"),
        ("b", [[0, 0, 1, 1]], [1, 1], [1], "1 boxes, 2 scores, 1 classes"),
        ("b", [[0, 0, 1, np.nan]], [1], [1], "'b': .*not a finite number"),
        ("b", [[0, 0, 1, 1]], [1], [0], r"classes 0\.\.0; legal: 1\.\.1"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluator.add(id, boxes, scores, classes)


def test_added_arrays_are_copies():
    evaluator = CocoEvaluator([example([])], ("cat",))
    boxes = np.ones((1, 4), np.float32)
    evaluator.add("a", boxes, [1], [1])
    boxes[:] = 0
    assert evaluator.detections["a"][0].tolist() == [[1, 1, 1, 1]]


def test_twice_the_same_id_and_foreign_classes_are_named():
    with pytest.raises(DataError, match="'a' appears twice"):
        CocoEvaluator([example([]), example([])], ("cat",))
    with pytest.raises(DataError, match=r"a\.jpg: classes 3\.\.3; legal: 1\.\.2"):
        CocoEvaluator([example([[0, 0, 1, 1]], [3])], ("cat", "dog"))


def test_ground_truth_check_gives_one_even_for_crowded_images_and_crowd_regions():
    grid = np.array([[y, x, y + 3, x + 3] for y in range(0, 60, 4) for x in range(0, 60, 4)])  # 225 boxes of one class
    scores = ground_truth_check(
        [example(grid), example([[0, 0, 9, 9]] * 2, crowd=[True, False], id="b")], ("cat", "dog")
    )
    assert scores.summary["AP"] == pytest.approx(1)
    assert scores.per_class["dog"]["AP"] is None


def test_ground_truth_check_names_the_box_without_area():
    with pytest.raises(DataError, match=r"AP 0\.\d+.*b\.jpg: the cat box \[5.0, 7.0, 5.0, 9.0\].* has no area"):
        ground_truth_check([example([[0, 0, 9, 9]]), example([[5, 7, 5, 9]], id="b")], ("cat",))


def test_ground_truth_check_tells_how_many_classes_have_lost():
    scores = SimpleNamespace(per_class={f"c{k}": {"AP": 0.9} for k in range(7)} | {"whole": {"AP": 1.0}})
    assert coco._culprit([], scores) == "check the boxes of the classes c0, c1, c2, c3, c4 and 2 more"


def test_ground_truth_check_without_a_box():
    with pytest.raises(DataError, match="the 2 images of the split have no box"):
        ground_truth_check([example([]), example([[0, 0, 9, 9]], crowd=[True], id="b")], ("cat",))


def test_table_fits_80_columns_and_counts_the_classes_it_leaves_out():
    names = tuple(f"a class with quite a long and tiresome name {number}" for number in range(25))
    boxes = [[0, 10 * n, 9, 10 * n + 9] for n in range(25)]
    kinds = np.arange(1, 26)
    scores = evaluate([example(boxes, kinds)], names, a=(boxes, np.ones(25), kinds))
    lines = scores.table().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "1 image, 25 boxes, 25 detections"
    assert lines[1].split() == list(FIGURES)
    assert lines[-1] == " ... and 5 more classes" and len(lines) == 2 + 1 + 1 + 1 + 20 + 1
    assert lines[-2].split()[-5:] == ["1.000", "1.000", "1.000", "1.000", "1"]


def numbered(id, source_id=None, folder="."):
    made = example([[1, 2, 11, 32]], [2], id=id)
    return replace(made, path=Path(folder, made.path.name), source_id=source_id)


@pytest.mark.parametrize(
    ("source_ids", "ids"), [((285, 139), [285, 139]), (("b", "a"), ["b", "a"]), ((285, None), [1, 2]), ((7, 7), [1, 2])]
)
def test_results_leave_as_xywh_with_the_ids_of_the_source(source_ids, ids):
    examples = (numbered("x", source_ids[0], "d/one"), numbered("y", source_ids[1], "d/two"))
    dataset = DetectionDataset("toy", ("cat", "dog"), {"test": examples}, category_ids=(3, 90))
    found = {"x": NOTHING, "y": (np.array([[1.0, 2, 11, 32]]), np.array([0.25]), np.array([2]))}
    assert results_file(dataset, "test", found) == [
        {"image_id": ids[1], "category_id": 90, "bbox": [2.0, 1.0, 30.0, 10.0], "score": 0.25,
         "file_name": "two/y.jpg", "category": "dog"}
    ]  # fmt: skip
    truth = truth_file(dataset, "test")
    assert [image["id"] for image in truth["images"]] == ids
    assert {row["category_id"] for row in truth["annotations"]} == {90}
    assert [image["file_name"] for image in truth["images"]] == ["one/x.jpg", "two/y.jpg"]
    remarks = remarks_file(dataset, "test", [])
    assert [truth["info"], truth["licenses"]] == [remarks["info"], remarks["licenses"]] == [{}, []]


HUGE = (2**63 - 1, 2**62, 2**63, 2**127 + 5, -(2**63) - 1)


@pytest.mark.parametrize("ids", [HUGE[:2], HUGE[1:3], HUGE[3:], ("b", "a"), (7, "a")], ids=str)
def test_ids_of_images_of_any_size_and_kind_are_scored_and_written(tmp_path, ids):
    examples = tuple(numbered(name, number) for name, number in zip("xy", ids, strict=True))
    dataset = DetectionDataset("toy", ("cat", "dog"), {"test": examples})
    found = {name: (e.boxes, np.array([0.5]), e.classes) for name, e in zip("xy", examples, strict=True)}
    assert evaluate(examples, dataset.classes, **found).summary["AP"] == 1
    truth, rows = truth_file(dataset, "test"), results_file(dataset, "test", found)
    assert [row["image_id"] for row in rows] == [image["id"] for image in truth["images"]] == list(ids)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(rows))
    assert score_files(tmp_path / "truth.json", tmp_path / "results.json").summary["AP"] == 1


def test_file_names_are_relative_to_the_folder_that_all_share():
    paths = [Path("/d/a/1.jpg"), Path("/d/b/1.jpg")]
    assert file_names(paths) == ["a/1.jpg", "b/1.jpg"] and file_names(paths[:1]) == ["1.jpg"] and file_names([]) == []
    assert file_names(paths, Path("/d/b/..")) == ["a/1.jpg", "b/1.jpg"]
