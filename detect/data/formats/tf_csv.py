"""CSV of the TensorFlow tutorials: one row per box, with VOC's corners (`xml_to_csv` of the Object Detection tutorial).

The columns are filename, width, height, class, xmin, ymin, xmax and ymax, in any order. The form of keras-retinanet
without a header is read, too: path, x1, y1, x2, y2, class, counted from 0.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detect.config.legal_values import HeldOut, Seed
from detect.data.assemble import Exif, Found, Selection, SplitBy, assemble
from detect.data.dataset import DetectionDataset
from detect.data.folder import (
    below,
    existing_folder,
    find_files,
    split_named,
    split_of_file,
    splits_of,
    tell_splits,
    told_by,
    ways_to_join,
)
from detect.data.formats.corners import FirstPixel, infer_first_pixel, pixel_boxes, refuse_shares
from detect.data.formats.csv_layout import CORNERS, NEEDED, Layout, layout_of, with_names, without_separator
from detect.data.formats.values import finite, flag
from detect.data.notes import Notes
from detect.data.pictures import Pictures
from detect.data.records import Record
from detect.data.split import SPLITS
from detect.data.text import first_bytes, one_name, read_text
from detect.errors import ConfigError, DataError, first_few
from detect.files import expanded

SUFFIXES = (".csv", ".tsv")
SIZE = ("width", "height")
_HEAD = 1 << 16


@dataclass
class Rows:
    """The rows of one picture: the name that they give it, the first line, and class, corners and flag of each box.

    size: (width, height) of the line `sized`, or None. split: what its column says, or "".
    """

    name: str
    line: int
    names: list[str] = field(default_factory=list)
    corners: list[list[float]] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    size: tuple[int, int] | None = None
    sized: int = 0
    split: str = ""


def read_csv(
    root: str | Path,
    classes: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    name: str | None = None,
    val_fraction: HeldOut = 0.15,
    test_fraction: HeldOut = 0.15,
    split_seed: Seed = 0,
    split_by: SplitBy = None,
    exif: Exif = "displayed",
    first_pixel: FirstPixel | None = None,
) -> DetectionDataset:
    """Reads CSV files with one row per box.

    root: the CSV of all images, or the folder that contains one file for each split. The words train, val, valid,
        validation and test in the names of files and folders tell the split; a file without one is train. If there is
        one file, its column split (or subset, or set) tells the split of each image.
    first_pixel: the coordinate of the first pixel in files with a header: 1 in VOC, 0 in some tools; or continuous
        corners. None: inferred, as in `detect.data.formats.corners.infer_first_pixel`.
    Other arguments: `detect.data.assemble.Selection`.

    The delimiter is a comma, a semicolon or a tab. Corners belong to the box, as in VOC; those of a file without a
    header are continuous and count from 0. A row without a box is a picture without objects; a class there is noted.
    Columns such as difficult, iscrowd, ignore and IsGroupOf are flags that make an object crowd.
    Raises DataError, naming the file and the line, for a missing column or picture, a value that is no number, a row
    with too few or too many values, and two names of one picture. Raises ConfigError for first_pixel with a file
    without a header.
    """
    notes, place = Notes(), expanded(root)
    if place.is_file():
        folder, files = place.parent, {split_of_file(place) or "train": place}
    else:
        folder = existing_folder(root)
        files = find_csvs(folder)
    voc: list[tuple[str, list[list[float]], tuple[int, int] | None]] = []
    content: dict[str, tuple[bool, dict[Path, Rows]]] = {}
    told = tell_splits(files, folder)
    origin = f"CSV files ({', '.join(f'{split}: {told_by(split, path, folder)}' for split, path in files.items())})"
    for split, path in files.items():
        header, items = _read(path, Pictures(_places(path, folder, split), notes), notes)
        content[split] = header, items
        if len(files) == 1 and any(split_named(rows.split) for rows in items.values()):
            content = {name: (header, part) for name, part in _by_column(items, split, notes).items()}
            files, origin, told = dict.fromkeys(content, path), f"the column of splits of {path.name}", True
        elif any(rows.split for rows in items.values()):
            notes.add("not used, columns of CSV files", f"that of splits in {path.name}")
        voc += [(picture.name, rows.corners, rows.size) for picture, rows in items.items() if header]
        if not header and first_pixel in (0, 1):
            raise ConfigError(
                f"dataset.first_pixel={first_pixel}: {path} has no header, so it is the form of keras-retinanet, whose "
                "corners are continuous; set it to null or continuous"
            )
    refuse_shares(
        (f"{files[split]}: {rows.name[:200]}", rows.corners)
        for split, (_, items) in content.items()
        for rows in items.values()
    )
    first = infer_first_pixel(voc, notes, "csv") if first_pixel is None else first_pixel
    records = {
        split: [
            Record(picture, below(picture, folder), rows.names,
                   pixel_boxes(rows.corners, first if header else "continuous"),
                   rows.crowd, files[split], rows.size)
            for picture, rows in items.items()
        ]
        for split, (header, items) in content.items()
    }  # fmt: skip
    found = Found(folder, records, origin, notes, used=files.values(), told=told)
    return assemble(found, Selection(classes, rename, name, val_fraction, test_fraction, split_seed, split_by, exif))


def recognise(folder: Path) -> str | None:
    """Why a folder is a data set of this format, or None."""
    try:
        for path in find_files(folder, SUFFIXES):
            if set(NEEDED) <= set(layout_of(first_bytes(path).decode("latin-1")).columns):
                return f"CSV with the columns {', '.join(NEEDED)}: {path.relative_to(folder)}"
    except (DataError, OSError):
        pass
    return None


def recognise_last(folder: Path) -> str | None:
    """Why a folder is a data set of this format, if it is of no other: a CSV lacks a column, which the reader names."""
    found = next(iter(named_splits(folder)), None)
    return f"CSV with most of the columns {', '.join(NEEDED)}: {found.relative_to(folder)}" if found else None


def needed_columns(folder: Path) -> str:
    """The end of a message about a folder of no known format: the columns that its CSV files lack, if it has some."""
    paths = find_files(folder, SUFFIXES)
    having = first_few([below(path, folder) for path in paths], 3)
    return f". {having}: a CSV of boxes has a header with the columns {', '.join(NEEDED)}" if paths else ""


def _has_columns(path: Path) -> bool:
    """Whether a CSV is one of boxes; one column may be missing, which is then named."""
    columns = layout_of(first_bytes(path).decode("latin-1")).columns
    return len(set(NEEDED) & set(columns)) >= len(NEEDED) - 2


def named_splits(folder: Path) -> dict[Path, str | None]:
    """The split of each CSV of boxes below `folder`, as its name tells it."""
    ours = [path for path in find_files(folder, SUFFIXES) if _has_columns(path)]
    splits = splits_of(path.relative_to(folder) for path in ours)
    return {path: splits[path.relative_to(folder)] for path in ours}


def find_csvs(folder: Path) -> dict[str, Path]:
    """The CSV of each split below `folder`.

    Raises DataError if there is none, if two fit one split, or if some name train and others no split.
    """
    split_files: dict[str, list[Path]] = {}
    splits = named_splits(folder)
    for path, split in splits.items():
        if split is None and "train" in splits.values():
            raise DataError(
                f"{path}: neither its name nor its folder has the word train, val or test, as those of other files "
                "have; rename it, or move it away"
            )
        split_files.setdefault(split or "train", []).append(path)
    if not split_files:
        paths = find_files(folder, SUFFIXES)
        having = f"; its CSV files are {first_few([p.relative_to(folder) for p in paths])}" if paths else ""
        raise DataError(f"dataset.root={folder}: no CSV below it has the columns {', '.join(NEEDED)}{having}")
    for split, group in split_files.items():
        if len(group) > 1:
            raise DataError(
                f"dataset.root={folder}: {len(group)} CSV files could be the split {split}: "
                f"{first_few([p.relative_to(folder) for p in group])}; name one: dataset.root=FILE, or let the name of "
                f"each have the word train, val or test{ways_to_join(group)}"
            )
    return {split: split_files[split][0] for split in SPLITS if split in split_files}


def _by_column(items: Mapping[Path, Rows], rest: str, notes: Notes) -> dict[str, dict[Path, Rows]]:
    """The pictures of each split, as their rows tell it; those that name none are of the split `rest`."""
    splits: dict[str, dict[Path, Rows]] = {}
    for picture, rows in items.items():
        split = split_named(rows.split)
        if split is None:
            notes.add(f"taken as {rest}, pictures whose rows name no split", f"'{rows.split[:80]}' of {rows.name}")
        splits.setdefault(split or rest, {})[picture] = rows
    return splits


def _places(path: Path, root: Path, split: str) -> list[Path]:
    """The folders where the pictures of a file can be: first those that are called like its split."""
    bases = list(dict.fromkeys(f for base in (path.parent, root) for f in (base, base / "images") if f.is_dir()))
    inside = [f for base in bases for f in sorted(base.iterdir()) if split_named(f.name) == split and f.is_dir()]
    return [*inside, *bases]


def _rows(path: Path, text: str, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Line and fields of each row that is not empty, after the header. Raises DataError naming the line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=layout.delimiter, skipinitialspace=True, strict=True)
    wide = 1 + max(*layout.columns.values(), *layout.flags, *layout.unused, 0)
    before = 0
    seen = not layout.header
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{before + 1}: malformed CSV ({error})") from None
        if row is None:
            return
        line, before = before + 1, reader.line_num
        if not any(value.strip() for value in row):
            continue
        if not seen:
            seen = True
            continue
        if any("\n" in value or "\r" in value for value in row):
            raise DataError(f"{path}:{line}: a value goes on over the end of the line; a quote is not closed")
        if len(row) < wide or any(value.strip() for value in row[wide:]):
            raise DataError(f"{path}:{line}: {len(row)} values; a row of this file has {wide}")
        yield line, [value.strip() for value in row]


def _read(path: Path, pictures: Pictures, notes: Notes) -> tuple[bool, dict[Path, Rows]]:
    """Whether a file has a header, and the rows of each picture."""
    text = without_separator(read_text(path, notes))
    layout = layout_of(text[:_HEAD])
    missing = [name for name in NEEDED if name not in layout.columns]
    if missing:
        raise DataError(
            f"{path}, line 1: no column '{missing[0]}'; the header must have {', '.join(NEEDED)}; it has "
            f"{first_few(layout.unused.values(), 10) or 'no other columns'}"
        )
    if not layout.header:
        notes.add("read as keras-retinanet's form, continuous corners from 0, files without a header", path.name)
    layout = with_names(layout, (row for _, row in _rows(path, text, layout)))
    named: dict[str, Rows] = {}
    unused: dict[str, int] = {}
    for line, row in _rows(path, text, layout):
        for k, title in layout.unused.items():
            unused[title] = unused.get(title, 0) + bool(row[k])
        values = {name: row[k] for name, k in layout.columns.items()}
        flags = {title: row[k] for k, title in layout.flags.items()}
        _add(named, values, flags, f"{path}:{line}", line, notes)
    for title, count in unused.items():
        notes.add("not used, columns of CSV files", f"{title} of {path.name} with {count} values")
    return layout.header, _found(path, named, pictures)


def _add(
    named: dict[str, Rows], values: Mapping[str, str], flags: Mapping[str, str], where: str, line: int, notes: Notes
) -> None:
    """Adds the values of one row to those of its picture."""
    title = values["filename"]
    if not title:
        raise DataError(f"{where}: there is no filename")
    rows = named.setdefault(one_name(title).replace("\\", "/"), Rows(title, line))
    size = tuple(_size(values[side], side, where) for side in SIZE if side in values)
    if len(size) == 2 and all(size):
        if rows.size and size != rows.size:
            raise DataError(
                f"{where}: {title} is {size[0]}x{size[1]} here, but {rows.size[0]}x{rows.size[1]} in line {rows.sized}"
            )
        rows.size, rows.sized = (size[0], size[1]), rows.sized or line
    split = values.get("split", "")
    if split and rows.split not in ("", split):
        raise DataError(f"{where}: {title} is of the split '{split[:80]}' here, but of '{rows.split}' before")
    rows.split = rows.split or split
    label, corners = one_name(values["class"]), [values[corner] for corner in CORNERS]
    if not label and not any(corners):
        notes.add("background, rows without class and box", title)
        return
    if not any(corners):
        notes.add("not used, rows with a class and no box", f"{label} of {title}")
        return
    if not label:
        raise DataError(f"{where}: there is a box, but no class")
    numbers = [finite(text) for text in corners]
    for corner, text, number in zip(CORNERS, corners, numbers, strict=True):
        if number is None:
            raise DataError(f"{where}: {corner} is '{text[:80]}'; it must be a finite number of pixels")
    for column, text in flags.items():
        if flag(text) is None:
            raise DataError(f"{where}: {column} is '{text[:80]}'; it must be 0 or 1")
    rows.names.append(label)
    rows.crowd.append(any(map(flag, flags.values())))
    rows.corners.append([number for number in numbers if number is not None])


def _size(text: str, side: str, where: str) -> int:
    """A side in pixels; 0 if it is not given."""
    value = finite(text or 0)
    if value is None or value < 0:
        raise DataError(f"{where}: {side} is '{text[:80]}'; it must be a number of pixels")
    return round(value)


def _found(path: Path, named: Mapping[str, Rows], pictures: Pictures) -> dict[Path, Rows]:
    """The rows by the picture that they are about. Raises DataError if it is missing, or has two names."""
    found: dict[Path, Rows] = {}
    missing: list[Rows] = []
    for rows in named.values():
        picture = pictures.find(rows.name, f"{path}:{rows.line}", stems=True)
        if picture is None:
            missing.append(rows)
        elif picture in found:
            other = found[picture]
            raise DataError(
                f"{path}: line {other.line} and line {rows.line} name one picture, {picture}, '{other.name}' and "
                f"'{rows.name}'; give both the same name, or add the picture that is missing"
            )
        else:
            found[picture] = rows
    if missing:
        raise DataError(
            f"{path}:{missing[0].line}: {len(missing)} of {len(named)} pictures are missing: "
            f"{first_few([rows.name[:200] for rows in missing], 3)}; searched below {first_few(pictures.folders, 9)}"
        )
    return found
