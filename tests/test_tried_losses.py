"""The losses of the study training_options."""

import numpy as np
import pytest
import tensorflow as tf

from detect.geometry.box_coder import BoxCoder
from detect.modeling.losses import GIoU, SigmoidClassification
from tests import outside


@pytest.fixture(scope="module")
def losses():
    return outside.module("scripts/tried_losses.py")


@pytest.fixture
def random():
    return np.random.default_rng(0)


def boxes(random, count):
    low = random.uniform(0, 200, (count, 2))
    return tf.constant(np.concatenate([low, low + random.uniform(2, 90, (count, 2))], axis=1), tf.float32)


def test_giou_of_codes_is_that_of_the_boxes_whatever_the_anchor(losses, random):
    anchors, found, true = (boxes(random, 500) for _ in range(3))
    coder = BoxCoder()
    by_codes = losses.GIoUOfCodes()(coder.encode(found, anchors), coder.encode(true, anchors))
    np.testing.assert_allclose(by_codes, GIoU()(found, true), atol=1e-4)


def test_giou_of_codes_has_a_finite_gradient_for_absurd_codes(losses):
    codes = tf.Variable([[1e6, -1e6, 1e6, -1e6], [0.0, 0.0, 0.0, 0.0]])
    with tf.GradientTape() as tape:
        loss = losses.GIoUOfCodes()(codes, tf.zeros((2, 4)))
    assert np.isfinite(loss).all() and abs(loss[1].numpy()) < 1e-6
    assert np.isfinite(tape.gradient(loss, codes)).all()


def test_smoothed_labels_by_hand_and_without_smoothing(losses, random, monkeypatch):
    smoothed = losses.SmoothedSigmoid()
    value = smoothed(tf.constant([[[0.0, np.log(3.0)]]]), tf.constant([[1]]))  # probabilities .5 and .75
    expected = -np.log(0.5) - 0.95 * np.log(0.75) - 0.05 * np.log(0.25)
    np.testing.assert_allclose(value, [[expected]], rtol=1e-6)
    monkeypatch.setattr(losses, "SMOOTHING", 0.0)
    logits, classes = tf.constant(random.normal(size=(2, 9, 4)), tf.float32), tf.constant(random.integers(0, 4, (2, 9)))
    np.testing.assert_allclose(smoothed(logits, classes), SigmoidClassification()(logits, classes), rtol=1e-5)
