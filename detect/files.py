"""Files that are written whole or not at all, and strict JSON."""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np


def cache_folder(cache: str | Path | None = None) -> Path:
    """`cache`, else the folder that DETECT_CACHE names, else ~/.cache/detect."""
    return Path(cache or os.environ.get("DETECT_CACHE") or "~/.cache/detect").expanduser()


@contextlib.contextmanager
def replacing(path: Path, name: str | None = None) -> Iterator[Path]:
    """Gives a temporary path beside `path`. At the end its file replaces `path`; after an error it is removed.

    A reader sees the old file or the new file, never a part of it, even after a power failure.
    name: the name of the temporary file; None is the name of `path` plus `.new`.
    """
    temporary = path.with_name(name or f"{path.name}.new")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, in UTF-8."""
    with replacing(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: object, indent: int | None = 2) -> None:
    """Writes strict JSON atomically."""
    write_text(path, strict_json(data, indent) + "\n")


def strict_json(data: object, indent: int | None = None) -> str:
    """JSON that every parser reads: NaN and infinity become null; numpy values, paths and tuples become plain."""
    return json.dumps(_plain(data), indent=indent, allow_nan=False)


def _plain(data: object) -> object:
    if isinstance(data, np.ndarray | np.generic):
        data = data.tolist()
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        return [_plain(value) for value in data]
    return str(data) if isinstance(data, Path) else data
