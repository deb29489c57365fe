"""Where the pictures, XML files and lists of a Pascal VOC data set lie, as the tools that write them lay them out."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from detect.data.folder import find_files, find_images, not_below, split_folders, split_named, telling
from detect.errors import DataError, first_few

ANNOTATIONS = ("annotations", "annotation", "annots", "xmls", "xml", "labels", "ann", "boxes")
IMAGES = ("jpegimages", "images", "image", "imgs", "img", "pictures", "photos", "pics", "data")
"""Names of the folders, in lower case, the format's own first."""
NO_SUBSET = "default"
"""The list of images without a subset, in lower case, as CVAT and Datumaro write it."""
WHOLE = ("trainval", NO_SUBSET)
"""Lists of training images, in lower case, for a folder without a list of train."""


@dataclass(frozen=True)
class Part:
    """A folder with pictures and XML files. title: first part of its images' ids. split: the split of all its images.

    lists: the folder of its lists of images (ImageSets/Main, ImageSets, Main, or the folder itself), or None.
    apart: folders inside it that are parts of their own.
    """

    title: str
    split: str | None
    images: Path
    annotations: Path
    lists: Path | None
    apart: Collection[Path] = ()


def _subfolder(folder: Path, names: Iterable[str], holds: Callable[[Path], object]) -> Path | None:
    """The first folder below `folder` with one of the names, letter case aside, that holds something, or None."""
    folders = {p.name.casefold(): p for p in sorted(folder.iterdir(), reverse=True) if p.is_dir()}
    return next((folders[n] for n in names if n in folders and holds(folders[n])), None)


def _part(
    folder: Path, title: str, split: str | None, images: str | None, annotations: str | None, named: Collection[str]
) -> Part | None:
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
            raise DataError(f"{folder}: it has {xmls.name}/ but no folder {images}/ (dataset=voc dataset.images)")
    else:
        pictures = _subfolder(folder, IMAGES, find_images) or folder
    return Part(title, split, pictures, xmls, _lists(folder, named))


def _lists(folder: Path, named: Collection[str]) -> Path | None:
    """The folder of the lists of images: ImageSets/Main, ImageSets, or Main or the folder with a list of train.

    named: lists that are such ones, too.
    """
    for place in (folder / "ImageSets/Main", folder / "ImageSets"):
        if find_files(place, {".txt"}, recursive=False):
            return place
    for place in (folder / "Main", folder):
        stems = [path.stem for path in find_files(place, {".txt"}, recursive=False)]
        if any(split_named(stem) == "train" or stem.casefold() in WHOLE or stem in named for stem in stems):
            return place
    return None


def parts_of(root: Path, images: str | None, annotations: str | None, named: Collection[str] | None) -> list[Part]:
    """The folders with pictures and XML files: one, one for each split, or one for each year.

    Folders of val and test are parts beside the rest, unless there are lists. named: lists that the user names; None:
    lists and folders of splits do not count.
    """
    known = named or ()
    whole = _part(root, "", None, images, annotations, known)
    lists = None if named is None else _lists(root, known)
    splits = {} if named is None else telling(split_folders(root), root, lambda path: find_files(path, {".xml"}))
    if whole if "train" in splits else lists:
        splits = {}
    apart = [
        _part(path, path.name, split, images, annotations, known) or Part(path.name, split, path, path, None)
        for split, path in splits.items()
    ]
    if whole:
        return [whole, *apart]
    xmls = not_below(find_files(root, {".xml"}), splits.values())
    if "train" in splits or (splits and not xmls):
        return apart
    years: dict[Path, Part] = {}  # VOC2007 and VOC2012, in VOCdevkit or not, at any depth
    for folder in sorted({f for place in {xml.parent for xml in xmls} for f in place.parents if root in f.parents}):
        inside = any(year in folder.parents for year in years)
        title = folder.relative_to(root).as_posix()
        if not inside and (part := _part(folder, title, None, images, annotations, known)):
            years[folder] = part
    if years:
        return [*years.values(), *apart]
    if not xmls:
        looked = f"in {annotations or first_few(ANNOTATIONS, 9)} (dataset=voc dataset.annotations)"
        raise DataError(f"{root}: there are no XML annotations {looked} or beside the pictures")
    return [Part("", None, root, root, lists, tuple(splits.values())), *apart]
