"""The names of the classes of a YOLO data set: in its data.yaml, and in lists with one name in each line."""

from collections.abc import Mapping
from pathlib import Path

from detect.data.folder import find_files, split_named
from detect.data.formats.yolo_labels import IMAGES, LABELS
from detect.data.notes import Notes
from detect.data.text import one_name, read_lines
from detect.errors import DataError, first_few

CLASS_LISTS = ("classes.txt", "_darknet.labels", "darknet.labels")
"""The lists of classes of labelling tools, and of the exports of Roboflow ("YOLO Darknet") and V7, in lower case."""


def class_lists(folder: Path) -> list[Path]:
    """The lists of classes of a data set: in its folder, and in those of its labels, pictures and splits.

    Darknet's `.names` count in the folder itself.
    """
    found = [path for path in find_files(folder, {".txt", ".labels"}) if path.name.lower() in CLASS_LISTS]
    known = (*IMAGES, LABELS)
    own = [p for p in found if all(q.lower() in known or split_named(q) for q in p.relative_to(folder).parent.parts)]
    own += find_files(folder, {".names"}, recursive=False)
    return sorted(own, key=lambda path: (len(path.parts), path))


def names_of(given: Mapping[str, object], path: Path, notes: Notes) -> tuple[str, ...]:
    """The names of a data.yaml, by its keys `names` and `nc`. Raises DataError naming the key."""
    names, count = given.get("names"), given.get("nc")
    if count is not None and not (isinstance(count, str) and count.strip().isdecimal() and len(count) < 6):
        raise DataError(f"{path}: nc is {count!r}; it must be the number of classes")
    if names is None:
        return tuple(f"class_{i}" for i in range(int(str(count))))
    if isinstance(names, str) and is_list_file(path, names):
        names = list(names_of_lines(path.parent / names, notes))
    elif isinstance(names, dict):
        numbers = {str(k).strip(): v for k, v in names.items()}
        if set(numbers) != {str(i) for i in range(len(names))}:
            raise DataError(f"{path}: names must be numbered 0..{len(names) - 1}, not {first_few(names, 10)}")
        names = [numbers[str(i)] for i in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise DataError(f"{path}: names is {names!r}; it must be a list of names, or a map from numbers to names")
    if count is not None and int(str(count)) != len(names):
        raise DataError(f"{path}: nc is {count}, but there are {len(names)} names")
    plain = tuple(map(one_name, names))
    if "" in plain:
        raise DataError(f"{path}: names: the name of class {plain.index('')} is empty; each class must have a name")
    return plain


def is_list_file(path: Path, name: str) -> bool:
    """Whether the `names` of a data.yaml are those of a file beside it."""
    return name.endswith((".names", ".txt")) and (path.parent / name).is_file()


def names_of_lines(path: Path, notes: Notes) -> tuple[str, ...]:
    """The names of a file that has one in each line. Raises DataError, naming the line, if one is empty."""
    lines = read_lines(path, notes)
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: the file is empty; each line must have the name of one class")
    if not all(lines):
        raise DataError(f"{path}:{lines.index('') + 1}: the line is empty; each line must have the name of one class")
    return tuple(map(one_name, lines))
