"""Runs a reader of files in a process of its own: a damaged file that crashes, fills or stalls it ends in an error.

`python -m detect.apart MODULE SECONDS BYTES ARGUMENT...` is that process. MODULE is one of this program, and has
`apart(arguments, stdin, stdout)`.
"""

import importlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO

from detect.environment import of_child
from detect.errors import UserError, WeightsError

REFUSED, FULL = 2, 3  # codes of the process: its output is the message of a UserError; its memory was not enough
LONGEST_MESSAGE = 4000


@dataclass(frozen=True)
class Limits:
    """What a reader may use: seconds of a clock, and bytes of memory and, separately, of output."""

    seconds: int = 60
    bytes: int = 1 << 30


def call(module: str, arguments: Sequence[str], name: str, limits: Limits, content: bytes = b"") -> BinaryIO:
    """The output of `module.apart(arguments, stdin, stdout)` in a process of its own, as an open file at its start.

    name: the file that is read, for messages. content: what the process finds in its standard input.
    Raises WeightsError with the reader's own message, or if it crashes, or needs more than its limits.
    """
    output = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    try:
        code = run(module, arguments, limits, content, output)
    except subprocess.TimeoutExpired:
        code = -signal.SIGXCPU
    output.seek(0)
    if code == 0:
        return output
    with output:
        if code == REFUSED:
            raise WeightsError(output.read(LONGEST_MESSAGE).decode(errors="replace"))
    either = "it is damaged, or too large for this computer"
    if code in (-signal.SIGXCPU, -signal.SIGALRM, -signal.SIGKILL):
        raise WeightsError(f"{name}: reading it needs more than {limits.seconds} s: {either}")
    if code in (FULL, -signal.SIGXFSZ):
        raise WeightsError(f"{name}: reading it needs more than {limits.bytes >> 20} MB of memory: {either}")
    why = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
    raise WeightsError(f"{name}: it is damaged: the process that read it ended with {why}")


def run(module: str, arguments: Sequence[str], limits: Limits, content: bytes, output: IO[bytes]) -> int:
    """Runs `serve` in a new process; returns its code. Raises subprocess.TimeoutExpired."""
    environment = of_child(
        OPENBLAS_NUM_THREADS="1",  # each thread takes memory that counts
        HDF5_PLUGIN_PRELOAD="::",  # loads no code for filters
    )
    words = [module, str(limits.seconds), str(limits.bytes), *arguments]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "detect.apart", *words],
        env=environment,
        input=content,
        stdout=output,
        stderr=subprocess.DEVNULL,
        timeout=limits.seconds + 30,  # for the start of the process
        check=False,
    )
    return done.returncode


def serve(module: str, limits: Limits, arguments: Sequence[str], stdin: BinaryIO, stdout: BinaryIO) -> int:
    """Calls the reader under its limits; returns the code of the process."""
    reader = importlib.import_module(module)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.bytes, limits.bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds))
    if taken := _address_space():
        resource.setrlimit(resource.RLIMIT_AS, (taken + limits.bytes, taken + limits.bytes))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(limits.seconds)
    try:
        reader.apart(arguments, stdin, stdout)
        stdout.flush()
    except UserError as error:
        stdout.seek(0)
        stdout.truncate()
        stdout.write(str(error).encode(errors="replace")[:LONGEST_MESSAGE])
        stdout.flush()
        return REFUSED
    except MemoryError:
        return FULL
    return 0


def _address_space() -> int:
    """The bytes of address space that this process has now (libraries reserve more than they use); 0 if unknown."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        return 0


if __name__ == "__main__":
    module, seconds, most, *rest = sys.argv[1:]
    if not module.startswith("detect."):
        sys.exit(f"{module} is not a module of this program")
    with os.fdopen(os.dup(1), "r+b") as output:
        os.dup2(2, 1)  # what a library prints is no output
        sys.exit(serve(module, Limits(int(seconds), int(most)), rest, sys.stdin.buffer, output))
