"""Intervals and paired differences by hand: t(.975) is 12.7062 for 1 degree of freedom, 4.3027 for 2."""

import math

import numpy as np
import pytest

from detect.studies.statistics import (
    Estimate,
    band,
    detectable,
    estimate,
    median_time,
    paired,
)


def test_interval_of_three_values():
    found = estimate([0.1, 0.2, 0.3])  # deviation .1
    assert (found.mean, found.count) == (pytest.approx(0.2), 3)
    assert found.half == pytest.approx(4.3027 * 0.1 / math.sqrt(3), abs=1e-5)
    assert not found.resolved and found.low == pytest.approx(-0.0484, abs=1e-4)


def test_one_value_has_no_interval_and_resolves_nothing():
    found = estimate([0.5])
    assert (found.mean, found.half, found.count) == (0.5, None, 1)
    assert (found.low, found.high, found.resolved) == (-math.inf, math.inf, False)
    assert estimate([]) is None


def test_identical_values():
    assert estimate([0.25, 0.25, 0.25]) == Estimate(0.25, 0.0, 3)
    assert estimate([0.25, 0.25]).resolved
    assert not estimate([0.0, 0.0]).resolved  # an interval that is 0 holds 0


@pytest.mark.parametrize(
    ("mean", "half", "resolved"),
    [(0.2, 0.1, True), (-0.2, 0.1, True), (0.2, 0.2, False), (-0.2, 0.2, False), (0.2, 0.3, False)],
)
def test_a_difference_is_resolved_if_its_interval_lies_on_one_side(mean, half, resolved):
    assert Estimate(mean, half, 3).resolved is resolved


def test_pairs_are_the_seeds_that_both_have():
    crops, generic = {0: 0.5, 1: 0.6, 2: 0.7}, {1: 0.5, 2: 0.5, 3: 0.9}
    found = paired(crops, generic)  # .1 and .2: deviation .0707
    assert (found.mean, found.count) == (pytest.approx(0.15), 2)
    assert found.half == pytest.approx(12.7062 * 0.05, abs=1e-5)
    assert paired(crops, {7: 0.5}) is None
    assert paired(crops, {2: 0.4}).half is None


def test_pairing_takes_out_what_a_pair_shares():
    noise = {0: 0.1, 1: 0.5, 2: 0.9}
    better = {seed: value + 0.01 + 0.001 * seed for seed, value in noise.items()}
    assert paired(better, noise).resolved
    assert estimate(list(better.values())).half > 0.9


def test_band():
    mean, low, high = band(np.array([[0.1, 0.4, np.nan], [0.2, np.nan, np.nan], [0.3, np.nan, np.nan]]))
    np.testing.assert_allclose(mean, [0.2, 0.4, np.nan])
    assert high[0] - mean[0] == pytest.approx(mean[0] - low[0]) == pytest.approx(0.2484, abs=1e-4)
    assert low[1] == high[1] == 0.4  # one run: a line


def test_a_run_that_never_got_there_is_infinitely_late():
    assert median_time([100, 300, 200]) == 200
    assert median_time([100, math.inf, 200]) == 200
    assert median_time([100, math.inf]) is None and median_time([]) is None


def test_the_deviation_comes_back():
    assert estimate([0.1, 0.2, 0.3]).deviation == pytest.approx(0.1)
    assert estimate([0.1]).deviation is None


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_the_difference_that_can_be_found_is_found_in_four_of_five_studies(count):
    mean = detectable(0.02, count)
    values = np.random.default_rng(0).normal(mean, 0.02, (20_000, count))
    resolved = [found.resolved for row in values[:4000] if (found := estimate(list(row)))]
    assert np.mean(resolved) == pytest.approx(0.8, abs=0.02)


def test_a_published_sample_size():
    """A paired t-test needs 34 pairs for a difference of half of its deviation, as tables of sample sizes have it."""
    assert detectable(1.0, 33) > 0.5 > detectable(1.0, 34)
