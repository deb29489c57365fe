"""Times exported models beside each other: each in a process of its own, asked in turn, one at a time.

`python -m detect.export.timing KIND PATH STAGE THREADS SHAPE MODULES` is such a process. It loads the model with the
library of its format alone, so that its memory is that of a program that ships. Then each line of its standard input is
one run.
"""

import contextlib
import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detect.environment import of_child
from detect.errors import WeightsError, one_line

log = logging.getLogger("detect")
WARM_UP = 3  # runs that are not counted
UNIT = (1 << 20) if sys.platform == "darwin" else (1 << 10)  # of ru_maxrss, per MB: bytes or kB


@dataclass(frozen=True)
class Model:
    """kind: run, saved_model, tflite, onnx or openvino. path: the run folder, SavedModel folder or file. stage: of a
    run (`Detector.load`). alone: the file gives wrong results with several threads, so it is run with one."""

    kind: str
    path: Path
    stage: str = "detector"
    alone: bool = False


def measure(models: Mapping[str, Model], frame: np.ndarray, threads: int, runs: int) -> dict[str, dict[str, Any]]:
    """{name: {"ms": median, "low", "high": quartiles, "memory_mb": peak}} of models with so many threads.

    frame: uint8 [height, width, 3], or of any size for models of several frames (see `benchmark`). runs: at least 2.
    A model that can't be run is left out, and a warning names it.
    """
    workers: dict[str, Worker] = {}

    @contextlib.contextmanager
    def able(name: str) -> Iterator[None]:
        try:
            yield
        except WeightsError as error:
            log.warning("%s", error)
            if name in workers:
                workers.pop(name).end()

    try:
        for name, model in models.items():
            with able(name):
                workers[name] = Worker(name, model, frame, 1 if model.alone else threads)
        times: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(WARM_UP + runs):
            for name, worker in list(workers.items()):
                with able(name):
                    times[name].append(worker.ask("run")["ms"])
        found = {}
        for name, worker in list(workers.items()):
            with able(name):
                found[name] = _spread(times[name][WARM_UP:]) | worker.ask("memory")
        return found
    finally:
        for worker in workers.values():
            worker.end()


def _spread(times: Sequence[float]) -> dict[str, float]:
    low, middle, high = np.percentile(times, [25, 50, 75])
    return {"ms": float(middle), "low": float(low), "high": float(high)}


class Worker:
    """A process that holds one model and waits."""

    def __init__(self, name: str, model: Model, frame: np.ndarray, threads: int):
        from detect.config.trust import trusted

        words = [model.kind, str(model.path), model.stage, str(threads), json.dumps(frame.shape)]
        words.append(json.dumps(sorted(trusted())))
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "detect.export.timing", *words],
            env=of_child(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._send(np.ascontiguousarray(frame, np.uint8).tobytes())

    def ask(self, word: str) -> dict[str, Any]:
        """Sends a line and waits for the answer."""
        return self._send(f"{word}\n".encode())

    def _send(self, content: bytes) -> dict[str, Any]:
        """The next line of the process after it got this. Raises WeightsError if it has ended, or tells a problem."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended
            self.process.stdin.write(content)
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        said = json.loads(line) if line else {"problem": f"its process ended with code {self.process.wait()}"}
        if "problem" in said:
            raise WeightsError(f"{self.name}: it can't be timed: {said['problem']}")
        return dict(said)

    def end(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.communicate()


def loaded(model: Model, threads: int, frame: np.ndarray, modules: Sequence[str] = ()) -> Callable[[], object]:
    """One run of a model on the frame. modules: of the user's own, which the configuration of a run may name."""
    kind, path = model.kind, model.path
    if kind == "tflite":
        from detect.tflite.runner import Runner

        runner = Runner(path.read_bytes(), threads, name=str(path))
        runner.set(frame)
        return runner.invoke
    if kind in ("onnx", "openvino"):
        from detect.portable.runner import OPENERS

        opened, images = OPENERS[kind](path, threads), frame[np.newaxis]
        return lambda: opened.run(images)
    from detect import environment

    environment.for_program()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if kind == "saved_model":
        module, batch = tf.saved_model.load(str(path)), tf.constant(frame[np.newaxis])

        def serve_one() -> None:
            with environment.fusing(1):
                module.signatures["serving_default"](batch)

        return serve_one
    from detect.detector import Detector

    detector = Detector.load(path, model.stage, modules)
    return lambda: detector(frame)


def peak() -> float:
    """The most memory in MB that this process has had. On Linux, `ru_maxrss` would begin with that of its parent."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    told = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    return told[0] if told else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT


def serve(words: Sequence[str]) -> None:
    """The process of a `Worker`."""
    model, threads, shape = Model(words[0], Path(words[1]), words[2]), int(words[3]), json.loads(words[4])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    frame = np.frombuffer(sys.stdin.buffer.read(int(np.prod(shape))), np.uint8).reshape(shape)

    def say(**values: float | str) -> None:
        print(json.dumps(values), file=answers, flush=True)

    try:
        run = loaded(model, threads, frame, json.loads(words[5]))
        say()
        for line in sys.stdin.buffer:
            if line.strip() == b"memory":
                say(memory_mb=peak())
                continue
            before = time.perf_counter()
            run()
            say(ms=1000 * (time.perf_counter() - before))
    except Exception as error:  # any library may raise anything
        say(problem=one_line(error))


if __name__ == "__main__":
    serve(sys.argv[1:])
