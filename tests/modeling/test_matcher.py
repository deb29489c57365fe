"""Matching on matrices small enough to check by eye: anchors in rows, boxes in columns, -1 pads."""

import numpy as np
import pytest

from detect.errors import ConfigError
from detect.modeling.matcher import IGNORED, UNMATCHED, ArgMaxMatcher


def match(rows, **settings):
    return ArgMaxMatcher(**settings)(np.array([rows], np.float32)).numpy()[0].tolist()


def test_best_box_above_the_threshold():
    rows = [
        [0.9, 0.0, -1],
        [0.6, 0.7, -1],
        [0.5, 0.2, -1],  # the threshold itself is enough
        [0.49, 0.3, -1],
        [0.0, 0.0, -1],
    ]
    assert match(rows, force_match=False) == [0, 1, 0, UNMATCHED, UNMATCHED]
    assert match(rows) == [0, 1, 0, UNMATCHED, UNMATCHED]


def test_between_the_thresholds_is_ignored():
    rows = [[0.8], [0.7], [0.69], [0.3], [0.29]]
    assert match(rows, positive=0.7, negative=0.3) == [0, 0, IGNORED, IGNORED, UNMATCHED]


def test_every_box_claims_its_best_anchor():
    rows = [
        [0.9, 0.1, 0.0],
        [0.8, 0.3, 0.0],  # box 1 is best here, though the anchor would take box 0
        [0.0, 0.2, 0.0],
        [0.0, 0.0, 0.1],
    ]
    assert match(rows, force_match=False) == [0, 0, UNMATCHED, UNMATCHED]
    assert match(rows) == [0, 1, UNMATCHED, 2]


def test_two_boxes_claim_one_anchor_and_the_first_has_it():
    rows = [
        [0.6, 0.1],
        [0.4, 0.3],
        [0.7, 0.8],
        [0.0, 0.0],
    ]
    assert match(rows, force_match=False) == [0, UNMATCHED, 1, UNMATCHED]
    assert match(rows) == [0, UNMATCHED, 0, UNMATCHED]


def test_padding_claims_nothing():
    assert match([[-1, -1], [-1, -1]]) == [UNMATCHED, UNMATCHED]
    assert match([[-1, 0.2], [-1, 0.1]]) == [1, UNMATCHED]


def test_a_box_that_touches_no_anchor_claims_the_first():
    """As in the API's ArgMaxMatcher, whose arg-max over equal values is the first."""
    assert match([[0.0, 0.0], [0.9, 0.0]]) == [1, 0]
    assert match([[0.0, 0.9], [0.0, 0.0]]) == [0, UNMATCHED]  # and the first box gets it
    assert match([[0.9, 0.0], [0.0, 0.0]]) == [0, UNMATCHED]
    assert match([[0.0, -1], [0.0, -1]]) == [0, UNMATCHED]  # padding claims nothing
    assert match([[0.0, 0.9], [0.0, 0.0]], force_match=False) == [1, UNMATCHED]


def test_images_of_a_batch_are_independent():
    random = np.random.default_rng(0)
    similarity = random.uniform(0, 1, (4, 30, 5)).astype(np.float32)
    similarity[1, :, 2:] = similarity[3] = -1
    matcher = ArgMaxMatcher()
    together = matcher(similarity).numpy()
    np.testing.assert_array_equal(together, [matcher(image[np.newaxis]).numpy()[0] for image in similarity])
    assert (together[3] == UNMATCHED).all() and together[1].max() <= 1


def test_thresholds_that_cross_are_refused():
    with pytest.raises(ConfigError, match=r"negative=0.6 <= positive=0.5"):
        ArgMaxMatcher(positive=0.5, negative=0.6)
