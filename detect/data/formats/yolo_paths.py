"""What a path in the files of a YOLO data set means on this machine."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from detect.data.folder import find_images, passed_over, split_of
from detect.data.image_file import IMAGE_SUFFIXES
from detect.data.split import HELD_OUT
from detect.files import expanded


def as_path(entry: str) -> Path:
    """An entry as a path of this system. Of `a/../b` the path b is left; `..` at the beginning stays."""
    return _home(os.path.normpath(entry.replace("\\", "/").strip()))


def leaves(path: Path) -> bool:
    """Whether a relative path leaves the folder that it is relative to."""
    return path.parts[:1] == ("..",)


def inside(path: Path) -> Path:
    """A path without `..`, which stays below its folder."""
    return Path(*[part for part in path.parts if part != ".."])


def ways(entry: str, split: str = "", outside: bool = True) -> list[Path]:
    """What an entry can mean, the likely path first: without its first parts, which are another machine's, too.

    A path such as ../train/images is first searched below the folder, because Roboflow writes it so. outside: whether
    it can mean a folder beside it, too. A part that speaks for val or test stays: images/ is not test/images/.
    """
    written = as_path(entry)
    parts = [part for part in written.parts if part not in (written.anchor, "..") and not part.endswith(":")]
    telling = [k for k, part in enumerate(parts) if split in HELD_OUT and split_of(Path(part)) == split]
    last = telling[-1] if telling else len(parts) - 1
    if _is_pattern(entry):
        last = min(last, len(parts) - 2)  # *.jpg alone would be pictures of any kind
    below = [Path(*parts[k:]) for k in range(last + 1)]
    if leaves(written):
        return [inside(written), *([written] if outside else []), *below[1:]]
    return [written, *below]


def first_of(bases: Iterable[Path], ways: Iterable[Path]) -> list[Path]:
    """What the first of some paths means that exists below one of the bases."""
    return next((found for path in ways for base in bases if (found := at(base, path))), [])


def at(base: Path, path: Path) -> list[Path]:
    """What a path below a base means: itself, or the pictures of a pattern such as images/*.jpg."""
    try:
        if (base / path).exists():
            return [base / path]
    except (OSError, ValueError):
        return []
    if not _is_pattern(str(path)):
        return []
    names = glob.glob(str(path), root_dir=base, recursive=True)
    paths = sorted(base / name for name in names if not any(map(passed_over, set(Path(name).parts) - set(path.parts))))
    folders = [q for p in paths if p.is_dir() for q in find_images(p)]
    return [p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()] or folders


def _is_pattern(entry: str) -> bool:
    return any(sign in entry for sign in "*?[")


def own_name(name: str, folders: Sequence[Path]) -> str:
    """The name of a picture in a list, relative to the folder that it is below. `..` stays if it is below none.

    folders: that of the list, and those of the data set.
    """
    if not name.startswith("..") or not leaves(written := as_path(name)):
        return name
    for folder in folders:
        meant, top = Path(os.path.abspath(folders[0] / written)), os.path.abspath(folder)
        if meant.is_relative_to(top):
            return str(meant.relative_to(top))
    kept = inside(written)
    return str(kept) if any((folder / kept).is_file() for folder in folders) else name


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; a path that no folder can have is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _home(text: str) -> Path:
    """A path with ~ expanded; as it is written, if it names an unknown user."""
    try:
        return expanded(text)
    except RuntimeError:
        return Path(text)
