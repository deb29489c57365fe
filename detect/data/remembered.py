"""Facts about image files. Those of unchanged files are remembered in a cache, outside the data."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import PIL

from detect.data.image_file import Header, examine, header_and_end, stamp
from detect.data.parallel import THREADS, each
from detect.files import cache_folder

MANY = 500  # fewer files are looked at again
DATABASE = "checks.sqlite"
_DECODER = f"OpenCV {cv2.__version__}, Pillow {PIL.__version__}, form 3"  # form: changes when the same file tells more
_TABLE = """CREATE TABLE IF NOT EXISTS checks (
    folder TEXT, name TEXT, size INTEGER, changed INTEGER, decoder TEXT,
    width INTEGER, height INTEGER, orientation INTEGER, decoded INTEGER, reason TEXT, bits INTEGER,
    PRIMARY KEY (folder, name)) WITHOUT ROWID"""


class Facts(NamedTuple):
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


def facts_of(paths: Sequence[str | Path], decode: bool = False, threads: int = THREADS) -> list[Facts]:
    """The facts of each file, in order. Equal facts are one object.

    decode: also decode each file; otherwise only JPEGs without an end marker. The facts of `MANY` files or more are
    remembered by path, size and time of change, but for files that could not be read: the reason may have passed.
    """
    places: dict[str, int] = {}
    here = os.getcwd()
    rows = [places.setdefault(os.path.join(here, path), len(places)) for path in paths]
    names, many = list(places), len(rows) >= MANY
    known: list[Facts | None] = [None] * len(names)
    stamps = each(stamp, names, threads) if many else []
    if many:
        _recall(places, stamps, decode, known)
    fresh = [place for place, facts in enumerate(known) if facts is None]
    one: dict[Facts | None, Facts] = {facts: facts for facts in known if facts}

    def gather(place: int) -> Facts:
        facts = _gather(names[place], decode)
        return one.setdefault(facts, facts)

    gathered = each(gather, fresh, threads)
    if many and fresh:
        _remember((names[k], stamps[k], facts) for k, facts in zip(fresh, gathered, strict=True))
    for place, facts in zip(fresh, gathered, strict=True):
        known[place] = facts
    return [one[known[row]] for row in rows]


def _gather(path: str, decode: bool) -> Facts:
    found, cut = header_and_end(path)
    reason, bits = examine(Path(path)) if decode or cut else (None, 8)
    return Facts(*(found or Header(0, 0, 1)), decode, reason, bits)


def _recall(
    places: Mapping[str, int], stamps: Sequence[tuple[int, int]], decode: bool, known: list[Facts | None]
) -> None:
    """Writes the remembered facts of files that are unchanged into their places."""
    shared: dict[Facts, Facts] = {}

    def read(database: sqlite3.Connection) -> None:
        for folder in dict.fromkeys(map(os.path.dirname, places)):
            rows = database.execute("SELECT * FROM checks WHERE folder = ? AND decoder = ?", (folder, _DECODER))
            for _, name, size, changed, _, width, height, orientation, decoded, reason, bits in rows:
                place = places.get(f"{folder}/{name}")
                if place is not None and stamps[place] == (size, changed) and (decoded or not decode):
                    found = Facts(width, height, orientation, bool(decoded), reason, bits)
                    known[place] = shared.setdefault(found, found)

    _with_database(read)


def _remember(found: Iterable[tuple[str, tuple[int, int], Facts]]) -> None:
    rows = (
        (*os.path.split(path), *stamp, _DECODER, *facts)
        for path, stamp, facts in found
        if stamp[0] >= 0 and facts.width and facts.reason is None
    )

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
