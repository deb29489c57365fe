"""The RPN's layers, and proposals from hand-made outputs."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.geometry.box_coder import BoxCoder
from detect.modeling.rpn import ProposalGenerator, Proposals, RPNHead, recalls

SIZE = (100, 200)
ANCHORS = np.array([[10, 10, 50, 50], [12, 10, 52, 50], [10, 100, 50, 140], [60, 150, 110, 230]], np.float32)


def propose(scores, codes=None, **settings):
    codes = np.zeros((1, len(ANCHORS), 4), np.float32) if codes is None else codes
    found = ProposalGenerator(**settings)(tf.constant(codes), tf.constant([scores]), ANCHORS, BoxCoder(), SIZE)
    return found.boxes.numpy()[0], found.real.numpy()[0]


def test_doubles_are_dropped_and_the_rest_is_clipped_best_first():
    boxes, real = propose([0.8, 0.9, 0.3, 0.6], count=5)
    np.testing.assert_array_equal(boxes, [ANCHORS[1], [60, 150, 100, 200], ANCHORS[2], [0] * 4, [0] * 4])
    assert real.tolist() == [True, True, True, False, False]
    assert propose([0.8, 0.9, 0.3, 0.6], count=5, nms_iou=0.95)[1].sum() == 4  # IoU of the first two: 38/42


def test_only_so_many():
    boxes, real = propose([0.8, 0.9, 0.3, 0.6], count=2)
    np.testing.assert_array_equal(boxes, [ANCHORS[1], [60, 150, 100, 200]])
    assert real.all()
    _, real = propose([0.8, 0.9, 0.3, 0.6], count=3, candidates=2)  # the two best are doubles
    assert real.tolist() == [True, False, False]


def test_tiny_boxes_are_dropped_after_clipping():
    codes = np.zeros((1, 4, 4), np.float32)
    codes[0, 2] = [0, 0, 5 * np.log(0.01), 0]  # .4 px high
    codes[0, 3] = [10 * 1.0, 0, 0, 0]  # one height further down: beyond the frame
    _, real = propose([0.8, 0.9, 0.3, 0.6], codes, count=4)
    assert real.tolist() == [True, False, False, False]
    assert propose([0.8, 0.9, 0.3, 0.6], codes, count=4, min_size=0.1)[1].sum() == 2


def test_codes_are_decoded_at_their_anchor_also_among_candidates():
    codes = np.zeros((1, 4, 4), np.float32)
    codes[0, 2] = [0, 10 * 0.5, 0, 0]  # half a width to the right
    for candidates in (None, 1):
        boxes, _ = propose([0.1, 0.1, 0.9, 0.1], codes, count=1, candidates=candidates)
        np.testing.assert_allclose(boxes, [[10, 120, 50, 160]], rtol=1e-6)


def test_proposals_carry_no_gradient():
    codes, scores = tf.Variable(tf.zeros((1, 4, 4))), tf.Variable([[0.8, 0.9, 0.3, 0.6]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(ProposalGenerator(4)(codes, scores, ANCHORS, BoxCoder(), SIZE).boxes ** 2)
    assert tape.gradient(loss, [codes, scores]) == [None, None]


def test_recall_by_hand():
    boxes = tf.constant([[[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 0, 0]]] * 2, tf.float32)
    proposals = Proposals(boxes, tf.constant([[True, True, False], [False, False, False]]))
    truth = np.array([[[0, 0, 10, 8], [20, 20, 30, 26]], [[0, 0, 10, 10], [-1] * 4]], np.float32)  # IoU .8, .6, none
    classes = np.array([[1, 2], [1, -1]], np.int32)
    found = {name: float(value) for name, value in recalls(proposals, truth, classes).items()}
    assert found == pytest.approx({"rpn/recall_50": 2 / 3, "rpn/recall_70": 1 / 3})
    nothing = recalls(proposals, truth, np.full((2, 2), -1, np.int32))
    assert [float(value) for value in nothing.values()] == [1.0, 1.0]


def test_channels_become_anchors_cell_by_cell():
    features = tf_keras.Input((2, 3, 4))
    model = tf_keras.Model(features, RPNHead(channels=5)(features, 3))
    for name in ("ClassPredictor", "BoxEncodingPredictor"):
        layer = model.get_layer(f"FirstStageBoxPredictor/{name}")
        kernel, bias = layer.get_weights()
        layer.set_weights([np.zeros_like(kernel), np.arange(len(bias), dtype=np.float32)])
    logits, codes = model(np.zeros((1, 2, 3, 4), np.float32))
    np.testing.assert_array_equal(logits[0], [[0, 1], [2, 3], [4, 5]] * 6)
    np.testing.assert_array_equal(codes[0], np.arange(12).reshape(3, 4).tolist() * 6)
    assert model.get_layer("FirstStageBoxPredictor/Conv").kernel.shape == (3, 3, 4, 5)
    assert model.get_layer("FirstStageBoxPredictor/Conv/Relu6").max_value == 6
