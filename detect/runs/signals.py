"""Signals of the process: what handles them for a while."""

import contextlib
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the end that another program asks for, and the end of the terminal or of its connection."""


@contextlib.contextmanager
def handled(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Inside this context, `handler` gets these signals; after it, they are handled as before.

    Python hands signals to the main thread alone: in another one, nothing changes. SIGHUP stays ignored where
    `nohup` has it ignored. A shell and the terminal may each send one: the first one counts, and what is printed
    afterwards is dropped, as no terminal is there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    before = {
        number: signal.signal(number, _once(handler) if number is signal.SIGHUP else handler)
        for number in numbers
        if not (nohup and number is signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, earlier in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, earlier)


def _once(handler: Handler) -> Handler:
    def hang_up(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        for output in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # it is closed, or no file
                if stat.S_ISCHR(os.fstat(output.fileno()).st_mode):
                    with open(os.devnull, "w") as nothing:
                        os.dup2(nothing.fileno(), output.fileno())
        handler(number, frame)

    return hang_up


def interrupted(error: BaseException | None) -> bool:
    """Whether an error is a Ctrl-C, or came of one.

    TensorFlow and pybind11, whose C++ code calls Python, make another error of it. Its text begins or goes on with
    `KeyboardInterrupt: `. A library that is stopped between two of its steps may fail while it ends.
    """
    seen: list[BaseException] = []
    left = [error]
    while left:
        error = left.pop()
        if isinstance(error, KeyboardInterrupt) or "KeyboardInterrupt: " in str(error):
            return True
        if error is not None and error not in seen:  # causes may form a ring
            seen.append(error)
            left += [error.__cause__, error.__context__]
    return False
