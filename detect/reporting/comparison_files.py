"""The files of a comparison of detectors: tables as CSV and json, and a sheet of the images where they differ most."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from detect.data.image_file import read_image
from detect.evaluation.comparison import Comparison, ImageDifference
from detect.evaluation.matching import NOTHING
from detect.files import write_csv, write_json
from detect.reporting import pictures as draw

SHEET, TABLE, JSON, IMAGES = "differences.png", "comparison.csv", "comparison.json", "images.csv"
SHOWN_IMAGES, WIDTH = 8, 1920


def write_tables(folder: Path, found: Comparison, split: str) -> None:
    """Writes the tables into a folder. The sheet of an earlier comparison there goes away."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SHEET).unlink(missing_ok=True)
    rows = found.rows()
    columns = list(rows[0])
    write_csv(folder / TABLE, columns, ([row[column] for column in columns] for row in rows))
    names = [one.name for one in found.contenders]
    levels = {one.name: one.level for one in found.contenders}
    write_json(folder / JSON, {"split": split, "images": len(found.examples), "levels": levels, "figures": rows})
    heads = ["file", "image_id", "difference"]
    heads += [f"{name} {what}" for name in names for what in ("missed", "without a box", "of another class")]
    write_csv(folder / IMAGES, heads, (_row(image) for image in found.images))


def write_sheet(folder: Path, found: Comparison, files: Mapping[str, Path]) -> None:
    """Writes the sheet into a folder. files: the image file of each name; the sheet has only these, and without one
    there is no sheet."""
    sheet = [image for image in found.images if image.example.path.as_posix() in files][:SHOWN_IMAGES]
    if sheet:
        rows_of = [_beside(found, image, files[image.example.path.as_posix()]) for image in sheet]
        captions = [_caption(image) for image in sheet]
        draw.save(folder / SHEET, draw.contact_sheet(rows_of, 1 if len(found.contenders) > 2 else 2, WIDTH, captions))


def _row(image: ImageDifference) -> list[object]:
    counts = [count for one in image.faults for count in (one.missed, one.extra, one.confused)]
    return [image.example.path.as_posix(), image.example.source_id, image.difference, *counts]


def _caption(image: ImageDifference) -> str:
    told: Sequence[str] = [f"{chr(65 + k)}: {faults or 'right'}" for k, faults in enumerate(map(str, image.faults))]
    return f"{image.example.path.name}  {';  '.join(told)}"


def _beside(found: Comparison, image: ImageDifference, file: Path):
    """The image once with its boxes, and once for each detector."""
    example = image.example
    panels: list[draw.Panel] = [("ground truth", example.boxes[~example.crowd], example.classes[~example.crowd], None)]
    for k, (one, own) in enumerate(zip(found.contenders, found.detections, strict=True)):
        boxes, scores, kinds = own.get(example.id, NOTHING)
        shown = scores >= one.level
        panels.append((f"{chr(65 + k)} from {one.level:.2f}", boxes[shown], kinds[shown], scores[shown]))
    return draw.panels(read_image(file), panels, found.classes, 320)
