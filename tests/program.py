"""Whole programs in processes that are forked from one that has imported TensorFlow (scripts/forked.py).

A program that imports TensorFlow itself needs six seconds more. Figures are blank unless a test asks for them, which
saves a third of the rest. Tests of imports, of the environment that TensorFlow reads, and of what ends with its parent
begin a Python of their own.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Program:
    """A running program, as `subprocess.Popen` has it. Its output is read at its end."""

    def __init__(self, words: list[str], module: str, folder: Path, environment: dict[str, str], figures: bool):
        self.args, self.returncode = [module, *words], None
        self._place = tempfile.TemporaryDirectory()
        self._files = [Path(self._place.name, name) for name in ("out", "err")]
        asked = {
            "module": module,
            "words": words,
            "folder": str(folder),
            "environment": environment,
            "figures": figures,
        }
        self.pid = _ask(**asked, out=str(self._files[0]), err=str(self._files[1]))

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _ask(process=self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 600) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise subprocess.TimeoutExpired(self.args, timeout, *self._output())
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        self.wait(timeout)
        out, err = self._output()
        self._place.cleanup()
        return out, err

    def _output(self) -> tuple[str, str]:
        out, err = (file.read_text() if file.exists() else "" for file in self._files)
        return out, err


def begin(
    *words: object,
    module: str = "detect.cli",
    folder: Path | None = None,
    figures: bool = False,
    **environment: str,
) -> "Program | subprocess.Popen[str]":
    """Begins `python -m MODULE WORDS` in a folder, or in the present one, with further environment variables.

    figures: whether they are drawn.
    """
    given, place, environment = [str(word) for word in words], folder or Path.cwd(), os.environ | environment
    if sys.platform == "linux":
        return Program(given, module, place, environment, figures)
    command = [sys.executable, "-m", module, *given]  # macOS does not let a process fork that has used its libraries
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=place, env=environment, **pipes)


def run(*words: object, timeout: float = 600, **named) -> subprocess.CompletedProcess:
    """What the program printed, and its exit code, as `subprocess.run` has it; `named` as for `begin`."""
    program = begin(*words, **named)
    out, err = program.communicate(timeout)
    return subprocess.CompletedProcess(program.args, program.returncode, out, err)


@functools.cache
def _server() -> subprocess.Popen:
    command = [sys.executable, ROOT / "scripts/forked.py"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def _ask(**asked: object):
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(asked) + "\n")
    return json.loads(server.stdout.readline())
