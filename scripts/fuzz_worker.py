"""A process that takes the place of `detect.apart` in `scripts/fuzz.py`: it forks for each file that is read apart."""

import contextlib
import importlib
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

from detect import apart

SECONDS = 4  # of a reader; the longest case of `fuzz.py` is a little longer


class Worker:
    """Takes the place of `detect.apart.run`: a process that forks for each file, as a start for each takes long."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
        )

    def run(
        self, module: str, arguments: Sequence[str], limits: apart.Limits, content: bytes, output: IO[bytes]
    ) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        about = (
            module,
            list(arguments),
            min(limits.seconds, SECONDS),
            min(limits.bytes, 1 << 30),
            content,
            os.getpid(),
            output.fileno(),
        )
        pickle.dump(about, self.process.stdin)
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    """The worker: reads requests of `Worker.run`, and answers each with the code of a forked process."""
    import detect.tflite.runner
    import detect.weights.hdf5  # noqa: F401

    for name in ("onnx", "onnxruntime", "openvino"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)

    while True:
        try:
            module, arguments, seconds, most, content, owner, number = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        child = os.fork()
        if child == 0:
            code = 1
            os.dup2(2, 1)  # as in `detect.apart`
            with contextlib.suppress(Exception), open(f"/proc/{owner}/fd/{number}", "r+b") as output:
                code = apart.serve(module, apart.Limits(seconds, most), arguments, io.BytesIO(content), output)
            os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
