"""Categories of COCO files that share a name, and the numbers of the classes over all files."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from detect.data.formats.coco_file import CocoFile
from detect.data.formats.coco_ids import is_whole
from detect.data.text import one_name
from detect.errors import DataError


def titles_of(files: Collection[CocoFile]) -> dict[str, int]:
    """The number of each class, in the order of the numbers, after categories of one name were settled.

    The first file with a class decides its number; others are noted. Files that number their classes separately may
    give one number to two classes: the later one gets a free number.
    """
    apart = {title for file in files for title in _apart(file)}
    for file in files:
        _settle(file, apart)
    numbers: dict[str, int] = {}
    texts: dict[str, tuple[CocoFile, str]] = {}
    free = 1 + max((number for file in files for number in file.numbers.values()), default=0)
    for file in files:
        for key, title in file.categories.items():
            if not is_whole(key):
                texts.setdefault(title, (file, key))
            if title not in numbers and file.numbers[key] in numbers.values():
                file.notes.add(
                    "classes whose id another class has in another file, so that results carry a new one",
                    f"{title} in {file.path.name}: {free}, not {file.numbers[key]}",
                )
                numbers[title], free = free, free + 1
            elif numbers.setdefault(title, file.numbers[key]) != file.numbers[key]:
                kind = "categories with other ids than in the first file, whose ids results carry"
                file.notes.add(kind, f"{title} in {file.path.name}: {file.numbers[key]}, not {numbers[title]}")
    for title, (file, key) in texts.items():
        kind = "categories whose ids are text, or have more than 15 digits: results carry the numbers"
        file.notes.add(kind, f"{title} ({key}): {numbers[title]}")
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def with_supercategory(entry: Mapping[str, Any]) -> str | None:
    """`supercategory/name` of a category; None if it has no supercategory."""
    above = entry.get("supercategory")
    title = one_name(above) if isinstance(above, str) else ""
    return f"{title}/{one_name(entry['name'])}" if title else None


def _alike(file: CocoFile) -> Iterator[tuple[str, list[str]]]:
    """The names that several categories have, with the ids of these."""
    groups: dict[str, list[str]] = defaultdict(list)
    for i, title in file.categories.items():
        groups[title].append(i)
    return ((title, keys) for title, keys in groups.items() if len(keys) > 1)


def _several(file: CocoFile, keys: Collection[str]) -> bool:
    """Whether two categories have one name, without a difference in blanks."""
    return len({str(file.titles[i]["name"]) for i in keys}) < len(keys)


def _apart(file: CocoFile) -> Iterator[str]:
    """Names of several categories with boxes, each of which has its own supercategory."""
    for title, keys in _alike(file):
        kept = [i for i in keys if file.boxes[i]]
        names = {with_supercategory(file.titles[i]) for i in kept}
        told = None not in names and len(names) == len(kept) and names.isdisjoint(file.categories.values())
        if told and _several(file, kept):
            yield title


def _settle(file: CocoFile, apart: Collection[str]) -> None:
    """Gives categories that share a name in `apart` that of their supercategory, too, and looks at those that remain.

    Those without a box are left out, and those that differ in blanks alone are merged.
    """
    for i, title in file.categories.items():
        if title in apart and (longer := with_supercategory(file.titles[i])):
            file.categories[i] = longer
            if file.boxes[i]:
                file.notes.add("told apart by their supercategories, categories of one name", f"{longer} (id {i})")
    for title, keys in list(_alike(file)):
        kept = [i for i in keys if file.boxes[i]] or keys[:1]
        for i in keys:
            if i not in kept:  # such as the supercategory in Roboflow's files
                file.notes.add("left out, categories without a box that repeat a name", f"{title} (id {i})")
                del file.categories[i], file.numbers[i]
        if _several(file, kept):
            raise DataError(
                f"{file.path}: the category '{title}' is given twice, with the ids {', '.join(kept)}; rename one of "
                "them in the file, or give each a supercategory of its own"
            )
        for i in kept[1:]:
            kind = "merged, categories whose names differ in blanks or Unicode form"
            file.notes.add(kind, f"{title} (ids {kept[0]}, {i})")
            file.numbers[i] = file.numbers[kept[0]]
