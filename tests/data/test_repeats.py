"""Repeat-factor sampling: factors by hand, equal epochs, and frequencies that meet the factors."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect.data.examples import Example, Examples
from detect.data.repeats import draws, repeat_factors, repeated


def split(*classes: list[int], crowd=()) -> Examples:
    """An image for each list of classes; `crowd` has the places of images all of whose boxes are crowds."""
    boxes = [np.tile(np.array([[0, 0, 9, 9]], np.float32), (len(c), 1)) for c in classes]
    return Examples.of(
        Example(Path(f"{k}.png"), 10, 10, boxes[k], np.array(c), np.full(len(c), k in crowd), str(k))
        for k, c in enumerate(classes)
    )


def test_factors_by_hand():
    """Of 16 images one shows class 2, four class 3, all but one class 1; the threshold is 1/4 and then 1."""
    examples = split([2, 2, 1], *[[1, 3]] * 4, *[[1]] * 10, [])
    np.testing.assert_allclose(repeat_factors(examples, 0.25), [2] + [1] * 15)
    expected = [4] + [2] * 4 + [np.sqrt(16 / 15)] * 10 + [1]
    np.testing.assert_allclose(repeat_factors(examples, 1), expected)


def test_crowds_and_empty_images_show_no_class():
    examples = split([1], [2], [], [], crowd=[1])
    np.testing.assert_allclose(repeat_factors(examples, 1), [2, 1, 1, 1])
    np.testing.assert_allclose(repeat_factors(split([], []), 0.5), [1, 1])


@given(st.lists(st.floats(1, 9), min_size=1, max_size=40), st.integers(0, 2**32))
def test_an_epoch_rounds_every_factor_up_or_down(factors, seed):
    factors = np.array(factors)
    order = repeated(factors, np.random.default_rng(seed))
    assert len(order) == len(set(order.tolist())) == draws(factors)
    scaled = factors * draws(factors) / factors.sum()
    counts = np.bincount(order % len(factors), minlength=len(factors))
    assert np.all(counts >= np.floor(scaled - 1e-6)) and np.all(counts <= np.ceil(scaled + 1e-6))
    assert counts.min() >= 1
    for image, count in enumerate(counts):  # the repetitions of an image are numbered
        assert sorted(order[order % len(factors) == image] // len(factors)) == list(range(count))


def test_frequencies_meet_the_factors_over_epochs():
    factors = np.array([1.0, 1.0, 1.25, 2.5, 1.0, 3.2])
    counts = np.zeros(6)
    for epoch in range(1500):
        counts += np.bincount(repeated(factors, np.random.default_rng((0, epoch))) % 6, minlength=6)
    assert counts / 1500 == pytest.approx(factors * 10 / 9.95, abs=0.05)
