"""Pictures inside ArrayRecord files, which are read one by one in any order (github.com/google/array_record).

The path of such a picture is that of the file, then `NUMBER-CHECKSUM-LENGTH` and the ending of the picture's kind, such
as `train-00000-of-00004.arrayrecord/17-9ae0daaf-40213.jpg`. So every read is checked, and no table is needed.
"""

import errno
import re
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detect.errors import ConfigError

if TYPE_CHECKING:
    from array_record.python.array_record_module import ArrayRecordReader

SUFFIX = ".arrayrecord"
MOST_OPEN = 16
"""Files that each thread keeps open."""
MOST_BYTES = 1 << 30
"""The longest picture that is read."""
_NAME = re.compile(r"(\d{1,12})-([0-9a-f]{8})-(\d{1,12})(\.[a-z]{3,4})")
_open_files = threading.local()


@dataclass(frozen=True)
class Picture:
    """A picture inside an ArrayRecord file: its record from 0, the CRC-32 of its bytes, and how many it has."""

    file: str
    record: int
    checksum: int
    length: int
    suffix: str

    @classmethod
    def at(cls, path: str | Path) -> "Picture | None":
        """The picture of a path; None for the path of a plain file."""
        file, _, name = str(path).rpartition("/")
        found = _NAME.fullmatch(name) if file.endswith(SUFFIX) else None
        return cls(file, int(found[1]), int(found[2], 16), int(found[3]), found[4]) if found else None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return f"{self.record}-{self.checksum:08x}-{self.length}{self.suffix}"

    def read(self) -> bytes:
        """Its bytes. Raises OSError if the file is missing or damaged, or is not the one that the path tells of."""
        if self.length > MOST_BYTES:
            raise OSError(errno.EIO, f"record {self.record} claims {self.length} bytes", self.file)
        try:
            content: bytes = _reader(self.file).read([self.record])[0]
        except (RuntimeError, ValueError, IndexError, MemoryError, TypeError) as error:
            _close(self.file)
            raise OSError(errno.EIO, f"record {self.record} can't be read", self.file) from error
        if len(content) != self.length or zlib.crc32(content) != self.checksum:
            _close(self.file)
            raise OSError(errno.EIO, f"record {self.record} is damaged: its checksum differs", self.file)
        return content


def library():  # type: ignore[no-untyped-def]
    """The module that reads and writes ArrayRecord files. Raises ConfigError where it does not exist."""
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise ConfigError(f"ArrayRecord files need the package array-record, which is for Linux ({error})") from None
    return array_record_module


def _reader(file: str) -> "ArrayRecordReader":
    """An open file of this thread, as readers are not shared by threads. Raises OSError if it is missing."""
    opened: OrderedDict[str, ArrayRecordReader] = _open_files.__dict__.setdefault("files", OrderedDict())
    if file not in opened:
        if not Path(file).is_file():
            raise FileNotFoundError(errno.ENOENT, "no such file", file)
        while len(opened) >= MOST_OPEN:
            opened.popitem(last=False)[1].close()
        opened[file] = library().ArrayRecordReader(file, "readahead_buffer_size:0,max_parallelism:0")
    opened.move_to_end(file)
    return opened[file]


def _close(file: str) -> None:
    """Forgets an open file: the next read opens it again."""
    _open_files.__dict__.setdefault("files", OrderedDict()).pop(file, None)
