"""Tries a TFLite file of a stranger in a process of its own, before this process runs it.

The interpreter is C++ that believes its file: a damaged one may crash it, fill the memory or never end. What the trial
does, this process does again with the same bytes: it parses them, prepares all tensors, and runs on one empty frame.
"""

from pathlib import Path

from detect import apart as process
from detect.errors import WeightsError
from detect.tflite import flatbuffer

MEMORY = 3 << 30  # bytes, beside the file's own


def read(file: Path) -> bytes:
    """The bytes of a file that passes the trial. Raises WeightsError."""
    try:
        if file.stat().st_size > flatbuffer.LARGEST:
            raise WeightsError(f"{file}: too large for a TFLite file, which has at most {flatbuffer.LARGEST >> 30} GB")
        content = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file}: can't be read: {error.strerror}") from error
    if content[4:8] != flatbuffer.IDENTIFIER:
        flatbuffer.read(content, str(file))  # raises an error without a process
    limits = process.Limits(30 + (len(content) >> 20), MEMORY + 4 * len(content))
    process.call("detect.tflite.runner", [str(file)], str(file), limits, content).close()
    return content
