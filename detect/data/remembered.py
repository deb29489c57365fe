"""Facts about image files. Those of unchanged files are remembered in a cache, outside the data."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import PIL

from detect.data.image_file import Header, examine, header, lacks_end
from detect.files import cache_folder

MANY = 500  # fewer files are looked at again
DATABASE = "checks.sqlite"
_DECODER = f"OpenCV {cv2.__version__}, Pillow {PIL.__version__}"
_TABLE = """CREATE TABLE IF NOT EXISTS checks (
    folder TEXT, name TEXT, size INTEGER, changed INTEGER, decoder TEXT,
    width INTEGER, height INTEGER, orientation INTEGER, decoded INTEGER, reason TEXT, bits INTEGER,
    PRIMARY KEY (folder, name)) WITHOUT ROWID"""


@dataclass(frozen=True)
class Facts:
    """What is known of an image file.

    width, height: pixels as displayed; 0 if the header can't be read. orientation: EXIF's 1..8.
    decoded: whether all of the file was decoded. Then reason: why training can't use it, or None; bits: 8, or the bits
    that a picture of 16 bits uses.
    """

    width: int
    height: int
    orientation: int
    decoded: bool = False
    reason: str | None = None
    bits: int = 8

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height), or None."""
        return (self.width, self.height) if self.width else None


def facts_of(paths: Sequence[Path], decode: bool = False, threads: int = 8) -> list[Facts]:
    """The facts of each file, in order, gathered by threads.

    decode: also decode each file; otherwise only JPEGs without an end marker. The facts of `MANY` files or more are
    remembered by path, size and time of change.
    """
    stamps = [_stamp(path) for path in paths] if len(paths) >= MANY else []
    known = _recall(paths, stamps, decode) if stamps else {}
    fresh = [path for path in dict.fromkeys(paths) if path not in known]
    with ThreadPoolExecutor(threads) as pool:
        gathered = dict(zip(fresh, pool.map(lambda path: _gather(path, decode), fresh), strict=True))
    if stamps and gathered:
        _remember((path, stamp, gathered[path]) for path, stamp in zip(paths, stamps, strict=True) if path in gathered)
    known |= gathered
    return [known[path] for path in paths]


def _gather(path: Path, decode: bool) -> Facts:
    found = header(path) or Header(0, 0, 1)
    reason, bits = examine(path) if decode or lacks_end(path) else (None, 8)
    return Facts(*found, decode, reason, bits)


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of the last change in nanoseconds; (-1, -1) for a file that can't be read."""
    try:
        stat = path.stat()
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _recall(paths: Sequence[Path], stamps: Sequence[tuple[int, int]], decode: bool) -> dict[Path, Facts]:
    """The remembered facts of files that are unchanged."""
    rows: dict[tuple[str, str], tuple] = {}

    def read(database: sqlite3.Connection) -> None:
        for folder in {str(path.parent.absolute()) for path in paths}:
            found = database.execute("SELECT * FROM checks WHERE folder = ? AND decoder = ?", (folder, _DECODER))
            rows.update({row[:2]: row[2:] for row in found})

    _with_database(read)
    known = {}
    for path, stamp in zip(paths, stamps, strict=True):
        row = rows.get((str(path.parent.absolute()), path.name))
        if row and row[:2] == stamp and stamp[0] >= 0 and (row[6] or not decode):
            width, height, orientation, decoded, reason, bits = row[3:]
            known[path] = Facts(width, height, orientation, bool(decoded), reason, bits)
    return known


def _remember(found: Iterable[tuple[Path, tuple[int, int], Facts]]) -> None:
    rows = [
        (str(path.parent.absolute()), path.name, *stamp, _DECODER, *astuple(facts))
        for path, stamp, facts in found
        if stamp[0] >= 0
    ]

    def write(database: sqlite3.Connection) -> None:
        marks = ", ".join("?" * 11)
        database.executemany(f"INSERT OR REPLACE INTO checks VALUES ({marks})", rows)

    _with_database(write)


def _with_database(use: Callable[[sqlite3.Connection], None]) -> None:
    """Lets `use` read or write the cache. A cache that can't be used only costs time."""
    with contextlib.suppress(sqlite3.Error, OSError, UnicodeError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(folder / DATABASE, timeout=5)) as database, database:
            database.execute(_TABLE)
            use(database)
