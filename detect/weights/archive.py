"""Unpacks the wanted files of a tar archive into a folder. The archive is not trusted."""

import bz2
import contextlib
import glob
import gzip
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from detect.errors import WeightsError, printable
from detect.files import lock
from detect.weights.claims import LARGEST

LARGEST_HEADER = 1 << 20  # the most bytes of one header, which tarfile keeps in memory
MOST = 10_000  # members: archives of weights have a few dozen
OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


def unpack(archive: Path, start: str, folder: Path) -> Path:
    """Extracts the files of a tar archive whose names start with `start` into `folder`: all of them or none.

    start: `model.ckpt`, or a name with folders, `ema/model`. Both match at any depth of the archive. No letter, digit
        or _ may follow: `ckpt-1` is not the start of `ckpt-10.index`.

    The folder gets its name when all of its files are on the disk. What a killed process has left is removed. One
    process unpacks at a time, and others wait for it.

    Raises WeightsError, and leaves no files, if such a name belongs to anything but a plain file, if it points outside
    of the folder, or if the archive has more than MOST members or unpacks to more than LARGEST bytes.
    """
    if folder.is_dir():
        return folder
    try:
        with _locked(archive):
            if not folder.is_dir():  # another process may have unpacked it meanwhile
                _unpack(archive, start, folder)
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise WeightsError(f"{archive} can't be unpacked into {folder}: {error}") from error
    return folder


def _unpack(archive: Path, start: str, folder: Path) -> None:
    for left in folder.parent.glob(f"{glob.escape(folder.name)}.new*"):
        shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.new"))
    try:
        with _decompressed(archive) as stream, tarfile.open(fileobj=_limited(stream), mode="r:") as tar:
            for count, member in enumerate(tar):
                if count == MOST:
                    raise WeightsError(f"{archive} has more than {MOST} members: refused")
                if _is_wanted(member.name, start):
                    _extract(tar, member, archive, new)
        if not any(new.iterdir()):
            raise WeightsError(f"{archive} holds no file that starts with {start}; no letter, digit or _ may follow")
        os.replace(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextlib.contextmanager
def _locked(archive: Path) -> Iterator[None]:
    """Keeps other processes from unpacking the archive meanwhile."""
    with open(archive, "rb") as file:
        lock(file)
        yield


def _is_wanted(name: str, start: str) -> bool:
    """Whether the last parts of a name start with `start`: `a/b/net.ckpt.index` with `net.ckpt` or `b/net`."""
    parts, depth = PurePosixPath(name).parts, start.count("/") + 1
    return re.match(rf"{re.escape(start)}(?!\w)", "/".join(parts[-depth:])) is not None


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: Path, folder: Path) -> None:
    if member.isdir():
        return
    place = PurePosixPath(member.name)
    if printable(member.name) != member.name:
        raise WeightsError(f"{archive}: the name {printable(member.name)} has control characters: refused")
    if not member.isreg() or member.issparse():
        raise WeightsError(f"{archive}: {member.name} is not a plain file: refused")
    if place.is_absolute() or ".." in place.parts:
        raise WeightsError(f"{archive}: {member.name} points outside of the folder: refused")
    target = folder / place.name  # its last part only
    if target.exists():
        raise WeightsError(f"{archive} holds {place.name} twice: refused")
    source = tar.extractfile(member)
    assert source is not None  # it is a plain file
    with source, open(target, "wb") as out:
        shutil.copyfileobj(source, out)
        out.flush()
        os.fsync(out.fileno())


def _decompressed(archive: Path) -> IO[bytes]:
    with open(archive, "rb") as file:
        head = file.read(2)
    opener = OPENERS.get(head, open)
    return cast(IO[bytes], opener(archive, "rb"))


def _limited(stream: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], _Limited(stream))


class _Limited:
    """A stream for tarfile. It raises OSError beyond LARGEST bytes; skipped bytes count."""

    def __init__(self, stream: IO[bytes]):
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise OSError(f"one of its headers claims to have {size} bytes: refused")
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET:
            self._check(place)
        return self._stream.seek(place, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, place: int) -> None:
        if place > LARGEST + tarfile.RECORDSIZE:  # allows the padding at the end of an archive
            raise OSError(f"it unpacks to more than {LARGEST / (1 << 30):.1f} GB: refused")
