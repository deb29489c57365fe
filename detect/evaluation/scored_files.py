"""Reads the ground truth and the detections of a split from the files that scoring leaves, in COCO's format."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.examples import Example
from detect.errors import DataError
from detect.evaluation.matching import Detections
from detect.files import file_name, read_json

LARGEST = 1e9  # pixels
TRUTH, FOUND, SCORES = "_ground_truth.json", "_detections.json", "_scores.json"
DATA, THRESHOLD, FILE = "data", "threshold", "file"
"""Further keys in the file of the scores: the fingerprint of the data set; the score from which on the detector shows a
box, or null; the name of an exported file that was renamed, else null."""
OWN, EXPORTED = "evaluation", "model"
"""The folder for the scores of a run or an export, and the name of an exported file, without its suffix."""


def place_of(model: Path) -> Path:
    """The folder for the scores of an exported model, a file or a folder, or of a file of results.

    A file that was renamed may lie beside others, so its folder bears its name, and so does that of results.
    """
    if not model.is_file():
        return model / OWN
    own = model.stem == EXPORTED and model.suffix != ".json"
    return model.with_name(OWN if own else f"{OWN}_{file_name(model.stem)}")


@dataclass(frozen=True)
class Scored:
    """A split and what a detector found on it.

    examples: in the order of the file, with the id of the image as text; `path` is the file name as it stands there.
    classes: in the order of their ids. detections: by the id of the example. category_ids: of the classes.
    """

    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    detections: Detections
    category_ids: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path, split: str) -> "Scored":
        """The files of a split in a folder. Raises DataError, which names the file, if it is missing or damaged."""
        truth, found = folder / f"{split}{TRUTH}", folder / f"{split}{FOUND}"
        for path in (truth, found):
            if not path.is_file():
                raise DataError(f"{path} is missing: make it with detect evaluate, split={split}")
        try:
            return scored(read_json(truth), read_json(found))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(
                f"{truth} and {found.name} are not a scored split: {type(error).__name__}: {error}"
            ) from error


def scored(truth: Mapping[str, Any], results: list[Mapping[str, Any]]) -> Scored:
    """COCO's ground truth and list of results. A result of an image or category that the truth lacks is a KeyError."""
    categories = sorted(truth["categories"], key=lambda row: row["id"])
    kinds = {row["id"]: number for number, row in enumerate(categories, 1)}
    boxes = defaultdict(list)
    for row in truth["annotations"]:
        boxes[row["image_id"]].append((_yxyx(row["bbox"]), kinds[row["category_id"]], bool(row.get("iscrowd", 0))))
    examples = tuple(_example(row, boxes.get(row["id"], [])) for row in truth["images"])
    names = {row["id"]: example.id for row, example in zip(truth["images"], examples, strict=True)}
    found: dict[str, list[tuple[list[float], float, int]]] = {name: [] for name in names.values()}
    for row in results:
        score = float(row["score"])
        if not 0 <= score <= 1:
            raise ValueError(f"score {row['score']} is not in 0..1")
        found[names[row["image_id"]]].append((_yxyx(row["bbox"]), score, kinds[row["category_id"]]))
    detections = {name: _arrays(rows) for name, rows in found.items()}
    return Scored(examples, tuple(str(row["name"]) for row in categories), detections, tuple(kinds))


def _example(row: Mapping[str, Any], boxes: list[tuple[list[float], int, bool]]) -> Example:
    corners, classes, crowd = zip(*boxes, strict=True) if boxes else ((), (), ())
    sides = np.array(corners, np.float32).reshape(-1, 4)
    kinds, regions = np.array(classes, np.int32), np.array(crowd, bool)
    path, size = Path(str(row.get("file_name", row["id"]))), (int(row.get("width", 0)), int(row.get("height", 0)))
    return Example(path, *size, sides, kinds, regions, str(row["id"]), source_id=row["id"])


def _arrays(rows: list[tuple[list[float], float, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(classes, np.int32)


def _yxyx(box: list[float]) -> list[float]:
    """[x, y, width, height] to [ymin, xmin, ymax, xmax], in float64: float32 corners come back as they were."""
    x, y, width, height = (float(v) for v in box)
    corners = [y, x, y + height, x + width]
    if not all(abs(v) < LARGEST for v in corners):  # False for NaN
        raise ValueError(f"bbox {box} is not a box in pixels")
    return corners
