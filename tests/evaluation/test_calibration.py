"""Calibration recovers what made the hits, and equals scipy's minimum of the same function."""

import numpy as np
import pytest
from scipy.optimize import minimize

from detect.evaluation.calibration import LEAST, Calibration, error, logit, reliability, sigmoid


def drawn(slope, bias, count=40_000, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.uniform(LEAST, 1, count).astype(np.float32)
    return scores, rng.uniform(size=count) < sigmoid(slope * logit(scores) + bias)


def test_it_finds_the_slope_and_bias_that_made_the_hits():
    found = Calibration.fit(*drawn(0.5, -1.0))
    assert found is not None
    assert found.slope == pytest.approx(0.5, abs=0.03) and found.bias == pytest.approx(-1.0, abs=0.03)
    assert found.error_after < 0.02 < 0.1 < found.error_before


def test_it_equals_another_minimiser():
    scores, hits = drawn(2.0, 0.7, 300)
    x, y = logit(scores), hits.astype(float)

    def loss(parameters):
        z = parameters[0] * x + parameters[1]
        decay = 0.5e-3 * ((parameters[0] - 1) ** 2 + parameters[1] ** 2)
        return (np.logaddexp(0, z) - y * z).sum() + decay

    wanted = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000})
    found = Calibration.fit(scores, hits)
    assert found is not None
    np.testing.assert_allclose([found.slope, found.bias], wanted.x, atol=1e-5)


def test_the_order_stays_and_scores_that_are_fit_stay():
    scores, hits = drawn(1.0, 0.0)
    found = Calibration.fit(scores, hits)
    assert found is not None
    grid = np.linspace(0, 1, 101)
    assert (np.diff(found(grid)) >= 0).all()
    np.testing.assert_allclose(found(grid), grid, atol=0.03)


@pytest.mark.parametrize(
    ("scores", "hits"),
    [
        ([], []),
        ([0.5] * 10, [1, 0] * 5),  # too few
        ([0.5] * 50, [1] * 50),  # nothing is wrong
        ([0.01] * 50, [1, 0] * 25),  # nothing is seen
        ([0.9] * 25 + [0.1] * 25, [0] * 25 + [1] * 25),  # the surest are wrong
    ],
)
def test_without_enough_there_is_none(scores, hits):
    assert Calibration.fit(np.array(scores), np.array(hits, bool)) is None


def test_scores_that_separate_right_from_wrong_have_a_solution():
    found = Calibration.fit(np.array([0.9] * 25 + [0.1] * 25), np.array([1] * 25 + [0] * 25, bool))
    assert found is not None and found.slope > 2 and found(np.array(0.9)) > 0.99


def test_reliability_by_hand():
    """.1 and .15 lie in the second part of ten, 1.0 in the last."""
    mean, share, count = reliability(np.array([0.1, 0.15, 1.0]), np.array([True, False, True]))
    np.testing.assert_allclose([mean, share, count], [[0.125, 1.0], [0.5, 1.0], [2, 1]])
    assert error(np.array([0.1, 0.15, 1.0]), np.array([True, False, True])) == pytest.approx(2 / 3 * 0.375)
