"""Runs ONNX files with onnxruntime and OpenVINO models with OpenVINO. Nothing here imports TensorFlow.

Both libraries are C++ that believe their files. So a file is first run on an empty frame in a process of its own, with
limits of time and memory, and an ONNX file that names other files is refused.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from detect import apart as process
from detect.errors import WeightsError, one_line
from detect.files import sha256_of
from detect.geometry.frame import MODES
from detect.portable.packages import require
from detect.runs.folder import DETECTOR_JSON
from detect.tflite.options import OUTPUTS
from detect.weights import claims

ENTRY = "detect.json"  # the name of the description in the metadata of an ONNX file
MEMORY = 6 << 30  # bytes of address space, beside the file's own
Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Portable:
    """A model that runs. run: uint8 [N, height, width, 3] -> its outputs by name. about: its description, checked."""

    run: Callable[[np.ndarray], Outputs]
    about: dict[str, Any]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame."""
        height, width = self.about["size"]
        return height, width


def open_file(file: Path, threads: int) -> Portable:
    """An ONNX file (`.onnx`) or an OpenVINO model (`.xml`) of `detect export`. Raises WeightsError for any other."""
    kind = "openvino" if file.suffix == ".xml" else "onnx"
    require(kind, str(file))
    places = (file, file.with_suffix(".bin")) if kind == "openvino" else (file,)
    sizes = sum(claims.size_of(place) for place in places)
    if sizes > claims.LARGEST:
        raise WeightsError(f"{file}: it has {sizes} bytes; legal are at most {claims.LARGEST >> 30} GB")
    limits = process.Limits(60 + (sizes >> 20), MEMORY + 8 * sizes)
    process.call("detect.portable.runner", [kind, str(file)], str(file), limits).close()
    return OPENERS[kind](file, threads)


def apart(arguments: Sequence[str], stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Runs a model on an empty frame, in the process of `open_file`. arguments: kind and path."""
    kind, path = arguments
    if kind == "onnx":
        _refuse_other_files(Path(path))
    model = OPENERS[kind](Path(path), 1)
    try:
        found = model.run(np.zeros((1, *model.size, 3), np.uint8))
    except Exception as error:  # each library has errors of its own
        raise WeightsError(f"{path}: it can't be run: {one_line(error)}") from error
    shapes = {name: value.shape for name, value in found.items()}
    side = shapes["detection_scores"][-1:]
    if shapes != dict(zip(OUTPUTS, [(1, *side, 4), (1, *side), (1, *side), (1,)], strict=True)):
        raise WeightsError(f"{path}: its outputs have the shapes {shapes}, which do not agree")


def _onnx(file: Path, threads: int) -> Portable:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    try:
        content, providers = file.read_bytes(), ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(content, options, providers, enable_fallback=0)  # a fallback prints
        text = session.get_modelmeta().custom_metadata_map.get(ENTRY)
        (image,) = [one.name for one in session.get_inputs()]
    except Exception as error:  # onnxruntime raises errors of its own for a damaged file
        raise WeightsError(f"{file}: onnxruntime can't load this file: {one_line(error)}") from error
    if text is None:
        raise WeightsError(f"{file}: an ONNX file of another program: it has no {ENTRY}, which `detect export` writes")
    about = _description(text, str(file))
    _check_outputs([one.name for one in session.get_outputs()], str(file))

    def run(frames: np.ndarray) -> Outputs:
        return dict(zip(OUTPUTS, session.run(OUTPUTS, {image: frames}), strict=True))

    return Portable(run, about)


def _openvino(file: Path, threads: int) -> Portable:
    import openvino

    beside = file.with_name(DETECTOR_JSON)
    try:
        text = beside.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise WeightsError(f"{beside}, which names the classes, can't be read: {error}") from error
    about = _description(text, str(beside))
    written = {Path(name).suffix: digest for name, digest in about.get("sha256", {}).items()}  # a user may rename both
    for place in (file, file.with_suffix(".bin")):
        if written.get(place.suffix) != sha256_of(place):
            raise WeightsError(f"{place}: it is not what it was when the model was written")
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    try:
        model = openvino.Core().compile_model(file, "CPU", settings)
        names = [output.get_any_name() for output in model.outputs]
    except Exception as error:  # OpenVINO raises RuntimeError and errors of its own
        raise WeightsError(f"{file}: OpenVINO can't load this model: {one_line(error)}") from error
    _check_outputs(names, str(file))

    def run(frames: np.ndarray) -> Outputs:
        return dict(zip(names, model([frames]).values(), strict=True))

    return Portable(run, about)


OPENERS = {"onnx": _onnx, "openvino": _openvino}


def _description(text: str, name: str) -> dict[str, Any]:
    """The description of a model of `detect export`, checked."""
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{name}: its description can't be read: {error}") from error
    claims.check_description(about, name)
    if about.get("resize") not in MODES:
        raise WeightsError(f"{name}: resize={str(about.get('resize'))[:60]}; legal are {', '.join(MODES)}")
    return about


def _check_outputs(names: Iterable[str], file: str) -> None:
    if missing := sorted(set(OUTPUTS) - set(names)):
        raise WeightsError(f"{file}: the model does not give {', '.join(missing)}")


def _refuse_other_files(file: Path) -> None:
    """Raises WeightsError for an ONNX file that is damaged or names other files."""
    import onnx

    try:
        model = onnx.load_model_from_string(file.read_bytes())
    except Exception as error:  # a damaged protocol buffer
        raise WeightsError(f"{file}: not an ONNX file, or a damaged one: {one_line(error)}") from error
    if _names_files(model):
        raise WeightsError(f"{file}: it keeps numbers in other files, which `detect export` never does")


def _names_files(message: Any) -> bool:
    """Whether a tensor anywhere in a protocol buffer of ONNX keeps its numbers in another file."""
    if message.DESCRIPTOR.name == "TensorProto":
        return bool(message.external_data) or message.data_location != 0
    parts = (value for field, value in message.ListFields() if field.message_type is not None)
    return any(_names_files(one) for part in parts for one in (part if hasattr(part, "__len__") else [part]))
