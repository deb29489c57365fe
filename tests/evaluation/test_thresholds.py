"""Thresholds of a few hand-placed detections, against every possible score, and as they are stored."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detect import loaders
from detect.detector import Detector
from detect.evaluation.calibration import Calibration
from detect.evaluation.matching import Ranking
from detect.evaluation.thresholds import Curve, Point, Shipped, Thresholds, pooled
from detect.runs.folder import RunFolder


def ranking(scores, hits, boxes):
    return Ranking(np.array(scores, np.float32), np.array(hits, bool), boxes)


FEW = ranking([0.9, 0.8, 0.6, 0.5, 0.2], [1, 1, 0, 1, 0], 4)


def test_the_best_point_by_hand():
    """F1 is 2 TP / (detections + 4): 2/5, 4/6, 4/7, 6/8, 6/9. The score lies between .5 and .2."""
    curve = Curve.of(FEW)
    np.testing.assert_allclose(curve.f1, [2 / 5, 4 / 6, 4 / 7, 6 / 8, 6 / 9])
    best = curve.best()
    assert best is not None
    assert (best.f1, best.precision, best.recall) == (0.75, 0.75, 0.75)
    assert best.score == pytest.approx(0.35, abs=1e-6)
    assert curve.at(0.85) == Point(0.85, 2 / 5, 1.0, 0.25)
    assert curve.at(0.95) == Point(0.95, 0, 0, 0)
    assert curve.at(np.float32(0.8)).recall == 0.5  # a detection at the score is shown


def test_of_equal_points_that_with_the_fewest_detections():
    best = Curve.of(ranking([0.9, 0.7, 0.6, 0.5], [1, 0, 0, 1], 1)).best()
    assert best is not None and best.f1 == 1.0 and best.score == pytest.approx(0.8)


def test_equal_scores_are_shown_together():
    curve = Curve.of(ranking([0.9, 0.5, 0.5, 0.5], [1, 1, 0, 0], 2))
    np.testing.assert_allclose(curve.scores, [0.9, 0.5], rtol=1e-6)
    np.testing.assert_allclose(curve.precision, [1, 0.5])


@pytest.mark.parametrize("one", [ranking([], [], 3), ranking([0.9], [0], 3), ranking([0.9], [0], 0)])
def test_without_a_right_detection_there_is_no_threshold(one):
    assert Curve.of(one).best() is None
    found = Thresholds.choose({"val": {"cat": one}}, "val")
    assert found.shipped() is None and found.to_dict()["shipped"] is None
    assert found.lines() == ["no threshold: no detection on val is right"]


def test_no_score_has_a_higher_f1():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = np.sort(rng.integers(0, 40, 60) / 40)[::-1]
        one = ranking(scores, rng.uniform(size=60) < scores, 45)
        best = Curve.of(one).best()
        assert best is not None
        for level in np.linspace(0, 1, 201):
            shown = one.scores >= level
            f1 = 2 * one.hits[shown].sum() / (shown.sum() + 45)
            assert f1 <= best.f1 + 1e-12
        shown = one.scores >= best.score
        assert 2 * one.hits[shown].sum() / (shown.sum() + 45) == pytest.approx(best.f1)


def test_chosen_on_one_split_and_shown_on_both():
    other = ranking([0.9, 0.3, 0.1], [1, 1, 0], 2)
    found = Thresholds.choose({"val": {"cat": FEW, "dog": other}, "test": {"cat": other, "dog": FEW}}, "val")
    assert found.per_class["cat"].score == pytest.approx(0.35, abs=1e-6)
    assert found.per_class["dog"].score == pytest.approx(0.2, abs=1e-6)
    assert found.chosen.score == pytest.approx(0.25, abs=1e-6)  # 5 of 6 are right at .3, and 6 boxes
    assert found.chosen.f1 == pytest.approx(10 / 12) == found.reached["test"][0].f1
    assert found.reached["test"][1]["cat"] == Point(found.per_class["cat"].score, 2 / 3, 1.0, 0.5)
    assert all(len(line) <= 80 for line in found.lines())
    shipped = found.shipped()
    assert shipped.lowest(np.array([2, 1, 2]), True).round(2).tolist() == [0.2, 0.35, 0.2]
    assert shipped.lowest(np.array([2, 1, 2]), False).round(2).tolist() == [0.25, 0.25, 0.25]


def test_a_class_without_a_threshold_has_that_of_all():
    shipped = Shipped(0.4, (0.2, None), "val")
    assert shipped.lowest(np.array([1, 2]), True).tolist() == [0.2, 0.4]


def test_what_is_stored_is_read_again():
    shipped = Shipped(0.4, (0.2, None), "val", Calibration(0.5, -1.0, 0.2, 0.1), class_agnostic=False)
    assert Shipped.read(json.loads(json.dumps(shipped.to_dict())), 2) == shipped
    assert Shipped.read(None, 2) is None


def test_a_threshold_that_was_chosen_with_another_suppression_is_told(monkeypatch):
    suppression = SimpleNamespace(class_agnostic=False)
    network = SimpleNamespace(postprocess=suppression, detect=None, size=(64, 64), resize="stretch")
    monkeypatch.setattr(loaders, "load_architecture", lambda run, stage: network)
    monkeypatch.setattr(RunFolder, "class_names", lambda run: ["cat", "dog"])
    monkeypatch.setattr(RunFolder, "threshold", lambda run, stage: Shipped(0.4, (0.2, None), "val"))
    monkeypatch.setattr(RunFolder, "category_ids", lambda run: None)
    for asked in (None, False, True):
        suppression.class_agnostic = False
        detector = Detector(**vars(loaders._run(RunFolder(Path("run")), "detector", asked)))
        for score in ("auto", "per_class"):
            assert ("chosen with class_agnostic=false" in detector.showing(score)) is bool(asked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": 2}, "score in 0..1"),
        ({"score": True}, "score in 0..1"),
        ({"split": 3}, "a split"),
        ({"per_class": [0.2]}, "for each class"),
        ({"per_class": [0.2, "a"]}, "for each class"),
        ({"calibration": {"slope": 1}}, "slope, bias"),
        ({"calibration": {"slope": -1, "bias": 0, "error_before": 0, "error_after": 0}}, "above 0"),
        ({"calibration": [1]}, "numbers"),
    ],
)
def test_a_damaged_threshold_is_refused(change, message):
    said = Shipped(0.4, (0.2, None), "val").to_dict() | {"per_class": [0.2, None]} | change
    with pytest.raises(ValueError, match=message):
        Shipped.read(said, 2)


def test_all_classes_in_one_ranking():
    found = pooled([ranking([0.9, 0.3], [1, 0], 2), ranking([0.5], [1], 1), ranking([], [], 0)])
    assert found.boxes == 3 and found.hits.tolist() == [True, True, False]
    np.testing.assert_allclose(found.scores, [0.9, 0.5, 0.3], rtol=1e-6)
