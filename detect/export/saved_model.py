"""Writes a detector as a SavedModel that takes images of any size: resize and input scaling are inside."""

import json
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from detect.evaluation.thresholds import Shipped
from detect.export.description import describe
from detect.geometry.frame import Frame
from detect.modeling.interface import Detector
from detect.runs.folder import DETECTOR_JSON
from detect.weights.saved_model import hashes

UNIT = 2048  # the integer for 1.0 in OpenCV's fixed-point weights


def save(
    architecture: Detector,
    classes: Sequence[str],
    origin: str,
    folder: Path,
    category_ids: Sequence[int] | None = None,
    threshold: Shipped | None = None,
) -> None:
    """Writes a SavedModel, with its class names, their numbers in the user's own files (None: 1..C), the thresholds
    and the name of its run (`origin`) in a file beside it.

    The signature is that of the Object Detection API: `input_tensor`, uint8 [B, H, W, 3] of any size ->
    `detection_boxes` [B, N, 4] normalised to that image, `detection_scores`, `detection_classes` from 1,
    `num_detections`.
    """
    module = tf.Module()
    module.weights = architecture.model.variables  # Keras would trace each layer of a model once more
    frame = Frame(architecture.size, architecture.resize)

    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8, name="input_tensor")]

    @tf.function(input_signature=signature, autograph=False)
    def serve(input_tensor):
        image, used = fit_in_graph(input_tensor, frame)
        found = architecture.detect(image)
        if frame.mode == "keep_aspect":
            found = without_padding(found, used)
        return {
            "detection_boxes": found["boxes"] / tf.cast(tf.tile(used, [2]), tf.float32),
            "detection_scores": found["scores"],
            "detection_classes": tf.cast(found["classes"], tf.float32),
            "num_detections": tf.cast(found["count"], tf.float32),
        }

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    about = describe(architecture, classes, origin, category_ids, threshold) | {"sha256": hashes(folder)}
    (folder / DETECTOR_JSON).write_text(json.dumps(about, indent=2), encoding="utf-8")


def fit_in_graph(image, frame: Frame):
    """`Frame.fit` and `Frame.used` as TensorFlow operations: uint8 [B, H, W, 3] -> float32 [B, *size, 3], rounded to
    whole levels unless the mode is `zoo`, and the used (height, width), int32 [2]."""
    size = tf.constant(frame.size)
    if frame.mode == "zoo":
        return tf.compat.v1.image.resize_bilinear(image, size), size
    shape = tf.shape(image)[1:3]
    used = _used(shape, frame.size) if frame.mode == "keep_aspect" else size
    image = tf.cond(
        tf.reduce_all(shape >= 2 * used),
        lambda: _area(image, used),
        lambda: bilinear(image, used),
    )
    below, right = tf.unstack(size - used)
    image = tf.pad(image, [[0, 0], [0, below], [0, right], [0, 0]])
    return tf.ensure_shape(image, [None, *frame.size, 3]), used


def bilinear(image, size):
    """uint8 [B, H, W, 3] -> float32 [B, *size, 3], equal to OpenCV's INTER_LINEAR to the last bit.

    OpenCV computes in integers and truncates, but TensorFlow's resize rounds. With TensorFlow's resize, a tenth of the
    pixels of a photograph would differ by one level, and a detector's AP by .003.
    """
    shift = tf.bitwise.right_shift
    (height, width), (new_height, new_width) = tf.unstack(tf.shape(image)[1:3]), tf.unstack(size)
    left, right, shares = _neighbours(width, new_width)
    shares = tf.where((left == right)[:, tf.newaxis], [UNIT, 0], shares)  # only for columns beyond the outer centres
    first, second = (tf.cast(tf.gather(image, index, axis=2), tf.int32) for index in (left, right))
    rows = shift(first * shares[:, :1] + second * shares[:, 1:], 4)
    above, below, shares = _neighbours(height, new_height)
    first, second = (tf.gather(rows, index, axis=1) for index in (above, below))
    parts = (shift(x * shares[:, i, tf.newaxis, tf.newaxis], 16) for i, x in enumerate((first, second)))
    return tf.cast(shift(tf.add_n([*parts]) + 2, 2), tf.float32)


def _area(image, size):
    """The mean over areas, rounded as in OpenCV's INTER_AREA: for areas of 2 x 2, a half is rounded up."""
    means = tf.image.resize(image, size, "area")
    return tf.cond(
        tf.reduce_all(tf.shape(image)[1:3] == 2 * size), lambda: tf.floor(means + 0.5), lambda: tf.round(means)
    )


def _neighbours(old, new):
    """For each of `new` pixels, the two of `old` around it, and their int32 weights [new, 2], whose sum is UNIT."""
    scale = 1 / (tf.cast(new, tf.float64) / tf.cast(old, tf.float64))
    place = tf.cast((tf.cast(tf.range(new), tf.float64) + 0.5) * scale - 0.5, tf.float32)
    before = tf.floor(place)
    shares = tf.stack([1 - (place - before), place - before], axis=1)
    first = tf.cast(before, tf.int32)
    indices = (tf.clip_by_value(index, 0, old - 1) for index in (first, first + 1))
    return *indices, tf.cast(tf.round(shares * UNIT), tf.int32)


def without_padding(found: dict, used) -> dict:
    """Clips detections to the used (height, width) of the frame; those without area are moved to the end, set to 0 and
    not counted."""
    boxes = tf.clip_by_value(found["boxes"], 0.0, tf.cast(tf.tile(used, [2]), tf.float32))
    real = tf.sequence_mask(found["count"], tf.shape(boxes)[1])
    real &= tf.reduce_all(boxes[..., 2:] > boxes[..., :2], axis=-1)
    first = tf.argsort(tf.cast(real, tf.int32), axis=1, direction="DESCENDING", stable=True)
    real = tf.gather(real, first, batch_dims=1)
    kept = {"boxes": boxes, "scores": found["scores"], "classes": found["classes"]}
    kept = {name: tf.gather(value, first, batch_dims=1) for name, value in kept.items()}
    return {
        "boxes": tf.where(real[..., tf.newaxis], kept["boxes"], 0.0),
        "scores": tf.where(real, kept["scores"], 0.0),
        "classes": tf.where(real, kept["classes"], 0),
        "count": tf.reduce_sum(tf.cast(real, tf.int32), axis=1),
    }


def _used(shape, size: tuple[int, int]):
    """`Frame.used` of `keep_aspect`, int32 [2]; it computes in int64, because the products may be large."""
    height, width = tf.unstack(tf.cast(shape, tf.int64))
    tall, wide = (tf.constant(side, tf.int64) for side in size)
    upright = tf.stack([tall, tf.maximum(tf.constant(1, tf.int64), (2 * width * tall + height) // (2 * height))])
    lying = tf.stack([tf.maximum(tf.constant(1, tf.int64), (2 * height * wide + width) // (2 * width)), wide])
    return tf.cast(tf.where(tall * width <= wide * height, upright, lying), tf.int32)
