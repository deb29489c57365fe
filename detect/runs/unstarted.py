"""A start that fails leaves no run folder, if there was none before."""

import shutil
import tempfile
from pathlib import Path

from detect.errors import ConfigError
from detect.runs.folder import LOCK, STAGES, RunFolder
from detect.runs.stage_folder import LEDGER
from detect.runs.sweep import in_use

_run = RunFolder(Path())
_files = (_run.hydra, _run.config, _run.classes, _run.data, _run.shared_budget, _run.loggers, _run.failed)
AT_START = (*(path.name for path in _files), LOCK, "wandb")
"""What a run writes before its first step. Besides these there is the log file, and the ledger of a stage's weights."""


def ancestor(folder: Path) -> Path:
    """The nearest folder, `folder` itself or one around it, that exists: what a failed start leaves."""
    path = folder.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def refuse_unwritable(folder: Path, key: str) -> None:
    """Raises ConfigError if a folder for results can't be made or written. key: what sets it, for the message."""
    place = ancestor(folder)
    if not place.is_dir():
        raise ConfigError(f"{key}={folder}: {place} is not a folder")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ConfigError(f"{key}={folder}: {place} can't be written ({error.strerror})") from error


def remove(folder: Path, kept: Path) -> None:
    """Removes a run folder in which no step was done, and the empty folders around it below `kept`.

    kept: from `ancestor`, before the start. A folder that existed then stays, one with any other file or folder, and
    one in which another process trains: it may have started at the same time.
    """
    folder = folder.absolute()
    if folder == kept or not folder.is_relative_to(kept) or not folder.is_dir() or in_use(folder):
        return
    if has_begun(folder):
        return
    shutil.rmtree(folder, ignore_errors=True)
    for place in folder.parents:
        if place == kept or not place.exists() or any(place.iterdir()):
            return
        place.rmdir()


def has_begun(folder: Path) -> bool:
    """Whether a run folder holds more than what a run writes before its first step."""
    return folder.is_dir() and not all(map(_at_start, folder.iterdir()))


def _at_start(path: Path) -> bool:
    if path.name in STAGES and path.is_dir():
        return {file.name for file in path.iterdir()} <= {LEDGER}
    return path.name in AT_START or path.suffix == ".log"
