"""Signals of the process: what handles them for a while."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


@contextlib.contextmanager
def handled(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Inside this context, `handler` gets these signals; after it, they are handled as before.

    Python hands signals to the main thread alone: in another one, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def interrupted(error: BaseException | None) -> bool:
    """Whether an error is a Ctrl-C that arrived while C++ code called a Python function.

    TensorFlow and pybind11 make another error of it, whose text begins or goes on with `KeyboardInterrupt: `.
    """
    seen: list[BaseException] = []
    while error is not None and error not in seen:  # causes may form a ring
        if isinstance(error, KeyboardInterrupt) or "KeyboardInterrupt: " in str(error):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False
