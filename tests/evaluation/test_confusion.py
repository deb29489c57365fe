"""The confusion matrix and the matching behind it, on cases small enough to count by eye."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detect.data.examples import Example
from detect.evaluation.confusion import confusion_matrix
from detect.evaluation.matching import greedy_match, in_crowd

LEFT, RIGHT = [0, 0, 10, 10], [0, 50, 10, 60]


def matrix(truth, found, crowd=None, **options):
    """truth: (box, class); found: (box, score, class)."""
    boxes, classes = zip(*truth, strict=True) if truth else ([], [])
    crowd = np.zeros(len(classes), bool) if crowd is None else crowd
    image = Example(Path("a.jpg"), 100, 100, np.array(boxes, np.float32), np.array(classes, np.int32), crowd, "a")
    parts = zip(*found, strict=True) if found else ([], [], [])
    dtypes = (np.float32, np.float32, np.int32)
    detections = tuple(np.array(part, dtype) for part, dtype in zip(parts, dtypes, strict=True))
    return confusion_matrix([image], {"a": (detections[0].reshape(-1, 4), *detections[1:])}, 2, **options).tolist()


def test_right_wrong_missed_and_made_up():
    assert matrix([(LEFT, 1)], [(LEFT, 0.9, 1)]) == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert matrix([(LEFT, 1)], [(LEFT, 0.9, 2)]) == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert matrix([(LEFT, 1)], []) == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert matrix([], [(LEFT, 0.9, 2)]) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_the_best_score_takes_the_box_and_the_duplicate_is_made_up():
    found = [(LEFT, 0.6, 1), (LEFT, 0.9, 2)]
    assert matrix([(LEFT, 1)], found) == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_equal_scores_keep_the_order_given():
    assert matrix([(LEFT, 1)], [(LEFT, 0.9, 1), (LEFT, 0.9, 2)]) == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_each_detection_takes_its_nearest_free_box():
    near = [0, 2, 10, 12]  # IoU 2/3 with LEFT
    found = [([0, 0.9, 10, 10.9], 0.9, 1), (LEFT, 0.8, 2)]  # the first overlaps both boxes by more than 4/5
    assert matrix([(LEFT, 1), (near, 2)], found) == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_low_scores_and_low_overlaps_do_not_count():
    half = [0, 0, 10, 5]  # IoU exactly .5
    assert matrix([(LEFT, 1)], [(half, 0.9, 1)]) == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert matrix([(LEFT, 1)], [(half, 0.9, 1)], iou_threshold=0.6) == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert matrix([(LEFT, 1)], [(LEFT, 0.49, 1)]) == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert matrix([(LEFT, 1)], [(LEFT, 0.5, 1)]) == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_crowd_regions_swallow_detections_and_are_not_counted():
    big = [0, 0, 100, 100]
    found = [(LEFT, 0.9, 1), (RIGHT, 0.8, 2)]
    assert matrix([(big, 1), (RIGHT, 2)], found, crowd=[True, False]) == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_an_image_without_an_entry_counts_as_missed():
    image = Example(Path("a.jpg"), 9, 9, np.array([LEFT]), np.array([2]), np.zeros(1, bool), "a")
    assert confusion_matrix([image], {}, 2).tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_lying_in_a_crowd_is_measured_by_the_own_area():
    crowds = np.array([[0, 0, 10, 10]], np.float32)
    boxes = np.array([[0, 0, 5, 5], [0, 5, 10, 15], [0, 6, 10, 16], [20, 20, 30, 30]], np.float32)
    assert in_crowd(boxes, crowds, 0.5).tolist() == [True, True, False, False]
    assert in_crowd(np.array([[0, 5, 5, 15]]), np.array([[0, 0, 5, 11]]), 0.6).tolist() == [True]  # 30 of 50 px
    assert in_crowd(boxes, np.zeros((0, 4)), 0.5).tolist() == [False] * 4


def test_greedy_match_by_eye():
    similarity = np.array(
        [
            [0.6, 0.9, 0.1],
            [0.5, 0.95, 0.2],  # its best column is taken: it falls back to the first
            [0.55, 0.4, 0.4],  # nothing free reaches .5
        ]
    )
    assert greedy_match(similarity, 0.5).tolist() == [1, 0, -1]
    assert greedy_match(np.array([[0.7, 0.8, 0.8, 0.7]]), 0.5).tolist() == [2]  # of equal ones the last, as COCO
    assert greedy_match(np.zeros((0, 3)), 0.5).tolist() == []
    assert greedy_match(np.zeros((2, 0)), 0.5).tolist() == [-1, -1]


@given(arrays(float, st.tuples(st.integers(0, 6), st.integers(0, 6)), elements=st.floats(0, 1)))
def test_no_column_is_taken_twice_and_none_is_left_that_a_row_wanted(similarity):
    match = greedy_match(similarity, 0.5)
    taken = match[match >= 0]
    assert len(set(taken)) == len(taken)
    free = np.setdiff1d(np.arange(similarity.shape[1]), taken)
    assert all(similarity[row, column] >= 0.5 for row, column in enumerate(match) if column >= 0)
    assert not (similarity[match < 0][:, free] >= 0.5).any()
