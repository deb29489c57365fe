"""Targets of four anchors and hand-placed boxes."""

import numpy as np
import pytest

from detect.geometry.box_coder import BoxCoder
from detect.modeling.matcher import ArgMaxMatcher
from detect.modeling.target_assigner import TargetAssigner, recall

ANCHORS = np.array([[0, 0, 10, 10], [0, 10, 10, 20], [10, 0, 20, 10], [10, 10, 20, 20]], np.float32)
PAD = [-1, -1, -1, -1]


@pytest.fixture(scope="module")
def assigner():
    return TargetAssigner(ArgMaxMatcher(), BoxCoder())


def test_targets_by_hand(assigner):
    boxes = np.array([[[0, 1, 10, 11], [12, 12, 20, 20], PAD]], np.float32)  # IoU 9/11 with anchor 0, .64 with anchor 3
    targets = assigner(ANCHORS, boxes, np.array([[2, 1, -1]], np.int32))
    assert targets.classes.numpy().tolist() == [[2, 0, 0, 1]]
    assert targets.matched.numpy().tolist() == [[1, 0, 0, 1]]
    assert targets.weights.numpy().tolist() == [[1, 1, 1, 1]]
    expected = [[0, 1, 0, 0], [0] * 4, [0] * 4, [1, 1, 5 * np.log(0.8), 5 * np.log(0.8)]]
    np.testing.assert_allclose(targets.codes[0], expected, atol=1e-5)


def test_codes_of_matched_anchors_decode_to_their_boxes(assigner):
    random = np.random.default_rng(1)
    corners = random.uniform(0, 12, (2, 3, 2))
    boxes = np.concatenate([corners, corners + random.uniform(3, 8, (2, 3, 2))], axis=-1).astype(np.float32)
    classes = np.array([[1, 2, 3], [3, -1, 1]], np.int32)
    targets = assigner(ANCHORS, boxes, classes)
    decoded = assigner.box_coder.decode(targets.codes, ANCHORS[np.newaxis]).numpy()
    for image in range(2):
        for anchor in np.flatnonzero(targets.matched[image]):
            distance = np.abs(boxes[image] - decoded[image, anchor]).max(axis=1)
            assert distance.min() < 1e-3
            assert classes[image, distance.argmin()] == targets.classes[image, anchor] > 0


def test_an_image_without_boxes_is_all_background(assigner):
    targets = assigner(ANCHORS, np.full((1, 2, 4), -1, np.float32), np.full((1, 2), -1, np.int32))
    assert not targets.classes.numpy().any() and not targets.matched.numpy().any()
    assert not targets.codes.numpy().any() and targets.weights.numpy().all()


def test_a_box_without_class_is_padding_wherever_it_lies(assigner):
    boxes = np.array([[[0, 0, 10, 10], [10, 10, 20, 20]]], np.float32)
    targets = assigner(ANCHORS, boxes, np.array([[-1, 1]], np.int32))
    assert targets.classes.numpy().tolist() == [[0, 0, 0, 1]]


def test_ignored_anchors_have_no_weight_and_class_zero():
    assigner = TargetAssigner(ArgMaxMatcher(positive=0.7, negative=0.3), BoxCoder())
    box = np.array([[[0, 4, 10, 14]]], np.float32)  # IoU 6/14 with anchor 0, 4/16 with anchor 1
    targets = assigner(ANCHORS, box, np.array([[1]], np.int32))
    assert targets.matched.numpy().tolist() == [[1, 0, 0, 0]]  # claimed, since it is the best
    assert targets.weights.numpy().tolist() == [[1, 1, 1, 1]]
    free = TargetAssigner(ArgMaxMatcher(positive=0.7, negative=0.3, force_match=False), BoxCoder())
    targets = free(ANCHORS, box, np.array([[1]], np.int32))
    assert targets.weights.numpy().tolist() == [[0, 1, 1, 1]]
    assert not targets.classes.numpy().any()


def test_each_image_may_have_anchors_of_its_own(assigner):
    own = np.stack([ANCHORS, ANCHORS[::-1]])
    boxes = np.array([[[0, 1, 10, 11]], [[12, 12, 20, 20]]], np.float32)
    targets = assigner(own, boxes, np.array([[2], [1]], np.int32))
    assert targets.classes.numpy().tolist() == [[2, 0, 0, 0], [1, 0, 0, 0]]
    for i in range(2):
        alone = assigner(own[i], boxes[i : i + 1], np.array([[2], [1]], np.int32)[i : i + 1])
        np.testing.assert_allclose(targets.codes[i], alone.codes[0], rtol=1e-6)


def test_the_share_of_boxes_that_an_anchor_covers():
    """By hand: of three boxes, one is an anchor, one is half of one, one touches none; padding does not count."""
    anchors = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 30, 24.95], [50, 50, 60, 60], [-1, -1, -1, -1]]], np.float32)
    classes = np.array([[1, 2, 1, -1]])
    assert float(recall(anchors, boxes, classes, 0.5)) == pytest.approx(1 / 3)
    assert float(recall(anchors, boxes, classes, 0.49)) == pytest.approx(2 / 3)
    assert float(recall(anchors[np.newaxis], boxes, classes, 0.49)) == pytest.approx(2 / 3)
    assert float(recall(anchors, boxes, -np.ones((1, 4), int), 0.5)) == 1
