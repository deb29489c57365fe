"""Pictures by the names that annotations give them."""

import errno
import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from detect.data.folder import ending, listing
from detect.data.image_file import IMAGE_SUFFIXES, UNREAD, UNREAD_SUFFIXES
from detect.data.notes import Notes
from detect.data.text import loose, one_name
from detect.errors import DataError, first_few

MISSES = 64
"""The names that a folder does not have, after which it is listed."""


class _Folder:
    """A folder that is asked for many files by name. prefix: its path with a separator at its end, or nothing."""

    def __init__(self, prefix: str):
        self.prefix, self.misses = prefix, 0

    def file(self, name: str) -> str | None:
        """The path of the file of a name, or None. Raises OSError or ValueError for a name that no file can have."""
        path = os.path.join(self.prefix, name)
        return path if _is_file(path) else None

    def simple(self, name: str) -> str | None:
        """As `file`, of a name as `_SIMPLE` has it. After some misses the folder is listed, which takes less time."""
        if self.misses >= MISSES and self._entries and name.partition("/")[0].lower() not in self._entries:
            return None
        path = self.prefix + name
        if _is_file(path):
            return path
        self.misses += 1
        return None

    @cached_property
    def _entries(self) -> set[str] | None:
        """The names in the folder in lower case, as some systems take both cases for one; None if it has no list."""
        try:
            return {name.lower() for name in os.listdir(self.prefix or ".")}
        except OSError:
            return None


_SIMPLE = re.compile(r"([A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+\.[A-Za-z0-9]+")
"""A relative path that has one form only."""
_NO_PICTURES = (*UNREAD_SUFFIXES, ".txt", ".json", ".xml", ".csv")
_OUTSIDE = "read, although they are outside of the folder of the data set, pictures"
_MATCHED = "pictures matched by a name that differs in folder, ending, letter case, escapes or Unicode form"


class Pictures:
    """The image files below some folders, found by the name that an annotation gives.

    A name, of an address its path, is matched in this order; the first way with one picture wins:
    1. as it is, as a path below one of `folders`;
    2. as a path below one of `folders`, with backslashes, percent escapes and Unicode forms made equal;
    3. by its last parts: the picture that shares most of them. A picture's name must be equal; letter case comes last;
    4. by the name without its ending, if `stems` is true.
    Of pictures that fit equally well, those below the first of the folders win that has one of them. A folder that has
    others of them inside comes last. A picture outside of the folders is noted. way_out: what the user can do about two
    pictures that fit equally well.
    """

    def __init__(self, folders: Sequence[Path], notes: Notes, way_out: str = "give its folder in the annotation"):
        self.folders = list(dict.fromkeys(folders))
        self.notes, self.way_out = notes, way_out
        self._inside: dict[tuple[Hashable, ...], dict[str, list[str]]] = {}
        self._searched = [_Folder("" if folder == Path(".") else os.path.join(folder, "")) for folder in self.folders]

    @cached_property
    def files(self) -> list[str]:
        """The paths of all image files, sorted."""
        return self._ending_in(IMAGE_SUFFIXES)

    def _ending_in(self, suffixes: Sequence[str]) -> list[str]:
        nested = [f for f in self.folders if not any(f != g and f.is_relative_to(g) for g in self.folders)]
        names = (name for folder in nested if folder.is_dir() for name in listing(str(folder), True))
        return [name for name in names if ending(name) in suffixes]

    @cached_property
    def _inner_first(self) -> list[Path]:
        return sorted(self.folders, key=lambda f: any(g != f and g.is_relative_to(f) for g in self.folders))

    @cached_property
    def _named(self) -> dict[str, list[str]]:
        return _index(self.files, lambda path: loose(path.rpartition("/")[2]))

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return _index(self.files, lambda path: loose(Path(path).stem))

    @cached_property
    def _unread(self) -> dict[str, list[str]]:
        return _index(self._ending_in(UNREAD_SUFFIXES), lambda path: loose(Path(path).stem))

    @cached_property
    def _tops(self) -> tuple[str, ...]:
        return tuple(os.path.join(os.path.abspath(folder), "") for folder in self.folders)

    def find(self, name: str, asked_by: object, stems: bool = False) -> Path | None:
        """The picture called `name`, or None. A match by another way than the first is noted.

        Raises DataError, which names `asked_by` and the pictures, if two pictures fit equally well, and if the only
        file of this name has a format that is not read.
        """
        found = self.locate(name, asked_by, stems)
        return None if found is None else Path(found)

    def locate(self, name: str, asked_by: object, stems: bool = False) -> str | None:
        """As `find`, but text: a large data set asks for so many that their `Path` would take most time."""
        name = in_address(name)
        simple = _SIMPLE.fullmatch(name)
        try:
            for folder in self._searched:
                if path := folder.simple(name) if simple else folder.file(name):
                    return self._readable(path if simple else str(Path(path)), name, asked_by)
        except (OSError, ValueError):  # a name that no file can have
            return None
        if simple and "/" not in name and len(found := self._named.get(name.lower(), [])) == 1:
            return self._noted(str(Path(found[0])) if found[0].startswith("./") else found[0], name, asked_by)
        for plain in dict.fromkeys((_plain(name), _plain(unquote(name)))):
            if not plain.parts:
                continue
            exact = [f / plain for f in self.folders if (f / plain).is_file()]
            best = exact[:1] or self._best(plain, self._named.get(loose(plain.name), []), asked_by)
            if not best and stems:
                for stem in dict.fromkeys((plain.stem, plain.name)):  # 2020.jpg; a name with a dot and no ending
                    best = best or self._best(plain, self._stems.get(loose(stem), []), asked_by, stem)
            if best:
                return self._noted(self._readable(str(best[0]), "", asked_by), name, asked_by)
        stem = loose(_plain(name).stem)
        if stem in self._unread and stem not in self._stems:
            raise DataError(f"{asked_by}: {self._unread[stem][0]} has {UNREAD}")
        return None

    def _readable(self, path: str, name: str, asked_by: object) -> str:
        """A path that exists. Raises DataError if it is that of no picture that is read."""
        if path.lower().endswith(_NO_PICTURES):
            raise DataError(
                f"{asked_by}: {path} {f'has {UNREAD}' if ending(path) in UNREAD_SUFFIXES else 'is no picture'}"
            )
        outside = name.startswith("/") or ".." in name
        if outside and not os.path.abspath(without_dots(path)).startswith(self._tops):
            self.notes.add(_OUTSIDE, name)
        return path

    def _noted(self, path: str, name: str, asked_by: object) -> str:
        """The path of a picture that another way than the first has found."""
        self.notes.add(_MATCHED, f"{name} -> {path.rpartition('/')[2]}")
        if self.notes.close.get(path) == (asked_by, name):
            self.notes.again.add(path)
        self.notes.close[path] = asked_by, name
        return path

    def _best(self, name: PurePosixPath, paths: Sequence[str], asked_by: object, stem: str = "") -> list[Path]:
        """The pictures that share most with a name; DataError if there are two."""
        last = stem or name.name
        candidates = list(map(Path, self._nearest(paths, (bool(stem), loose(last)), name.parent.parts)))
        if len(candidates) > 1:
            exact = [p for p in candidates if one_name(p.stem if stem else p.name) == one_name(last)]
            below = ([p for p in exact or candidates if p.is_relative_to(folder)] for folder in self._inner_first)
            candidates = next(filter(None, below))
        if len(candidates) > 1:
            one_stem = len({path.with_suffix("") for path in candidates}) == 1
            way_out = "give its ending in the annotation" if one_stem else self.way_out
            raise DataError(
                f"{asked_by}: the picture '{name}' could be {first_few(candidates, 3)}; {way_out}, or remove one"
            )
        return candidates

    def _nearest(self, paths: Sequence[str], tail: tuple[Hashable, ...], folders: Sequence[str]) -> Sequence[str]:
        """Of all pictures with one tail, those that share most folders at the end of a name, letter case aside.

        tail: what they share, the last part first. Those of a tail are told apart once: a name that begins with the
        folder of another machine is not compared with the frames of all cameras.
        """
        for depth, folder in enumerate(map(loose, reversed(folders)), 2):
            if len(paths) < 2:
                break
            if tail not in self._inside:
                self._inside[tail] = _index(paths, partial(_part, place=depth))
            if folder not in self._inside[tail]:
                break
            paths, tail = self._inside[tail][folder], (*tail, folder)
        return paths


def without_dots(path: str) -> str:
    """The path of a file without `..`. Behind a link to a folder, `..` is the folder around the link's target."""
    plain = os.path.normpath(path)
    return plain if ".." not in path or _is_same(plain, path) else os.path.realpath(path)


def _is_same(path: str, other: str) -> bool:
    return os.path.exists(path) and os.path.samefile(path, other)


def in_address(name: str) -> str:
    """The path in an address, such as that of a picture in a cloud, without its query. In an address of Label Studio's
    local files, the query is the path. Any other name stays as it is."""
    path, _, query = name.partition("?")
    if path.endswith("/data/local-files/"):
        return query.removeprefix("d=")
    return path if "://" in path else name


def _plain(name: str) -> PurePosixPath:
    """A path of any system without drive, root, `.` and `..`, in one Unicode form."""
    parts = one_name(name).replace("\\", "/").split("/")
    return PurePosixPath(*[p for p in parts if p not in ("", ".", "..") and not p.endswith(":")])


def _is_file(path: str) -> bool:
    """Whether a path is a file, as `Path.is_file`, in a third of its time. Raises OSError for an impossible name."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return False


def _index(paths: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        found[key(path)].append(path)
    return dict(found)


def _part(path: str, place: int) -> str:
    """A part of a path, counted from its end, letter case aside; nothing where it has fewer parts."""
    parts = path.rsplit("/", place)
    return loose(parts[-place]) if len(parts) >= place else ""
