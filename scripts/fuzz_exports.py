"""Exported detectors, as `scripts/fuzz_models.py` damages them: TFLite, ONNX and OpenVINO files, and SavedModels."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fuzz_runs
import numpy as np

from detect.data.dataset import DetectionDataset
from detect.files import write_json

SIZE = (32, 48)


def tiny() -> Any:
    """A detector of one map: 16 x 24 cells, two classes."""
    import tf_keras

    from detect.modeling.interface import Decoding
    from detect.modeling.nms import NonMaxSuppression
    from detect.tflite.metadata import Settings

    layers = tf_keras.layers
    image = tf_keras.Input((*SIZE, 3), name="image")
    x = layers.Conv2D(8, 3, 2, "same", activation="relu", name="first")(image)
    codes = layers.Reshape((-1, 4), name="codes")(layers.Conv2D(4, 1, name="boxes")(x))
    logits = layers.Reshape((-1, 3), name="logits")(layers.Conv2D(3, 1, name="classes")(x))
    rows, columns = np.indices((16, 24)).reshape(2, -1) * 2.0 + 1.0
    detector = SimpleNamespace(
        model=tf_keras.Model(image, {"codes": codes, "logits": logits}, name="tiny"),
        size=SIZE,
        resize="stretch",
        anchors=np.stack([rows - 4, columns - 6, rows + 4, columns + 6], axis=1).astype(np.float32),
        decoding=lambda: Decoding("offsets", (10.0, 10.0, 5.0, 5.0), "sigmoid"),
        postprocess=NonMaxSuppression(iou=0.5, score=0.3, per_class=5, total=9),
    )

    def detect(frame):
        outputs = detector.model(frame)
        return Settings.of(detector, fuzz_runs.CLASSES).detect(outputs["codes"], outputs["logits"])

    detector.detect = detect
    return detector


def make_tflite(folder: Path, _: DetectionDataset) -> None:
    from detect.tflite import package
    from detect.tflite.metadata import Settings

    detector = tiny()
    settings = Settings.of(detector, fuzz_runs.CLASSES)
    for nms in ("none", "in_graph"):
        file = package.build(detector.model, settings, package.Options(nms=nms))
        (folder / f"{nms}.tflite").write_bytes(file.content)


def make_onnx(folder: Path, _: DetectionDataset) -> None:
    content, _ = portable()
    (folder / "model.onnx").write_bytes(content)


def make_openvino(folder: Path, _: DetectionDataset) -> None:
    from detect.portable import convert

    convert.write_openvino(*portable(), folder)


@functools.cache
def portable() -> tuple[bytes, dict[str, Any]]:
    """The tiny detector as an ONNX file, and its description."""
    from detect.export.description import describe
    from detect.portable import convert

    about = describe(tiny(), fuzz_runs.CLASSES, "run", None)
    return convert.to_onnx(tiny(), about), about


def make_saved_model(folder: Path, _: DetectionDataset) -> None:
    from detect.export import saved_model

    saved_model.save(tiny(), fuzz_runs.CLASSES, "run", folder)
    (folder / "fingerprint.pb").unlink()


def make_description(folder: Path, dataset: DetectionDataset) -> None:
    make_saved_model(folder, dataset)
    about = json.loads((folder / "detector.json").read_text())
    del about["sha256"]
    write_json(folder / "detector.json", about)


def read_exported(_: Path, path: Path) -> object:
    from detect.detector import Detector

    return Detector.load(path)(np.zeros((20, 30, 3), np.uint8))


def read_openvino(folder: Path, path: Path) -> object:
    """Reads a model whose hashes agree, as a stranger's do: OpenVINO itself has to read the damaged file."""
    from detect.weights.download import sha256_of

    described = folder / "detector.json"
    before = described.read_bytes()
    if path != described:
        about = json.loads(before)
        about["sha256"][path.name] = sha256_of(path)
        described.write_text(json.dumps(about))
    try:
        return read_exported(folder, folder / "model.xml")
    finally:
        if path != described:
            described.write_bytes(before)


def read_saved_model(folder: Path, _: Path) -> None:
    """The checks of a SavedModel. TensorFlow loads the model only if nothing has changed since it was written."""
    from detect.errors import WeightsError
    from detect.weights import claims, saved_model

    try:
        about = json.loads((folder / "detector.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError("detector.json") from error
    claims.check_description(about, "detector.json")
    saved_model.check(folder, about.get("sha256"))


MAKERS: dict[str, tuple[Callable[[Path, DetectionDataset], None], Callable[[Path, Path], object]]] = {
    "tflite": (make_tflite, read_exported),
    "onnx": (make_onnx, read_exported),
    "openvino": (make_openvino, read_openvino),
    "saved model": (make_saved_model, read_saved_model),
    "older saved model": (make_description, read_saved_model),
}
