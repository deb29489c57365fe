"""Files that are written whole or not at all, strict JSON, YAML that does not swell, and CSV without formulas."""

import contextlib
import csv
import errno
import fcntl
import functools
import hashlib
import itertools
import json
import logging
import math
import numbers
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from detect.errors import ConfigError, DataError, printable

log = logging.getLogger("detect")
LONGEST_NAME = 255
"""Bytes of a file's name."""
MOST_VALUES = 100_000
"""The most values that the aliases of a YAML file may add to it."""
DIGEST = "# Digest of what follows, which tells changes by hand: "


def cache_folder(cache: str | Path | None = None) -> Path:
    """`cache`, else the folder that DETECT_CACHE names, else ~/.cache/detect."""
    return expanded(cache or os.environ.get("DETECT_CACHE") or "~/.cache/detect")


def expanded(path: str | Path) -> Path:
    """A path with the user's own folder in place of `~`. One of a user who does not exist stays as it is.

    Raises ConfigError for what is no path, and for a name that no file can have.
    """
    try:
        found = Path(os.path.expanduser(str(path) if isinstance(path, int | float) else path))
    except TypeError:
        raise ConfigError(f"{path}: expected one path") from None
    try:
        os.stat(found)
    except (OSError, ValueError) as error:  # most methods of Path raise it again
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            raise ConfigError(f"{str(path)[:80]}...: this name is too long for a file or folder") from None
        if isinstance(error, ValueError):
            raise ConfigError(f"{str(path)!r}: no file or folder can have this name: {error}") from None
    return found


def tensorflow_reads(path: Path) -> bool:
    """Whether TensorFlow reads a checkpoint or a SavedModel here: it takes [ and \\ in a path as a pattern."""
    return not re.search(r"[\[\\]", str(path))


def file_name(text: str) -> str:
    """The text for a file name: letters, digits and `+-._` do not change, others become an underscore."""
    return re.sub(r"[^\w.+-]+", "_", text)


@contextlib.contextmanager
def replacing(path: Path, name: str | None = None, wait: bool = True, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary path beside `path`. At the end its file replaces `path`; after an error it is removed.

    A reader sees the old file or the new file, never a part of it, even after a power failure. Of several writers, one
    waits for the other; without `wait`, it raises BlockingIOError.
    name: the name of the temporary file; None is the name of `path` plus `.new`. durable: waits for the disk, which
    takes longer than to write a picture; without it, a power failure may leave an empty file.
    """
    temporary = path.with_name(name or f"{path.name}.new")
    if len(os.fsencode(temporary.name)) > LONGEST_NAME:
        temporary = path.with_name(f"{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.new")
    with locked(temporary, wait):
        try:
            yield temporary
            if durable:
                sync(temporary)
            os.replace(temporary, path)
            if durable:
                sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def lock(file: IO[Any], wait: bool = True) -> None:
    """Locks an open file for this process, until it is closed. On a file system without locks, a warning says so.

    Raises BlockingIOError if another process holds the lock, and `wait` is false.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        _without_locks(os.path.dirname(file.name), str(error))


@functools.cache
def _without_locks(folder: str, reason: str) -> None:
    """Warns once of each folder."""
    log.warning("%s: its file system has no locks (%s): let no two processes write there", folder or ".", reason)


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[IO[bytes]]:
    """A file, opened for this writer alone (see `lock`); what is written goes to its end. A missing file is made.

    An earlier writer may have renamed or removed it: then it is opened again.
    """
    while True:
        with path.open("a+b") as file:
            lock(file, wait)
            try:
                same = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                continue
            if same:
                try:
                    yield file
                finally:
                    with contextlib.suppress(OSError):  # a file system without locks
                        fcntl.flock(file, fcntl.LOCK_UN)  # a forked process may have the file open, too
                return


def sync(*paths: Path) -> None:
    """Waits until files, or the names in folders, are on the disk."""
    for path in paths:
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def unswollen(text: str) -> str:
    """The text of a YAML file. Raises yaml.YAMLError if its aliases add more than MOST_VALUES values to it.

    A few lines of aliases can stand for billions of values. The parser shares them, but a copy does not. Damage of
    another kind is left to the parser that reads the text.
    """
    if not ("&" in text and "*" in text):
        return text
    import yaml

    known: dict[int, float] = {}
    try:
        values = _values(yaml.compose(text, Loader=yaml.SafeLoader), known)
    except (yaml.YAMLError, RecursionError):
        return text
    if values - len(known) > MOST_VALUES:
        raise yaml.YAMLError(f"its aliases add more than {MOST_VALUES:,} values")
    return text


def _values(node: Any, known: dict[int, float]) -> float:
    """The number of values of a YAML node, with those that aliases repeat; infinite for a node within itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = itertools.chain.from_iterable(n if isinstance(n, tuple) else (n,) for n in node.value)
        known[id(node)] = 1 if isinstance(node.value, str) else 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises DataError, which names the file, if it can't be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:  # ValueError: also text that is not UTF-8
        raise DataError(f"{path} is not readable JSON: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, in UTF-8."""
    with replacing(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def experiment_text(head: Iterable[str], body: str) -> str:
    """An experiment that a command makes: comment lines, a digest of the body, and the body."""
    lines = ["# @package _global_", *(f"# {printable(line)}".rstrip() for line in head), DIGEST + _digest(body)]
    return "\n".join([*lines, body])


def refuse_written_by_hand(path: Path, mark: str) -> None:
    """Raises ConfigError if an experiment is there that a command did not make, or that was changed afterwards.

    mark: what the comment of its files has near its start. Files of older versions have no digest, and count as theirs.
    """
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if mark not in " ".join(text[:4000].replace("\n#", " ").split()):
        raise ConfigError(f"{path} is there already, and was not made {mark}; give another name= or output=")
    _, told, rest = text.partition(f"\n{DIGEST}")
    digest, _, body = rest.partition("\n")
    if told and digest.strip() != _digest(body):
        raise ConfigError(f"{path} was changed by hand since it was made {mark}; give another name= or output=")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, data: object, indent: int | None = 2) -> None:
    """Writes strict JSON atomically."""
    write_text(path, strict_json(data, indent) + "\n")


@contextlib.contextmanager
def json_list(path: Path) -> Iterator[Callable[[Iterable[object]], None]]:
    """Gives a function that appends items to a list in a JSON file. The list needs no memory.

    The file is written atomically at the end. After Ctrl-C, a full disk or another error it holds the items until then;
    before the first ones, an earlier file stays. Raises ConfigError if another program is writing it.
    """
    with contextlib.ExitStack() as stack:
        try:
            temporary = stack.enter_context(replacing(Path(path), wait=False))
        except BlockingIOError:
            raise ConfigError(f"{path}: another program writes it; wait for its end, or name another output") from None
        temporary.write_text("[]\n")
        end = 1  # of the last item, in bytes
        stopped: BaseException | None = None
        begun = False

        def write(text: str) -> None:
            with temporary.open("r+b") as file:
                file.seek(end)
                file.write(f"{text}]\n".encode())
                file.truncate()

        def append(items: Iterable[object]) -> None:
            nonlocal begun, end
            if text := ", ".join(map(strict_json, items)):
                text = f", {text}" if end > 1 else text
                write(text)
                end += len(text)  # it is ASCII
            begun = True

        try:
            yield append
        except BaseException as error:
            if not begun:
                raise
            stopped = error
            write("")  # over what a full disk has cut: it needs no new space
    if stopped is not None:
        raise stopped


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table as CSV atomically, in UTF-8: a head, and rows of as many cells. `csv_cell` writes each of them."""
    with replacing(Path(path)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([csv_cell(column) for column in columns])
        writer.writerows([csv_cell(value) for value in row] for row in rows)


def append_csv(path: Path, row: Sequence[object]) -> None:
    """Appends a row to a table of `write_csv`, with a cell for each of its columns."""
    with Path(path).open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerow([csv_cell(value) for value in row])


def csv_cell(value: object) -> object:
    """A cell without control characters. Text that a spreadsheet would take for a formula begins with an apostrophe.

    Such text begins with = + - @ a tab or a carriage return, and is no number (owasp.org: CSV injection).
    """
    if value is None or isinstance(value, numbers.Number):
        return value
    text = str(value)
    return f"'{printable(text)}" if text.startswith(FORMULA) and not _is_number(text) else printable(text)


def csv_text(cell: str) -> str:
    """The text of a cell that `csv_cell` wrote, without the apostrophe before a formula."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*FORMULA, "\\t", "\\r")) else cell


FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def strict_json(data: object, indent: int | None = None) -> str:
    """JSON that every parser reads: NaN and infinity become null; numpy values, paths and tuples become plain."""
    return json.dumps(_plain(data), indent=indent, allow_nan=False)


def _plain(data: object) -> object:
    if (as_list := getattr(data, "tolist", None)) is not None:  # an array or a number of numpy, which is not imported
        data = as_list()
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        return [_plain(value) for value in data]
    return str(data) if isinstance(data, Path) else data


def absolute(name: str | Path, key: str) -> Path:
    """The absolute path of a name, with `~` written out. It need not exist.

    key: what sets the name, for the message. Raises ConfigError for an unknown `~user`, and for no possible name.
    """
    try:
        path = Path(str(name)).expanduser().resolve()
        path.exists()
    except (RuntimeError, ValueError, OSError) as error:
        shown = str(name)[:200]
        raise ConfigError(f"{key}={shown!r} is no name of a file or folder: {error}"[:500]) from None
    return path
