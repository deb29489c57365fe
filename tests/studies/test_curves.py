"""Scores over steps and seconds: 100 steps of 4 images at 20 a second are 20 seconds."""

import json
from dataclasses import replace

import numpy as np
import pytest

from detect.errors import DataError
from detect.studies.curves import Curve, mean_curve, mean_figure, read_curve
from detect.studies.records import collect


def curve_of(folder):
    return read_curve(collect(folder).runs[0])


def test_seconds_count_all_training(tmp_path, make_run):
    make_run(tmp_path, "crops", ap=(0.1, 0.3), first=9.0)
    curve = curve_of(tmp_path)
    assert curve.split == "val" and curve.steps.tolist() == [50, 100]
    np.testing.assert_allclose(curve.seconds, [19, 29])
    np.testing.assert_allclose(curve.scores["AP"], [0.1, 0.3])
    assert curve.seconds_at(0) == 9 and curve.seconds_at(75) == pytest.approx(24)


def test_a_slow_start_is_told_by_the_rows(tmp_path, make_run):
    run = make_run(tmp_path)
    rows = [{"kind": "train", "step": 50, "images_per_second": 5.0}, {"kind": "eval", "step": 50, "val/AP": 0.5},
            {"kind": "train", "step": 100, "images_per_second": 15.0}]  # fmt: skip
    (run / "detector" / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert curve_of(tmp_path).seconds_at(50) == pytest.approx(15)  # three quarters of 20 s


def test_without_speed_the_seconds_are_spread_evenly(tmp_path, make_run):
    run = make_run(tmp_path)
    (run / "detector" / "metrics.jsonl").write_text('{"kind": "eval", "step": 25, "test/AP": null, "test/AP50": 0.5}\n')
    curve = curve_of(tmp_path)
    assert curve.split == "test" and curve.seconds.tolist() == [5.0]
    assert np.isnan(curve.scores["AP"]).all() and curve.reached(0.0) is None


def test_the_first_evaluation_that_got_there(tmp_path, make_run):
    make_run(tmp_path, ap=(0.2, 0.4))
    curve = curve_of(tmp_path)
    assert curve.reached(0.2) == (50, pytest.approx(10))
    assert curve.reached(0.21) == (100, pytest.approx(20))
    assert curve.reached(0.41) is None


def test_a_run_without_evaluations_has_no_curve(tmp_path, make_run):
    run = make_run(tmp_path)
    (run / "detector" / "metrics.jsonl").write_text('{"kind": "train", "step": 10}\n')
    assert curve_of(tmp_path) is None
    (run / "detector" / "metrics.jsonl").unlink()
    assert curve_of(tmp_path) is None


def test_a_broken_line_is_named(tmp_path, make_run):
    run = make_run(tmp_path)
    (run / "detector" / "metrics.jsonl").write_text('{"kind": \n{"kind": "train", "step": 10}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 1"):
        curve_of(tmp_path)


def curve(steps, ap, seconds=None, **watched):
    seconds = steps if seconds is None else seconds
    return Curve("val", np.array(steps), np.array(seconds, float), {"AP": np.array(ap, float)}, watched)


def test_mean_of_runs_with_its_band():
    band = mean_curve([curve([50, 100], [0.1, 0.2], [1, 2]), curve([50, 100], [0.3, 0.2], [3, 4])])
    assert band.steps.tolist() == [50, 100] and band.seconds.tolist() == [2, 3] and band.count == 2
    np.testing.assert_allclose(band.mean, [0.2, 0.2])
    np.testing.assert_allclose(band.high - band.mean, [12.7062 * 0.1, 0], atol=1e-4)  # deviation .1414 / sqrt 2


def test_a_run_that_stopped_early_leaves_the_mean_of_the_others():
    band = mean_curve([curve([50], [0.1]), curve([50, 100], [0.3, 0.5])])
    np.testing.assert_allclose(band.mean, [0.2, 0.5])


def test_a_step_at_which_only_some_were_scored_is_left_out():
    band = mean_curve([curve([50, 60, 100], [0.1, 0.9, 0.2]), curve([50, 100], [0.3, 0.4])])
    assert band.steps.tolist() == [50, 100]


def test_runs_of_equal_minutes_are_drawn_at_shares_of_their_steps():
    first = curve([151, 302, 453, 604, 755, 757], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [10, 20, 30, 40, 50, 51])
    second = curve([168, 336, 504, 672, 839], [0.3, 0.4, 0.5, 0.6, 0.8], [12, 24, 36, 48, 61])
    band = mean_curve([first, second])
    assert band.steps.tolist() == [160, 319, 478, 638, 798] and band.seconds.tolist() == [11, 22, 33, 44, 56]
    np.testing.assert_allclose(band.mean, [0.2, 0.3, 0.4, 0.5, 0.7])


def test_a_run_of_equal_minutes_that_ended_early_leaves_the_mean_of_the_others():
    whole = replace(curve([200, 400, 600, 800, 1000], [0.1, 0.2, 0.3, 0.4, 0.5]), planned=1000)
    early = replace(curve([180, 360], [0.3, 0.4]), planned=900)
    band = mean_curve([whole, early])
    assert band.steps.tolist() == [190, 380, 600, 800, 1000]
    np.testing.assert_allclose(band.mean, [0.2, 0.3, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(("first", "second"), [([107, 214, 533], [107, 214, 535]), ([100, 500, 600], [125, 500, 700])])
def test_a_step_that_they_have_in_common_by_chance_changes_nothing(first, second):
    band = mean_curve([curve(first, [0.1, 0.2, 0.3]), curve(second, [0.3, 0.4, 0.5])])
    assert band.steps.tolist() == [round((a + b) / 2) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(band.mean, [0.2, 0.3, 0.4])


def test_mean_of_a_watched_figure(tmp_path, make_run):
    make_run(tmp_path / "a", extra=20)
    make_run(tmp_path / "b", seed=1)
    steps, values = mean_figure([read_curve(run) for run in collect(tmp_path).runs], "classification loss")
    np.testing.assert_allclose(values, 1 / np.arange(10, 121, 10))
    assert steps.tolist() == list(range(10, 121, 10))
