"""The arithmetic of the study of MobileNet's collapse on cases made by hand, and the whole of it on few photographs."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.quantization.calibrate import calibrate
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from tests.closeness import assert_same_steps

SCRIPTS = Path(__file__).parents[2] / "scripts"
layers = tf_keras.layers


@pytest.fixture
def variants(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("mobilenet_collapse_variants")


def test_agreement(variants):
    reference = np.array([[1.0, 2, 3], [9, 1, 1], [0, 5, 1], [4, 0, 0]])
    found = np.array([[0.0, 0, 1], [1, 8, 1], [0, 0.2, 0.1], [np.nan, 0, 0]])
    assert variants.agreement(reference, found) == 0.5
    assert variants.agreement(reference, reference) == 1


def boxes(*rows):
    """Rows of ymin, xmin, ymax, xmax, score."""
    values = np.array(rows, np.float32).reshape(-1, 5)
    return values[:, :4], values[:, 4]


def test_box_agreement(variants):
    """Of three boxes that count, the first is found again with .1 less, the second with half the score that counts, the
    third too faintly; .3 in the corner is new, .15 there was in the reference already."""
    reference = boxes([0, 0, 10, 10, 0.9], [0, 20, 10, 30, 0.4], [20, 0, 30, 10, 0.2], [50, 50, 60, 60, 0.15])
    found = boxes(
        *([0, 0, 10, 9, 0.8], [50, 50, 60, 60, 0.3], [70, 70, 90, 90, 0.3]),
        *([0, 20, 10, 30, 0.1], [20, 0, 30, 10, 0.09]),
    )
    figures = variants.box_agreement([reference], [found], score=0.2)
    assert figures == {"boxes": 3, "matched": pytest.approx(2 / 3), "score_change": pytest.approx(-0.2), "unmatched": 1}
    half = boxes([0, 0, 10, 4.9, 0.9])
    figures = variants.box_agreement([reference, boxes()], [half, half], score=0.5)
    assert figures == {"boxes": 1, "matched": 0, "score_change": None, "unmatched": 2}
    assert variants.box_agreement([boxes()], [boxes()], score=0.5)["matched"] is None


def test_asymmetric_kernels(variants):
    """Levels 0..255 and -100..155 times a step are exact with a zero point; one step for both is not."""
    levels = np.stack([np.arange(256), 0.1 * np.arange(-100, 156)], axis=-1).reshape(16, 16, 1, 2).astype(np.float32)
    np.testing.assert_allclose(variants.per_channel_asymmetric(levels), levels, atol=1e-5)
    whole = variants.per_tensor_asymmetric(levels)  # from -10 to 255: a step is 265 / 255
    assert np.abs(whole - levels).max() == pytest.approx(0.5 * 265 / 255, rel=0.05)
    symmetric = variants.per_channel_symmetric(levels)  # up to 255: a step is 255 / 127
    assert np.abs(symmetric[..., 0] - levels[..., 0]).max() == pytest.approx(0.5 * 255 / 127, rel=0.05)


def test_the_simulation_computes_what_the_evaluation_graph_does(variants):
    tf_keras.utils.set_random_seed(0)
    x = image = tf_keras.Input((16, 16, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1, name="scaling")(image)
    x = layers.Conv2D(8, 3, 2, "same", use_bias=False, name="conv")(x)
    x = layers.ReLU(6.0, name="relu6")(layers.BatchNormalization(name="conv/norm")(x))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="depthwise/norm")(x))
    joined = layers.Concatenate(name="joined")([layers.Conv2D(4, 1, name=side)(x) for side in ("left", "right")])
    logits = layers.Dense(5, name="dense")(layers.GlobalAveragePooling2D(name="mean")(joined))
    model = tf_keras.Model(image, {"logits": logits})
    frames = list(np.random.default_rng(1).integers(0, 256, (6, 16, 16, 3), np.uint8))
    batch = tf.cast(np.stack(frames), tf.float32)
    twin = fake_quant(model, Spec(ranges="calibrated"))
    calibrate(twin, [batch])
    wanted = twin(batch, training=False)["logits"]
    found = variants.in_batches(variants.simulated(model, variants.per_channel_symmetric, frames))(frames)["logits"]
    assert_same_steps(found, wanted)
    finer = variants.in_batches(variants.simulated(model, lambda kernel: kernel, frames))(frames)["logits"]
    plain = model(batch, training=False)["logits"]
    assert 0 < np.abs(finer - plain).max() < np.abs(found - plain).max()


def test_widths_of_channels(variants):
    """Of [16, 1, 2, 4] the first is dead: the median live one has 2 / 16 of the steps, the widest live one has twice
    its width. Of the second layer these are 4 / 8 and 1. A layer without dead channels and a convolution do not count.
    """
    script = importlib.import_module("mobilenet_collapse")
    plain = {"kind": "depthwise", "dead": [], "ranges": [1.0, 90.0], "imbalance": 2.0}
    first = plain | {"dead": [0], "ranges": [16.0, 1.0, 2.0, 4.0], "imbalance": 5.3}
    second = plain | {"dead": [1, 2], "ranges": [4.0, 8.0, 8.0, 4.0], "imbalance": 1.3}
    assert script.widths([plain, first, second, first | {"kind": "conv"}]) == (
        "3 dead channels in 2 depthwise layers; the widest channel is 1 to 5 times as wide as the median one, the "
        "median live channel has 16 to 64 of 127 steps, the widest live one is 1 to 2 times as wide"
    )
    assert script.widths([plain]) == "no dead channels in depthwise layers"


def study(shared, output, *options) -> str:
    """What a run of the script prints."""
    command = [sys.executable, str(SCRIPTS / "mobilenet_collapse.py"), str(output), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def rows(folder: Path) -> dict[tuple[str, str, str], dict]:
    """The measured columns by kernels, activations and cure."""
    found = [json.loads(path.read_text())["columns"] for path in sorted(folder.glob("*/measured.json"))]
    return {(row["kernels"], row["activations"], row["cure"]): row for row in found}


@pytest.mark.slow
def test_the_study_on_few_photographs(shared, tmp_path):
    options = ["--data", shared / "data/grocery10", "--photographs", 40]
    options += ["--mobilenet", shared / "weights/mobilenet_v1_1.0_224"]
    options += ["--graph", shared / "weights/ssdlite_mobilenet_v2_pedestrian/frozen_inference_graph.pb"]
    console = study(shared, tmp_path, *options)
    assert "float Pepper: {'ImageNet': [(946, 4)]" in console, "945 in ImageNet's own count is a bell pepper"

    found, key = rows(tmp_path / "1_mobilenet_v1"), "ImageNet top-1 agreement"
    assert found["float32", "float32", "none"][key] == 1
    collapsed = found["per tensor, symmetric", "int8", "none"]
    assert collapsed[key] < 0.2 and collapsed["MB"] == pytest.approx(4.3, abs=0.1)
    assert found["per channel, symmetric", "int8", "none"][key] > 0.6
    assert found["per tensor, symmetric", "int8", "dead channels removed, equalised"][key] > 0.5
    worst = json.loads((tmp_path / "1_mobilenet_v1_layers/00/measured.json").read_text())["columns"]
    assert worst["layer"].endswith("depthwise") and "(dead)" in worst["widest channels"]
    assert 1e-36 < worst["their least variance"] < 1e-34

    found = rows(tmp_path / "5_ssdlite")
    exact = found["float32", "float32", "none"]
    assert exact["boxes"] > 10 and exact["matched"] == 1 and abs(exact["score change"]) < 1e-3
    assert found["per tensor, symmetric", "int8", "none"]["score change"] < -0.03
    assert found["per channel, symmetric", "int8", "none"]["matched"] > 0.9

    again = study(shared, tmp_path, *options)
    assert again.count("measured before") == 30 and "after" not in again
    report = [sys.executable, "-m", "detect.cli", "report", f"runs={tmp_path}", f"output={tmp_path / 'report'}"]
    subprocess.run(report, check=True, capture_output=True)
    table = (tmp_path / "report" / "table.md").read_text()
    assert "**MobileNet v1, ImageNet weights**" in table and table.count("\n| per tensor, symmetric |") >= 10
