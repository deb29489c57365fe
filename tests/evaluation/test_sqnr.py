"""Figures of nearness, by hand."""

import math

import numpy as np
import pytest

from detect.evaluation.sqnr import SAME, SAME_IN_FLOAT16, Limit, decibels, relative, sqnr


def test_decibels():
    assert decibels(100, 1) == pytest.approx(20)
    assert decibels(1, 0) == decibels(0, 0) == math.inf
    assert decibels(0, 1) == -math.inf


def test_sqnr_by_hand():
    assert sqnr(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == pytest.approx(20.0)  # 25 over .25
    assert sqnr(np.ones(2), np.ones(2)) == math.inf
    assert sqnr(np.zeros(2), np.ones(2)) == -math.inf


def test_sums_are_of_float64():
    """In float32 the squares would be infinite, and their ratio no number."""
    large = np.full(4, 1e25, np.float32)
    assert sqnr(large, large * np.float32(1.001)) == pytest.approx(60, abs=0.01)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_relative_to_the_largest_value_however_small(scale):
    assert relative([scale * 4, -scale * 200], [scale * 4, -scale * 200.1]) == pytest.approx(5e-4)


def test_relative_of_nothing():
    assert relative([0.0], [0.0]) == relative([], []) == 0
    assert relative([0.0], [1e-9]) == math.inf
    assert math.isnan(relative([1.0], [math.nan]))


def test_a_limit_has_two_sides():
    assert SAME.holds(60, 1e-3) and SAME.holds(math.inf, 0)
    assert not SAME.holds(59.9, 0) and not SAME.holds(math.inf, 1.1e-3)
    assert not SAME.holds(math.nan, 0) and not SAME.holds(math.inf, math.nan)
    assert str(Limit(60.0, 1e-3)) == "an SQNR of at least 60 dB and a difference of at most 0.001"


def test_an_order_of_summation_is_within_and_one_bit_of_float16_is_not():
    """Sums of 2000 products forwards, backwards, and of factors that were rounded to float16."""
    random = np.random.default_rng(0)
    kernel, x = (random.normal(size=shape).astype(np.float32) for shape in ((2000, 50), (20, 2000)))
    forwards, backwards = (np.cumsum(x[:, ::step, None] * kernel[None, ::step], axis=1)[:, -1] for step in (1, -1))
    half = x @ kernel.astype(np.float16).astype(np.float32)
    assert 100 < sqnr(forwards, backwards) < math.inf and SAME.holds(
        sqnr(forwards, backwards), relative(forwards, backwards)
    )
    assert 70 < sqnr(forwards, half) < 80 and SAME_IN_FLOAT16.holds(sqnr(forwards, half), relative(forwards, half))
