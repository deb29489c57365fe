"""Files from a public address into a cache: resumed where a connection broke, verified, moved into place whole."""

import contextlib
import fcntl
import hashlib
import http.client
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from detect.errors import WeightsError
from detect.progress import ProgressLine

log = logging.getLogger("detect")

CHUNK = 1 << 20
LARGEST = 2 << 30  # bytes: no archive of weights comes near, a fault or an attack does
Progress = Callable[[int, int], None]


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
            found = _complete(address, part, expected, timeout, progress)
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


def sha256_of(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _complete(address: str, part: IO[bytes], expected: str | None, timeout: float, progress: Progress | None) -> str:
    """Fills `part` from the address; returns its sha256. A file that was pieced together wrongly is fetched whole."""
    resumed = _stream(address, part, timeout, progress)
    found = sha256_of(Path(part.name))
    if resumed and expected and found != expected:
        log.warning("the parts of %s do not fit together: fetching it whole", address)
        _forget(part)
        _stream(address, part, timeout, progress)
        found = sha256_of(Path(part.name))
    if expected and found != expected:
        Path(part.name).unlink()
    _validator(part).unlink(missing_ok=True)
    return found


def _stream(address: str, part: IO[bytes], timeout: float, progress: Progress | None) -> bool:
    """Copies the address to the end of `part`, or all of it; returns whether a part was there and went on."""
    done = part.seek(0, os.SEEK_END)
    request = urllib.request.Request(address)
    known = _validator(part).read_text() if done and _validator(part).is_file() else ""
    if known:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", known)  # another file since: the server then sends it whole
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if not (known and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE):
            raise
        _forget(part)
        return _stream(address, part, timeout, progress)
    with response:
        resumed = known != "" and _goes_on(response, done)
        if not resumed:
            _forget(part)
            done = 0
            if mark := _mark(response.headers):
                _validator(part).write_text(mark)
        size = done + int(response.headers.get("Content-Length") or 0)
        with _shown(part, progress) as show:
            done = _copy(response, part, done, size if size > done else 0, show)
    if done < size:
        raise OSError(f"the connection ended after {done} of {size} bytes; the next attempt goes on from there")
    return resumed


def _copy(response: Any, part: IO[bytes], done: int, size: int, show: Progress) -> int:
    while block := response.read(CHUNK):
        done += len(block)
        if done > LARGEST:
            _forget(part)
            raise OSError(f"more than {LARGEST >> 30} GB")
        part.write(block)
        show(done, size)
    part.flush()
    return done


def _goes_on(response: Any, done: int) -> bool:
    """Whether a response continues after `done` bytes. Servers that don't know ranges send everything (200)."""
    if response.status != http.client.PARTIAL_CONTENT:
        return False
    if not re.match(rf"bytes {done}-", response.headers.get("Content-Range", "")):
        raise OSError(f"the server sent {response.headers.get('Content-Range')} when asked for bytes from {done} on")
    return True


def _mark(headers: Any) -> str:
    """What tells a file's version: a strong ETag, or the date of its last change."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _validator(part: IO[bytes]) -> Path:
    """Where the server's mark of the file's version is kept, beside the part."""
    return Path(f"{part.name}.etag")


def _forget(part: IO[bytes]) -> None:
    part.seek(0)
    part.truncate()
    _validator(part).unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """The file, open for this process alone; jobs of a sweep wait here for the first of them."""
    while True:
        file = open(path, "a+b")  # noqa: SIM115 (closed below, or by the caller's block)
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()  # the one who had it has moved it into place
    try:
        with file:
            yield file
    finally:
        if path.exists() and path.stat().st_size == 0:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _shown(part: IO[bytes], progress: Progress | None) -> Iterator[Progress]:
    if progress is not None:
        yield progress
        return
    line = ProgressLine(Path(part.name).name.removesuffix(".part"), 0, every=5.0, unit=" MB")

    def show(done: int, size: int) -> None:
        line.total_steps = round(size / 1e6)
        line.update(round(done / 1e6), {})

    try:
        yield show
    finally:
        line.close()


def _advice(problem: str, address: str, target: Path) -> str:
    return (
        f"{problem}.\n"
        f"Either fetch {address} elsewhere and put it into the cache folder {target.parent}\n"
        f"(as {target.name}; DETECT_CACHE names another folder), or start from a file of weights or a run folder with\n"
        "init=PATH, or from random weights with init=none."
    )
