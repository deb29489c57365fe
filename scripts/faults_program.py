"""Small programs of `detect` in processes that are forked.

`start` begins one, and a `Fault` may change the process before the program runs in it.
"""

import contextlib
import hashlib
import itertools
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import forked

Fault = Callable[[], None]

SMALL = (
    *("init=none", "backbone._target_=tests.tiny_backbone.Tiny", "trust=[tests]", "detector.size=[96,96]"),
    *("detector.neck.channels=[]", "classify.classifier.size=[32,32]", "threads=1", "augment=none", "histograms=true"),
    *("schedule.steps=8", "schedule.batch_size=2", "schedule.warmup=2", "schedule.log_every=2"),
    *("schedule.evaluate_every=3", "schedule.checkpoint_every=2"),
    *("classify.schedule.steps=5", "classify.schedule.batch_size=4", "classify.schedule.warmup=1"),
    *("classify.schedule.evaluate_every=2", "classify.schedule.checkpoint_every=2", "classify.schedule.log_every=2"),
)
QUANTIZED = (
    *("quantize=int8", "quantize.calibrate=2", "quantize.schedule.steps=5", "quantize.schedule.batch_size=2"),
    *("quantize.schedule.warmup=1", "quantize.schedule.evaluate_every=2", "quantize.schedule.checkpoint_every=2"),
)
"""Two stages of a tiny network, and three."""

CHANGING = {"time", "images_per_second", "data_wait_share", "memory_mb"}
"""Columns of metrics.jsonl that measure the machine."""


def start(log: Path, words: list[str], fault: Fault = lambda: None) -> int:
    """Begins `detect WORDS` in a new process, whose output goes to `log`. Returns its number."""

    def program() -> None:
        os.setpgid(0, 0)
        from detect.cli import main

        fault()
        sys.argv = ["detect", *words]
        sys.exit(main.main())

    log.unlink(missing_ok=True)
    return forked.start(program, log, log)


def wait(number: int, limit: float = 240) -> int | None:
    """Waits for the end of a process. Returns its exit code, negative for a signal; None and kills it after `limit`
    seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if (code := forked.poll(number)) is not None:
            return code
        time.sleep(0.01)
    os.killpg(number, signal.SIGKILL)
    os.waitpid(number, 0)
    return None


def at_file_operation(count: int, number: int = signal.SIGKILL) -> Fault:
    """The process gets a signal in its `count`-th operation on a file: inside the write of a state or a picture."""

    def fault() -> None:
        import tensorflow as tf

        left = itertools.count(1)

        def counted(function: Callable) -> Callable:
            def call(*arguments, **named):
                if next(left) == count:
                    os.kill(os.getpid(), number)
                return function(*arguments, **named)

            return call

        for name in ("replace", "fsync", "unlink", "rename", "mkdir"):
            setattr(os, name, counted(getattr(os, name)))
        tf.train.Checkpoint.write = counted(tf.train.Checkpoint.write)
        tf.raw_ops.SaveV2 = counted(tf.raw_ops.SaveV2)

    return fault


def clock_jumps(seed: int) -> Fault:
    """The clock of the process jumps by up to a year, forward and back, each time that it is read."""

    def fault() -> None:
        real, source = time.time, random.Random(seed)
        time.time = lambda: real() + source.uniform(-3e7, 3e7)

    return fault


def result(run: Path) -> dict[str, object]:
    """What a finished run is: digests of all tensors of the states and best weights, rows, scores, names of files.

    It runs in a process of its own, because it starts TensorFlow's runtime.
    """
    (found,) = in_processes(1, lambda _: _result(run))
    return found


def in_processes(number: int, function: Callable[[int], dict]) -> list[dict]:
    """Calls a function with 0, 1, ... in a new process each, at once; the results pass as JSON."""
    pipes = []
    for part in range(number):
        read, write = os.pipe()
        process = os.fork()
        if not process:
            os.close(read)
            code = 1
            try:
                with os.fdopen(write, "w") as file:
                    json.dump(function(part), file)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            os._exit(code)
        os.close(write)
        pipes.append((process, os.fdopen(read)))
    found = []
    for process, file in pipes:
        text = file.read()
        if os.waitpid(process, 0)[1]:
            raise RuntimeError("a process of the harness failed")
        found.append(json.loads(text))
    return found


def _result(run: Path) -> dict[str, object]:
    import tensorflow as tf

    from detect.training import saved_states

    found: dict[str, object] = {}
    for stage in sorted(path.parent for path in run.glob("*/last")):
        newest = max(saved_states.steps(stage / "last"), default=0)
        prefixes = [("best", str(stage / "best")), ("last", str(stage / "last" / f"ckpt-{newest}"))]
        for kind, prefix in prefixes:
            try:
                found[f"{stage.name}/{kind}"] = _digest(tf.train.load_checkpoint(prefix))
            except (tf.errors.OpError, RuntimeError, IndexError) as error:
                found[f"{stage.name}/{kind}"] = f"not readable: {error}"
        rows = []
        for line in (stage / "metrics.jsonl").read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                rows.append({k: v for k, v in json.loads(line).items() if k not in CHANGING})
        found[f"{stage.name}/rows"] = rows
    for summary in sorted(run.rglob("summary.json")):
        content = json.loads(summary.read_text())
        kept = {key: content.get(key) for key in ("scores", "steps", "best", "best_step")}
        found[str(summary.relative_to(run))] = json.loads(json.dumps(kept))
    left = [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and ".tfevents." not in path.name]
    left = [name for name in left if name not in ("train.log", "failed.txt", "history.json")]
    # The state before the last one may be that of a signal, at another step.
    found["files"] = sorted(re.sub(r"ckpt-\d+", "ckpt", name) for name in left)
    return found


def _digest(reader) -> str:
    digest = hashlib.sha256()
    for name in sorted(reader.get_variable_to_shape_map()):
        if not name.startswith(("seconds", "unfinished", "_CHECKPOINTABLE", "save_counter")):
            digest.update(name.encode() + reader.get_tensor(name).tobytes())
    return digest.hexdigest()


def steps_done(run: Path) -> dict[str, int]:
    """The last step of each stage that metrics.jsonl knows."""
    found = {}
    for path in run.glob("*/metrics.jsonl"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            whole = path.read_bytes().rpartition(b"\n")[0].splitlines()
            found[path.parent.name] = json.loads(whole[-1])["step"]
    return found


@contextlib.contextmanager
def limited_disk(place: Path, megabytes: float) -> Iterator[Callable[[str], None]]:
    """A file system of this size at `place`; the function changes its options (`size=50m`, `ro`). Needs root."""
    place.mkdir(parents=True, exist_ok=True)
    if os.system(f"mount -t tmpfs -o size={int(megabytes * 1024)}k tmpfs {place} 2>/dev/null"):
        raise PermissionError("mount")
    try:
        yield lambda options: os.system(f"mount -o remount,{options} {place}")
    finally:
        os.system(f"umount -l {place}")
