"""Files from a public address into a cache: resumed where a connection broke, verified, moved into place whole."""

import contextlib
import fcntl
import http.client
import logging
import os
import re
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from detect.errors import WeightsError
from detect.weights.download import Progress, complete, sha256_of

log = logging.getLogger("detect")


def cache_folder(cache: str | Path | None = None) -> Path:
    """`cache` itself, or the folder that DETECT_CACHE names, or ~/.cache/detect."""
    return Path(cache or os.environ.get("DETECT_CACHE") or "~/.cache/detect").expanduser()


def fetch(
    address: str,
    sha256: str | None,
    cache: str | Path | None = None,
    timeout: float = 30.0,
    progress: Progress | None = None,
) -> Path:
    """The file of `address` in the cache; fetched (http, https, ftp, file) if it isn't there or has changed.

    sha256: of the file, in hexadecimal. None: that of the first file that is fetched is written beside it
        (`NAME.sha256`), with a warning, and asked for from then on.
    timeout: seconds of silence after which the server is given up. What has come by then stays in `NAME.part`, and the
        next call goes on from there.
    progress: called with bytes so far and in all (0: unknown); None shows a line on the console.

    Raises WeightsError with what to do if the file can't be had or is another one.
    """
    folder = cache_folder(cache)
    target = folder / address.rstrip("/").rsplit("/", 1)[-1]
    pin = target.with_name(f"{target.name}.sha256")
    try:
        expected = sha256 or _pinned(pin)
        if _is_there(target, expected):
            return target
        log.info("fetching %s into %s", address, folder)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f"{target.name}.part")) as part:
            if _is_there(target, expected := sha256 or _pinned(pin)):  # another process was faster
                Path(part.name).unlink(missing_ok=True)
                return target
            found = complete(address, part, expected, timeout, progress)
            if expected and found != expected:
                why = "" if sha256 else f" when it was first fetched; if it may have changed, remove {pin}"
                problem = f"{address} has sha256 {found}, not {expected} as expected{why}"
                raise WeightsError(_advice(problem, address, target))
            os.replace(part.name, target)
            if not expected:
                _write_pin(pin, found, target)
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError and TimeoutError are OSErrors
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        raise WeightsError(_advice(f"{address} can't be fetched ({reason})", address, target)) from error
    return target


def _is_there(target: Path, expected: str | None) -> bool:
    """Whether the file is in the cache. One whose hash nobody knows, put there by hand, gets its hash written down."""
    if not target.is_file():
        return False
    found = sha256_of(target)
    if expected is None:
        _write_pin(target.with_name(f"{target.name}.sha256"), found, target)
    elif found != expected:
        log.warning("%s is not the file of sha256 %s: fetching it again", target, expected)
        return False
    return True


def _pinned(pin: Path) -> str | None:
    text = pin.read_text().strip() if pin.is_file() else ""
    return text if re.fullmatch("[0-9a-f]{64}", text) else None


def _write_pin(pin: Path, found: str, target: Path) -> None:
    pin.write_text(f"{found}\n")
    log.warning("no sha256 is known for %s: it has %s, which is asked for from now on", target.name, found)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """The file, open for this process alone; jobs of a sweep wait here for the first of them."""
    while True:
        file = open(path, "a+b")  # noqa: SIM115 (closed below)
        fcntl.flock(file, fcntl.LOCK_EX)
        if _is_still(file, path):
            break
        file.close()  # the one who had it has moved it into place
    with file:
        try:
            yield file
        finally:
            if _is_still(file, path) and path.stat().st_size == 0:
                path.unlink()


def _is_still(file: IO[bytes], path: Path) -> bool:
    """Whether the open file is the one of this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _advice(problem: str, address: str, target: Path) -> str:
    return (
        f"{problem}.\n"
        f"Either fetch {address} elsewhere and put it into the cache folder {target.parent}\n"
        f"(as {target.name}; DETECT_CACHE names another folder), or start from a file of weights or a run folder with\n"
        "init=PATH, or from random weights with init=none."
    )
