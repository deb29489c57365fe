"""Pascal VOC: one XML file per picture, 1-based inclusive corners (Everingham et al. 2010, development kit section 5).

It reads the development kit (one year, or several side by side), the same without lists, folders called train, valid
and test, and pictures and XML files side by side.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from detect.config.legal_values import HeldOut, Seed
from detect.data.assemble import Exif, Found, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.folder import (
    existing_folder,
    find_files,
    find_images,
    not_below,
    same_stem,
    split_named,
    splits_of_folders,
)
from detect.data.formats.corners import FirstPixel, infer_first_pixel, refuse_shares
from detect.data.formats.voc_layout import Part, parts_of
from detect.data.formats.voc_lists import LISTS, listed, named, refuse_missing
from detect.data.formats.voc_xml import ROOT, Annotation, OtherRoot, read_xml
from detect.data.image_file import IMAGE_SUFFIXES
from detect.data.notes import Notes
from detect.data.parallel import each
from detect.data.pictures import Pictures
from detect.data.records import Record
from detect.data.text import first_bytes
from detect.errors import DataError, first_few


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
    split_seed: Seed = 0,
    split_by: SplitBy = None,
    exif: Exif = "displayed",
    keep_difficult: bool = False,
    first_pixel: FirstPixel | None = None,
) -> DetectionDataset:
    """Reads a folder of Pascal VOC.

    root: folder with a folder of pictures and a folder of XML files (and perhaps ImageSets/Main, or lists such as
        train.txt in the folder itself); or with such folders below it, for years (at any depth), or for train, valid
        and test; or with pictures and XML files side by side.
    images, annotations: names of the two folders; None: the usual names.
    splits: the list of ImageSets/Main (without .txt) for each split. A default stands for its synonyms, too, such as
        Validation, and `trainval` and `default` for train; or for the lists of classes, such as cat_train, if there are
        no others. Another name is that of a list. None ignores lists and folders of splits, so that the split is drawn.
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
    parts = parts_of(folder, images, annotations, None if splits is None else named(splits).values())
    refuse_missing(folder, parts, splits or {})
    pairs: dict[str, tuple[Path, Path, Annotation]] = {}
    given: dict[str, list[str]] = {}
    origins: list[str] = []
    used: list[Path] = []
    for part in parts:
        here = _pairs(part, folder, notes)
        if not here:
            continue
        pairs |= here
        chosen, origin, lists = _split(part, here, splits, notes)
        for split, ids in chosen.items():
            given.setdefault(split, []).extend(ids)
        origins += [origin] if origin and origin not in origins else []
        used += lists
    if not pairs and (xmls := find_files(parts[0].annotations, {".xml"})):
        read_xml(xmls[0], notes)  # all files are those of other programs, which this says
    refuse_shares((xml, a.corners) for _, xml, a in pairs.values())
    files = ((xml.name, a.boxed, a.size) for _, xml, a in pairs.values() if not a.ours)
    inferred = infer_first_pixel(files, notes, "voc") if first_pixel is None else first_pixel

    def record(i: str) -> Record:
        picture, xml, annotation = pairs[i]
        first = 1 if annotation.ours and first_pixel is None else inferred
        difficult = [flag and not keep_difficult for flag in annotation.difficult]
        crowd = [a or b for a, b in zip(difficult, annotation.crowd, strict=True)]
        return Record(picture, i, annotation.names, annotation.boxes(first), crowd, xml, annotation.size)

    records = {split: [record(i) for i in ids] for split, ids in given.items()}
    told = bool(origins) or splits is None
    found = Found(folder, records, ", ".join(origins) or "none given", notes, used=used, told=told)
    choice = Selection(classes, rename, name, val_fraction, test_fraction, split_seed, split_by, exif)
    return assemble(found, choice)


def recognise(folder: Path) -> str | None:
    """Why a folder is a data set of this format, or None."""
    for path in find_files(folder, {".xml"}):
        if ROOT.search(first_bytes(path)):
            return f"XML files with <annotation>, such as {path.relative_to(folder)}"
    return None


def tells_splits(folder: Path) -> bool:
    """Whether lists, or folders of pictures or XML files, may tell the splits of a data set of this format."""
    parts = parts_of(folder, None, None, ())
    places = {path.parent for path in find_files(folder, {".xml", *IMAGE_SUFFIXES})}
    of_folders = any(split_named(name) for place in places for name in place.relative_to(folder).parts)
    return of_folders or any(part.split or part.lists for part in parts)


def _pairs(part: Part, root: Path, notes: Notes) -> dict[str, tuple[Path, Path, Annotation]]:
    """Picture, XML file and its content of every id: the picture's path below `images` without its ending."""
    xmls = not_below(find_files(part.annotations, {".xml"}), part.apart)
    contents = each(lambda path: _read(path, notes), xmls)
    pictures = Pictures([part.images, part.annotations, root], Notes())  # one note below for all ways
    inside = find_images(part.images)
    known = set(inside)
    by_stem = {p.relative_to(part.images).with_suffix(""): p for p in reversed(inside)}
    rivals = {stem.relative_to(part.images): group for stem, group in same_stem(inside).items()}
    pairs: dict[str, tuple[Path, Path, Annotation]] = {}
    missing: list[Path] = []
    for xml, content in zip(xmls, contents, strict=True):
        place = xml.relative_to(part.annotations).with_suffix("")
        if isinstance(content, OtherRoot):
            if place in by_stem:  # it is in the place of an annotation
                raise content
            continue
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


def _read(path: Path, notes: Notes) -> Annotation | OtherRoot:
    """An XML file; or, of one that is none of VOC, what its reader says."""
    try:
        return read_xml(path, notes)
    except OtherRoot as error:
        return error


def _picture(pictures: Pictures, part: Part, xml: Path, filename: str, notes: Notes) -> Path | None:
    """The picture of an XML file whose name no picture has: the one that <filename> names, or a close one; noted.

    Of several with one name, the one counts that lies in a folder as the file does: two cameras may have a 000.jpg.
    """
    place = xml.relative_to(part.annotations)
    own, told = place.with_suffix("").as_posix(), place.with_name(filename).as_posix() if filename else ""
    for name, stems in ((told, False), (own, True), (told, True)):
        if name and (found := pictures.find(name, xml, stems)):
            kind = "pictures found by <filename> or a close name, because none has the name of its XML file"
            notes.add(kind, f"{xml.name} -> {found.name}")
            notes.close[str(found)] = xml, name
            return found
    return None


def _split(
    part: Part,
    pairs: Mapping[str, tuple[Path, Path, Annotation]],
    splits: Mapping[str, str | None] | None,
    notes: Notes,
) -> tuple[dict[str, list[str]], str, list[Path]]:
    """The ids of each split of a part, how they are defined, and the lists that were read."""
    if part.split:
        return {part.split: sorted(pairs)}, "the folders' names", []
    if splits is not None and part.lists:
        return listed(part, splits, pairs, notes)
    by_folder: dict[str, list[str]] = {}
    folders = {i: (*Path(i).parts[:-1], *pairs[i][1].relative_to(part.annotations).parts[:-1]) for i in sorted(pairs)}
    told = splits_of_folders(folders.values())
    for i, names in folders.items():
        by_folder.setdefault(told[names] or "", []).append(i)
    rest = by_folder.pop("", [])
    if splits is None or not by_folder or (rest and set(by_folder) == {"train"}):
        return {"train": sorted(pairs)}, "", []  # beside folders of other classes, train is a class, too
    if "train" not in by_folder and rest:
        return {"train": rest, **by_folder}, "the folders' names", []
    for i in rest:
        notes.add("left out, pictures outside the folders of the splits", i)
    return by_folder, "the folders' names", []
