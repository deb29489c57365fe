"""The list of suspected labels as files: CSV for a reader, COCO json for a labelling tool."""

import logging
from collections.abc import Sequence
from pathlib import Path

from detect.data.dataset import DetectionDataset
from detect.errors import first_few, printable
from detect.evaluation.coco_json import Marked, file_names, image_ids, remarks_file, xywh
from detect.evaluation.suspected_labels import Suspect
from detect.files import write_csv, write_json

log = logging.getLogger("detect")
CSV, JSON = "suspected_labels.csv", "suspected_labels.json"
COLUMNS = (
    "rank",
    "file",
    "image_id",
    "reason",
    "score",
    "label",
    "found",
    "x",
    "y",
    "width",
    "height",
    "twin",
    "split",
)
SHOWN = 3


def write(folder: Path, dataset: DetectionDataset, split: str, suspects: Sequence[Suspect]) -> None:
    """Writes `suspected_labels.csv` and `suspected_labels.json`, in the given order, and logs how many there are.

    Both are written even if there is no suspect. Boxes are x, y, width, height in pixels of the image file. In the
    json, a box has the class of its label, or the class that the detector found where there is no label.
    """
    examples = dataset.splits[split]
    names, ids = file_names([example.path for example in examples]), image_ids(examples)
    known = ("", *dataset.classes)
    rows, marked = [], []
    for rank, suspect in enumerate(suspects, 1):
        (box,) = xywh(suspect.box)
        twin = "" if suspect.twin is None else names[suspect.twin]
        label, found = known[suspect.label], known[suspect.found]
        place = names[suspect.place], ids[suspect.place]
        rows.append((rank, *place, suspect.reason, round(suspect.score, 4), label, found, *_rounded(box), twin, split))
        said = {"reason": suspect.reason, "label": label, "found": found, "twin": twin}
        kind = suspect.label or suspect.found
        marked.append(Marked(suspect.place, suspect.box, kind, suspect.score, {k: v for k, v in said.items() if v}))
    write_csv(folder / CSV, COLUMNS, rows)
    write_json(folder / JSON, remarks_file(dataset, split, marked))
    first = first_few([f"{row[1]} ({row[3]})" for row in rows], SHOWN)
    log.info("%d suspected labels%s", len(rows), printable(f", in {CSV}: {first}") if rows else "")


def _rounded(box: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in box]
