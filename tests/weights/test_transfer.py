"""Weights by name and shape: what is loaded, and the words for what is not."""

import json
import logging

import numpy as np
import pytest
import tf_keras

from detect.errors import WeightsError
from detect.weights.transfer import Ledger, named, transfer

layers = tf_keras.layers
BACKBONE = {"Conv2d_0", "Conv2d_0/BatchNorm", "Conv2d_1_pointwise"}


def build():
    image = tf_keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, use_bias=False, name="Conv2d_0")(image)
    x = layers.BatchNormalization(name="Conv2d_0/BatchNorm")(x)
    x = layers.Conv2D(5, 1, use_bias=False, name="Conv2d_1_pointwise")(x)
    return tf_keras.Model(image, layers.Conv2D(2, 1, name="Logits/Conv2d_1c_1x1")(x))


@pytest.fixture
def model():
    return build()


@pytest.fixture
def arrays():
    """What fits the whole model, with values that no initializer gives."""
    return {name: np.full(variable.shape, 5, np.float32) for name, variable in named(build().variables).items()}


def load(model, arrays, layers=BACKBONE, **more):
    return transfer(model, arrays, source="x.ckpt", layers=layers, **more)


def refusal(model, arrays, **more):
    before = model.get_weights()
    with pytest.raises(WeightsError) as caught:
        load(model, arrays, **more)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new, err_msg="assigned though it did not fit")
    return str(caught.value)


def fives(model):
    return {name for name, variable in named(model.variables).items() if (variable.numpy() == 5).all()}


def test_the_backbone_is_filled_and_the_heads_are_left(model, arrays):
    arrays |= {
        "BoxPredictor_0/ClassPredictor/kernel": np.ones((1, 1, 5, 9), np.float32),
        "Conv2d_1_pointwise_1_Conv2d_2_1x1_256/kernel": np.ones((1, 1, 5, 256), np.float32),
        "Conv2d_1_pointwise_2_Conv2d_2_3x3_s2_512/BatchNorm/beta": np.ones(512, np.float32),
    }
    ledger = load(model, arrays)
    wanted = {name for name in arrays if name.startswith(("Conv2d_0", "Conv2d_1_pointwise/"))}
    assert fives(model) == set(ledger.loaded) == wanted
    assert len(ledger.skipped) == 5 and "Logits/Conv2d_1c_1x1/bias" in ledger.skipped
    assert ledger.complete
    assert ledger.totals()["loaded"] == (6, 3 * 3 * 3 * 4 + 4 * 4 + 4 * 5)
    assert ledger.totals()["skipped"] == (5, 5 * 2 + 2 + 5 * 9 + 5 * 256 + 512)


def test_the_whole_model_is_filled(model, arrays):
    ledger = load(model, arrays, layers=None)
    assert fives(model) == set(arrays) == set(ledger.loaded) and not ledger.skipped


def test_five_lines_that_fit_a_terminal(model, arrays):
    lines = load(model, arrays).lines()
    assert lines == [
        "loaded        6 variables         144 parameters",
        "skipped       2 variables          12 parameters  Logits/Conv2d_1c_1x1/kernel...",
        "missing       0 variables           0 parameters",
        "unexpected    0 variables           0 parameters",
        "mismatched    0 variables           0 parameters",
    ]
    long = Ledger("x", missing={"Mixed_7c/Branch_1/Conv2d_0b_1x3/BatchNorm/moving_variance": (384,)})
    assert len(long.lines()) == 5 and max(map(len, long.lines())) == 80


def test_the_ledger_is_saved_whole(model, arrays, tmp_path):
    ledger = load(model, arrays)
    ledger.mismatched["x"] = ((1, 2), (3,))
    ledger.save(tmp_path / "transfer.json")
    saved = json.loads((tmp_path / "transfer.json").read_text())
    assert saved["source"] == "x.ckpt"
    assert saved["loaded"]["Conv2d_0/kernel"] == [3, 3, 3, 4] and len(saved["loaded"]) == 6
    assert saved["mismatched"] == {"x": [[1, 2], [3]]}
    assert saved["totals"]["loaded"] == {"variables": 6, "parameters": 144}
    assert [file.name for file in tmp_path.iterdir()] == ["transfer.json"]


def test_one_variable_missing(model, arrays):
    del arrays["Conv2d_0/BatchNorm/moving_mean"]
    assert refusal(model, arrays) == "\n".join(
        [
            "x.ckpt does not fit the model, nothing was loaded:",
            "  loaded        5 variables         140 parameters",
            "  skipped       2 variables          12 parameters  Logits/Conv2d_1c_1x1/kern...",
            "  missing       1 variables           4 parameters  Conv2d_0/BatchNorm/moving...",
            "  unexpected    0 variables           0 parameters",
            "  mismatched    0 variables           0 parameters",
            "missing in the file: Conv2d_0/BatchNorm/moving_mean",
            "Choose the file of this very network, start from random weights with init=none, or name what to leave "
            "out by globs: 'init.skip=[Conv2d_0/BatchNorm/moving_mean]'",
        ]
    )


def test_another_shape(model, arrays):
    arrays["Conv2d_0/kernel"] = np.zeros((3, 3, 3, 8), np.float32)
    message = refusal(model, arrays)
    assert "of another shape in the file: Conv2d_0/kernel [3, 3, 3, 8] for [3, 3, 3, 4]" in message
    assert "Is depth_multiplier the one that the file was trained with?" in message


def test_something_unexpected_in_the_backbone(model, arrays):
    arrays["Conv2d_2_pointwise/kernel"] = np.zeros((1, 1, 5, 5), np.float32)
    assert "unknown to the model: Conv2d_2_pointwise/kernel\n" in refusal(model, arrays)
    ledger = load(model, arrays, skip=["Conv2d_2_*"])
    assert "Conv2d_2_pointwise/kernel" in ledger.skipped and len(ledger.loaded) == 6


def test_a_head_is_unexpected_where_the_whole_model_is_asked_for(model, arrays):
    arrays["Logits/Hidden_1/kernel"] = np.zeros((1, 1, 5, 5), np.float32)
    assert "unknown to the model: Logits/Hidden_1/kernel\n" in refusal(model, arrays, layers=None)
    assert load(model, arrays).complete


def test_another_network(model):
    arrays = {f"InceptionV3/Mixed_{i}/kernel": np.zeros(3, np.float32) for i in range(9)}
    assert refusal(model, arrays) == (
        "x.ckpt is of another network: it holds none of the 6 variables wanted (Conv2d_0/kernel, "
        "Conv2d_0/BatchNorm/gamma, Conv2d_0/BatchNorm/beta and 3 more), but InceptionV3/Mixed_0/kernel, "
        "InceptionV3/Mixed_1/kernel, InceptionV3/Mixed_2/kernel and 6 more (9 in all). Choose the backbone that it "
        "was trained with, another file, or random weights with init=none."
    )


def test_what_is_skipped_stays_as_it_was(model, arrays):
    before = named(model.variables)["Conv2d_0/kernel"].numpy()
    arrays["Conv2d_0/kernel"] = np.zeros((7, 7, 3, 4), np.float32)
    del arrays["Conv2d_0/BatchNorm/gamma"]
    ledger = load(model, arrays, skip=["Conv2d_0/kernel", "*/gamma"])
    assert {"Conv2d_0/kernel", "Conv2d_0/BatchNorm/gamma"} < set(ledger.skipped)
    np.testing.assert_array_equal(named(model.variables)["Conv2d_0/kernel"], before)
    assert "Conv2d_0/BatchNorm/beta" in fives(model)


def test_a_skip_that_matches_nothing_is_pointed_out(model, arrays, caplog):
    with caplog.at_level(logging.WARNING, "detect"):
        load(model, arrays, skip=["Conv2d_O/*"])
    assert "init.skip: Conv2d_O/* matches no variable of x.ckpt or of the model" in caplog.text


def test_numbers_that_are_none(model, arrays):
    arrays["Conv2d_1_pointwise/kernel"][0, 0, 0, 0] = np.nan
    assert "not all numbers are finite in Conv2d_1_pointwise/kernel" in refusal(model, arrays)


def test_two_variables_of_one_name_are_refused(model):
    with pytest.raises(ValueError, match="two variables are named Conv2d_0/kernel"):
        named([*model.variables, model.variables[0]])


def test_the_imagenet_checkpoint_fills_the_whole_backbone(shared):
    from detect.backbones.mobilenet_v1 import MobileNetV1
    from detect.classifier import Classifier
    from detect.weights.sources import FromFile

    classifier = Classifier(MobileNetV1(), num_classes=3, size=(96, 96))
    source = FromFile(str(shared / "weights" / "mobilenet_v1_1.0_224"))
    arrays = source.read(MobileNetV1.slim_scope)
    ledger = transfer(classifier.model, arrays, source="x.ckpt", layers=classifier.backbone_layers)
    assert ledger.totals()["loaded"] == (135, 3_228_864)
    assert set(ledger.skipped) == {"Logits/Conv2d_1c_1x1/kernel", "Logits/Conv2d_1c_1x1/bias"}
    half = Classifier(MobileNetV1(depth_multiplier=0.5), num_classes=3, size=(96, 96))
    with pytest.raises(WeightsError, match=r"Is depth_multiplier the one that the file was trained with\?"):
        transfer(half.model, arrays, source="x.ckpt", layers=half.backbone_layers)
    arrays.pop("Conv2d_5_depthwise/depthwise_kernel")
    with pytest.raises(WeightsError, match="missing in the file: Conv2d_5_depthwise/depthwise_kernel"):
        transfer(classifier.model, arrays, source="x.ckpt", layers=classifier.backbone_layers)
