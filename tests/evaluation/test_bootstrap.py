"""AP of resamples equals COCO's evaluation of data sets in which the images really stand several times."""

import dataclasses
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from detect.data.examples import Example
from detect.evaluation.average_precision import Ranked, average_precision
from detect.evaluation.bootstrap import ALL, RESAMPLES, ranked_classes, resampled, resamples
from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.coco_json import image_numbers
from tests.evaluation.test_coco import random_case


def scored(examples, classes, detections):
    evaluator = CocoEvaluator(examples, classes)
    for id, found in detections.items():
        evaluator.add(id, *found)
    return evaluator.result()


def without_ties(seed, images=12):
    """A drawn case with crowds, whose scores are all different."""
    examples, classes, detections = random_case(seed, images)
    rng = np.random.default_rng(seed)
    return examples, classes, {k: (b, rng.random(len(s)), c) for k, (b, s, c) in detections.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_figures_equal_cocos_on_the_images_and_on_resamples(seed):
    examples, classes, detections = without_ties(seed)
    found = resampled(examples, detections, classes, 4)
    weights = [np.ones(len(examples), int), *resamples(len(examples), 4)]
    for number, weight in enumerate(weights):
        copies, rows = [], {}
        for example, times in zip(examples, weight, strict=True):
            for copy in range(times):
                copies.append(dataclasses.replace(example, id=f"{example.id}/{copy}"))
                rows[copies[-1].id] = detections[example.id]
        wanted = scored(copies, classes, rows)
        for figure in ("AP", "AP50"):
            assert found.figures[figure][ALL][number] == pytest.approx(wanted.summary[figure], abs=1e-9)
            for name in classes:
                value = wanted.per_class[name][figure]
                got = found.figures[figure][name][number]
                assert np.isnan(got) if value is None else got == pytest.approx(value, abs=1e-9)


def test_the_figures_of_tied_scores_equal_cocos():
    examples, classes, detections = random_case(3)
    found = resampled(examples, detections, classes, 0)
    assert found.interval("AP").value == pytest.approx(scored(examples, classes, detections).summary["AP"], abs=1e-9)
    assert found.interval("AP").low is None


def test_ties_of_boxes_are_matched_as_in_cocos_evaluation():
    """Whole pixels: many boxes overlap alike, and many shares are exactly a threshold."""
    for seed in range(60):
        rng = np.random.default_rng(seed)

        def boxes(count, rng=rng):
            corners = rng.integers(0, 4, (count, 2))
            return np.concatenate([corners, corners + rng.integers(4, 7, (count, 2))], axis=1).astype(np.float32)

        examples, found = [], {}
        for name in "ab":
            count, crowds = rng.integers(2, 5), rng.random(4) < 0.2
            kinds = np.ones(count, np.int32)
            examples.append(Example(Path(f"{name}.jpg"), 40, 40, boxes(count), kinds, crowds[:count], name))
            found[name] = (boxes(5), rng.random(5, np.float32), np.ones(5, np.int32))
        wanted, got = scored(examples, ["cat"], found).summary, resampled(examples, found, ["cat"], 0)
        for figure in ("AP", "AP50"):
            value = got.interval(figure).value
            assert value == (None if wanted[figure] is None else pytest.approx(wanted[figure], abs=1e-9)), seed


def test_ties_follow_the_ids_of_the_images_as_in_cocos_evaluation():
    """Not their order in the file."""
    examples, classes, detections = random_case(3, 40)
    ids = np.random.default_rng(0).permutation(len(examples)).tolist()
    examples = [dataclasses.replace(example, source_id=number) for example, number in zip(examples, ids, strict=True)]
    detections = {k: (b, np.round(s * 8) / 8, c) for k, (b, s, c) in detections.items()}
    assert image_numbers(examples) == ids
    found = resampled(examples, detections, classes, 0)
    for name in ("AP", "AP50"):
        wanted = scored(examples, classes, detections).summary[name]
        assert found.interval(name).value == pytest.approx(wanted, abs=1e-9)


def test_resamples_are_the_same_again_and_draw_as_many_images():
    first = resamples(7, 50)
    assert first.shape == (50, 7) and (first.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(first, resamples(7, 50))
    assert resamples(0, 3).shape == (3, 0)
    np.testing.assert_array_equal(first, np.random.default_rng(0).multinomial(7, np.full(7, 1 / 7), 50))


def test_resamples_of_many_images_take_two_bytes_each():
    tracemalloc.start()
    drawn = resamples(20_000, 100)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert drawn.nbytes == 4_000_000 and peak < 5_000_000


def test_detectors_that_are_compared_share_their_resamples(monkeypatch):
    examples, classes, detections = without_ties(2)
    drawn = resamples(len(examples), RESAMPLES)
    wanted = resampled(examples, detections, classes).figures
    monkeypatch.setattr("detect.evaluation.bootstrap.resamples", None)
    found = resampled(examples, detections, classes, drawn=drawn).figures
    assert all(np.array_equal(found[f][ALL], wanted[f][ALL], equal_nan=True) for f in wanted)


def test_a_detector_does_not_differ_from_itself_and_a_better_one_does():
    examples, classes, detections = without_ties(2, 40)
    perfect = {e.id: (e.boxes[~e.crowd], np.ones((~e.crowd).sum()), e.classes[~e.crowd]) for e in examples}
    one, best = resampled(examples, detections, classes, 200), resampled(examples, perfect, classes, 200)
    same = one.difference(one, "AP")
    assert (same.value, same.low, same.high, same.resolved) == (0, 0, 0, False)
    assert best.interval("AP").value == 1.0 and str(best.interval("AP50")) == "1.000"  # each resample has it
    better = best.difference(one, "AP")
    assert better.resolved and better.low < better.value < better.high
    assert best.interval("AP", classes[-1]).value is None  # this class has no box
    assert str(best.interval("AP", classes[-1])) == "n/a"


@pytest.mark.parametrize(("boxes", "bounded"), [(1, False), (2, False), (3, True), (8, True)])
def test_a_figure_that_few_images_decide_has_no_bounds(boxes, bounded):
    """All resamples that hold the only image of a class give the same figure, which would look sure."""
    corners = np.array([[0, 0, 10, 10]], np.float32)
    examples = [
        Example(Path(f"{k}"), 20, 20, corners, np.array([1 if k < boxes else 2]), np.zeros(1, bool), f"{k}")
        for k in range(50)
    ]
    right = {e.id: (corners, np.ones(1), e.classes) for e in examples}
    without = {k: v for k, v in right.items() if int(k) >= boxes}
    one, other = (resampled(examples, found, ("lynx", "cat"), 300) for found in (right, without))
    found = other.difference(one, "AP", "lynx")
    assert found.value == -1 and (found.low is not None) is bounded and found.resolved is bounded
    assert found.signed() == ("-1.000 [-1.000, -1.000]" if bounded else "-1.000")
    assert str(one.interval("AP", "lynx")).startswith("1.000") and other.interval("AP", "cat").low is None


def test_one_image_has_no_interval():
    corners = np.array([[0, 0, 10, 10]], np.float32)
    image = Example(Path("a"), 20, 20, corners, np.array([1]), np.zeros(1, bool), "a")
    found = resampled([image], {"a": (corners, np.ones(1), np.array([1]))}, ("cat",)).interval("AP")
    assert (found.value, found.low, found.high) == (1, None, None) and str(found) == "1.000"


@pytest.mark.slow
def test_the_interval_covers_the_figure_of_other_images():
    """Of 30 parts of 900 images, most intervals hold the AP of all; percentiles alone would do so for 18."""
    examples, classes, detections = without_ties(5, 900)
    whole = resampled(examples, detections, classes, 0).interval("AP50").value
    held = 0
    for start in range(0, 900, 30):
        part = resampled(examples[start : start + 30], detections, classes, 300).interval("AP50")
        held += part.low <= whole <= part.high
    assert held >= 22


def test_ap_by_hand():
    """Precision is 1 up to recall 1/3, and 2/3 up to recall 2/3: AP = (34 * 1 + 33 * 2/3) / 101."""
    hits = np.array([True, False, True])
    assert average_precision(hits, 3) == pytest.approx((34 + 22) / 101)
    ranked = Ranked(np.array([0, 1, 1]), hits[None], np.ones((1, 3), bool), np.array([1, 1, 1]))
    ap = ranked.ap(np.array([[1, 1, 1], [0, 1, 0], [2, 0, 1], [0, 0, 0]]))
    np.testing.assert_allclose(ap[:3, 0], [(34 + 22) / 101, 0.5, 67 / 101])
    assert np.isnan(ap[3, 0])


@pytest.mark.slow
def test_a_thousand_resamples_of_many_images_take_seconds():
    examples, classes, detections = without_ties(0, 400)
    ranked_classes(examples, detections, classes)
    before = time.process_time()
    resampled(examples, detections, classes, RESAMPLES)
    assert time.process_time() - before < 15
