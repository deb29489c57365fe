"""Pascal VOC: one XML file per picture, 1-based inclusive corners (Everingham et al. 2010, development kit section 5).

It reads the development kit (one year, or several side by side), the same without lists, folders called train, valid
and test, and pictures and XML files side by side.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from detect.config.legal_values import HeldOut
from detect.data.assemble import Exif, Found, Record, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.folder import (
    Pictures,
    existing_folder,
    find_files,
    find_images,
    same_stem,
    split_folders,
    split_named,
    telling,
)
from detect.data.formats.corners import infer_first_pixel
from detect.data.formats.voc_xml import Annotation, read_xml
from detect.data.notes import Notes
from detect.data.parallel import each
from detect.data.split import SPLITS
from detect.data.text import first_bytes, one_name, read_lines
from detect.errors import DataError, first_few

LISTS = MappingProxyType({"train": "train", "val": "val", "test": "test"})
ANNOTATIONS = ("annotations", "annotation", "annots", "xmls", "xml", "labels")
IMAGES = ("jpegimages", "images", "image", "imgs", "img", "pictures", "photos")
"""Names of the folders, in lower case, the format's own first."""


@dataclass(frozen=True)
class Part:
    """A folder with pictures and XML files. title: first part of its images' ids. split: the split of all its images.

    lists: the folder of its lists of images (ImageSets/Main), or None.
    """

    title: str
    split: str | None
    images: Path
    annotations: Path
    lists: Path | None


def read_voc(
    root: str | Path,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    name: str | None = None,
    images: str | None = None,
    annotations: str | None = None,
    splits: Mapping[str, str | None] | None = LISTS,
    val_fraction: HeldOut = 0.15,
    test_fraction: HeldOut = 0.15,
    split_seed: int = 0,
    split_by: SplitBy = None,
    exif: Exif = "displayed",
    keep_difficult: bool = False,
    first_pixel: int | None = None,
) -> DetectionDataset:
    """Reads a folder of Pascal VOC.

    root: folder with a folder of pictures and a folder of XML files (and perhaps ImageSets/Main); or with such folders
        below it, for years, or for train, valid and test; or with pictures and XML files side by side.
    images, annotations: names of the two folders; None: the usual names.
    splits: the list of ImageSets/Main (without .txt) for each split; None ignores lists and folders of splits, so that
        the split is drawn.
    keep_difficult: False marks difficult objects as crowd (not trained and not scored); True makes them ordinary.
    first_pixel: the coordinate of the first pixel in the files: 1 in VOC, 0 in some tools. None: 0 if more corners are
        at 0, which files that count from 1 can't have, than at the width or height, which those from 0 can't have.
    Other arguments: `detect.data.assemble.Selection`.

    Raises DataError for a missing or empty folder, malformed XML (file and line), a listed image or a picture that is
    missing or ambiguous, and for lists that share images.
    """
    folder, notes = existing_folder(root), Notes()
    parts = _parts(folder, images, annotations, by_split=splits is not None)
    pairs: dict[str, tuple[Path, Path, Annotation]] = {}
    given: dict[str, list[str]] = {}
    origins: list[str] = []
    used: list[Path] = []
    for part in parts:
        here = _pairs(part, folder, notes)
        pairs |= here
        chosen, origin, lists = _split(part, here, splits, notes)
        for split, ids in chosen.items():
            given.setdefault(split, []).extend(ids)
        origins += [origin] if origin and origin not in origins else []
        used += lists
    files = ((xml.name, a.corners, a.size) for _, xml, a in pairs.values())
    first = infer_first_pixel(files, notes) if first_pixel is None else first_pixel

    def record(i: str) -> Record:
        picture, xml, annotation = pairs[i]
        crowd = [flag and not keep_difficult for flag in annotation.difficult]
        return Record(picture, i, annotation.names, annotation.boxes(first), crowd, xml, annotation.size)

    records = {split: [record(i) for i in ids] for split, ids in given.items()}
    found = Found(folder, records, ", ".join(origins) or "none given", notes, used=used)
    choice = Selection(classes, rename, name, val_fraction, test_fraction, split_seed, split_by, exif)
    return assemble(found, choice)


def recognise(folder: Path) -> str | None:
    """Why a folder is a data set of this format, or None."""
    for path in find_files(folder, {".xml"})[:20]:
        if re.search(rb"<annotation[\s>]", first_bytes(path)):
            return f"XML files with <annotation>, such as {path.relative_to(folder)}"
    return None


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
    lists = folder / "ImageSets" / "Main"
    return Part(title, split, pictures, xmls, lists if lists.is_dir() else None)


def _parts(root: Path, images: str | None, annotations: str | None, by_split: bool) -> list[Part]:
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
    for pattern in ("*", "*/*"):  # VOC2007 and VOC2012, in VOCdevkit or not
        folders = sorted(p for p in root.glob(pattern) if p.is_dir() and not p.name.startswith("."))
        years = [p for f in folders if (p := _part(f, f.relative_to(root).as_posix(), None, images, annotations))]
        if years:
            return years
    if not find_files(root, {".xml"}):
        looked = f"in {annotations or first_few(ANNOTATIONS, 9)} (dataset.annotations)"
        raise DataError(f"{root}: there are no XML annotations {looked} or beside the pictures")
    return [Part("", None, root, root, None)]


def _pairs(part: Part, root: Path, notes: Notes) -> dict[str, tuple[Path, Path, Annotation]]:
    """Picture, XML file and its content of every id: the picture's path below `images` without its ending."""
    xmls = find_files(part.annotations, {".xml"})
    contents = each(lambda path: read_xml(path, notes), xmls)
    pictures = Pictures([part.images, part.annotations, root], Notes())  # one note below for all ways
    inside = find_images(part.images)
    by_stem = {p.relative_to(part.images).with_suffix(""): p for p in reversed(inside)}
    rivals = {stem.relative_to(part.images): group for stem, group in same_stem(inside).items()}
    pairs: dict[str, tuple[Path, Path, Annotation]] = {}
    missing: list[Path] = []
    for xml, content in zip(xmls, contents, strict=True):
        place = xml.relative_to(part.annotations).with_suffix("")
        filename = content.filename.replace("\\", "/").rpartition("/")[2]
        if place in rivals:
            group = sorted(rivals[place], key=lambda path: path.name != filename)
            notes.add("one XML file, several pictures: the first is taken", " or ".join(p.name for p in group))
            picture: Path | None = group[0]
        else:
            picture = by_stem.get(place) or _picture(pictures, part, xml, filename, notes)
        if picture is None:
            missing.append(xml)
            continue
        below = next(f for f in (part.images, part.annotations, root) if picture.is_relative_to(f))
        title = (Path(part.title) / picture.relative_to(below)).with_suffix("").as_posix()
        if title in pairs:
            raise DataError(f"{picture}: two annotation files are about it: {pairs[title][1]}, {xml}; remove one")
        pairs[title] = picture, xml, content
        for _ in range(content.hulls):
            notes.add("boxes made from polygons and turned boxes", xml.name)
    if missing:
        raise DataError(
            f"{missing[0]}: there is no picture for it below {part.images} (by its name, or by <filename>)"
            + (f"; the same for {first_few([p.name for p in missing[1:]])}" if missing[1:] else "")
        )
    return pairs


def _picture(pictures: Pictures, part: Part, xml: Path, filename: str, notes: Notes) -> Path | None:
    """The picture of an XML file whose name no picture has: the one that <filename> names, or a close one; noted."""
    own = xml.relative_to(part.annotations).with_suffix("").as_posix()
    for name, stems in ((filename, False), (own, True), (filename, True)):
        if name and (found := pictures.find(name, xml, stems)):
            kind = "pictures found by <filename> or a close name, because none has the name of its XML file"
            notes.add(kind, f"{xml.name} -> {found.name}")
            return found
    return None


def _split(
    part: Part, pairs: Mapping[str, object], splits: Mapping[str, str | None] | None, notes: Notes
) -> tuple[dict[str, list[str]], str, list[Path]]:
    """The ids of each split of a part, how they are defined, and the lists that were read."""
    if part.split:
        return {part.split: sorted(pairs)}, "the folders' names", []
    if splits is not None and part.lists:
        return _listed(part, splits, pairs)
    by_folder: dict[str, list[str]] = {}
    for i in sorted(pairs):
        split = next((s for name in Path(i).parts[:-1] if (s := split_named(name))), "")
        by_folder.setdefault(split, []).append(i)
    if splits is None or ("train" not in by_folder and "" in by_folder):
        return {"train": sorted(pairs)}, "", []
    for i in by_folder.pop("", ()):
        notes.add("left out, pictures outside the folders of the splits", i)
    return by_folder, "the folders' names", []


def _listed(
    part: Part, splits: Mapping[str, str | None], pairs: Mapping[str, object]
) -> tuple[dict[str, list[str]], str, list[Path]]:
    """The ids of each split that has a list in ImageSets/Main."""
    lists = part.lists or part.images
    titles = {split: splits.get(split) for split in SPLITS}
    whole = lists / "trainval.txt"
    if titles["train"] == "train" and not (lists / "train.txt").is_file() and whole.is_file():
        titles["train"] = "trainval"
    prefix = f"{part.title}/" if part.title else ""
    known = {i.casefold(): i for i in pairs}
    chosen: dict[str, list[str]] = {}
    used: list[Path] = []
    for split, title in titles.items():
        path = lists / f"{title}.txt"
        if not title or not path.is_file():
            continue
        used.append(path)
        lines = [line for line in read_lines(path, Notes()) if line]
        meant = [next((known[k] for k in _spellings(prefix + line) if k in known), None) for line in lines]
        ids = [i for i in meant if i]
        missing = [line for line, i in zip(lines, meant, strict=True) if not i]
        if missing:
            raise DataError(
                f"{path}: it lists {first_few(missing, 3)}, which has no XML file with a picture; "
                "remove the line, or add the files"
            )
        chosen[split] = ids  # an empty list says that the split has no images
    if not any(chosen.values()):
        have = ", ".join(sorted(p.stem for p in lists.glob("*.txt"))) or "none"
        raise DataError(
            f"{lists}: dataset.splits.train={splits.get('train')} is not a list with images; the lists are: {have}. "
            "Set it to one of them, or set dataset.splits=null to draw the splits from a seed"
        )
    named = ", ".join(f"{split}: {titles[split]}" for split in chosen)
    return chosen, f"lists of ImageSets/Main ({named})", used


def _spellings(line: str) -> list[str]:
    """What a line of a list can mean, in lower case: an id, one with the picture's ending, one before -1, 0 or 1."""
    plain = one_name(line.replace("\\", "/"))
    first, _, last = plain.rpartition(" ")
    tried = [plain, *([first] if last in ("-1", "0", "1") else [])]
    return [text.casefold() for t in tried for text in (t, str(Path(t).with_suffix("")) if Path(t).name else t)]
