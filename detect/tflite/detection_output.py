"""The operations after the heads in a TFLite file: decoding and suppression, always in float32."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from detect.errors import WeightsError
from detect.geometry.box_coder import BoxCoder
from detect.tflite import flatbuffer
from detect.tflite.metadata import Settings
from detect.tflite.options import OUTPUTS
from detect.tflite.quiet import quiet

LEAST = 1e-3  # pixels: the least side of a box, before its logarithm is taken
OP = "TFLite_Detection_PostProcess"


def build(settings: Settings) -> bytes:
    """A TFLite file of codes [1, A, 4] and logits [1, A, C + 1] -> `detection_boxes` [1, N, 4] normalised to the frame,
    `detection_classes` [1, N] from 0, `detection_scores` [1, N], `num_detections` [1], all float32.
    """
    end = tflite_op(settings) if settings.nms == "tflite_op" else in_graph(settings)
    anchors = len(settings.anchors)
    codes = tf.TensorSpec([1, anchors, 4], tf.float32, name="codes")
    logits = tf.TensorSpec([1, anchors, len(settings.classes) + 1], tf.float32, name="logits")
    module = tf.Module()
    module.end = tf.function(end, input_signature=[codes, logits])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.end.get_concrete_function()], module)
    converter.allow_custom_ops = settings.nms == "tflite_op"
    with quiet():
        content = converter.convert()
    return _with_per_class(content, settings) if settings.nms == "tflite_op" else content


def in_graph(settings: Settings) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """`NonMaxSuppression` with TFLite's own operations: one NON_MAX_SUPPRESSION_V4 for each class, or one for all."""
    frame = tf.constant([*settings.size, *settings.size], tf.float32)

    def end(codes: tf.Tensor, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        boxes, scores, kinds = (_together if settings.class_agnostic else _apart)(settings, codes, logits)
        # As in `NonMaxSuppression`, boxes are clipped after the suppression, and those outside the frame are dropped.
        boxes = tf.clip_by_value(boxes, 0.0, frame)
        inside = tf.reduce_min(boxes[:, 2:] - boxes[:, :2], axis=1) > 0
        scores, best = tf.math.top_k(tf.where(inside, scores, 0.0), min(settings.total, kinds.shape[0]))
        real = scores > 0
        boxes = tf.where(real[:, tf.newaxis], tf.gather(boxes, best) / frame, 0.0)
        kinds = tf.where(real, tf.gather(kinds, best), 0.0)
        count = tf.reduce_sum(tf.cast(real, tf.float32))
        values = (boxes, kinds, scores, count)
        return {name: value[tf.newaxis] for name, value in zip(OUTPUTS, values, strict=True)}

    return end


def _apart(settings: Settings, codes, logits):
    """The best boxes [n, 4], scores [n] and classes [n] from 0 of each class, one class after the other."""
    boxes, scores = (x[0] for x in settings.decode(codes, logits))
    found = [_suppressed(settings, boxes, scores[:, i], settings.per_class) for i in range(len(settings.classes))]
    kinds = np.repeat(np.arange(len(found), dtype=np.float32), settings.per_class)
    boxes, scores = (tf.concat(parts, axis=0) for parts in zip(*(one[:2] for one in found), strict=True))
    return boxes, scores, tf.constant(kinds)


def _together(settings: Settings, codes, logits):
    """The same of all classes together: the best class of each anchor competes, as in `suppress_together`."""
    boxes, scores = (x[0] for x in settings.decode(codes, logits))
    kinds = tf.cast(tf.argmax(scores, axis=1, output_type=tf.int32), tf.float32)
    boxes, scores, picked = _suppressed(settings, boxes, tf.reduce_max(scores, axis=1), 2 * settings.total)
    return boxes, scores, tf.gather(kinds, picked)


def _suppressed(settings: Settings, boxes, scores, most: int):
    """The `most` best boxes [n, 4] and scores [n], padded with zeros, and their places in the input."""
    picked, count = tf.raw_ops.NonMaxSuppressionV4(
        boxes=boxes,
        scores=scores,
        max_output_size=most,
        iou_threshold=settings.iou,
        score_threshold=settings.score,
        pad_to_max_output_size=True,
    )
    real = tf.range(most) < count
    return tf.gather(boxes, picked), tf.where(real, tf.gather(scores, picked), 0.0), picked


def tflite_op(settings: Settings) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """The custom operation that TFLite's detection examples expect; it decodes, and suppresses each class or, with
    `class_agnostic`, the best class of each anchor.

    It does not clip boxes: those outside the frame take places among the `total` best, and `detections` drops them.
    """
    height, width = settings.size
    corners = settings.anchors / np.array([height, width, height, width], np.float32)
    sizes = corners[:, 2:] - corners[:, :2]
    anchors = np.concatenate([corners[:, :2] + sizes / 2, sizes], axis=1).astype(np.float32)
    shapes = [(1, settings.total, 4), (1, settings.total), (1, settings.total), (1,)]

    @tf.function(experimental_implements=_implements(settings), autograph=False)
    def suppress(codes, scores, anchors):
        """Has the shapes of the outputs; the converter replaces this body by the operation and keeps its arguments."""
        kept = tf.reduce_sum(codes) + tf.reduce_sum(scores) + tf.reduce_sum(anchors)
        return tuple(tf.zeros(shape) + kept for shape in shapes)

    def end(codes: tf.Tensor, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        found = suppress(_offsets(settings, codes), settings.scored(logits), tf.constant(anchors))
        return dict(zip(OUTPUTS, found, strict=True))

    return end


def _offsets(settings: Settings, codes):
    """The codes that the operation decodes: offsets from the anchors, also if the network has other codes."""
    if settings.boxes == "offsets":
        return codes
    boxes = settings.decode_boxes(codes)
    boxes = tf.concat([boxes[..., :2], tf.maximum(boxes[..., 2:], boxes[..., :2] + LEAST)], axis=-1)
    return BoxCoder(settings.scales).encode(boxes, tf.constant(settings.anchors)[tf.newaxis])


def right_threads(settings: Settings, threads: int) -> int:
    """`threads`, or 1 if the file would give wrong results with so many.

    The custom operation divides its classes among T threads and leaves out class T, counted from 0 (TensorFlow issue
    56058; still so in TensorFlow 2.20 and ai-edge-litert 2.3). It is correct with one thread, or with at least as many
    threads as classes.
    """
    divided = settings.nms == "tflite_op" and not settings.class_agnostic
    return 1 if divided and threads < len(settings.classes) else threads


def _implements(settings: Settings) -> str:
    """The operation's name and attributes, as text of a protocol buffer."""
    y, x, h, w = settings.scales
    whole = {
        "max_detections": settings.total,
        "max_classes_per_detection": 1,
        "num_classes": len(settings.classes),
    }
    real = {
        "nms_score_threshold": settings.score,
        "nms_iou_threshold": settings.iou,
        "y_scale": y,
        "x_scale": x,
        "h_scale": h,
        "w_scale": w,
    }
    attributes = [(name, f"i: {value}") for name, value in whole.items()]
    attributes += [(name, f"f: {value:.9g}") for name, value in real.items()]
    attributes.append(("use_regular_nms", f"b: {str(not settings.class_agnostic).lower()}"))
    text = " ".join(f'attr {{ key: "{name}" value {{ {value} }} }}' for name, value in attributes)
    return f'name: "{OP}" {text}'


def _with_per_class(content: bytes, settings: Settings) -> bytes:
    """Adds the argument `detections_per_class`, which the converter leaves out (the operation then takes 100)."""
    model = flatbuffer.read(content)
    for operator in model.subgraphs[0].operators:
        if flatbuffer.operator_name(model, operator) == OP:
            arguments = flexbuffers.Loads(bytes(operator.customOptions))
            packed = flexbuffers.Dumps(arguments | {"detections_per_class": settings.per_class})
            operator.customOptions = np.frombuffer(bytes(packed), np.uint8)
    return flatbuffer.write(model)


def detections(settings: Settings, outputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs of a file -> boxes [n, 4] in pixels of the frame, clipped to it, scores [n] and classes [n] from 1."""
    if settings.nms == "none":
        found = {n: v.numpy()[0] for n, v in _decoded(settings, outputs["codes"], outputs["logits"]).items()}
        count = int(found["count"])
        return found["boxes"][:count], found["scores"][:count], found["classes"][:count]
    frame = np.array(settings.size * 2, np.float32)
    sides = {name: outputs[name].shape[1] for name in OUTPUTS[:3]}
    if len(set(sides.values())) > 1:
        told = ", ".join(f"{side} of {name}" for name, side in sides.items())
        raise WeightsError(f"the outputs of the file do not agree: {told}")
    count = as_count(outputs["num_detections"], sides[OUTPUTS[0]])
    boxes, kinds, scores = (outputs[name][0, :count] for name in OUTPUTS[:3])
    boxes = np.clip(boxes * frame, 0, frame)
    real = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)  # the custom operation keeps boxes outside the frame
    return boxes[real], scores[real], kinds[real].astype(np.int32) + 1


def as_count(value: np.ndarray, most: int) -> int:
    """The number of detections that a model tells, in a float; at most so many, and 0 if it is no number."""
    return int(np.clip(np.nan_to_num(value.reshape(-1)[0], nan=0.0), 0, most))


def shapes(settings: Settings) -> dict[str, tuple[int | None, ...]]:
    """The shapes of a file's outputs; None is any side."""
    if settings.nms == "none":
        anchors = len(settings.anchors)
        return {"codes": (None, anchors, 4), "logits": (None, anchors, len(settings.classes) + 1)}
    return dict(zip(OUTPUTS, [(1, None, 4), (1, None), (1, None), (1,)], strict=True))


def _decoded(settings: Settings, codes, logits):
    return settings.detect(tf.constant(codes), tf.constant(logits))


def attach(body: schema.ModelT, settings: Settings) -> schema.ModelT:
    """`body`, a `schema.ModelT` with float heads, with decoding and suppression after them."""
    return body if settings.nms == "none" else flatbuffer.join(body, flatbuffer.read(build(settings)))
