"""Where the lines of the log go: to the console, and into the file of a run (configs/hydra/job_logging)."""

import logging
import sys
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TextIO


class Console(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stdout` is at that moment: on a terminal, a progress line takes its place to stay below."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # it is an attribute there, and nobody sets it here
        return sys.stdout

    def handleError(self, record: logging.LogRecord) -> None:
        """A line that nobody reads, as in `detect report | head`, is no error."""
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            super().handleError(record)


class LogFile(logging.FileHandler):
    """The file of a run. A line that the disk does not take is on the console alone, without a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class Memory(MemoryHandler):
    """Holds the lines until the file of the run is opened, which comes after the checks."""


def keep_log(path: Path) -> None:
    """Writes the lines that `Memory` holds into a file, and all later lines. Other handlers of a program stay."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, Memory)]:
        file = LogFile(path, encoding="utf-8")
        file.setFormatter(handler.formatter)
        handler.setTarget(file)
        handler.close()
        root.removeHandler(handler)
        root.addHandler(file)
