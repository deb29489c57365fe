"""Scoring a split in pixels of the image files, whatever the images' shapes and the mode of the frame."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.evaluation.evaluators import DetectionEvaluator
from detect.geometry.frame import MODES, Frame

SHAPES = [(90, 160), (160, 90), (120, 120), (61, 240)]
FRAME = (192, 256)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> DetectionDataset:
    """White rectangles on grey images of several shapes."""
    folder, examples = tmp_path_factory.mktemp("images"), []
    for k, (height, width) in enumerate(SHAPES):
        box = np.array([height * 0.2, width * 0.3, height * 0.9, width * 0.8]).round().astype(int)
        picture = np.full((height, width, 3), 60, np.uint8)
        picture[box[0] : box[2], box[1] : box[3]] = 255
        cv2.imwrite(str(folder / f"{k}.png"), picture)
        examples.append(Example(Path(folder / f"{k}.png"), width, height, box[np.newaxis], [1], [False], str(k)))
    return DetectionDataset("white", ("white",), {"train": (), "val": tuple(examples), "test": ()})


def white_and_black(image):
    """A detector that finds what is white, and with half the score what is black, which only padding is."""
    level = tf.cast(image, tf.float32)[..., 0]

    def around(inside):
        rows, columns = tf.reduce_any(inside, 2), tf.reduce_any(inside, 1)
        edges = [(tf.argmax(tf.cast(side, tf.int32), 1), side.shape[1]) for side in (rows, columns)]
        ends = [length - tf.argmax(tf.cast(side[:, ::-1], tf.int32), 1)
                for side, (_, length) in zip((rows, columns), edges, strict=True)]  # fmt: skip
        return tf.cast(tf.stack([edges[0][0], edges[1][0], *ends], axis=1), tf.float32)

    black = tf.reduce_any(level < 1, axis=[1, 2])
    return {
        "boxes": tf.stack([around(level > 157), around(level < 1)], axis=1),
        "scores": tf.stack([tf.ones(tf.shape(level)[0]), 0.5 * tf.cast(black, tf.float32)], axis=1),
        "classes": tf.ones((tf.shape(level)[0], 2), tf.int32),
        "count": 1 + tf.cast(black, tf.int32),
    }


@pytest.mark.parametrize("mode", MODES)
def test_boxes_come_back_to_the_images_own_pixels(dataset, mode):
    seen = []

    def detect(image):
        seen.append(image.dtype)
        return white_and_black(image)

    scores, found = DetectionEvaluator(detect, Frame(FRAME, mode), dataset, "val", batch_size=3, threads=2)()
    assert seen == [tf.float32 if mode == "zoo" else tf.uint8]
    for example in dataset.splits["val"]:
        boxes, values, _ = found.detections[example.id]
        assert len(boxes) == len(values) == 1  # the padding's box is gone
        np.testing.assert_allclose(boxes, example.boxes, atol=1.5)
    assert scores.summary["AP50"] == 1.0
