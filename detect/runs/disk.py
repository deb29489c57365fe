"""Disk space: what a run needs is said before it starts, and an error of the disk ends it with one message."""

import contextlib
import errno
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from detect.errors import UserError
from detect.runs import unstarted

log = logging.getLogger("detect")

REASONS = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file became larger than this system allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this user has no permission",
    errno.EPERM: "this user has no permission",
    errno.EIO: "the disk reports an error",
    errno.ENAMETOOLONG: "this name is too long for a file or folder",
    errno.ESTALE: "the network disk was taken away or replaced; mount it anew",
    errno.ENOTCONN: "the network disk is not connected; mount it anew",
    errno.ETIMEDOUT: "the network disk does not answer",
}
FULL = (errno.ENOSPC, errno.EDQUOT)
LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors that the next file meets, too."""
TENSORFLOW = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "Read-only file system": errno.EROFS,
    "Permission denied": errno.EACCES,
    "Input/output error": errno.EIO,
}
"""What TensorFlow's errors say instead of a number."""

COPIES = 4
"""The copies of the weights in a saved state: the weights, two slots of an optimiser such as Adam, their average."""


@contextlib.contextmanager
def told(folder: Path, go_on: str) -> Iterator[None]:
    """Turns an error of the disk inside this context into one UserError.

    go_on: the command that goes on with the run; it is named if the folder holds a run.
    """
    try:
        yield
    except Exception as error:
        if (found := _found(error)) is None:
            raise
        remedy = "Make room" if found[0] in FULL else "Mend this"
        kept = f". What was saved stays. {remedy}, then go on with: {go_on}" if unstarted.has_begun(folder) else ""
        raise UserError(f"{problem(error, folder)}{kept}") from error


def problem(error: BaseException | None, folder: Path | None = None) -> str | None:
    """One line about an error of the disk, with the file and the free space; None for any other error.

    A UserError that an error of the disk caused says more, so it is another error.
    """
    found = _found(error)
    if found is None:
        return None
    number, file = found
    free = f"; {_megabytes(_free(folder))} are free in {folder}" if folder and number in FULL else ""
    return f"{file or folder or 'the disk'}: {REASONS[number]}{free}"


def _found(error: BaseException | None) -> tuple[int, object] | None:
    """The number of the error of the disk that an error is, or that caused it, and its file."""
    while error is not None and not isinstance(error, UserError):
        if isinstance(error, OSError) and error.errno in REASONS:
            return error.errno, error.filename
        if type(error).__module__.startswith("tensorflow."):
            for text, number in TENSORFLOW.items():
                if text in str(error):
                    return number, None
        error = error.__cause__
    return None


def demand(folder: Path, weights: int, stages: int) -> None:
    """Logs how much disk a run needs at most, and raises UserError if there is less.

    weights: bytes of the weights of its largest network. stages: how many of them it trains.
    """
    state = COPIES * weights
    need = stages * (2 * state + weights) + state  # two states and the best weights each, and the state being written
    written = (file for name in ("last/*", "best.*") for file in folder.glob(f"*/{name}"))  # by a run that resumes
    used = sum(file.stat().st_size for file in written if file.is_file())
    free = _free(folder)
    log.info("disk: the run needs at most %s in %s; %s are free", _megabytes(need), folder, _megabytes(free))
    if free + used < need:
        raise UserError(
            f"{folder}: the run needs {_megabytes(need)} of disk, and only {_megabytes(free)} are free: make room, or "
            "choose another folder with hydra.run.dir=DIR"
        )


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB" if size < 1e10 else f"{size / 1e9:,.0f} GB"
