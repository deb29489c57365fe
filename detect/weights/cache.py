"""Downloads files from a public address into a cache. A broken download is resumed, and every file is verified."""

import contextlib
import hashlib
import http.client
import logging
import os
import re
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from detect.errors import WeightsError
from detect.files import cache_folder, locked, sha256_of, write_text
from detect.weights.download import Progress, complete

log = logging.getLogger("detect")


def fetch(
    address: str,
    sha256: str | None,
    cache: str | Path | None = None,
    timeout: float = 30.0,
    progress: Progress | None = None,
) -> Path:
    """The path of the file of `address` in the cache. Fetches it (http, https, ftp, file) if it is missing or wrong.

    address: its last part is the name of the file.
    sha256: hash of the file, in hexadecimal. None: the file is in a folder of its address, as only this tells it from
        another file of its name. The hash of the first file that is fetched is written beside it (`NAME.sha256`), with
        a warning, and later files must have it.
    timeout: the download fails after so many seconds without data. The bytes that arrived stay in `NAME.part`, and the
        next call continues from there.
    progress: called with the bytes so far and the total (0: unknown); None shows a line on the console.

    Raises WeightsError, which says what to do, if the file can't be fetched or has another hash.
    """
    folder = cache_folder(cache)
    if sha256 is None:
        folder /= hashlib.sha256(address.encode()).hexdigest()[:8]
    target = folder / plain_name(address.rstrip("/").rsplit("/", 1)[-1], f"the end of the address {address}")
    pin = target.with_name(f"{target.name}.sha256")
    try:
        expected = sha256 or _pinned(pin)
        if _is_there(target, expected):
            return target
        log.info("fetching %s into %s", address, folder)
        folder.mkdir(parents=True, exist_ok=True)
        with _part(target.with_name(f"{target.name}.part")) as part:
            if _is_there(target, expected := sha256 or _pinned(pin)):  # another process has fetched it
                Path(part.name).unlink(missing_ok=True)
                return target
            found = complete(address, part, expected, timeout, progress)
            if expected and found != expected:
                why = "" if sha256 else f", which it had when it was first fetched; if a change is fine, remove {pin}"
                problem = f"{address} has sha256 {found}; expected is {expected}{why}"
                raise WeightsError(_advice(problem, address, target))
            os.replace(part.name, target)
            if not expected:
                _write_pin(pin, found, target)
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError and TimeoutError are OSErrors
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        raise WeightsError(_advice(f"{address} can't be fetched ({reason})", address, target)) from error
    return target


def plain_name(name: str, what: str) -> str:
    """The name, if it can be that of a file everywhere. what: what it is, for the message. Raises WeightsError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,150}", name):
        raise WeightsError(f"{what} is {name!r}; legal are names of letters, digits and . _ + - that begin with one")
    return name


def _is_there(target: Path, expected: str | None) -> bool:
    """Whether the file is in the cache. If no hash is known (a file that was put there by hand), keeps its hash."""
    if not target.is_file():
        return False
    found = sha256_of(target)
    if expected is None:
        _write_pin(target.with_name(f"{target.name}.sha256"), found, target)
    elif found != expected:
        log.warning("%s does not have sha256 %s: fetching it again", target, expected)
        return False
    return True


def _pinned(pin: Path) -> str | None:
    text = pin.read_text(errors="replace").strip() if pin.is_file() else ""
    return text if re.fullmatch("[0-9a-f]{64}", text) else None


def _write_pin(pin: Path, found: str, target: Path) -> None:
    write_text(pin, f"{found}\n")
    log.warning("no sha256 is known for %s: it has %s, which is expected from now on", target.name, found)


@contextlib.contextmanager
def _part(path: Path) -> Iterator[IO[bytes]]:
    """The file of a download, for this process only: other jobs of a sweep wait. It does not stay if it is empty."""
    with locked(path) as part:
        try:
            yield part
        finally:
            part.flush()
            if os.fstat(part.fileno()).st_size == 0:
                path.unlink(missing_ok=True)


def _advice(problem: str, address: str, target: Path) -> str:
    return (
        f"{problem}.\n"
        f"Either fetch {address} on another machine and put it into the cache folder {target.parent}\n"
        f"(as {target.name}; DETECT_CACHE names another folder), or start from a file of weights or a run folder with\n"
        "init=PATH, or start from random weights with init=none."
    )
