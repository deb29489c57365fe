"""The label files of the pictures of a YOLO data set."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from detect.data.folder import find_files, find_images, leads_to_folder
from detect.data.text import loose
from detect.errors import DataError, first_few

IMAGES, LABELS = ("images", "jpegimages"), "labels"
"""Names of the folders of pictures, in lower case, and that of the folder beside them with their labels."""


def folder_named(name: str, folder: Path) -> Path:
    """The path `name` below a folder; or the only folder there whose name differs in letter case alone."""
    if (folder / name).is_dir() or not folder.is_dir():
        return folder / name
    with os.scandir(folder) as entries:  # there may be millions of pictures
        alike = [Path(e.path) for e in entries if loose(e.name) == loose(name) and leads_to_folder(e)]
    return alike[0] if len(alike) == 1 else folder / name


def label_folders(folder: Path, root: Path) -> list[Path]:
    """Where the labels of a folder's pictures can be, the usual place first. Letter case does not matter.

    A folder `images` around `root`, that of the data set, comes last: its `labels` may be those of another one.
    """
    places = [folder, folder_named(LABELS, folder)]
    parts = [part.lower() for part in folder.parts]
    if found := [k for k, part in enumerate(parts) if part in IMAGES]:
        place = Path(*folder.parts[: found[-1]])
        for part in (LABELS, *folder.parts[found[-1] + 1 :]):
            place = folder_named(part, place)
        around = folder.is_relative_to(root) and found[-1] < len(root.parts)
        places.insert(len(places) if around else 0, place)
    return places


class LabelFiles:
    """Finds the label files of pictures; each folder is listed once.

    others: text files that are none. root: the folder of the data set.
    """

    def __init__(self, others: Sequence[Path], root: Path):
        self.others, self.root = set(others), root
        self.places: dict[Path, list[Path]] = {}
        self.exact: dict[Path, dict[str, Path]] = {}
        self.alike: dict[Path, dict[str, list[Path]]] = {}
        self.stems: dict[Path, set[str]] = {}

    def find(self, picture: Path) -> Path | None:
        """The label file of a picture: that of its exact name, or else the only one that differs in letter case, or in
        percent escapes as Label Studio writes them.

        Raises DataError, naming the picture, if two fit equally well. A file that has the exact name of another picture
        is the other one's.
        """
        folder, name = picture.parent, f"{picture.stem}.txt"
        if folder not in self.places:
            self.places[folder] = label_folders(folder, self.root)
        for place in self.places[folder]:
            if place not in self.exact:
                self._list(place)
            if name in self.exact[place]:
                return self.exact[place][name]
        for place in self.places[folder]:
            found = self.alike[place].get(_plain(name), [])
            fitting = [p for p in found if p.stem == picture.stem]  # a.TXT
            fitting = fitting or [p for p in found if p.stem not in self._stems(folder)]
            if len(fitting) > 1:
                raise DataError(f"{picture}: its labels could be {first_few(fitting, 3)}; rename or remove one")
            if fitting:
                return fitting[0]
        return None

    def _list(self, place: Path) -> None:
        files = [path for path in find_files(place, {".txt"}, recursive=False) if path not in self.others]
        self.exact[place], self.alike[place] = {path.name: path for path in files}, defaultdict(list)
        for path in files:
            self.alike[place][_plain(path.name)].append(path)

    def _stems(self, folder: Path) -> set[str]:
        if folder not in self.stems:
            self.stems[folder] = {path.stem for path in find_images(folder, recursive=False)}
        return self.stems[folder]


def _plain(name: str) -> str:
    """A name without letter case and percent escapes."""
    return loose(unquote(name))
