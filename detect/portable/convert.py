"""Writes a detector with its decoding and suppression as an ONNX graph, and makes an OpenVINO model of that."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import tensorflow as tf

from detect.errors import ConfigError, one_line
from detect.files import sha256_of
from detect.modeling.interface import Detector
from detect.portable.packages import MODEL
from detect.portable.runner import ENTRY
from detect.runs.folder import DETECTOR_JSON
from detect.tflite.quiet import quiet

OPSET = 17  # of ONNX; onnxruntime reads it since 1.12


def to_onnx(architecture: Detector, about: dict[str, Any], wanted: str = "onnx") -> bytes:
    """The bytes of an ONNX file, with `about` in its metadata. wanted: the format that is made of it, for messages.

    `image`, uint8 [B, height, width, 3], RGB frames -> `detection_boxes` [B, N, 4] normalised to the frame,
    `detection_scores` [B, N], `detection_classes` [B, N] from 1, `num_detections` [B], all float32.
    Raises ConfigError if an operation of the network has no counterpart in ONNX.
    """
    import onnx
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)  # it tells of each step

    signature = [tf.TensorSpec([None, *architecture.size, 3], tf.uint8, name="image")]

    @tf.function(input_signature=signature, autograph=False)
    def serve(image):
        found = architecture.detect(tf.cast(image, tf.float32))
        size = tf.constant([*architecture.size] * 2, tf.float32)  # from outside, it would become an input
        return {
            "detection_boxes": found["boxes"] / size,
            "detection_classes": tf.cast(found["classes"], tf.float32),
            "detection_scores": found["scores"],
            "num_detections": tf.cast(found["count"], tf.float32),
        }

    try:
        with quiet():
            model, _ = tf2onnx.convert.from_function(serve, input_signature=serve.input_signature, opset=OPSET)
    except (ValueError, RuntimeError, KeyError) as error:
        raise ConfigError(f"format={wanted}: tf2onnx refuses this network: {one_line(error)}") from error
    if foreign := sorted({n.op_type for n in model.graph.node if not onnx.defs.has(n.op_type, OPSET, n.domain)}):
        raise ConfigError(f"format={wanted}: ONNX has no counterpart for {', '.join(foreign)} in this network")
    entry = model.metadata_props.add()
    entry.key, entry.value = ENTRY, json.dumps(about)
    return bytes(model.SerializeToString())


def operators(content: bytes) -> dict[str, dict[str, int]]:
    """{operation: {"none": how many}} of an ONNX file; its operations have no type of their own."""
    import onnx

    counts = Counter(node.op_type for node in onnx.load_model_from_string(content).graph.node)
    return {name: {"none": count} for name, count in sorted(counts.items())}


def write_openvino(content: bytes, about: dict[str, Any], folder: Path) -> None:
    """Writes `model.xml`, `model.bin` with float32 weights, and the description with their hashes. content: ONNX."""
    import openvino

    source = folder / MODEL["onnx"]
    source.write_bytes(content)
    try:
        model = openvino.convert_model(source)
    except RuntimeError as error:
        raise ConfigError(f"format=openvino: OpenVINO refuses this network: {one_line(error, -1)}") from error
    openvino.save_model(model, folder / MODEL["openvino"], compress_to_fp16=False)
    source.unlink()
    files = sorted(folder.glob("model.*"))
    hashes = {"sha256": {file.name: sha256_of(file) for file in files}}
    (folder / DETECTOR_JSON).write_text(json.dumps(about | hashes, indent=2), encoding="utf-8")
