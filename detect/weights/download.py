"""Downloads one file from an address into an open file, and resumes an interrupted download."""

import contextlib
import http.client
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import IO

from detect.files import sha256_of
from detect.reporting.progress import ProgressLine
from detect.weights.claims import LARGEST

log = logging.getLogger("detect")

CHUNK = 1 << 20
Progress = Callable[[int, int], None]


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to an address that anybody on the way can change."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if req.type == "https" and not newurl.lower().startswith("https:"):
            raise urllib.error.URLError(f"it redirects from https to {newurl}: refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def complete(address: str, part: IO[bytes], expected: str | None, timeout: float, progress: Progress | None) -> str:
    """Fills `part` from the address; returns its sha256. If a resumed file has the wrong hash, fetches it again."""
    resumed = _stream(address, part, timeout, progress)
    found = sha256_of(Path(part.name))
    if resumed and expected and found != expected:
        log.warning("the resumed download of %s has a wrong sha256: fetching the whole file again", address)
        _forget(part)
        _stream(address, part, timeout, progress)
        found = sha256_of(Path(part.name))
    if expected and found != expected:
        Path(part.name).unlink()
    _validator(part).unlink(missing_ok=True)
    return found


def _stream(address: str, part: IO[bytes], timeout: float, progress: Progress | None) -> bool:
    """Appends the rest of the file to `part`, or writes all of it; returns whether the download was resumed."""
    done = part.seek(0, os.SEEK_END)
    request = urllib.request.Request(address)
    known = _validator(part).read_text() if done and _validator(part).is_file() else ""
    if known:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", known)  # if the file has changed, the server sends all of it
    try:
        response = urllib.request.build_opener(_Redirect).open(request, timeout=timeout)
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
        raise OSError(f"the connection ended after {done} of {size} bytes; the next attempt continues from there")
    return resumed


def _copy(response: http.client.HTTPResponse, part: IO[bytes], done: int, size: int, show: Progress) -> int:
    while block := response.read(CHUNK):
        done += len(block)
        if done > LARGEST:
            _forget(part)
            raise OSError(f"the file is larger than the limit of {LARGEST >> 30} GB")
        part.write(block)
        show(done, size)
    part.flush()
    return done


def _goes_on(response: http.client.HTTPResponse, done: int) -> bool:
    """Whether a response continues after `done` bytes. A server without support for ranges sends everything (200)."""
    if response.status != http.client.PARTIAL_CONTENT:
        return False
    if not re.match(rf"bytes {done}-", response.headers.get("Content-Range", "")):
        raise OSError(f"the server sent {response.headers.get('Content-Range')}; requested were bytes from {done} on")
    return True


def _mark(headers: Message) -> str:
    """The server's mark of a file's version: a strong ETag, or the date of its last change."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _validator(part: IO[bytes]) -> Path:
    """The file beside `part` that holds the server's mark of the version."""
    return Path(f"{part.name}.etag")


def _forget(part: IO[bytes]) -> None:
    part.seek(0)
    part.truncate()
    _validator(part).unlink(missing_ok=True)


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
