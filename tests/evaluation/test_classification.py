"""Classification scores counted by hand."""

import json

import numpy as np
import pytest

from detect.evaluation.classification import score_classification


def test_by_hand():
    scores = score_classification([0, 0, 0, 1, 1], [0, 0, 1, 1, 0], ("background", "cat", "dog"))
    assert scores.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert scores.top1 == pytest.approx(3 / 5)
    assert scores.mean == pytest.approx((2 / 3 + 1 / 2) / 2)  # the class without images is left out
    assert scores.per_class["cat"] == {"accuracy": 0.5, "images": 2}
    assert scores.per_class["dog"] == {"accuracy": None, "images": 0}


def test_without_images_there_is_no_score():
    scores = score_classification(np.zeros(0), np.zeros(0), ("a", "b"))
    assert scores.top1 is None and scores.mean is None
    assert "0 images, top-1 n/a" in scores.table()


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match="2 labels, 1 predictions"):
        score_classification([0, 1], [0], ("a", "b"))
    with pytest.raises(ValueError, match=r"predictions 0\.\.2; legal: 0\.\.1"):
        score_classification([0, 1], [0, 2], ("a", "b"))


def test_table_names_the_rival_and_fits_80_columns():
    names = tuple(f"a class with a name that is much too long for a table {number}" for number in range(30))
    labels = np.repeat(np.arange(30), 3)
    predictions = labels.copy()
    predictions[0] = 7
    lines = score_classification(labels, predictions, names).table().splitlines()
    assert max(map(len, lines)) <= 80 and lines[-1] == " ... and 10 more classes"
    small = score_classification([0, 0, 1], [1, 0, 1], ("cat", "dog")).table()
    assert "cat      0.500       2  dog (1)" in small and small.splitlines()[-1].endswith("-")


def test_dictionary_is_plain_json():
    scores = score_classification([0, 1], [0, 0], ("a", "b"))
    assert json.loads(json.dumps(scores.to_dict()))["confusion"] == [[1, 0], [1, 0]]
