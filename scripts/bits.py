"""Files with fewer or more bits than int8 has, made of finished float detectors without training, and their AP.

Usage: python scripts/bits.py RUN [RUN...]
RUN is a finished run of an SSD in float, whose data set has a test split. These files are made:
    kernels of 7, 6, 5 and 4 bits with activations of 8 bits, each with a scale for each channel and with one for a
    kernel. `fake_quant` rounds them. TFLite stores them in 8 bits, so that the file does not become smaller;
    kernels of 8 bits with activations of 16 bits (TFLite's int16x8), which the converter rounds.
All ranges come from the 100 training images that `detect export quantize=ptq` takes. Each file goes to RUN/NAME, with
its scores in `export.json`, which `detect report rows=exports` reads. A file that is there is not made again.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tf_keras
from ai_edge_litert import schema_py_generated as schema

from detect.api import Detector
from detect.config.compose import compose
from detect.export import comparison, images
from detect.export.options import LABELS
from detect.files import write_json
from detect.geometry.frame import Frame
from detect.quantization.calibrate import calibrate
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from detect.runs import provenance
from detect.runs.folder import EXPORT, TFLITE_MODEL
from detect.tflite import detection_output, flatbuffer, operators
from detect.tflite.convert import convert, converter_of, representative
from detect.tflite.metadata import Settings
from detect.tflite.quiet import quiet

Frames = list[np.ndarray]
Convert = Callable[[tf_keras.Model, Frames], schema.ModelT]


def few(bits: int, per_channel: bool) -> Convert:
    """Kernels of so many bits, activations of 8."""

    def make(model: tf_keras.Model, frames: Frames) -> schema.ModelT:
        twin = fake_quant(model, Spec(weight_bits=bits, per_channel=per_channel, ranges="calibrated"))
        calibrate(twin, (image for [image] in representative(frames)()))
        return convert(twin, "qat")

    return make


def int16x8(model: tf_keras.Model, frames: Frames) -> schema.ModelT:
    """Kernels of 8 bits with a scale for each channel, activations of 16."""

    converter = converter_of(model, "float32", 1)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]
    converter.representative_dataset = representative(frames)
    with quiet():
        return flatbuffer.read(converter.convert())


SCALES = {False: "per_tensor", True: "per_channel"}
FILES = {
    **{
        f"bits_{bits}_{SCALES[each]}": (f"{bits}-bit kernels", SCALES[each], "int8", few(bits, each))
        for bits in (7, 6, 5, 4)
        for each in (True, False)
    },
    "int16x8": ("int16x8", "per_channel", "int16 (int8 kernel)", int16x8),
}
"""The folder of each file -> what it is called, its scales, the type of its convolutions, and what makes it."""


def export(run: Path, name: str, detector: Detector) -> None:
    """Makes and scores one file."""
    cfg = compose([f"run={run}", "format=tflite", "quantize=ptq"], "export", None)
    called, weights, computes, make = FILES[name]
    architecture, dataset, folder = detector.architecture, images.data_of(cfg), run / name
    _, _, training = images.images_of(cfg, dataset, Frame(detector.size, architecture.resize))
    graph = make(architecture.model, training)
    counts = operators.census(graph)
    if (types := {kind for name in operators.CONVOLUTIONS for kind in counts.get(name, {})}) != {computes}:
        raise SystemExit(f"{folder}: convolutions compute in {sorted(types)}, and should in {computes}")
    settings = Settings.of(architecture, detector.classes)
    whole = detection_output.attach(graph, settings)
    flatbuffer.set_metadata(whole, settings.entries())
    content = flatbuffer.write(whole)
    folder.mkdir(exist_ok=True)
    (folder / TFLITE_MODEL).write_bytes(content)
    (folder / LABELS).write_text("\n".join(detector.classes) + "\n", encoding="utf-8")
    scores = comparison.score(cfg, dataset, Detector.load(folder), architecture)
    if scores is None:
        raise SystemExit(f"{run}: its data set has no boxes to score")
    about = {
        "format": "tflite",
        "by": called,
        "options": {"quantize": "ptq", "weights": weights},
        "bytes": len(content),
        "representative": len(training),
        "scores": scores,
    }
    write_json(folder / EXPORT, {**about, **provenance.collect()})
    print(f"{folder}: AP {scores['file']['AP']:.4f}, of the run {scores['run']['AP']:.4f}", flush=True)


def main() -> None:
    """Makes the files that are not there yet."""
    for run in map(Path, sys.argv[1:]):
        detector = Detector.load(run, "detector")
        for name in FILES:
            if not (run / name / EXPORT).exists():
                export(run, name, detector)


if __name__ == "__main__":
    main()
