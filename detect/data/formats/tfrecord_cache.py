"""The unpacked pictures and boxes of TFRecord files, in the cache folder; damaged or half-written ones are not used."""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detect.data.formats.tfrecord_unpack import FORM, INDEX
from detect.environment import of_child
from detect.errors import ConfigError, DataError
from detect.files import cache_folder

log = logging.getLogger("detect")


def unpacked(files: Sequence[Path], root: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The folder with the pictures of TFRecord files, and the content of each file as in the index of `unpack`.

    The folder is tfrecord-FINGERPRINT below `detect.files.cache_folder`. The fingerprint is that of the files' paths,
    sizes and times of change. The first call unpacks them; a folder whose files are not as they were written is
    replaced. Raises ConfigError if the cache is below `root`, and DataError for files that can't be unpacked.
    """
    cache = cache_folder()
    if cache.resolve().is_relative_to(root.resolve()):
        raise ConfigError(
            f"DETECT_CACHE={cache}: the cache is below dataset.root={root}, where nothing is written; "
            "name another folder"
        )
    stamps = [_stamp(path) for path in files]
    mark = hashlib.sha256(json.dumps([FORM, stamps]).encode()).hexdigest()[:16]
    folder = cache / f"tfrecord-{mark}"
    content = _recall(folder)
    if content is None:
        log.info("unpacking the pictures of %d TFRecord files into %s", len(files), folder)
        try:
            _make(folder, [path.absolute() for path in files])
        except OSError as error:
            raise DataError(
                f"{folder}: can't write the pictures of the TFRecord files ({error.strerror}); set DETECT_CACHE to a "
                "folder with space for them"
            ) from None
        content = _recall(folder)
    if content is None:
        raise DataError(f"{folder}: the pictures of the TFRecord files changed while they were read; remove the folder")
    return folder, content


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: can't read it ({error.strerror})") from None
    return str(path.absolute()), stat.st_size, stat.st_mtime_ns


def _recall(folder: Path) -> list[dict[str, Any]] | None:
    """The content of an unpacked folder; None if a file is missing or is not as it was written."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        for name, (size, changed) in index["pictures"].items():
            stat = os.stat(folder / name)
            if (stat.st_size, stat.st_mtime_ns) != (size, changed):
                return None
        return index["files"] if index["form"] == FORM else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _make(folder: Path, files: Sequence[Path]) -> None:
    """Unpacks files into a temporary folder, which then takes the place of `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.new-"))
    try:
        made = temporary / "made"
        made.mkdir()
        in_child(files, made)
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, temporary / "old")
        with contextlib.suppress(OSError):  # another process has just made it
            os.rename(made, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def in_child(files: Sequence[Path], folder: Path) -> None:
    """`unpack` in a process of its own, without a GPU."""
    environment = of_child(CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3")
    command = [sys.executable, "-P", "-m", "detect.data.formats.tfrecord_unpack", str(folder), *map(str, files)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):
            raise DataError(json.loads(done.stdout.splitlines()[-1])["error"])
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"{files[0]}: the reading of TFRecord files ended with code {done.returncode} ({last[:300]})")
