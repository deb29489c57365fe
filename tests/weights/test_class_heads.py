"""Heads of a run move by the class's name: an output has the weights of its class, wherever the class stands."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.weights import checkpoint
from detect.weights.class_heads import account, by_name
from detect.weights.ledger import Ledger
from detect.weights.sources import FromFile

NAMES = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=6, unique=True)
FCOS = "FCOS/ClassPredictor/kernel"  # [3, 3, depth, C]: no background, one point a cell
SSD, BOXES, REGIONS = "BoxPredictor_0/ClassPredictor/kernel", "SecondStageBoxPredictor/BoxEncodingPredictor/bias", \
    "FirstStageBoxPredictor/ClassPredictor/bias"  # fmt: skip
LETTER = {name: 1 + place for place, name in enumerate("abcdefg")}


def ssd(names, anchors=3, of=lambda name: LETTER[name]):
    """A kernel [1, 1, 2, anchors x (C + 1)] whose outputs hold the number of their class, and 100 for background."""
    column = [100.0, *map(of, names)]
    return np.tile(np.array(column * anchors, np.float32), (1, 1, 2, 1))


@settings(derandomize=True, max_examples=200)
@given(NAMES, NAMES)
def test_every_output_has_the_weights_of_its_class(before, now):
    arrays = {SSD: ssd(before), BOXES: np.repeat([LETTER[n] for n in before], 4).astype(np.float32)}
    arrays |= {REGIONS: np.arange(6, dtype=np.float32), "Conv2d_0/kernel": np.ones(3, np.float32)}
    variables = {SSD: tf.Variable(ssd(now, of=lambda _: -1)), BOXES: tf.Variable(tf.fill([4 * len(now)], -1.0))}
    arrays[FCOS] = ssd(before, anchors=1)[..., 1:]
    variables[FCOS] = tf.Variable(ssd(now, anchors=1, of=lambda _: -1)[..., 1:])
    variables |= {REGIONS: tf.Variable(tf.zeros(6)), "Conv2d_0/kernel": tf.Variable(tf.zeros(3))}
    moved = by_name(arrays, variables, before, now)
    expected = [LETTER[name] if name in before else -1 for name in now]
    np.testing.assert_array_equal(moved[SSD], ssd(now, of=lambda n: LETTER[n] if n in before else -1))
    np.testing.assert_array_equal(moved[BOXES], np.repeat(expected, 4))
    np.testing.assert_array_equal(moved[FCOS][0, 0, 0], expected)
    assert moved[REGIONS] is arrays[REGIONS] and moved["Conv2d_0/kernel"] is arrays["Conv2d_0/kernel"]


def test_a_head_that_does_not_fit_the_classes_of_its_run_stays():
    arrays = {SSD: np.zeros((1, 1, 2, 7), np.float32)}
    assert by_name(arrays, {SSD: tf.Variable(ssd("ab"))}, ("a", "b"), ("b", "a"))[SSD] is arrays[SSD]


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (("b", "a"), "class heads: loaded by name for 2 classes (b, a)"),
        (("b", "c"), "class heads: loaded by name for 1 class (b); random for 1 that are new (c)"),
        (("c", "d"), "class heads: random for 2 that are new (c, d)"),
    ],
)
def test_the_console_says_which_classes_moved(now, line):
    ledger = Ledger("run", loaded={SSD: (1, 1, 2, 9)})
    assert account(ledger, "detector", ("a", "b"), now) == [line]


def test_the_class_names_come_from_the_run_folder(tmp_path):
    arrays = {"Conv2d_0/kernel": np.ones((1, 1, 3, 8), np.float32), SSD: ssd("ab")}
    checkpoint.write(tmp_path / "detector" / "best", arrays)
    (tmp_path / "classes.json").write_text(json.dumps([{"id": 7, "name": "a"}, {"id": 9, "name": "b"}]))
    backbone = SimpleNamespace(slim_scope="MobilenetV1", keras_layers=dict)
    assert FromFile(str(tmp_path), "detector").read(backbone).classes == ("a", "b")
    (tmp_path / "classes.json").unlink()
    assert FromFile(str(tmp_path / "detector" / "best"), "detector").read(backbone).classes is None
