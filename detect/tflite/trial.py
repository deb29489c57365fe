"""Tries a TFLite file of a stranger in a process of its own, before this process runs it.

The interpreter is C++ that believes its file: a damaged one may crash it, fill the memory or never end. What the trial
does, this process does again with the same bytes: it parses them, prepares all tensors, and runs on one empty frame.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from detect import apart as process
from detect.errors import WeightsError

MEMORY = 3 << 30  # bytes, beside the file's own


def read(file: Path) -> bytes:
    """The bytes of a file that passes the trial. Raises WeightsError."""
    from detect.tflite import flatbuffer

    try:
        if file.stat().st_size > flatbuffer.LARGEST:
            raise WeightsError(f"{file}: too large for a TFLite file, which has at most {flatbuffer.LARGEST >> 30} GB")
        content = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file}: can't be read: {error.strerror}") from error
    if content[4:8] != flatbuffer.IDENTIFIER:
        flatbuffer.read(content, str(file))  # raises an error without a process
    limits = process.Limits(20 + (len(content) >> 20), MEMORY + 4 * len(content))
    process.call(__name__, [str(file)], str(file), limits, content).close()
    return content


def apart(arguments: Sequence[str], stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Runs the file in `stdin` once. arguments: its name."""
    from detect.tflite.runner import Runner

    runner = Runner(stdin.read(), name=arguments[0])
    shape = runner.interpreter.get_input_details()[0]["shape"]
    try:
        runner(np.zeros(shape, np.float32))
    except (ValueError, RuntimeError, TypeError) as error:
        raise WeightsError(f"{arguments[0]}: ai-edge-litert can't run this file: {error}") from error
