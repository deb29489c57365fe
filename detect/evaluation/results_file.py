"""What another program has found: a file of results in COCO's format, read for the images and classes of a split."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from detect.data.dataset import DetectionDataset
from detect.data.examples import Example, Examples
from detect.data.formats.values import finite, short
from detect.data.text import one_name
from detect.errors import DataError, first_few
from detect.evaluation.coco import CocoEvaluator, Scores
from detect.evaluation.coco_json import file_names, image_ids
from detect.evaluation.matching import Detections
from detect.files import read_json

Row = Mapping[str, Any]


class ResultsFile:
    """What another program has found in a split, in place of a detector.

    detections: of each image by its id in the split: boxes float32 [n, 4] yxyx in pixels, scores, classes 1..C.
    threshold: None, as the file does not tell from which score on its detections are shown.
    """

    threshold = None

    def __init__(self, path: Path, dataset: DetectionDataset, split: str):
        """Raises DataError, as `read_results` does."""
        ids = dataset.category_ids or tuple(range(1, len(dataset.classes) + 1))
        self.classes = dataset.classes
        self.detections = read_results(path, dataset.images(split), dataset.classes, ids)

    def evaluate(self, examples: Sequence[Example], tile: None = None) -> tuple[Scores, CocoEvaluator]:
        """The scores of the split, and the evaluator with all detections, as `detect.detector.Detector.evaluate`."""
        evaluator = CocoEvaluator(examples, self.classes)
        for name, found in self.detections.items():
            evaluator.add(name, *found)
        return evaluator.result(), evaluator


def read_results(
    path: Path, examples: Sequence[Example], classes: Sequence[str], category_ids: Sequence[int]
) -> Detections:
    """The detections of each image of a split in a file.

    The file is a list of `{"image_id": 7, "category_id": 1, "bbox": [x, y, width, height], "score": 0.9}`. `file_name`
    may stand in place of `image_id`, and `category`, the name of the class, in place of `category_id`. An image is
    named by its id in the source, its path, its file name, or its file name without the ending, with or without zeros
    before a number; the whole file names them in one way. An image without a row has no detections.
    category_ids: the number of each class. Source: cocodataset.org/#format-results.

    Raises DataError, naming the file and the row, for a file that is no such list, an image that is not in the split
    or fits two, another category, a box that is not four numbers of pixels, and a score outside 0..1.
    """
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"detections={path}: it must be a list of results: {{image_id, category_id, bbox, score}}")
    places, kinds = _images(path, rows, examples), _classes(path, rows, classes, category_ids)
    found: dict[int, list[tuple[list[float], float, int]]] = defaultdict(list)
    for k, row in enumerate(rows):
        found[places[k]].append((_box(path, k, row), _score(path, k, row), kinds[k]))
    ids = Examples.of(examples).ids
    return {
        name: (
            np.array([box for box, _, _ in found[place]], np.float32).reshape(-1, 4),
            np.array([score for _, score, _ in found[place]], np.float32),
            np.array([kind for _, _, kind in found[place]], np.int32),
        )
        for place, name in enumerate(ids)
    }


def _images(path: Path, rows: Sequence[Row], examples: Sequence[Example]) -> list[int]:
    """The place of each row's image in the split, by the way that fits all rows."""
    named = [str(row.get("file_name", row.get("image_id"))) for row in rows]
    paths = file_names([example.path for example in examples])
    stems = [PurePosixPath(name).stem for name in paths]
    ways = {
        "ids": [str(number) for number in image_ids(examples)],
        "paths": paths,
        "file names": [PurePosixPath(name).name for name in paths],
        "file names without ending": stems,
        "numbers of file names": [stem.lstrip("0") or "0" if stem.isdecimal() else "" for stem in stems],
    }
    places = {way: {name: place for place, name in enumerate(names) if name} for way, names in ways.items()}
    once = {way: {name for name, count in Counter(names).items() if count == 1} for way, names in ways.items()}
    fitting = {way: [places[way][name] for name in named] for way in ways if once[way].issuperset(named)}
    if len({tuple(found) for found in fitting.values()}) > 1:
        raise DataError(
            f"detections={path}: the images could be meant by their {' or their '.join(fitting)}; "
            "name them by file_name in each row"
        )
    if not fitting:
        known = set.union(*once.values())
        k = next((k for k, name in enumerate(named) if name not in known), 0)
        raise DataError(
            f"detections={path}: row {k}: image {short(named[k])} is none of the split, or two of it; legal are ids, "
            f"such as {first_few(ways['ids'], 3)}, or file names, such as {first_few(paths, 3)}"
        )
    return next(iter(fitting.values()))


def _classes(path: Path, rows: Sequence[Row], classes: Sequence[str], category_ids: Sequence[int]) -> list[int]:
    """The class of each row, 1..C."""
    by_name = {one_name(name): kind for kind, name in enumerate(classes, 1)}
    by_id: dict[float | None, int] = {float(number): kind for kind, number in enumerate(category_ids, 1)}
    found = []
    for k, row in enumerate(rows):
        given = row.get("category", row.get("category_id"))
        known = by_name.get(one_name(given)) if isinstance(given, str) else by_id.get(finite(given))
        if known is None:
            legal = first_few((f"{number} ({name})" for number, name in zip(category_ids, classes, strict=True)), 10)
            raise DataError(f"detections={path}: row {k}: category {short(given)} is not legal; legal: {legal}")
        found.append(known)
    return found


def _box(path: Path, k: int, row: Row) -> list[float]:
    box = row.get("bbox")
    given = box if isinstance(box, list) and len(box) == 4 and not any(isinstance(v, str) for v in box) else []
    numbers = [number for v in given if (number := finite(v)) is not None]
    if len(numbers) != 4 or min(numbers[2:]) < 0:
        raise DataError(f"detections={path}: row {k}: bbox is {short(box)}; it must be [x, y, width, height] in pixels")
    x, y, width, height = numbers
    return [y, x, y + height, x + width]


def _score(path: Path, k: int, row: Row) -> float:
    score = row.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise DataError(f"detections={path}: row {k}: score is {short(score)}; it must be a number from 0 to 1")
    return float(score)
