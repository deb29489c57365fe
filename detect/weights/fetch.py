"""Files from a public address into a cache: verified by sha256, moved into place whole, unpacked safely."""

import hashlib
import http.client
import logging
import os
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from detect.errors import WeightsError

log = logging.getLogger("detect")

CHUNK = 1 << 20
LARGEST = 2 << 30  # bytes: no archive of weights comes near, a fault or an attack does


def cache_folder(cache: str | Path | None = None) -> Path:
    """`cache` itself, or the folder that DETECT_CACHE names, or ~/.cache/detect."""
    return Path(cache or os.environ.get("DETECT_CACHE") or "~/.cache/detect").expanduser()


def fetch(address: str, sha256: str, cache: str | Path | None = None, timeout: float = 30.0) -> Path:
    """The file of `address` in the cache; fetched (http, https, ftp, file) if it isn't there or has changed.

    sha256: of the file, in hexadecimal. timeout: seconds of silence after which the server is given up.
    Raises WeightsError with what to do if the file can't be had or is another one.
    """
    folder = cache_folder(cache)
    target = folder / address.rstrip("/").rsplit("/", 1)[-1]
    if target.is_file():
        if _sha256(target) == sha256:
            return target
        log.warning("%s is not the file of sha256 %s: fetching it again", target, sha256)
    log.info("fetching %s into %s", address, folder)
    part = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=target.name, suffix=".part", delete=False) as out:
            part = Path(out.name)
            found = _stream(address, out, timeout)
        if found != sha256:
            raise WeightsError(_advice(f"{address} has sha256 {found}, not {sha256} as expected", address, target))
        os.replace(part, target)
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError and TimeoutError are OSErrors
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        raise WeightsError(_advice(f"{address} can't be fetched ({reason})", address, target)) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return target


def unpack(archive: Path, start: str, folder: Path) -> Path:
    """Extracts the files of a tar archive whose names start with `start` into `folder`, whole or not at all."""
    if folder.is_dir():
        return folder
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.new"))
    try:
        with tarfile.open(archive) as tar:
            wanted = [m for m in tar.getmembers() if m.isfile() and Path(m.name).name.startswith(start)]
            if not wanted:
                raise WeightsError(f"{archive} holds no file that starts with {start}")
            if sum(member.size for member in wanted) > LARGEST:
                raise WeightsError(f"{archive} unpacks to more than {LARGEST >> 30} GB: refused")
            for member in wanted:  # by base name: no member can leave the folder
                source = tar.extractfile(member)
                assert source is not None  # it is a regular file
                with source, open(new / Path(member.name).name, "wb") as out:
                    shutil.copyfileobj(source, out)
        if not folder.is_dir():  # another process may have been faster
            os.replace(new, folder)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise WeightsError(f"{archive} can't be unpacked into {folder}: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def _stream(address: str, out, timeout: float) -> str:
    """Copies the address into the open file, logging progress; returns the sha256."""
    digest, done, last = hashlib.sha256(), 0, time.monotonic()
    with urllib.request.urlopen(address, timeout=timeout) as response:
        size = int(response.headers.get("Content-Length") or 0)
        while block := response.read(CHUNK):
            done += len(block)
            if done > LARGEST:
                raise OSError(f"more than {LARGEST >> 30} GB")
            out.write(block)
            digest.update(block)
            if time.monotonic() - last > 5:
                last = time.monotonic()
                log.info("  %.0f of %s MB", done / 1e6, f"{size / 1e6:.0f}" if size else "?")
    if done < size:
        raise OSError(f"the connection ended after {done} of {size} bytes")
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _advice(problem: str, address: str, target: Path) -> str:
    return (
        f"{problem}.\n"
        f"Either fetch {address} elsewhere and put it into the cache folder {target.parent}\n"
        f"(as {target.name}; DETECT_CACHE names another folder), or start from a checkpoint or a run folder with\n"
        "init=PATH, or from random weights with init=none."
    )
