"""The files of a data set's folder: folders of splits, lists of files, and files that nobody used."""

import contextlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from itertools import chain
from pathlib import Path

from detect.data.image_file import IMAGE_SUFFIXES, UNREAD, UNREAD_SUFFIXES
from detect.data.notes import Notes
from detect.data.split import HELD_OUT
from detect.data.text import loose
from detect.errors import DataError
from detect.files import expanded

SPLIT_FOLDERS = {
    "train": ("train", "training", "trainset", "train_set"),
    "val": (
        "val", "valid", "validation", "validate", "valset", "val_set", "minival",
        "dev", "eval", "evaluate", "evaluation",
    ),
    "test": ("test", "testing", "testset", "test_set", "test-dev", "test_dev", "testdev"),
}  # fmt: skip
"""Common names of the folders of each split, in lower case."""

SERVICE = (
    "__macosx", "thumbs.db", "desktop.ini", "@eadir", "@recycle", "#recycle", "$recycle.bin", "recycler",
    "system volume information", "lost+found",
)  # fmt: skip
"""Files and folders of operating systems and network drives, in lower case: they are no data."""

_SPLIT_OF = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}
_BESIDE = (
    "image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "data", "dataset", "set", "split",
    "list", "annotation", "annotations", "annots", "label", "labels", "xml", "xmls", "json", "jsons", "voc",
    "coco", "yolo",
)  # fmt: skip
"""Words that may stand beside that of the split in a folder's name, as in `train_images`; digits may, too."""


def passed_over(name: str) -> bool:
    """Whether a file or a folder of this name is never read: it is hidden, or `SERVICE` names it."""
    return name.startswith(".") or name.lower() in SERVICE


def split_named(name: str) -> str | None:
    """The split that a folder's name means, such as `val`, `val2017` and `val_images`; None if it means none."""
    plain = name.casefold()
    told = [word for word in re.findall(r"[^\W\d_]+", plain) if word not in _BESIDE]
    return _SPLIT_OF.get(plain) or (_SPLIT_OF.get(told[0]) if len(told) == 1 else None)


def _is_doubtful(name: str) -> bool:
    """Whether a folder's name means a split only beside another one: `dev` may be that of a project."""
    return [word for word in re.findall(r"[^\W\d_]+", name.casefold()) if word not in _BESIDE] == ["dev"]


def split_of(path: Path) -> str | None:
    """The split that the words of a relative path speak for, the last one first: `a/instances_val2017.json` is val."""
    plain = "/".join("".join(c if c.isalpha() else " " for c in part) for part in path.with_suffix("").parts)
    words = re.sub(r"\btest dev\b", "test", plain.casefold().replace("/", " ")).split()
    return next((split for word in reversed(words) if (split := split_named(word))), None)


def splits_of_folders(places: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str | None]:
    """The split of each place, by the names of the folders around it, of which the first that means a split counts.

    If one place is that of train, longer names of val and test count, too, such as `test_A`. `dev` is val if another
    place is that of another split.
    """
    told = {names: next(filter(None, map(split_named, names)), None) for names in places}
    if len(set(told.values()) - {None}) == 1:
        told = {names: _by_itself(names) for names in told}
    if "train" in told.values():
        for names in [names for names, split in told.items() if split is None]:
            told[names] = next((split for name in names if (split := split_of(Path(name))) in HELD_OUT), None)
    return told


def splits_of(paths: Iterable[Path]) -> dict[Path, str | None]:
    """The split of each relative path, or None.

    Words in longer names of folders count if one path names train, or if each names a split and they differ:
    `cats_val/` and `cats_test/` tell two splits, and `my test job 1/` beside `my test job 2/` tells none. Otherwise a
    folder's name has to mean a split by itself, and not to be `dev`.
    """
    wide = {path: split_of(path) for path in paths}
    found = set(wide.values())
    if "train" in found or (None not in found and len(found) > 1):
        return wide
    return {path: split_of(Path(path.name)) or _by_itself(reversed(path.parent.parts)) for path in wide}


def _by_itself(names: Iterable[str]) -> str | None:
    """The split that the first of some folders' names means that means one without another folder."""
    return next((split for name in names if (split := split_named(name)) and not _is_doubtful(name)), None)


def split_of_file(file: Path) -> str | None:
    """The split that the name of a file speaks for, or else that of its folder; None if neither does."""
    return split_of(Path(file.name)) or _by_itself([Path(os.path.abspath(file)).parent.name])


def told_by(split: str, file: Path, folder: Path) -> str:
    """The name of a file for a note; of val and test it begins with the part of its path that tells the split."""
    parts = (folder.name, *file.relative_to(folder).parts)
    ends = (parts[-k:] for k in range(1, len(parts) + 1) if split in HELD_OUT and split_of(Path(parts[-k])) == split)
    return "/".join(next(ends, (file.name,)))


def tell_splits(files: Mapping[str, Path], folder: Path) -> bool:
    """Whether the annotation files of splits speak for them: a single one of train may have no such name."""
    return set(files) != {"train"} or split_of(Path(below(files["train"], folder))) == "train"


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders of splits directly below `folder`, by split. Raises DataError if two mean the same split.

    A name with other words counts if no other folder means the split: `train_images` may be beside `train_labels`.
    """
    found: dict[str, Path] = {}
    longer: dict[str, list[Path]] = {}
    paths = sorted(p for p in folder.iterdir() if p.is_dir())
    splits = splits_of_folders((path.name,) for path in paths)
    for path in paths:
        split = splits[path.name,]
        if split and path.name.casefold() not in _SPLIT_OF:
            longer.setdefault(split, []).append(path)
        elif split in found:
            raise DataError(f"{folder}: {found[split].name}/ and {path.name}/ both mean the split {split}; rename one")
        elif split:
            found[split] = path
    found = {split: paths[0] for split, paths in longer.items() if len(paths) == 1} | found
    return {split: found[split] for split in SPLIT_FOLDERS if split in found}


def folders_of(split: str, folder: Path) -> list[Path]:
    """The folders directly below `folder` whose names speak for a split, such as COCO's `train2017`, sorted."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # there may be millions of pictures
        return sorted(Path(e.path) for e in entries if split_of(Path(e.name)) == split and leads_to_folder(e))


def leads_to_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder, or a link to one. A link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def telling(
    folders: Mapping[str, Path],
    root: Path,
    find: Callable[[Path], Sequence[Path]],
    annotated: Callable[[Path], Sequence[Path]] | None = None,
) -> dict[str, Path]:
    """The folders of splits that hold files. Without a folder of train, train is what lies outside of them.

    None if there is nothing but train, and other folders have annotated files: then it is a class called train; or if
    there is no train, and those of val and test have no such files. find, annotated: the files of a folder, and those
    of them that count here; None: all. A folder such as `test_results` needs files that count.
    """
    annotated = annotated or find
    told = {s: folder for s, folder in folders.items() if (find if split_named(folder.name) else annotated)(folder)}
    if "train" not in told:
        return told if any(annotated(folder) for folder in told.values()) else {}
    if set(told) > {"train"}:
        return told
    everything = [path for path in annotated(root) if path.parent != root]
    return told if len(annotated(told["train"])) == len(everything) else {}


def not_below(paths: Iterable[Path], folders: Collection[Path]) -> list[Path]:
    """The paths that lie in none of the folders."""
    return [path for path in paths if not any(path.is_relative_to(folder) for folder in folders)]


def existing_folder(folder: str | Path, key: str = "dataset.root") -> Path:
    """`folder` as a Path with ~ expanded. Raises DataError naming it if it is missing, not a folder or empty."""
    path = expanded(folder)
    if not path.is_dir():
        raise DataError(f"{key}={folder}: no such folder" if not path.exists() else f"{key}={folder}: not a folder")
    if not any(path.iterdir()):
        raise DataError(f"{key}={folder}: the folder is empty")
    return path


def ways_to_join(files: Iterable[Path]) -> str:
    """The end of a message about files of one split, which can be read as one data set."""
    apart = len({file.parent for file in files}) > 1
    what, roots = ("the folders of all", "DIR,DIR") if apart else ("all", "FILE,FILE")
    return f"; or read {what} as one: dataset=join 'dataset.roots=[{roots}]'"


def below(path: Path, root: Path) -> str:
    """A path as an id: relative to `root` if it lies below it, with slashes."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def find_files(folder: Path, suffixes: Collection[str] | None = None, recursive: bool = True) -> list[Path]:
    """Files below `folder`, sorted. Hidden ones and those of `SERVICE` are passed over.

    suffixes: endings in lower case; letter case in the folder does not matter. None takes all files.
    Links to folders are followed, but no folder is entered twice on one way.
    """
    if not folder.is_dir():
        return []
    names = listing(str(folder), recursive)
    return [Path(name) for name in names if suffixes is None or ending(name) in suffixes]


def find_images(folder: Path, recursive: bool = True) -> list[Path]:
    """Image files below `folder`, sorted, as `find_files`."""
    return find_files(folder, IMAGE_SUFFIXES, recursive)


@contextlib.contextmanager
def listed_once() -> Iterator[None]:
    """Inside, each folder is listed once, for readers that ask again and again. The files must not change meanwhile."""
    if _LISTINGS.get() is not None:
        yield
        return
    token = _LISTINGS.set({})
    try:
        yield
    finally:
        _LISTINGS.reset(token)


_LISTINGS: ContextVar[dict[tuple[str, bool], list[str]] | None] = ContextVar("listings", default=None)


def listing(folder: str, recursive: bool) -> list[str]:
    """The files below a folder in the order of their paths' parts, as text: a `Path` of each would take most time."""
    known = _LISTINGS.get()
    if known is not None and (folder, recursive) in known:
        return known[folder, recursive]
    names = sorted(_walk(folder, recursive), key=lambda name: name.replace("/", "\0"))
    if known is not None:
        known[folder, recursive] = names
    return names


def ending(name: str) -> str:
    """The ending of a path in lower case, as `Path.suffix`."""
    name = name[name.rfind("/") + 1 :]
    place = name.rfind(".")
    return name[place:].lower() if 0 < place < len(name) - 1 else ""


def _walk(folder: str, recursive: bool) -> Iterator[str]:
    waiting = [(folder, frozenset([os.path.realpath(folder)]))]
    while waiting:
        here, above = waiting.pop()
        try:
            entries = list(os.scandir(here))
        except OSError as error:
            raise DataError(f"{here}: can't read the folder ({error.strerror})") from None
        for entry in entries:
            if passed_over(entry.name):
                continue
            if not leads_to_folder(entry):
                yield entry.path
            elif recursive:
                real = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(here, entry.name)
                if real not in above:
                    waiting.append((entry.path, above | {real}))


def leftovers(root: Path, used: Sequence[Collection[str | Path]], notes: Notes) -> None:
    """Notes the files below `root` that nobody used, by their ending. Hidden files are passed over.

    A file system that takes two spellings for one gives a file by both. The listing has one of them.
    """
    names = listing(str(root), True)
    plain = os.path.normpath(root)
    unused = set(names if plain == str(root) != "." else map(os.path.normpath, names))
    for path in chain.from_iterable(used):
        unused.discard(os.path.normpath(path))
    alike = {loose(name): name for name in unused}
    for path in chain.from_iterable(used) if unused else ():
        name = alike.get(loose(os.path.normpath(path)))
        if name is not None and os.path.exists(path) and os.path.samefile(name, path):
            unused.discard(name)
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in names if unused else ():
        if os.path.normpath(name) in unused:
            path, suffix = Path(name), ending(name)
            what = "pictures" if suffix in IMAGE_SUFFIXES else f"{suffix or 'nameless'} files"
            if suffix in UNREAD_SUFFIXES:
                what = f"{suffix} pictures, a format that is not read (save them as PNG or JPEG)"
            kinds[what].append(path.relative_to(root).as_posix())
    for what in sorted(kinds):
        for item in kinds[what]:
            notes.add(f"not used, {what}", item)


def unread(folder: Path) -> str:
    """The end of a message about pictures that are missing: one that is there, in a format that is not read."""
    found = find_files(folder, UNREAD_SUFFIXES)
    return f". {below(found[0], folder)} has {UNREAD}" if found else ""


def same_stem(paths: Iterable[Path]) -> dict[Path, list[Path]]:
    """Pictures in one folder that differ in their ending alone, by path without ending, if there are two or more."""
    paths = list(paths)
    counts = Counter(p.with_suffix("") for p in paths)
    groups: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        if counts[path.with_suffix("")] > 1:
            groups[path.with_suffix("")].append(path)
    return {stem: sorted(group, key=lambda p: IMAGE_SUFFIXES.index(p.suffix.lower())) for stem, group in groups.items()}
