"""Programs in processes that are forked from this one, which has imported TensorFlow: each starts in a moment.

    python scripts/forked.py

It answers requests from standard input, one line of JSON each, until that ends. {"module": NAME, "words": [...],
"folder": DIR, "environment": {...}, "out": FILE, "err": FILE} begins `python -m NAME WORDS` in that folder, and the
answer is the number of its process. {"process": NUMBER} asks for its exit code, which is null while it runs. Figures
of these programs are blank, unless {"figures": true} is part of the request.
"""

import atexit
import json
import os
import runpy
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def prepare() -> Callable[[], None]:
    """Imports what programs need, and composes a configuration, so that the parts of later ones are known.

    TensorFlow's runtime is not started: a process with threads can't fork. Returns a function after which figures are
    drawn.
    """
    sys.path.insert(0, str(ROOT))
    from detect.cli import main

    main.prepare_environment()
    import composed_once
    import matplotlib.figure  # noqa: F401
    import tensorboard.plugins.hparams.summary_v2  # noqa: F401
    import tensorflow  # noqa: F401
    import tf_keras  # noqa: F401

    import detect.cli.convert
    import detect.cli.evaluate
    import detect.cli.export
    import detect.cli.train
    import detect.export.writer
    import detect.modeling.heads
    import detect.training.stages  # noqa: F401
    from detect import api
    from detect.reporting import figures

    composed_once.read_once()
    api.compose("dataset=digits")
    drawn = figures.render.__code__
    figures.render.__code__ = blank.__code__  # to draw takes a third of the time of a small run
    return lambda: setattr(figures.render, "__code__", drawn)


def blank(figure):
    """Takes the place of the code of `detect.reporting.figures.render`."""
    import numpy

    return numpy.full((40, 60, 3), 255, numpy.uint8)


def start(program: Callable[[], object], out: str | Path, err: str | Path) -> int:
    """Calls `program` in a new process, which ends as Python does after it. Returns the number of the process.

    out, err: files for what it prints.
    """
    sys.stdout.flush()
    number = os.fork()
    if number:
        return number
    atexit._clear()  # what the first process does at its end, such as removing its folders
    code = 99
    try:
        _redirect(out, err)
        program()
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        try:
            threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
            atexit._run_exitfuncs()
            sys.stdout.flush()
        finally:
            os._exit(code)


def _redirect(out: str | Path, err: str | Path) -> None:
    files = [os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for name in (out, err)]
    for place, file in enumerate([os.open(os.devnull, os.O_RDONLY), *files]):
        os.dup2(file, place)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)


def poll(number: int) -> int | None:
    """The exit code of a process that `start` began, negative for a signal; None while it runs."""
    ended, status = os.waitpid(number, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _serve(draw: Callable[[], None]) -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if "process" in asked:
            answer = poll(asked["process"])
        else:

            def program(asked=asked):
                os.chdir(asked["folder"])
                os.environ.clear()
                os.environ.update(asked["environment"])
                sys.argv = [asked["module"], *asked["words"]]
                sys.path[0] = asked["folder"]
                if asked.get("figures"):
                    draw()
                runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)

            answer = start(program, asked["out"], asked["err"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(prepare())
