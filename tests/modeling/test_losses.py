"""Losses of single anchors against figures by hand."""

import numpy as np
import pytest
import tensorflow as tf

from detect.errors import ConfigError
from detect.modeling import losses
from detect.modeling.losses import (
    FocalClassification,
    SigmoidClassification,
    SmoothL1,
    SoftmaxClassification,
    ZeroBackgroundSigmoid,
)

LOG2, LOG3 = np.log(2), np.log(3)
EVEN = np.zeros((1, 2, 3), np.float32)  # two anchors, background and two classes, all alike
CLASSES = np.array([[0, 2]], np.int32)


def test_sigmoid():
    loss = SigmoidClassification()
    np.testing.assert_allclose(loss(EVEN, CLASSES), [[3 * LOG2, 3 * LOG2]], rtol=1e-6)
    sure = np.array([[[9, -9, -9], [-9, -9, 9]]], np.float32)
    np.testing.assert_allclose(loss(sure, CLASSES), [[3 * np.log1p(np.exp(-9))] * 2], rtol=1e-4)
    wrong = loss(sure, np.array([[2, 0]], np.int32))
    np.testing.assert_allclose(wrong, [[2 * 9 + 3 * np.log1p(np.exp(-9))] * 2], rtol=1e-5)
    np.testing.assert_allclose(loss.scores(EVEN), np.full((1, 2, 2), 0.5))


def test_softmax():
    loss = SoftmaxClassification()
    np.testing.assert_allclose(loss(EVEN, CLASSES), [[LOG3, LOG3]], rtol=1e-6)
    logits = np.log(np.array([[[2, 1, 1], [1, 1, 2]]], np.float32))
    np.testing.assert_allclose(loss(logits, CLASSES), [[LOG2, LOG2]], rtol=1e-6)
    np.testing.assert_allclose(loss.scores(logits), [[[0.25, 0.25], [0.25, 0.5]]], rtol=1e-6)


def test_focal():
    loss = FocalClassification(alpha=0.75, gamma=2.0)
    # At p = 1/2 every class gives (1/2)^2 log 2, weighed .75 for the object and .25 for the others.
    np.testing.assert_allclose(loss(EVEN, CLASSES), [[2 * 0.25 * LOG2 / 4, (0.75 + 0.25) * LOG2 / 4]], rtol=1e-6)
    plain = FocalClassification(alpha=0.5, gamma=0.0)
    np.testing.assert_allclose(plain(EVEN, CLASSES), [[LOG2, LOG2]], rtol=1e-6)
    shifted = EVEN + np.array([5, 0, 0], np.float32)
    np.testing.assert_allclose(loss(shifted, CLASSES), loss(EVEN, CLASSES))  # the background column plays no part
    np.testing.assert_allclose(loss.scores(EVEN), np.full((1, 2, 2), 0.5))


@pytest.mark.parametrize(("alpha", "gamma"), [(0.75, 2.0), (0.25, 1.5), (0.5, 0.0)])
def test_focal_equals_tf_models_official_to_the_bit(alpha, gamma):
    from official.vision.losses.focal_loss import FocalLoss

    random = np.random.default_rng(0)
    logits = tf.constant(random.normal(0, 8, (2, 300, 4)).astype(np.float32))
    classes = random.integers(0, 4, (2, 300)).astype(np.int32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        ours = FocalClassification(alpha, gamma)(logits, classes)
        targets = tf.one_hot(classes - 1, 3)
        theirs = tf.reduce_sum(FocalLoss(alpha, gamma, reduction="none")(targets, logits[..., 1:]), axis=-1)
    np.testing.assert_array_equal(ours, theirs)
    mine, their = tape.gradient(ours, logits).numpy(), tape.gradient(theirs, logits).numpy()
    known = np.isfinite(their)  # with gamma 0, their gradient is not finite where an answer is sure and right
    np.testing.assert_array_equal(mine[known], their[known])
    assert np.isfinite(mine).all() and (known.all() or not gamma)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_the_gradient_of_a_focal_loss_is_finite_for_sure_answers(gamma):
    logits = tf.constant([[[0.0, -40.0, 40.0], [0.0, -18.0, 18.0]]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = FocalClassification(gamma=gamma)(logits, np.array([[2, 0]], np.int32))
    assert np.isfinite(value).all() and np.isfinite(tape.gradient(value, logits)).all()


def test_only_the_focal_loss_asks_for_a_prior():
    assert SigmoidClassification().prior is None and SoftmaxClassification().prior is None
    assert FocalClassification().prior == 0.01


@pytest.mark.parametrize(("delta", "expected"), [(1.0, 0.125 + 1.5), (2.0, 0.125 + 2.0), (0.25, 0.09375 + 0.46875)])
def test_smooth_l1(delta, expected):
    codes = np.array([[[0.5, -2.0, 0.0, 1.0]]], np.float32)
    targets = np.array([[[0.0, 0.0, 0.0, 1.0]]], np.float32)
    np.testing.assert_allclose(SmoothL1(delta)(codes, targets), [[expected]], rtol=1e-6)


def test_what_column_0_learns():
    logits = tf.constant([[[2.0, -1.0], [0.0, 1.0]]])  # an anchor of class 1, then one of the background
    classes = tf.constant([[1, 0]])

    def entropy(logit, target):
        return float(np.log1p(np.exp(-logit if target else logit)))

    zero = [entropy(2, 0) + entropy(-1, 1), entropy(0, 0) + entropy(1, 0)]
    one = [zero[0], entropy(0, 1) + entropy(1, 0)]
    ignored = [entropy(-1, 1), entropy(1, 0)]
    np.testing.assert_allclose(ZeroBackgroundSigmoid()(logits, classes)[0], zero, rtol=1e-5)
    np.testing.assert_allclose(SigmoidClassification()(logits, classes)[0], one, rtol=1e-5)
    for background, wanted in (("zero", zero), ("one", one), ("ignored", ignored)):
        loss = FocalClassification(alpha=None, gamma=0.0, background=background)
        np.testing.assert_allclose(loss(logits, classes)[0], wanted, rtol=1e-5)


@pytest.mark.parametrize(("given", "name"), [("codes", "GIoU"), ("boxes", "SmoothL1")])
def test_a_detector_refuses_a_loss_of_another_quantity(given, name):
    loss = getattr(losses, name)()
    with pytest.raises(ConfigError, match=rf"localization_loss: {name} takes .*, and this detector gives {given}"):
        losses.check_boxes(loss, given)
