"""What another program has found: a file of results in COCO's format, read for the images and classes of a split."""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from detect.data.dataset import DetectionDataset
from detect.data.examples import Example, Examples
from detect.data.formats.coco_ids import id_text, is_whole
from detect.data.formats.values import finite, short
from detect.data.notes import Notes
from detect.data.text import one_name, read_text
from detect.errors import DataError, first_few
from detect.evaluation.coco import CocoEvaluator, Scores
from detect.evaluation.coco_json import file_names, image_ids
from detect.evaluation.image_names import ImageNames
from detect.evaluation.matching import Detections

log = logging.getLogger("detect")
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
        self.detections = read_results(path, dataset.images(split), dataset.classes, ids, dataset.categories)

    def evaluate(self, dataset: DetectionDataset, split: str, tile: None = None) -> tuple[Scores, CocoEvaluator]:
        """The scores of its split, and the evaluator with all detections, as `detect.detector.Detector.evaluate`."""
        evaluator = CocoEvaluator(dataset.images(split), self.classes)
        for name, found in self.detections.items():
            evaluator.add(name, *found)
        return evaluator.result(), evaluator


def read_results(
    path: Path,
    examples: Sequence[Example],
    classes: Sequence[str],
    category_ids: Sequence[int],
    categories: Mapping[int, str] | None = None,
) -> Detections:
    """The detections of each image of a split in a file.

    The file is a list of `{"image_id": 7, "category_id": 1, "bbox": [x, y, width, height], "score": 0.9}`. `file_name`
    may stand in place of `image_id`, and `category`, the name of the class, in place of `category_id`. An image is
    named by its id in the source, its path (`detect.evaluation.image_names`), or its file name without the ending, with
    or without zeros before a number; the whole file names them in one way. An image without a row has no detections.
    category_ids: the number of each class. categories: as in `DetectionDataset`; rows of those that are no class have
    no box to find, so they are left out, and their number is logged. Source: cocodataset.org/#format-results.

    Raises DataError, naming the file and the row, for a file that is no such list, an image that is not in the split
    or fits two, another category, a box that is not four numbers of pixels, and a score outside 0..1.
    """
    try:
        rows = json.loads(read_text(path, Notes()))
    except (ValueError, RecursionError) as error:
        raise DataError(f"detections={path}: malformed json ({error})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"detections={path}: it must be a list of results: {{image_id, category_id, bbox, score}}")
    places, kinds = _images(path, rows, examples), _classes(path, rows, classes, category_ids, categories or {})
    found: dict[int, list[tuple[list[float], float, int]]] = defaultdict(list)
    for k, row in enumerate(rows):
        found[places[k]].append((_box(path, k, row), _score(path, k, row), kinds[k]))
    if left_out := kinds.count(0):
        log.info("%s: %d of %d rows are left out: their categories are no class of the data", path, left_out, len(rows))
    known = {place: [part for part in parts if part[2]] for place, parts in found.items()}
    ids = Examples.of(examples).ids
    return {
        name: (
            np.array([box for box, _, _ in known.get(place, ())], np.float32).reshape(-1, 4),
            np.array([score for _, score, _ in known.get(place, ())], np.float32),
            np.array([kind for _, _, kind in known.get(place, ())], np.int32),
        )
        for place, name in enumerate(ids)
    }


def _images(path: Path, rows: Sequence[Row], examples: Sequence[Example]) -> list[int]:
    """The place of each row's image in the split, by the way that fits all rows.

    `file_name` goes before `image_id`. If no image has these names, ids of the source decide. They also decide if no
    row has a `file_name`: numbers of files may be other ids.
    """
    named = [_text(row.get("image_id") if row.get("file_name") is None else row["file_name"]) for row in rows]
    ids, paths = list(map(str, image_ids(examples))), file_names([example.path for example in examples])
    stems = [PurePosixPath(name).stem for name in paths]
    by_path = ImageNames((name, place) for place, name in enumerate(paths))

    def of_path(name: str) -> int | None:
        fits = by_path.fitting(name)
        return fits[0][1] if len(fits) == 1 else None

    ways: dict[str, Callable[[str], int | None]] = {
        "ids": _once(ids).get,
        "paths": of_path,
        "file names without ending": _once(stems).get,
        "numbers of file names": _once([s.lstrip("0") or "0" if s.isdecimal() else "" for s in stems]).get,
    }
    fitting = {way: found for way, place in ways.items() if (found := _places(named, place)) is not None}
    sourced = all(example.source_id is not None for example in examples)
    if sourced and "ids" in fitting and all(row.get("file_name") is None for row in rows):
        return fitting["ids"]
    if len({tuple(found) for found in fitting.values()}) > 1:
        raise DataError(
            f"detections={path}: the images could be meant by their {' or their '.join(fitting)}; "
            "name them by file_name in each row"
        )
    if not fitting and sourced:
        numbers = [_text(row.get("image_id")) for row in rows]
        if (found := _places(numbers, ways["ids"])) is not None:
            log.warning("%s: no images have all of its file names, so image_id decides", path)
            return found
    if not fitting:
        k = next((k for k, name in enumerate(named) if all(place(name) is None for place in ways.values())), 0)
        raise DataError(
            f"detections={path}: row {k}: image {short(named[k])} is none of the split, or two of it; legal are ids, "
            f"such as {first_few(ids, 3)}, or file names, such as {first_few(paths, 3)}"
        )
    return next(iter(fitting.values()))


def _text(name: object) -> str:
    """The name or the id of an image; 7.0 is 7."""
    return str(int(name)) if isinstance(name, float) and name.is_integer() else str(name)


def _once(names: Sequence[str]) -> dict[str, int]:
    """The place of each name that is not empty and that no other image has."""
    count = Counter(names)
    return {name: place for place, name in enumerate(names) if name and count[name] == 1}


def _places(named: Sequence[str], place: Callable[[str], int | None]) -> list[int] | None:
    """The place of each name; None if one of them has none."""
    found = {}
    for name in dict.fromkeys(named):
        if (number := place(name)) is None:
            return None
        found[name] = number
    return [found[name] for name in named]


def _classes(
    path: Path,
    rows: Sequence[Row],
    classes: Sequence[str],
    category_ids: Sequence[int],
    categories: Mapping[int, str],
) -> list[int]:
    """The class of each row, 1..C; 0 of a category that is no class."""
    by_name = {one_name(name): 0 for name in categories.values()}
    by_name |= {one_name(name): kind for kind, name in enumerate(classes, 1)}
    by_id = {str(number): by_name[one_name(name)] for number, name in categories.items()}
    by_id |= {str(number): kind for kind, number in enumerate(category_ids, 1)}
    found = []
    for k, row in enumerate(rows):
        name, number = row.get("category"), row.get("category_id")
        known = by_id.get(_number(number)) if name is None else by_name.get(one_name(name))
        if known is None:
            legal = first_few((f"{number} ({name})" for number, name in zip(category_ids, classes, strict=True)), 10)
            given = short(number if name is None else name)
            raise DataError(f"detections={path}: row {k}: category {given} is not legal; legal: {legal}")
        found.append(known)
    return found


def _number(given: object) -> str:
    """The number of a category as text; "3.0" is 3. Numbers of pixels have a limit, and those of categories none."""
    text = id_text(given) or ""
    return text if is_whole(text) else id_text(finite(given)) or ""


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
