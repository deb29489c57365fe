import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detect.geometry.boxes import area, clip, intersection, iou


def proper(most=8):
    """Boxes [n, 4] with whole-number corners and some extent."""
    corner = st.integers(0, 50)
    box = st.tuples(corner, corner, st.integers(1, 40), st.integers(1, 40))
    return st.lists(box, max_size=most).map(
        lambda rows: np.array([[y, x, y + h, x + w] for y, x, h, w in rows], np.float32).reshape(-1, 4)
    )


def test_area_by_hand():
    boxes = np.array([[0, 0, 2, 3], [5, 5, 5, 9], [4, 0, 2, 3]])
    assert area(boxes).tolist() == [6, 0, 0]


def test_clip_cuts_each_axis_at_its_own_side():
    boxes = np.array([[-5, -5, 500, 500], [10, 20, 30, 40]])
    assert clip(boxes, height=100, width=200).tolist() == [[0, 0, 100, 200], [10, 20, 30, 40]]
    assert boxes[0, 0] == -5


def test_intersection_by_hand():
    first = np.array([[0, 0, 10, 10], [0, 0, 4, 2]])
    second = np.array([[5, 6, 15, 16], [20, 20, 30, 30], [0, 0, 10, 10]])
    assert intersection(first, second).tolist() == [[20, 0, 100], [0, 0, 8]]


def test_iou_by_hand():
    first = np.array([[0, 0, 10, 20]])
    second = np.array([[0, 10, 10, 30], [0, 0, 10, 10], [0, 20, 10, 40], [3, 3, 3, 3]])
    np.testing.assert_allclose(iou(first, second), [[1 / 3, 1 / 2, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (2, 0)])
def test_iou_of_nothing(n, m):
    result = iou(np.zeros((n, 4)), np.zeros((m, 4)))
    assert result.shape == (n, m)
    assert result.dtype == np.float32


@settings(max_examples=50)
@given(proper(), proper())
def test_iou_is_symmetric_and_a_share(first, second):
    values = iou(first, second)
    np.testing.assert_array_equal(values, iou(second, first).T)
    assert ((values >= 0) & (values <= 1)).all()
    np.testing.assert_array_equal(np.diag(iou(first, first)), np.ones(len(first), np.float32))


@settings(max_examples=50)
@given(proper(), proper())
def test_iou_keeps_under_transposition_and_shift(first, second):
    swap, shift = [1, 0, 3, 2], np.array([7, -3, 7, -3])
    np.testing.assert_array_equal(iou(first[:, swap], second[:, swap]), iou(first, second))
    np.testing.assert_allclose(iou(first + shift, second + shift), iou(first, second), atol=1e-6)


@settings(max_examples=50)
@given(arrays(np.float32, (5, 4), elements=st.floats(-100, 100, width=32)))
def test_clip_is_idempotent_and_inside(boxes):
    once = clip(boxes, 30, 60)
    np.testing.assert_array_equal(clip(once, 30, 60), once)
    assert (once >= 0).all() and (once[:, [0, 2]] <= 30).all() and (once[:, [1, 3]] <= 60).all()
