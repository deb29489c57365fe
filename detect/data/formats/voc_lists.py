"""The lists of images of a Pascal VOC data set, such as those of ImageSets/Main."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from detect.data.folder import find_files, split_named
from detect.data.formats.voc_layout import NO_SUBSET, WHOLE, Part
from detect.data.notes import Notes
from detect.data.split import SPLITS
from detect.data.text import loose, one_name, read_lines
from detect.errors import DataError, first_few

LISTS = MappingProxyType({"train": "train", "val": "val", "test": "test"})


def named(splits: Mapping[str, str | None]) -> dict[str, str]:
    """The lists that have another name than the usual one of their split."""
    return {split: title for split, title in splits.items() if title is not None and title != LISTS.get(split)}


def refuse_missing(root: Path, parts: Iterable[Part], splits: Mapping[str, str | None]) -> None:
    """Raises DataError for a list that `named` has and no part."""
    places = dict.fromkeys(part.lists for part in parts if part.lists)
    found = dict.fromkeys(path.stem for place in places for path in find_files(place, {".txt"}, recursive=False))
    for split, title in named(splits).items():
        if title not in found:
            raise _no_list(next(iter(places)) if len(places) == 1 else root, split, title, found)


def _no_list(place: Path, split: str, title: str | None, found: Iterable[str]) -> DataError:
    return DataError(
        f"{place}: dataset.splits.{split}={title} is not a list with images; the lists are: "
        f"{', '.join(found) or 'none'}. Set it to one of them, or set dataset.splits=null to draw the splits from a "
        "seed; these are keys of dataset=voc"
    )


def listed(
    part: Part, splits: Mapping[str, str | None], pairs: Mapping[str, object], notes: Notes
) -> tuple[dict[str, list[str]], str, list[Path]]:
    """The ids of each split that has a list."""
    lists = part.lists or part.images
    files = {path.stem: path for path in find_files(lists, {".txt"}, recursive=False)}
    titles = _titles(lists, list(files), splits, notes)
    similar: dict[str, list[str]] = defaultdict(list)
    for i in pairs:
        similar[loose(i)].append(i)
    rest = [t for t in files if t.casefold() == NO_SUBSET and t not in titles.get("train", [t])]
    chosen: dict[str, list[str]] = {split: [] for split in titles}  # an empty list says that the split has no images
    for split, title in [*((s, t) for s, several in titles.items() for t in several), *(("train", t) for t in rest)]:
        lines = {k: line for k, line in enumerate(read_lines(files[title], Notes()), 1) if line}
        meant = [_meant(line, part, pairs, similar) for line in lines.values()]
        # With images of other lists, it is the list of all images before they were split.
        if title in rest and not set(meant).isdisjoint(chain(*chosen.values())):
            notes.add("not used, lists of a split that has another list", f"{title}.txt")
            continue
        missing = [line for line, i in zip(lines.values(), meant, strict=True) if not i]
        if missing:
            raise DataError(
                f"{files[title]}: it lists {first_few(missing, 3)}, which has no XML file with a picture, or "
                "several that differ in letter case; remove the line, or add the files"
            )
        _refuse_repeated(files[title], zip(lines, meant, strict=True))
        before = set(chosen[split])  # the lists of two classes share images
        chosen[split] += [i for i in meant if i and i not in before]
        if title in rest:
            notes.add("taken as train, lists of images without a subset", f"{title}.txt")
            titles[split].append(title)
    if not any(chosen.values()):
        raise _no_list(lists, "train", splits.get("train"), files)
    told = ", ".join(f"{split}: {first_few(several, between=' and ')}" for split, several in titles.items())
    folder = "ImageSets/Main" if lists.parent.name == "ImageSets" else lists.name
    return chosen, f"lists of {folder} ({told})", [files[title] for several in titles.values() for title in several]


def _refuse_repeated(path: Path, ids: Iterable[tuple[int, str | None]]) -> None:
    """Raises DataError, naming the two lines, if one image is listed twice. ids: number and image of each line."""
    first: dict[str | None, int] = {}
    for k, i in ids:
        if first.setdefault(i, k) != k:
            raise DataError(f"{path}: it lists {i} twice, in lines {first[i]} and {k}; remove one of them")


def _titles(lists: Path, found: Sequence[str], splits: Mapping[str, str | None], notes: Notes) -> dict[str, list[str]]:
    """The list of each split that has one; the lists of classes, such as cat_train, if there are no others.

    Raises DataError if two lists mean the same split.
    """
    titles: dict[str, list[str]] = {}
    for split in SPLITS:
        title = splits.get(split)
        usual = title == LISTS[split]
        own = [t for t in found if t == title]
        others = [t for t in found if usual and t != title and split_named(t) == split]
        whole = [t for name in WHOLE for t in found if usual and split == "train" and t.casefold() == name]
        if len(others) > 1 and not own:
            raise DataError(
                f"{lists}: {others[0]}.txt and {others[1]}.txt both mean the split {split}; remove one, or name the "
                f"other with dataset=voc dataset.splits.{split}"
            )
        for k, name in enumerate([*own, *others, *whole]):
            if k == 0:
                titles[split] = [name]
            elif name.casefold() not in WHOLE:
                notes.add("not used, lists of a split that has another list", f"{name}.txt")
    return titles or _of_classes(found, splits)


def _of_classes(found: Sequence[str], splits: Mapping[str, str | None]) -> dict[str, list[str]]:
    """The lists of each split that have the name of a class before it; none without train."""
    by_end: dict[str, list[str]] = defaultdict(list)
    for name in found:
        by_end[name.casefold().rpartition("_")[2]].append(name)
    titles = {split: by_end[split] for split in SPLITS if splits.get(split) == LISTS[split] and by_end[split]}
    return titles if "train" in titles else {}


def _meant(line: str, part: Part, ids: Container[str], similar: Mapping[str, Sequence[str]]) -> str | None:
    """The id that a line of a list means: one of its spellings, or the only one that differs in letter case."""
    tried = [f"{part.title}/{text}" if part.title else text for text in _spellings(line, part)]
    exact = next((text for text in tried if text in ids), None)
    return exact or next((near[0] for text in tried if len(near := similar.get(loose(text), ())) == 1), None)


def _spellings(line: str, part: Part) -> list[str]:
    """What a line can mean: an id, also in quotes, with a flag (-1, 0, 1) or an XML file, an ending or a folder.

    The line as it is written comes first: two names may differ in their blanks alone.
    """
    written = line.replace("\\", "/")
    tried = [written, one_name(written)]
    first, _, last = written.rpartition(" ")
    tried += [first.rstrip(), one_name(first)] if last in ("-1", "0", "1") or last.lower().endswith(".xml") else []
    folders = [folder.name.casefold() for folder in (part.images, part.annotations)]
    tried += [text.strip('"') for text in tried]  # as Datumaro writes names with blanks
    for text in tuple(tried):
        parts = text.split("/")
        starts = [k + 1 for k, name in enumerate(parts[:-1]) if name.casefold() in folders]
        tried += ["/".join(parts[k:]) for k in starts]
    return [text for t in tried for text in (t, str(Path(t).with_suffix("")) if Path(t).name else t)]
