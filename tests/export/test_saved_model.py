"""The SavedModel: its boxes are normalised to the image that was given, in every mode of the frame."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.detector import Detector
from detect.export.saved_model import bilinear, save
from detect.geometry.frame import MODES
from detect.modeling.nms import NonMaxSuppression
from detect.runs.folder import DETECTOR_JSON
from tests.outside import python_blocks

SHAPES = [(90, 160), (160, 90), (120, 120), (400, 640)]


class White:
    """A detector of one class whose only box is around the bright pixels of the frame, and one that lies beyond."""

    size = (96, 128)

    postprocess = NonMaxSuppression()

    def __init__(self, resize: str):
        self.resize = resize
        inputs = tf_keras.Input((*self.size, 3))
        self.model = tf_keras.Model(inputs, tf_keras.layers.Conv2D(1, 1, kernel_initializer="ones")(inputs) / 3.0)

    def detect(self, image):
        """The network is a mean over channels."""
        bright = self.model(tf.cast(image, tf.float32))[..., 0] > 127
        boxes = []
        for axis, length in ((2, self.size[0]), (1, self.size[1])):
            side = tf.cast(tf.reduce_any(bright, axis), tf.int32)
            boxes.append((tf.argmax(side, 1), length - tf.argmax(side[:, ::-1], 1)))
        (ymin, ymax), (xmin, xmax) = boxes
        white = tf.cast(tf.stack([ymin, xmin, ymax, xmax], axis=1), tf.float32)
        corner = tf.ones_like(white) * [self.size[0] - 4.0, self.size[1] - 4.0, *self.size]
        number = tf.shape(image)[0]
        return {
            "boxes": tf.stack([corner, white, tf.zeros_like(white)], axis=1),
            "scores": tf.tile([[0.9, 0.8, 0.0]], [number, 1]),
            "classes": tf.tile([[1, 2, 0]], [number, 1]),
            "count": tf.fill([number], 2),
        }


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A white rectangle on black, and its box."""
    box = np.array([height * 0.2, width * 0.3, height * 0.9, width * 0.8]).round().astype(int)
    image = np.zeros((height, width, 3), np.uint8)
    image[box[0] : box[2], box[1] : box[3]] = 255
    return image, box


@pytest.fixture(scope="module", params=MODES)
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "model"
    save(White(request.param), ("corner", "white"), "test", folder, (3, 90))
    return folder, request.param


def test_boxes_are_those_of_the_image(saved):
    folder, mode = saved
    detector = Detector.load(folder)
    assert json.loads((folder / DETECTOR_JSON).read_text())["resize"] == mode
    assert detector.category_ids == (3, 90)
    for height, width in SHAPES:
        image, box = picture(height, width)
        (found,) = detector(image)
        pixel = max(height / 96, width / 128)
        np.testing.assert_allclose(found.boxes[found.classes == 2], [box], atol=1.5 * pixel)
        padded = mode == "keep_aspect" and height * 128 != width * 96
        assert found.names == (("white",) if padded else ("corner", "white"))
        np.testing.assert_allclose(found.scores, [0.8] if padded else [0.9, 0.8])
        assert (found.boxes >= 0).all() and (found.boxes <= np.array([height, width] * 2) + 1e-3).all()


def test_the_program_of_the_documentation_needs_tensorflow_alone(saved, tmp_path):
    folder, _ = saved
    (tmp_path / "saved_model").symlink_to(folder)
    image, box = picture(120, 160)
    cv2.imwrite(str(tmp_path / "photo.png"), image)
    code, _ = python_blocks("docs/ship/server.md")
    words = [sys.executable, "-c", "import sys; sys.modules['detect'] = None\n" + code]
    printed = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in printed] == ["corner", "white"]
    shares = [float(value) for value in printed[1].partition("[")[2].rstrip("]").split()]
    np.testing.assert_allclose(shares, box / [120, 160, 120, 160], atol=0.02)


def test_what_does_not_count_is_zero(saved):
    folder, mode = saved
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    outputs = {name: value.numpy()[0] for name, value in serve(tf.constant(picture(160, 90)[0][np.newaxis])).items()}
    count = int(outputs["num_detections"])
    assert count == (1 if mode == "keep_aspect" else 2)
    assert not any(outputs[f"detection_{name}"][count:].any() for name in ("boxes", "scores", "classes"))


@pytest.mark.parametrize("new", [(96, 96), (300, 300), (240, 320), (299, 1024)])
@pytest.mark.parametrize("old", [(97, 131), (31, 900), (300, 451), (7, 5)])
def test_the_bilinear_resize_is_opencvs_bit_by_bit(old, new):
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), np.uint8)
    found = bilinear(tf.constant(image[np.newaxis]), tf.constant(new))
    np.testing.assert_array_equal(found[0], cv2.resize(image, new[::-1], interpolation=cv2.INTER_LINEAR))
