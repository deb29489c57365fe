"""Where the pictures, XML files and lists of a Pascal VOC data set lie, as the tools that write them lay them out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from detect.data.folder import find_files, find_images, split_folders, split_named, telling
from detect.errors import DataError, first_few

ANNOTATIONS = ("annotations", "annotation", "annots", "xmls", "xml", "labels")
IMAGES = ("jpegimages", "images", "image", "imgs", "img", "pictures", "photos")
"""Names of the folders, in lower case, the format's own first."""
WHOLE = ("trainval", "default")
"""Lists of training images, in lower case, for a folder without a list of train: VOC's, and CVAT's and Datumaro's."""


@dataclass(frozen=True)
class Part:
    """A folder with pictures and XML files. title: first part of its images' ids. split: the split of all its images.

    lists: the folder of its lists of images (ImageSets/Main, ImageSets, Main, or the folder itself), or None.
    """

    title: str
    split: str | None
    images: Path
    annotations: Path
    lists: Path | None


def _subfolder(folder: Path, names: Iterable[str], holds: Callable[[Path], object]) -> Path | None:
    """The first folder below `folder` with one of the names, letter case aside, that holds something, or None."""
    folders = {p.name.casefold(): p for p in sorted(folder.iterdir(), reverse=True) if p.is_dir()}
    return next((folders[n] for n in names if n in folders and holds(folders[n])), None)


def _part(folder: Path, title: str, split: str | None, images: str | None, annotations: str | None) -> Part | None:
    """The folder as a part with a folder of annotations of its own, or None."""
    if annotations is not None:
        xmls = folder / annotations if (folder / annotations).is_dir() else None
    else:
        xmls = _subfolder(folder, ANNOTATIONS, lambda path: find_files(path, {".xml"}))
    if xmls is None:
        return None
    if images is not None:
        pictures = folder / images
        if not pictures.is_dir():
            raise DataError(f"{folder}: it has {xmls.name}/ but no folder {images}/ (dataset.images)")
    else:
        pictures = _subfolder(folder, IMAGES, find_images) or folder
    return Part(title, split, pictures, xmls, _lists(folder))


def _lists(folder: Path) -> Path | None:
    """The folder of the lists of images: ImageSets/Main, ImageSets, or Main or the folder with a list of train."""
    for place in (folder / "ImageSets/Main", folder / "ImageSets"):
        if find_files(place, {".txt"}, recursive=False):
            return place
    for place in (folder / "Main", folder):
        stems = [path.stem for path in find_files(place, {".txt"}, recursive=False)]
        if any(split_named(stem) == "train" or stem.casefold() in WHOLE for stem in stems):
            return place
    return None


def parts_of(root: Path, images: str | None, annotations: str | None, by_split: bool) -> list[Part]:
    """The folders with pictures and XML files: one, one for each split, or one for each year."""
    whole = _part(root, "", None, images, annotations)
    if whole:
        return [whole]
    splits = telling(split_folders(root), root, lambda path: find_files(path, {".xml"})) if by_split else {}
    if splits:
        return [
            _part(path, path.name, split, images, annotations) or Part(path.name, split, path, path, None)
            for split, path in splits.items()
        ]
    xmls = find_files(root, {".xml"})
    years: dict[Path, Part] = {}  # VOC2007 and VOC2012, in VOCdevkit or not, at any depth
    for folder in sorted({f for place in {xml.parent for xml in xmls} for f in place.parents if root in f.parents}):
        inside = any(year in folder.parents for year in years)
        if not inside and (part := _part(folder, folder.relative_to(root).as_posix(), None, images, annotations)):
            years[folder] = part
    if years:
        return list(years.values())
    if not xmls:
        looked = f"in {annotations or first_few(ANNOTATIONS, 9)} (dataset.annotations)"
        raise DataError(f"{root}: there are no XML annotations {looked} or beside the pictures")
    return [Part("", None, root, root, _lists(root) if by_split else None)]
