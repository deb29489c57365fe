"""What a file says of itself."""

import json
from dataclasses import replace
from types import SimpleNamespace

import hydra
import numpy as np
import pytest
import tensorflow as tf

from detect.cli import evaluate
from detect.config.check import CONFIG_DIR
from detect.errors import ConfigError, DataError, WeightsError
from detect.modeling.faster_rcnn import FasterRCNN
from detect.modeling.losses import (
    SCORES,
    FocalClassification,
    SigmoidClassification,
    SoftmaxClassification,
    check_scoring,
)
from detect.tflite import flatbuffer, package
from detect.tflite.metadata import ENTRY, Settings


def test_settings_come_back_from_the_file(files, settings):
    found = Settings.read(flatbuffer.read(files["int8"].content), "x")
    np.testing.assert_array_equal(found.anchors, settings.anchors)
    assert found.to_dict() == settings.to_dict()
    assert (found.classes, found.size, found.scores, found.nms) == (("cat", "dog"), (32, 48), "sigmoid", "none")


def test_numbers_of_the_categories_come_back_and_an_older_file_has_none(files, settings):
    model = flatbuffer.read(files["int8"].content)
    flatbuffer.set_metadata(model, replace(settings, category_ids=(3, 90)).entries())
    assert Settings.read(model, "x").category_ids == (3, 90)
    older = {key: value for key, value in settings.to_dict().items() if key != "category_ids"}
    flatbuffer.set_metadata(model, settings.entries() | {ENTRY: json.dumps(older).encode()})
    assert Settings.read(model, "x").category_ids == ()


@pytest.mark.parametrize(
    "loss, name",
    [(SigmoidClassification(), "sigmoid"), (SoftmaxClassification(), "softmax"), (FocalClassification(), "sigmoid")],
)
def test_a_loss_says_what_its_scores_are(loss, name):
    logits = tf.constant(np.random.default_rng(0).normal(0, 3, (1, 16, 4)), tf.float32)
    np.testing.assert_allclose(loss.scores(logits), getattr(tf.nn, name)(logits)[..., 1:], atol=1e-6)
    assert check_scoring(loss) == name


def test_another_score_function_is_refused():
    loss = SimpleNamespace(scoring="softplus", scores=lambda logits: tf.math.softplus(logits)[..., 1:])
    with pytest.raises(ConfigError, match=r"scoring=softplus: legal are sigmoid, softmax, centred"):
        check_scoring(loss)


def test_centred_scores_by_hand():
    # Sigmoids of 0 and log 3 are 1/2 and 3/4.
    logits = tf.constant([[[0.0, np.log(3.0), 0.0]]], tf.float32)
    np.testing.assert_allclose(SCORES["centred"](logits), [[[0.375**0.5, 0.5]]], rtol=1e-6)


def test_two_stages_are_refused_with_what_to_do():
    with pytest.raises(ConfigError, match=r"crops its feature map.*format=saved_model"):
        FasterRCNN.decoding(object.__new__(FasterRCNN))


def test_a_file_of_another_program_is_refused(files, tmp_path):
    (tmp_path / "other.tflite").write_bytes(files["float32"].body)  # as converted, without our metadata
    with pytest.raises(WeightsError, match=r"other\.tflite: a TFLite file of another program.*detect\.json"):
        package.open_file(tmp_path / "other.tflite")


def test_a_file_of_another_model_is_not_scored(files, tmp_path):
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        small = "dataset.images={train:2,val:1,test:1}"
        cfg = hydra.compose("evaluate", [f"model={tmp_path}/x.tflite", "dataset=digits", small])
    (tmp_path / "x.tflite").write_bytes(files["float32"].content)
    with pytest.raises(DataError, match=r"the detector does not know 0, 1.*; it knows cat, dog.*dataset\.rename"):
        evaluate.main(cfg)


@pytest.mark.parametrize(
    "text, message",
    [(b"{", "JSONDecodeError"), (b'{"format": 1}', "KeyError"), (b'{"format": 9}', "is of format 9, this program")],
)
def test_metadata_that_can_not_be_read_are_named(files, text, message):
    model = flatbuffer.read(files["float32"].content)
    flatbuffer.set_metadata(model, {ENTRY: text})
    with pytest.raises(WeightsError, match=message):
        Settings.read(model, "x")


def test_metadata_that_promise_another_end_are_refused(files, tmp_path):
    model = flatbuffer.read(files["float32"].content)
    said = json.loads(flatbuffer.metadata(model)[ENTRY]) | {"nms": "in_graph"}
    flatbuffer.set_metadata(model, {ENTRY: json.dumps(said).encode()})
    (tmp_path / "x.tflite").write_bytes(flatbuffer.write(model))
    with pytest.raises(WeightsError, match=r"gives codes, logits, .*metadata .*detection_boxes"):
        package.open_file(tmp_path / "x.tflite")
