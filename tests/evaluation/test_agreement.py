"""Detections of two sides in pairs, by hand."""

import math

import numpy as np
import pytest

from detect.evaluation.agreement import agreement, disagreement


def frame(scores, classes=None, shift=0.0):
    """Boxes of 5 px in a row, ten pixels apart."""
    left = 10 * np.arange(len(scores))
    boxes = np.stack([0 * left, left, 0 * left + 5, left + 5], axis=1) + shift
    return boxes, np.array(scores, float), np.array(classes or [1] * len(scores))


SCORES = [0.9, 0.8, 0.7, 0.6]


def test_the_same_on_both_sides():
    found = agreement([frame(SCORES)], [frame(SCORES)], 100)
    assert found == {"partners": 1, "largest_score_difference": 0, "relative": 0, "sqnr_db": math.inf}
    assert disagreement(found) is None


def test_scores_are_compared_in_pairs_and_in_proportion():
    found = agreement([frame(SCORES)], [frame([0.9, 0.8, 0.7, 0.591])], 100)
    assert found["largest_score_difference"] == pytest.approx(0.009) and found["relative"] == pytest.approx(0.01)
    assert found["sqnr_db"] == pytest.approx(10 * np.log10((0.81 + 0.64 + 0.49 + 0.36) / 0.009**2), abs=0.1)
    told = disagreement(found)
    assert all(part in told for part in ("scores", "44.5 dB", "1.0e-02", "at least 60 dB", "at most 0.001"))


def test_equal_scores_in_another_order_are_no_difference():
    boxes, scores, classes = frame([0.9, 0.8, 0.8, 0.6])
    swapped = boxes[[0, 2, 1, 3]], scores, classes
    assert disagreement(agreement([(boxes, scores, classes)], [swapped], 100)) is None


def test_a_box_elsewhere_or_of_another_class_has_no_partner():
    """Of three on either side two are in pairs: four of six."""
    ours = frame(SCORES[:3])
    for theirs in (frame(SCORES[:3], [1, 1, 2]), frame([*SCORES[:2], 0.7])):
        theirs[0][2, 1:] += 0.2 * (theirs[2][2] == 1)  # a thousandth of the side is .1
        found = agreement([ours], [theirs], 100)
        assert found["partners"] == pytest.approx(2 / 3)
        told = disagreement(found)
        assert "67% of its best detections" in told and "95%" in told
    assert agreement([ours], [frame(SCORES[:3], shift=0.09)], 100)["partners"] == 1


def test_one_tie_of_the_suppression_in_twenty_detections_is_legal():
    """It loses a box, and shows another one at the end of the list."""
    ours, theirs = frame([1 - 0.01 * i for i in range(20)]), frame([1 - 0.01 * i for i in range(20)])
    theirs[0][7] += 3
    found = agreement([ours], [theirs], 100)
    assert found["partners"] == 0.95 and disagreement(found) is None
    theirs[0][8] += 3
    assert disagreement(agreement([ours], [theirs], 100)).startswith("both find 90% of")


def test_nothing_found_and_no_numbers():
    empty = frame([])
    nothing = agreement([empty], [empty], 100)
    assert nothing["partners"] is None and disagreement(nothing) is None  # it is no agreement either
    assert agreement([empty], [frame(SCORES)], 100)["partners"] == 0
    assert "nan dB" in disagreement(agreement([frame([0.9])], [frame([math.nan])], 100))
    assert agreement([frame([0.9])], [frame([0.9], shift=math.nan)], 100)["partners"] == 0
