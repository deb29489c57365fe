"""Finds the format of a file of weights from its content, and reads the file."""

import re
import struct
import zipfile
from pathlib import Path

from detect.errors import WeightsError, first_few
from detect.weights import checkpoint
from detect.weights.interface import Network
from detect.weights.names import Arrays, our_arrays

LEGAL = (
    "Legal are a run folder of this program, a checkpoint of TF-slim or of the Object Detection API (TF 1 and TF 2), a "
    "frozen graph of that API (.pb), and an .h5 of tf_keras.applications."
)
REFUSED = {
    "keras": "a .keras file. Load it with the Keras that wrote it, and save it as .h5: model.save('x.h5')",
    "pytorch": "a PyTorch file (an archive of a Python pickle). Pickles are not read, as they can run code",
    "pickle": "a Python pickle (an old PyTorch file, for example). Pickles are not read, as they can run code",
    "safetensors": "a safetensors file, the format of PyTorch networks: their layers have other names and orders",
    "onnx": "an ONNX model: its weights have lost the names of their layers. Give the file that it was made from",
    "tflite": "a TFLite model: its weights are folded and have lost their names. Give the file that it was made from",
    "saved_model": "a SavedModel. In a zoo archive, give checkpoint/ckpt-0 (TF 2) or model.ckpt (TF 1) beside it",
    "numpy": "a NumPy archive (.npz)",
    "zip": "a zip archive",
    "archive": "a compressed archive: unpack it, and give the checkpoint or frozen graph in it",
    "text": "a text file",
}


def kind(file: Path) -> str:
    """`h5`, `graph`, `checkpoint`, a key of REFUSED, or `unknown`, from the first or the last bytes of the file.

    Raises WeightsError for a file that can't be read.
    """
    try:
        size = file.stat().st_size
        with open(file, "rb") as stream:
            head = stream.read(512)
            stream.seek(max(size - 8, 0))
            tail = stream.read(8)
    except OSError as error:
        raise WeightsError(f"{file} can't be read: {error.strerror}") from error
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "h5"
    if tail == checkpoint.TABLE_END:
        return "checkpoint"
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(file)
    if head[4:8] == b"TFL3":
        return "tflite"
    if re.match(rb"\x80[\x02-\x05][^\x00]", head):
        return "pickle"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")) or head[257:262] == b"ustar":
        return "archive"
    if len(head) > 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < size:
        return "safetensors"
    if re.match(rb"\x08\x01\x12", head):
        return "saved_model"
    if re.match(rb"\x08[\x02-\x1f]", head):
        return "onnx"
    if head.startswith(b"\x0a"):
        return "graph"
    return "text" if re.fullmatch(rb"[\t\n\r -~]+", head) else "unknown"


def locate(path: Path) -> tuple[Path, str]:
    """(place, format) of the weights at `path`: `checkpoint` (a prefix), `h5` or `graph`. Raises WeightsError.

    path: a file, the prefix of a checkpoint, or a folder with one of these.
    """
    if path.is_dir():
        return _in_folder(path)
    if path.is_file() and not (path.suffix == ".meta" or checkpoint.is_part(path)):
        found = kind(path)
        if found in REFUSED:
            raise WeightsError(f"{path} looks like {REFUSED[found]}. {LEGAL}")
        if found != "unknown":
            return (checkpoint.find(path) if found == "checkpoint" else path), found
        raise WeightsError(f"{path} has an unknown format. {LEGAL}")
    return checkpoint.find(path), "checkpoint"


def read(place: Path, form: str, backbone: Network, average: bool = False) -> Arrays:
    """Arrays by our names. place, form: the result of `locate`. average: see `detect.weights.checkpoint.read`.

    Raises WeightsError.
    """
    from detect.weights import anchor_order, frozen_graph, keras_file, objects  # import TensorFlow

    of_objects = form == "checkpoint" and objects.is_one(place)
    if average and (form != "checkpoint" or of_objects):
        raise WeightsError(f"init.average=true: {place} is no checkpoint by variable names; only these have averages")
    if form == "h5":
        return keras_file.read(place, backbone)
    if of_objects:
        return objects.read(place, backbone)
    notes: list[str] = []
    arrays = checkpoint.read(place, average, notes) if form == "checkpoint" else frozen_graph.read(place)
    told = anchor_order.told_by_checkpoint if form == "checkpoint" else anchor_order.told_by_file
    found = our_arrays(arrays, backbone.slim_scope)
    found.anchors, found.notes = told(place), notes
    if not found.ours and any(name.startswith("fpn/") for name in found):
        found.settings = {"detector.neck.carry": "sum"}
    return found


def _in_folder(folder: Path) -> tuple[Path, str]:
    if any(file for file in folder.glob("*.index") if not file.name.startswith(".")):
        return checkpoint.find(folder), "checkpoint"
    files = [file for pattern in ("*.h5", "*.ckpt", "*.pb") for file in sorted(folder.glob(pattern)) if file.is_file()]
    files = [file for file in files if kind(file) in ("h5", "graph", "checkpoint")]
    if len(files) == 1:
        return locate(files[0])
    if files:
        names = first_few((file.name for file in files), 3)
        raise WeightsError(f"{folder} is a folder with {len(files)} files of weights ({names}): name one")
    if (folder / "checkpoint").is_dir():  # as archives of the TF 2 zoo are unpacked
        return _in_folder(folder / "checkpoint")
    if (folder / "saved_model.pb").exists():
        raise WeightsError(f"{folder} looks like {REFUSED['saved_model']}. {LEGAL}")
    return checkpoint.find(folder), "checkpoint"  # raises an error that says what was looked for


def _kind_of_zip(file: Path) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, OverflowError, struct.error):
        return "zip"
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return "keras"
    if any(name.endswith("data.pkl") for name in names):
        return "pytorch"
    return "numpy" if names and all(name.endswith(".npy") for name in names) else "zip"
