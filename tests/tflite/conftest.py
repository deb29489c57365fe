"""A little detector with known, well-behaved weights, and files made of it."""

from types import SimpleNamespace

import numpy as np
import pytest
import tf_keras

from detect.modeling.interface import Decoding
from detect.modeling.nms import NonMaxSuppression
from detect.quantization.calibrate import calibrate
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from detect.tflite import package
from detect.tflite.metadata import Settings

layers = tf_keras.layers
SIZE = (32, 48)
CELLS = (16, 24)


@pytest.fixture(scope="session")
def tiny():
    """An SSD of one map: 16 x 24 cells of one anchor, two classes; batch norm, ReLU6, a depthwise convolution."""
    tf_keras.utils.set_random_seed(3)
    image = tf_keras.Input((*SIZE, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0, name="scale")(image)
    x = layers.Conv2D(16, 3, 2, "same", use_bias=False, name="first")(x)
    x = layers.BatchNormalization(name="first/BatchNorm")(x)
    x = layers.ReLU(6.0, name="first/Relu6")(x)
    x = layers.DepthwiseConv2D(3, 1, "same", name="second")(x)
    x = layers.Conv2D(64, 3, 1, "same", activation="relu", name="third")(x)
    codes = layers.Reshape((-1, 4), name="codes")(layers.Conv2D(4, 1, name="boxes")(x))
    logits = layers.Reshape((-1, 3), name="logits")(layers.Conv2D(3, 1, name="classes")(x))
    model = tf_keras.Model(image, {"codes": codes, "logits": logits}, name="tiny")
    rows, columns = np.indices(CELLS).reshape(2, -1) * 2.0 + 1.0
    anchors = np.stack([rows - 4, columns - 6, rows + 4, columns + 6], axis=1).astype(np.float32)
    return SimpleNamespace(
        model=model,
        size=SIZE,
        resize="stretch",
        anchors=anchors,
        decoding=lambda: Decoding("offsets", (10.0, 10.0, 5.0, 5.0), "sigmoid"),
        postprocess=NonMaxSuppression(iou=0.5, score=0.3, per_class=20, total=30),
    )


@pytest.fixture(scope="session")
def settings(tiny):
    return Settings.of(tiny, ("cat", "dog"))


@pytest.fixture(scope="session")
def frames():
    """Three cut-outs of a photograph, uint8 [32, 48, 3]."""
    from skimage import data

    image = data.astronaut()
    return [np.ascontiguousarray(image[y : y + 256 : 8, y : y + 384 : 8]) for y in (0, 60, 120)]


@pytest.fixture(scope="session")
def twin(tiny, frames):
    """Its fake-quantised twin, with ranges of the three frames."""
    model = fake_quant(tiny.model, Spec())
    calibrate(model, [np.stack(frames).astype(np.float32)])
    return model


@pytest.fixture(scope="session")
def qat(twin, settings):
    """The int8 file of the twin."""
    return package.build(twin, settings, package.Options("qat"))


@pytest.fixture(scope="session")
def files(tiny, settings, frames):
    """{name: File} of float32, float16, the two 8-bit weights, and int8 with both kinds of scales."""
    kinds = {
        "float32": package.Options(),
        "float16": package.Options("float16"),
        "dynamic": package.Options("dynamic"),
        "weights": package.Options("dynamic", "per_tensor"),
        "int8": package.Options("ptq"),
        "int8_per_tensor": package.Options("ptq", "per_tensor", takes="int8"),
    }
    return {name: package.build(tiny.model, settings, options, frames) for name, options in kinds.items()}
