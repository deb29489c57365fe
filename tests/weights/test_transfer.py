"""Weights by name and shape: what is loaded, and the words for what is not."""

import json
import logging

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import WeightsError
from detect.weights.class_heads import account, is_class_head
from detect.weights.ledger import Ledger
from detect.weights.names import Arrays
from detect.weights.transfer import named, transfer
from tests.closeness import assert_same_outputs

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
            "Choose a file of this network, start from random weights with init=none, or leave variables out with "
            "globs: 'init.skip=[Conv2d_0/BatchNorm/moving_mean]'",
        ]
    )


def test_another_shape(model, arrays):
    arrays["Conv2d_0/kernel"] = np.zeros((3, 3, 3, 8), np.float32)
    message = refusal(model, arrays)
    assert "of another shape in the file: Conv2d_0/kernel [3, 3, 3, 8] for [3, 3, 3, 4]" in message
    assert "depth_multiplier" in message


def test_something_unexpected_in_the_backbone(model, arrays):
    arrays["Conv2d_2_pointwise/kernel"] = np.zeros((1, 1, 5, 5), np.float32)
    assert "unknown to the model: Conv2d_2_pointwise/kernel\n" in refusal(model, arrays)
    ledger = load(model, arrays, skip=["Conv2d_2_*"])
    assert "Conv2d_2_pointwise/kernel" in ledger.skipped and len(ledger.loaded) == 6 and not ledger.kept


def test_a_head_is_unexpected_where_the_whole_model_is_asked_for(model, arrays):
    arrays["Logits/Hidden_1/kernel"] = np.zeros((1, 1, 5, 5), np.float32)
    assert "unknown to the model: Logits/Hidden_1/kernel\n" in refusal(model, arrays, layers=None)
    assert load(model, arrays).complete


def test_another_network(model):
    arrays = {f"InceptionV3/Mixed_{i}/kernel": np.zeros(3, np.float32) for i in range(9)}
    message = refusal(model, arrays)
    assert message.startswith("x.ckpt belongs to another network, it looks like InceptionV3: ")
    for part in (
        "6 wanted variables (Conv2d_0/kernel, Conv2d_0/BatchNorm/gamma, Conv2d_0/BatchNorm/beta and 3 more)",
        "InceptionV3/Mixed_0/kernel, InceptionV3/Mixed_1/kernel, InceptionV3/Mixed_2/kernel and 6 more (9 in total)",
        "init=none",
    ):
        assert part in message


def test_what_is_skipped_stays_as_it_was(model, arrays):
    before = named(model.variables)["Conv2d_0/kernel"].numpy()
    arrays["Conv2d_0/kernel"] = np.zeros((7, 7, 3, 4), np.float32)
    del arrays["Conv2d_0/BatchNorm/gamma"]
    ledger = load(model, arrays, skip=["Conv2d_0/kernel", "*/gamma"])
    assert {"Conv2d_0/kernel", "Conv2d_0/BatchNorm/gamma"} == set(ledger.kept) < set(ledger.skipped)
    np.testing.assert_array_equal(named(model.variables)["Conv2d_0/kernel"], before)
    assert "Conv2d_0/BatchNorm/beta" in fives(model)


def test_a_skip_that_matches_nothing_is_pointed_out(model, arrays, caplog):
    with caplog.at_level(logging.WARNING, "detect"):
        load(model, arrays, skip=["Conv2d_O/*"])
    assert "init.skip: Conv2d_O/* matches no variable of x.ckpt or of the model" in caplog.text


def test_numbers_that_are_none(model, arrays):
    arrays["Conv2d_1_pointwise/kernel"][0, 0, 0, 0] = np.nan
    assert "x.ckpt: NaN or infinite values in Conv2d_1_pointwise/kernel; use" in refusal(model, arrays)
    for array in arrays.values():
        array[...] = np.nan
    assert " and 1 more; use" in refusal(model, arrays)


def detector(classes, backbone=("Conv2d_0", "Conv2d_1")):
    """A backbone of two convolutions, an extra map, and a box predictor as an SSD has it."""
    image = tf_keras.Input((8, 8, 3))
    x = image
    for name in (*backbone, "Conv2d_1_2_Conv2d_2_3x3_s2_8"):
        x = layers.Conv2D(8, 1, use_bias=False, name=name)(x)
    boxes = layers.Conv2D(12, 1, name="BoxPredictor_0/BoxEncodingPredictor")(x)
    return tf_keras.Model(image, [boxes, layers.Conv2D(3 * classes, 1, name="BoxPredictor_0/ClassPredictor")(x)])


WHOLE = {"Conv2d_0", "Conv2d_1"}


def all_of(model, value=5, ours=False):
    return Arrays({n: np.full(v.shape, value, np.float32) for n, v in named(model.variables).items()}, ours)


def test_a_whole_detector_of_the_same_classes():
    model = detector(4)
    ledger = load(model, all_of(detector(4)), layers=WHOLE, scope="detector")
    assert set(ledger.loaded) == set(named(model.variables)) == fives(model)
    assert account(ledger, "detector") == [
        "class heads: loaded, so the file must have the classes of the data set in the same order"
    ]
    assert account(ledger, "backbone") == []


def test_class_heads_of_other_classes_are_skipped_and_nothing_else():
    model = detector(4)
    ledger = load(model, all_of(detector(9)), layers=WHOLE, scope="detector")
    heads = {"BoxPredictor_0/ClassPredictor/kernel", "BoxPredictor_0/ClassPredictor/bias"}
    assert set(ledger.skipped) == set(ledger.kept) == heads and fives(model) == set(named(model.variables)) - heads
    assert account(ledger, "detector") == [
        "class heads: random, as the file has another number of classes (2 variables skipped)"
    ]
    arrays = all_of(detector(4))
    arrays["BoxPredictor_0/BoxEncodingPredictor/bias"] = np.zeros(24, np.float32)
    message = refusal(model, arrays, layers=WHOLE, scope="detector")
    assert "BoxPredictor_0/BoxEncodingPredictor/bias [24] for [12]" in message
    arrays = all_of(detector(9))
    arrays["BoxPredictor_0/ClassPredictor/kernel"] = np.zeros((1, 1, 9, 27), np.float32)  # another map, not classes
    assert "ClassPredictor/kernel [1, 1, 9, 27] for [1, 1, 8, 12]" in refusal(
        model, arrays, layers=WHOLE, scope="detector"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BoxPredictor_3/ClassPredictor/bias", True),
        ("BoxPredictor_3/BoxEncodingPredictor/bias", False),
        ("BoxPredictor_3/ClassPredictor_depthwise/BatchNorm/gamma", False),
        ("SecondStageBoxPredictor/ClassPredictor/kernel", True),
        ("SecondStageBoxPredictor/BoxEncodingPredictor/kernel", True),
        ("FirstStageBoxPredictor/ClassPredictor/kernel", False),
        ("FirstStageBoxPredictor/BoxEncodingPredictor/kernel", False),
    ],
)
def test_which_heads_depend_on_the_classes(name, expected):
    assert is_class_head(name) is expected


def test_the_backbone_alone_out_of_a_detector():
    ledger = load(detector(4), all_of(detector(9)), layers=WHOLE)
    assert set(ledger.loaded) == {"Conv2d_0/kernel", "Conv2d_1/kernel"} and len(ledger.skipped) == 5


def test_a_classifier_has_no_heads_for_a_detector():
    arrays = {name: array for name, array in all_of(detector(4)).items() if name.startswith("Conv2d_")}
    message = refusal(detector(4), arrays, layers=WHOLE, scope="detector")
    assert "Only the heads are missing: init.scope=backbone" in message


def test_layers_that_the_detector_does_without_are_skipped():
    """The file holds the whole backbone, this detector ends before Conv2d_1."""
    short = detector(4, backbone=("Conv2d_0",))
    for scope in ("backbone", "detector"):
        ledger = load(short, all_of(detector(4)), layers=WHOLE, scope=scope)
        assert "Conv2d_1/kernel" in ledger.skipped and ledger.complete


def test_what_is_in_no_backbone_is_a_head_in_our_own_files_only():
    arrays = all_of(detector(4))
    arrays["Neck/merge/kernel"] = np.zeros(3, np.float32)
    assert "unknown to the model: Neck/merge/kernel\n" in refusal(detector(4), arrays, layers=WHOLE)
    arrays.ours = True
    assert "Neck/merge/kernel" in load(detector(4), arrays, layers=WHOLE).skipped
    arrays["Conv2d_0/BatchNorm/gamma"] = np.zeros(8, np.float32)  # but not what belongs to a layer of the backbone
    arrays["Conv2d_0/gamma"] = np.zeros(8, np.float32)
    assert "unknown to the model: Conv2d_0/gamma\n" in refusal(detector(4), arrays, layers=WHOLE)


@pytest.mark.parametrize(
    "name",
    [
        "Logits/Conv2d_1c_1x1/bias", "AuxLogits/Conv2d_2b_1x1/kernel", "BoxPredictor_0/ClassPredictor/bias",
        "BoxPredictor_0/ClassPredictor_depthwise/depthwise_kernel", "layer_19_1_Conv2d_2_1x1_256/BatchNorm/beta",
        "layer_19_2_Conv2d_2_3x3_s2_512_depthwise/depthwise_kernel", "FirstStageBoxPredictor/Conv/kernel",
        "FirstStageBoxPredictor/ClassPredictor/bias", "SecondStageBoxPredictor/ClassPredictor/kernel",
        "fc6/kernel", "fc8/bias", "mean_rgb", "Conv_2/kernel",
    ],
)  # fmt: skip
def test_heads_of_slim_and_the_api(model, arrays, name):
    arrays[name] = np.zeros(7, np.float32)
    assert name in load(model, arrays).skipped


def test_gamma_that_the_backbone_lacks_stops_and_is_explained(model, arrays):
    image = tf_keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, use_bias=False, name="Conv2d_1a_7x7")(image)
    plain = tf_keras.Model(image, layers.BatchNormalization(scale=False, name="Conv2d_1a_7x7/BatchNorm")(x))
    file = {name.replace("Conv2d_0", "Conv2d_1a_7x7"): a for name, a in arrays.items() if name.startswith("Conv2d_0")}
    backbone = {"Conv2d_1a_7x7", "Conv2d_1a_7x7/BatchNorm"}
    message = refusal(plain, file, layers=backbone)
    assert "has gamma (Conv2d_1a_7x7/BatchNorm/gamma), the backbone's has none: set backbone.scale=true" in message
    assert "backbone.activation=relu6" in message
    del arrays["Conv2d_0/BatchNorm/gamma"]
    assert "no gamma (Conv2d_0/BatchNorm/gamma): set backbone.scale=false" in refusal(model, arrays)


def test_a_stem_without_batch_norm_is_explained():
    image = tf_keras.Input((8, 8, 3))
    model = tf_keras.Model(image, layers.Conv2D(4, 3, name="Conv2d_1a_7x7")(image))
    file = {"Conv2d_1a_7x7/kernel": np.ones((3, 3, 3, 4)), "Conv2d_1a_7x7/BatchNorm/beta": np.ones(4)}
    message = refusal(model, file, layers={"Conv2d_1a_7x7"})
    assert "batch norm after the first convolution: set backbone.stem_norm=true" in message


def test_dense_kernels_and_convolutions_over_the_whole_map_are_the_same():
    image = tf_keras.Input((2, 3, 4))
    model = tf_keras.Model(image, layers.Conv2D(5, (2, 3), use_bias=False, name="fc6")(image))
    dense = np.arange(24 * 5, dtype=np.float32).reshape(24, 5)
    load(model, {"fc6/kernel": dense}, layers={"fc6"})
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 4)).astype(np.float32)
    assert_same_outputs(model(x)[0, 0], x.reshape(1, 24) @ dense)


def test_the_imagenet_checkpoint_fills_the_whole_backbone(shared):
    from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
    from detect.modeling.classifier import Classifier
    from detect.weights.sources import FromFile

    classifier = Classifier(MobileNetV1(), num_classes=3, size=(96, 96))
    source = FromFile(str(shared / "weights" / "mobilenet_v1_1.0_224"))
    arrays = source.read(MobileNetV1())
    ledger = transfer(classifier.model, arrays, source="x.ckpt", layers=classifier.backbone_layers)
    assert ledger.totals()["loaded"] == (135, 3_228_864)
    assert set(ledger.skipped) == {"Logits/Conv2d_1c_1x1/kernel", "Logits/Conv2d_1c_1x1/bias"}
    half = Classifier(MobileNetV1(depth_multiplier=0.5), num_classes=3, size=(96, 96))
    with pytest.raises(WeightsError, match="depth_multiplier"):
        transfer(half.model, arrays, source="x.ckpt", layers=half.backbone_layers)
    arrays.pop("Conv2d_5_depthwise/depthwise_kernel")
    with pytest.raises(WeightsError, match="missing in the file: Conv2d_5_depthwise/depthwise_kernel"):
        transfer(classifier.model, arrays, source="x.ckpt", layers=classifier.backbone_layers)


def test_a_variable_that_comes_again_is_one_and_two_of_a_name_are_refused():
    one, other = (tf.Variable(0.0, name="a/kernel") for _ in range(2))
    assert list(named([one, one])) == ["a/kernel"]
    with pytest.raises(ValueError, match="two variables are named a/kernel"):
        named([one, other])
