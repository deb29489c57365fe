"""A detector as a SavedModel that takes pixels of any size: resize and input scaling are inside."""

import json
from pathlib import Path
from typing import Any

import tensorflow as tf

DETECTOR_JSON = "detector.json"  # class names, input frame and origin, beside the SavedModel


def save(architecture: Any, classes, origin: str, folder: Path) -> None:
    """architecture: a meta-architecture. The signature is the Object Detection API's: `input_tensor`, uint8
    [B, H, W, 3] of any size -> `detection_boxes` [B, N, 4] normalised, `detection_scores`, `detection_classes` from 1,
    `num_detections`.
    """
    module = tf.Module()
    module.model = architecture.model
    frame = tf.constant([*architecture.size, *architecture.size], tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="input_tensor")])
    def serve(input_tensor):
        found = architecture.detect(resize_in_graph(input_tensor, architecture.size))
        return {
            "detection_boxes": found["boxes"] / frame,
            "detection_scores": found["scores"],
            "detection_classes": tf.cast(found["classes"], tf.float32),
            "num_detections": tf.cast(found["count"], tf.float32),
        }

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    about = {"classes": list(classes), "size": architecture.size, "run": origin}
    (folder / DETECTOR_JSON).write_text(json.dumps(about, indent=2))


def resize_in_graph(image, size):
    """The resize of training (`detect.data.augment.resize`) as TensorFlow operations, rounded to whole levels."""
    height, width = size
    shape = tf.shape(image)
    image = tf.cond(
        (shape[1] >= 2 * height) & (shape[2] >= 2 * width),
        lambda: tf.image.resize(image, size, "area"),
        lambda: tf.image.resize(image, size, "bilinear"),
    )
    return tf.round(image)
