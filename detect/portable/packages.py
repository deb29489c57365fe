"""The optional packages of ONNX and OpenVINO, and what tells a user to install them."""

import importlib.util

from detect.errors import ConfigError, to_install

MODEL = {"onnx": "model.onnx", "openvino": "model.xml"}
"""The file of each format in the folder of an export. OpenVINO's weights are in `model.bin` beside it."""

WRITES = {"onnx": ("tf2onnx", "onnx", "onnxruntime"), "openvino": ("tf2onnx", "onnx", "openvino")}
READS = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}


def require(kind: str, what: str, writes: bool = False) -> None:
    """Raises ConfigError, with the command that installs it, if a package of the format is missing.

    kind: `onnx` or `openvino`. what: the key and value, or the file, that needs it. writes: to write, not to read.
    """
    wanted = (WRITES if writes else READS)[kind]
    if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"{what}: {', '.join(missing)} is not installed: {to_install(kind)}")
