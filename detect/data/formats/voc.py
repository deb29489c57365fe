"""Pascal VOC: one XML file per picture, 1-based inclusive corners (Everingham et al. 2010, development kit section 5).

It reads the development kit (one year, or several side by side), the same without lists, folders called train, valid
and test, and pictures and XML files side by side.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from detect.config.legal_values import HeldOut
from detect.data.assemble import Exif, Found, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.folder import (
    existing_folder,
    find_files,
    find_images,
    same_stem,
    split_folders,
    split_named,
    telling,
)
from detect.data.formats.corners import FirstPixel, infer_first_pixel
from detect.data.formats.voc_xml import ROOT, Annotation, read_xml
from detect.data.notes import Notes
from detect.data.parallel import each
from detect.data.pictures import Pictures
from detect.data.records import Record
from detect.data.split import SPLITS
from detect.data.text import first_bytes, loose, one_name, read_lines
from detect.errors import DataError, first_few

LISTS = MappingProxyType({"train": "train", "val": "val", "test": "test"})
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
    first_pixel: FirstPixel | None = None,
) -> DetectionDataset:
    """Reads a folder of Pascal VOC.

    root: folder with a folder of pictures and a folder of XML files (and perhaps ImageSets/Main, or lists such as
        train.txt in the folder itself); or with such folders
        below it, for years, or for train, valid and test; or with pictures and XML files side by side.
    images, annotations: names of the two folders; None: the usual names.
    splits: the list of ImageSets/Main (without .txt) for each split. A default stands for its synonyms, too, such as
        Validation, and `default` for train. None ignores lists and folders of splits, so that the split is drawn.
    keep_difficult: False marks difficult objects as crowd (not trained and not scored); True makes them ordinary.
        Objects with another such flag, such as ignore, are crowd.
    first_pixel: the coordinate of the first pixel in the files: 1 in VOC, 0 in some tools; or continuous corners.
        None: 1 for files that this program wrote; for the others it is inferred, as in
        `detect.data.formats.corners.infer_first_pixel`. Boxes around polygons, masks and turned boxes are continuous.
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
    files = ((xml.name, a.boxed, a.size) for _, xml, a in pairs.values() if not a.ours)
    inferred = infer_first_pixel(files, notes) if first_pixel is None else first_pixel

    def record(i: str) -> Record:
        picture, xml, annotation = pairs[i]
        first = 1 if annotation.ours and first_pixel is None else inferred
        difficult = [flag and not keep_difficult for flag in annotation.difficult]
        crowd = [a or b for a, b in zip(difficult, annotation.crowd, strict=True)]
        return Record(picture, i, annotation.names, annotation.boxes(first), crowd, xml, annotation.size)

    records = {split: [record(i) for i in ids] for split, ids in given.items()}
    found = Found(folder, records, ", ".join(origins) or "none given", notes, used=used)
    choice = Selection(classes, rename, name, val_fraction, test_fraction, split_seed, split_by, exif)
    return assemble(found, choice)


def recognise(folder: Path) -> str | None:
    """Why a folder is a data set of this format, or None."""
    for path in find_files(folder, {".xml"})[:20]:
        if ROOT.search(first_bytes(path)):
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
    return Part(title, split, pictures, xmls, _lists(folder))


def _lists(folder: Path) -> Path | None:
    """The folder of the lists of images: ImageSets/Main, ImageSets, or Main or the folder with a list of train."""
    sets = folder / "ImageSets"
    if (sets / "Main").is_dir():
        return sets / "Main"
    if find_files(sets, {".txt"}, recursive=False):
        return sets
    for place in (folder / "Main", folder):
        if any(split_named(path.stem) == "train" for path in find_files(place, {".txt"}, recursive=False)):
            return place
    return None


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
    return [Part("", None, root, root, _lists(root) if by_split else None)]


def _pairs(part: Part, root: Path, notes: Notes) -> dict[str, tuple[Path, Path, Annotation]]:
    """Picture, XML file and its content of every id: the picture's path below `images` without its ending."""
    xmls = find_files(part.annotations, {".xml"})
    contents = each(lambda path: read_xml(path, notes), xmls)
    pictures = Pictures([part.images, part.annotations, root], Notes())  # one note below for all ways
    inside = find_images(part.images)
    known = set(inside)
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
        if place in by_stem and picture.stem != Path(filename).stem and picture.with_name(filename or "?") in known:
            kind = (
                "<filename> names another picture, which is there, too; the one with the name of the XML file is taken"
            )
            notes.add(kind, f"{xml.name} names {filename}")
        below = next(f for f in (part.images, part.annotations, root) if picture.is_relative_to(f))
        title = (Path(part.title) / picture.relative_to(below)).with_suffix("").as_posix()
        if title in pairs:
            raise DataError(f"{picture}: two annotation files are about it: {pairs[title][1]}, {xml}; remove one")
        pairs[title] = picture, xml, content
        for _ in range(sum(content.hulls)):
            notes.add("boxes made from polygons, masks and turned boxes", xml.name)
        for _ in range(content.deleted):
            notes.add("left out, objects that are marked as deleted", xml.name)
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
            notes.close[str(found)] = xml, name
            return found
    return None


def _split(
    part: Part, pairs: Mapping[str, object], splits: Mapping[str, str | None] | None, notes: Notes
) -> tuple[dict[str, list[str]], str, list[Path]]:
    """The ids of each split of a part, how they are defined, and the lists that were read."""
    if part.split:
        return {part.split: sorted(pairs)}, "the folders' names", []
    if splits is not None and part.lists:
        return _listed(part, splits, pairs, notes)
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
    part: Part, splits: Mapping[str, str | None], pairs: Mapping[str, object], notes: Notes
) -> tuple[dict[str, list[str]], str, list[Path]]:
    """The ids of each split that has a list."""
    lists = part.lists or part.images
    files = {path.stem: path for path in find_files(lists, {".txt"}, recursive=False)}
    titles = _titles(lists, list(files), splits, notes)
    similar: dict[str, list[str]] = defaultdict(list)
    for i in pairs:
        similar[loose(i)].append(i)
    chosen: dict[str, list[str]] = {}
    for split, title in titles.items():
        lines = [line for line in read_lines(files[title], Notes()) if line]
        meant = [_meant(line, part, pairs, similar) for line in lines]
        missing = [line for line, i in zip(lines, meant, strict=True) if not i]
        if missing:
            raise DataError(
                f"{files[title]}: it lists {first_few(missing, 3)}, which has no XML file with a picture, or several "
                "that differ in letter case; remove the line, or add the files"
            )
        chosen[split] = [i for i in meant if i]  # an empty list says that the split has no images
    if not any(chosen.values()):
        raise DataError(
            f"{lists}: dataset.splits.train={splits.get('train')} is not a list with images; the lists are: "
            f"{', '.join(files) or 'none'}. Set it to one of them, or set dataset.splits=null to draw the splits from "
            "a seed; these are keys of dataset=voc"
        )
    named = ", ".join(f"{split}: {title}" for split, title in titles.items())
    folder = "ImageSets/Main" if lists.parent.name == "ImageSets" else lists.name
    return chosen, f"lists of {folder} ({named})", [files[title] for title in titles.values()]


def _titles(lists: Path, found: Sequence[str], splits: Mapping[str, str | None], notes: Notes) -> dict[str, str]:
    """The list of each split that has one. Raises DataError if two lists mean the same split."""
    titles: dict[str, str] = {}
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
                titles[split] = name
            elif name.casefold() != "trainval":
                notes.add("not used, lists of a split that has another list", f"{name}.txt")
    return titles


def _meant(line: str, part: Part, ids: Container[str], similar: Mapping[str, Sequence[str]]) -> str | None:
    """The id that a line of a list means: one of its spellings, or the only one that differs in letter case."""
    tried = [f"{part.title}/{text}" if part.title else text for text in _spellings(line, part)]
    exact = next((text for text in tried if text in ids), None)
    return exact or next((near[0] for text in tried if len(near := similar.get(loose(text), ())) == 1), None)


def _spellings(line: str, part: Part) -> list[str]:
    """What a line can mean: an id, also in quotes, with a flag (-1, 0, 1) or an XML file, an ending or a folder."""
    plain = one_name(line.replace("\\", "/"))
    first, _, last = plain.rpartition(" ")
    folders = [folder.name.casefold() for folder in (part.images, part.annotations)]
    tried = [plain, *([first] if last in ("-1", "0", "1") or last.lower().endswith(".xml") else [])]
    tried += [text.strip('"') for text in tried]  # as Datumaro writes names with blanks
    for text in tuple(tried):
        parts = text.split("/")
        starts = [k + 1 for k, name in enumerate(parts[:-1]) if name.casefold() in folders]
        tried += ["/".join(parts[k:]) for k in starts]
    return [text for t in tried for text in (t, str(Path(t).with_suffix("")) if Path(t).name else t)]
