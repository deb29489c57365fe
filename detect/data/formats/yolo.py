"""YOLO text labels: one .txt per picture with boxes as shares of the image, centre first.

It reads the layout of ultralytics (a data.yaml), Darknet's (obj.data and obj.names), and that of labelling tools
(classes.txt beside the pictures or their labels, or beside images/ and labels/).
"""

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain, combinations
from pathlib import Path

from detect.config.legal_values import HeldOut, Seed
from detect.data.assemble import Exif, Found, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.folder import below, existing_folder, find_files, find_images, unread, ways_to_join
from detect.data.formats.yolo_labels import LabelFiles, label_folders
from detect.data.formats.yolo_listing import KEYS, ROW, WITHOUT, Listing, listing_of, pictures_of
from detect.data.formats.yolo_names import CLASS_LISTS, class_lists
from detect.data.formats.yolo_rows import note_rows, read_rows
from detect.data.notes import Notes
from detect.data.parallel import each
from detect.data.pictures import Pictures
from detect.data.records import Record
from detect.data.split import SPLITS
from detect.data.text import loose, one_name, read_lines, read_text
from detect.errors import DataError, counted, first_few
from detect.files import expanded

YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def read_yolo(
    root: str | Path,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    name: str | None = None,
    val_fraction: HeldOut = 0.15,
    test_fraction: HeldOut = 0.15,
    split_seed: Seed = 0,
    split_by: SplitBy = None,
    exif: Exif = "displayed",
) -> DetectionDataset:
    """Reads a YOLO data set.

    root: the data.yaml, the obj.data or the classes.txt, or the folder that contains one of them. A data.yaml has the
        keys path (optional), train, val (or validation) and test: each a folder, a list of pictures (.txt), a pattern,
        or a list of these; and names (a list, or a map from numbers) or nc. Beside a list of classes alone, lists of
        pictures such as train.txt, or else folders, tell the splits.
    Other arguments: `detect.data.assemble.Selection`.

    The path of a picture's labels has `labels` in place of the last `images` or `JPEGImages`; else they are beside the
    picture, or in `labels` there. A folder `images` around the data set comes after these. Letter case does not matter,
    but the label file of the exact name comes first. A picture without a label file, or with an empty one, is
    background. A line is `class cx cy width height`; or `class x1 y1 x2 y2 ...`, a polygon that is replaced by its
    bounding box; or, with `kpt_shape` in the yaml, a box and its key points, which are left out. Raises DataError
    naming the file and the line of the error.
    """
    notes = Notes()
    place = Path(os.path.abspath(expanded(root)))  # the names of the folders around it tell what it is
    named = place.is_file()
    path = place if named else _description(existing_folder(place))
    listing = listing_of(path, notes, None if named else place)
    if not named:
        _refuse_rivals(listing)
    pictures = Pictures(list(dict.fromkeys([listing.base, path.parent])), notes)
    labels = _Labels(listing, notes)
    records: dict[str, list[Record]] = {}
    entries = {}
    for split in SPLITS:
        found = pictures_of(listing, split, pictures, notes)
        if found is not None:
            entries[split] = found
            records[split] = labels.records(list(chain.from_iterable(found.values())))
    labels.refuse_key_points()
    for one, other in combinations(records, 2):
        if records[one] and [r.path for r in records[one]] == [r.path for r in records[other]]:
            same = counted(len(records[one]), "image")
            raise DataError(f"{path}: {one} and {other} have the same {same}; {WITHOUT[other]}")
    first = next((split for split in SPLITS if records.get(split)), None)
    if first is None:
        raise DataError(
            f"{path}: {'; '.join(f'{s}: {first_few(e)}' for s, e in listing.splits.items())} has no pictures"
            f"{unread(listing.root)}"
        )
    if not any(record.source for record in records[first]):
        missing = _missing_labels(records[first][0].path, listing.root)
        raise DataError(f"{path}: no picture of {first} has a label file; {missing}")
    for split, given in entries.items():
        for entry, inside in given.items() if split != "test" else ():  # test images often have no labels
            labels.refuse_unlabelled(f"{path}: {split}: no picture of {entry}", inside)
    labels.note_strays()
    used = [path, *listing.used, *labels.strays]
    origin = f"{path.name} ({', '.join(records)})"
    found_all = Found(listing.root, records, origin, notes, listing.names, used=used, told=listing.told)
    choice = Selection(classes, rename, name, val_fraction, test_fraction, split_seed, split_by, exif)
    return assemble(found_all, choice)


def _missing_labels(picture: Path, root: Path) -> str:
    """The end of a message about pictures without label files: where those of one are searched."""
    places = [folder / f"{picture.stem}.txt" for folder in label_folders(picture.parent, root)]
    return f"for example, {first_few(places, between=' and ')} is missing{unread(root)}"


def recognise(folder: Path) -> str | None:
    """Why a folder is a data set of this format, or None."""
    found = _descriptions(folder)
    return f"{found[0].name}, which names classes and pictures of YOLO labels" if len(found) == 1 else None


def recognise_last(folder: Path) -> str | None:
    """Why a folder is a data set of this format, if it is of no other: a file inside it describes one. Or None.

    Several such files count, too: the reader names them.
    """
    found = _descriptions(folder) or _inside(folder)
    return f"{below(found[0], folder)}, which names classes and pictures of YOLO labels" if found else None


def nameless(folder: Path) -> Path | None:
    """The first label file of a picture below the folder, or None. Its class is a number without a name."""
    files = LabelFiles([], folder)
    try:
        sources = filter(None, map(files.find, find_images(folder)))
        return next((path for path in sources if any(map(ROW.fullmatch, read_lines(path, Notes())))), None)
    except DataError:
        return None


def _description(folder: Path) -> Path:
    """The file that describes the data set of a folder. It may be in a folder inside, if it is the only one there."""
    found = _descriptions(folder) or _inside(folder)
    if len(found) == 1:
        return found[0]
    needed = f"dataset.root={folder}: the folder must have one data.yaml (or obj.data, or classes.txt), but"
    if found:
        names = first_few([below(path, folder) for path in found])
        raise DataError(f"{needed} it has {names}; name one: dataset.root=FILE{ways_to_join(found)}")
    lists, pictures = class_lists(folder), find_images(folder)
    if not lists:
        raise DataError(f"{needed} it has none of these")
    having = (
        f"no picture has a label file; {_missing_labels(pictures[0], folder)}"
        if pictures
        else f"there is no picture below the folder{unread(folder)}"
    )
    raise DataError(f"dataset.root={folder}: {below(lists[0], folder)} is there, but {having}")


def _descriptions(folder: Path) -> list[Path]:
    """The files that may describe the data set of a folder: a yaml, Darknet's .data, or a list of classes."""
    found = [folder / n for n in YAMLS if (folder / n).is_file()][:1] or _yamls(folder)
    if found:
        return found
    lists = class_lists(folder)
    return lists[:1] if lists and _has_labels(folder, lists) else []


def _yamls(folder: Path) -> list[Path]:
    """The yaml files directly in a folder that describe a data set, and then Darknet's .data."""
    candidates = [*find_files(folder, {".yaml", ".yml"}, recursive=False), *find_files(folder, {".data"}, False)]
    return [path for path in candidates if _describes(path)]


def _refuse_rivals(listing: Listing) -> None:
    """Raises DataError if a file beside a data.yaml or an obj.data numbers the classes differently."""
    folder, known = listing.path.parent, (listing.path, *listing.used)
    names: dict[Path, tuple[str, ...]] = {}
    for path in _yamls(folder):
        if path not in known:
            with contextlib.suppress(DataError):  # a damaged file names no others
                names[path] = listing_of(path, Notes()).names
    for path in class_lists(folder):
        if path not in known:
            names[path] = tuple(map(one_name, filter(None, read_lines(path, Notes()))))
    for path, others in names.items():
        if any(
            own != other for own, other in zip(listing.names, others, strict=False)
        ):  # labelImg's list may be longer
            raise DataError(
                f"{listing.path} and {path} number the classes differently; correct one, or name the right one: "
                "dataset.root=FILE"
            )


def _inside(folder: Path) -> list[Path]:
    return [path for path in find_files(folder, {".yaml", ".yml", ".data"}) if _describes(path)]


def _describes(path: Path) -> bool:
    try:
        text = read_text(path, Notes())
    except DataError:
        return False
    split = "|".join(key for keys in KEYS.values() for key in keys)
    key = r"""(?im)(^|[{,])\s*["']?(%s)["']?\s*[:=]"""
    return all(re.search(key % keys, text) for keys in (split, "names|nc"))


def _has_labels(folder: Path, lists: Sequence[Path]) -> bool:
    """Whether a picture below the folder has a label file, or two that the reader then names."""
    files = LabelFiles(lists, folder)
    try:
        return any(files.find(picture) for picture in find_images(folder))
    except DataError:
        return True


class _Labels:
    """Reads the label files of pictures, and keeps account of those without a picture."""

    def __init__(self, listing: Listing, notes: Notes):
        self.listing, self.notes = listing, notes
        self.files = LabelFiles([listing.path, *listing.used], listing.root)
        self.taken: set[Path] = set()
        self.strays: list[Path] = []
        self.doubtful, self.surely = "", False

    def records(self, pictures: Sequence[Path]) -> list[Record]:
        sources = list(map(self.files.find, pictures))
        self._note_outside(pictures, sources)
        rows = each(partial(read_rows, names=self.listing.names, points=self.listing.points, notes=self.notes), sources)
        records = []
        for picture, source, here in zip(pictures, sources, rows, strict=True):
            base = next((f for f in (self.listing.base, self.listing.path.parent) if picture.is_relative_to(f)), None)
            where = (picture.relative_to(base) if base else picture).as_posix()
            crowd = [False] * len(here.titles)
            records.append(Record(picture, where, here.titles, here.boxes, crowd, source, shares=True))
            self.doubtful = self.doubtful or here.doubtful
            self.surely = self.surely or here.surely
            if source is None:
                self.notes.add("background, pictures without a label file", where)
            elif source in self.taken:
                self.notes.add("pictures that share a label file with another one", where)
            else:
                self.taken.add(source)
                note_rows(source, here, self.notes)
        return records

    def refuse_key_points(self) -> None:
        """Raises DataError, naming a row, if all rows of corners could be boxes with key points."""
        if self.doubtful and not self.surely:
            raise DataError(self.doubtful)

    def refuse_unlabelled(self, what: str, pictures: Sequence[Path]) -> None:
        """Raises DataError if none of the pictures has a label file, and one that no picture has carries their name."""
        if not pictures or any(self.files.find(picture) for picture in pictures):
            return
        named = {loose(picture.stem): picture for picture in reversed(pictures)}
        folders = dict.fromkeys([self.listing.root, self.listing.base])
        found = [p for folder in folders for p in find_files(folder, {".txt"}) if loose(p.stem) in named]
        if not found:
            return
        others = LabelFiles(list(self.files.others), self.listing.root)
        used = {self.listing.path, *self.listing.used}
        with contextlib.suppress(DataError):  # of a picture that is not read
            used |= {path for folder in folders for p in find_images(folder) if (path := others.find(p))}
        for stray in found:
            if stray not in used and any(map(ROW.fullmatch, read_lines(stray, Notes()))):
                missing = _missing_labels(named[loose(stray.stem)], self.listing.root)
                raise DataError(
                    f"{what} has a label file, but {below(stray, self.listing.root)}, which no picture uses, has the "
                    f"name of one; {missing}"
                )

    def _note_outside(self, pictures: Sequence[Path], sources: Sequence[Path | None]) -> None:
        """Notes label files outside of the folder of the data set whose pictures lie in it."""
        root, kind = self.listing.root, "read, although they are outside of the folder of the data set, label files"
        folders = {source.parent for source in sources if source}
        outside = {folder for folder in folders if not folder.is_relative_to(root)}
        for picture, source in zip(pictures, sources, strict=True) if outside else ():
            if source and source.parent in outside and picture.is_relative_to(root):
                self.notes.add(kind, str(source))

    def note_strays(self) -> None:
        """Notes label files without a picture, in the folders of those that were read."""
        used = {self.listing.path, *self.listing.used, *self.taken}
        for folder in sorted({path.parent for path in self.taken}):
            for path in self.files.exact[folder].values():
                if path not in used and path.name.lower() not in CLASS_LISTS and "readme" not in path.name.lower():
                    self.strays.append(path)
                    self.notes.add("left out, label files without a picture", path.name)
