"""COCO's twelve figures and scores per class, computed by faster-coco-eval (C++). A figure without boxes is n/a.

The input boxes are [ymin, xmin, ymax, xmax] in pixels of the image file; COCO gets them as [x, y, width, height].
The figures equal those of pycocotools (Lin et al. 2014, cocodataset.org/#detection-eval) up to rounding. Small, medium
and large are the areas of a COCO file of the user, if the examples carry them, or else those of the boxes.
"""

import contextlib
import gc
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from detect.data.examples import Example, Examples
from detect.errors import DataError, counted, first_few, score_text, shortened
from detect.evaluation.average_precision import IOU_THRESHOLDS
from detect.evaluation.coco_json import Annotation, FlatDetections, Result, Truth, coco_truth
from detect.evaluation.matching import MOST_DETECTIONS, Detections, Ranking, rank

# key: (array of the evaluator, IoU threshold or None for .50:.95, area range, index into MAX_DETECTIONS)
FIGURES: dict[str, tuple[str, float | None, str, int]] = {
    "AP": ("precision", None, "all", 2),
    "AP50": ("precision", 0.5, "all", 2),
    "AP75": ("precision", 0.75, "all", 2),
    "APs": ("precision", None, "small", 2),
    "APm": ("precision", None, "medium", 2),
    "APl": ("precision", None, "large", 2),
    "AR1": ("recall", None, "all", 0),
    "AR10": ("recall", None, "all", 1),
    "AR100": ("recall", None, "all", 2),
    "ARs": ("recall", None, "small", 2),
    "ARm": ("recall", None, "medium", 2),
    "ARl": ("recall", None, "large", 2),
}
CLASS_FIGURES = ("AP", "AP50", "AP75", "AR100")
MAX_DETECTIONS = (1, 10, MOST_DETECTIONS)
AREAS = ("all", "small", "medium", "large")
AT_ONCE, PAIRS_AT_ONCE = 50_000, 500_000
"""Detections, and pairs of an image and a class, that are scored at once: they bound the memory of the evaluator, and
change no figure."""
Entry = TypeVar("Entry", Annotation, Result)


@dataclass(frozen=True)
class Scores:
    """The result of one evaluation. Every figure is a float in 0..1, or None (n/a) if it has no ground-truth box.

    summary: the twelve figures by the keys of FIGURES. per_class: name -> AP, AP50, AP75, AR100 and boxes (an int).
    precision: float64 [10 IoU thresholds, 101 recalls, C], COCO's interpolated precision; -1 for a class without boxes.
    rankings: name -> Ranking, for counts of true positives at any score.
    """

    classes: tuple[str, ...]
    summary: dict[str, float | None]
    per_class: dict[str, dict[str, float | int | None]]
    precision: np.ndarray
    images: int
    detections: int
    rankings: dict[str, Ranking] = field(default_factory=dict)

    def table(self, most_classes: int = 20) -> str:
        """The figures as text of at most 80 columns; at most `most_classes` classes, those with most boxes."""
        boxes = sum(int(row["boxes"] or 0) for row in self.per_class.values())
        lines = [
            f"{counted(self.images, 'image')}, {counted(boxes, 'box')}, {counted(self.detections, 'detection')}",
            "".join(f"{key:>6}" for key in self.summary),
            "".join(f"{score_text(value):>6}" for value in self.summary.values()),
        ]
        most = sorted(self.per_class, key=lambda name: -int(self.per_class[name]["boxes"] or 0))[:most_classes]
        listed = [(name, row) for name, row in self.per_class.items() if name in most]
        width = min(36, max([5, *(len(name) for name, _ in listed)]))
        lines += ["", f" {'class':<{width}}" + "".join(f"{key:>7}" for key in CLASS_FIGURES) + f"{'boxes':>9}"]
        for name, row in listed:
            figures = "".join(f"{score_text(row[key]):>7}" for key in CLASS_FIGURES)
            lines.append(f" {shortened(name, width):<{width}}{figures}{row['boxes']:>9}")
        if len(self.per_class) > most_classes:
            lines.append(f" ... and {len(self.per_class) - most_classes} more classes")
        return "\n".join(lines)


class CocoEvaluator:
    """Collects the detections of every image of a split and scores them.

    An image that is not added is scored as an image without detections.
    """

    def __init__(self, examples: Sequence[Example], classes: Sequence[str]):
        """examples: the whole split. classes: names of 1..C, in order.

        Raises DataError for two examples with the same id or a class outside 1..C.
        """
        self.examples = Examples.of(examples)
        self.classes = tuple(classes)
        self._ids = set(self.examples.ids)
        if len(self._ids) != len(self.examples):
            twice, _ = Counter(self.examples.ids).most_common(1)[0]
            raise DataError(f"image id {twice!r} appears twice in the split; an id must be unique")
        strange = (self.examples.classes < 1) | (self.examples.classes > len(self.classes))
        if strange.any():
            _refuse_classes(self.examples[int(self.examples.owners[strange][0])], len(self.classes))
        self.detections: Detections = {}

    def add(self, id: str, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> None:
        """Add all detections of one image: boxes [n, 4] yxyx in pixels of its file, scores [n], classes [n] in 1..C.

        Raises ValueError for an id that is not in the split or was added before, different lengths, a class outside
        1..C, and numbers that are not finite.
        """
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        scores = np.array(scores, np.float32).reshape(-1)
        classes = np.array(classes, np.int32).reshape(-1)
        if id not in self._ids or id in self.detections:
            raise ValueError(f"image {id!r} {'was already added' if id in self.detections else 'is not in the split'}")
        if not len(boxes) == len(scores) == len(classes):
            raise ValueError(f"image {id!r}: {len(boxes)} boxes, {len(scores)} scores, {len(classes)} classes")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError(f"image {id!r}: a box or a score is not a finite number")
        if len(classes) and not 1 <= classes.min() <= classes.max() <= len(self.classes):
            legal = f"legal: 1..{len(self.classes)}"
            raise ValueError(f"image {id!r}: classes {classes.min()}..{classes.max()}; {legal}")
        self.detections[id] = (boxes, scores, classes)

    def result(self) -> Scores:
        """Score the detections that were added so far."""
        truth = coco_truth(self.examples, self.classes)
        rankings = rank(self.examples, self.detections, self.classes)
        found = FlatDetections.of(self.examples, self.detections)
        counts = Counter(found.classes.tolist())
        return _score(truth, found.results, counts, MAX_DETECTIONS, rankings)


def ground_truth_check(examples: Sequence[Example], classes: Sequence[str]) -> Scores:
    """Score the ground truth as predictions. An AP of 1.0 shows that the evaluation is correct.

    Raises DataError if there is no box to score or AP is below 1, and names the cause if it is known.
    """
    evaluator = CocoEvaluator(examples, classes)
    most = MAX_DETECTIONS[-1]
    for example in examples:
        real = ~example.crowd
        evaluator.add(example.id, example.boxes[real], np.ones(real.sum()), example.classes[real])
        most = max(most, int(real.sum()))
    truth, found = coco_truth(evaluator.examples, classes), FlatDetections.of(evaluator.examples, evaluator.detections)
    # An image may have more than 100 boxes of one class; for this check COCO's limit must not exclude any box.
    scores = _score(truth, found.results, Counter(found.classes.tolist()), (*MAX_DETECTIONS[:2], most), {})
    ap = scores.summary["AP"]
    if ap is None:
        raise DataError(f"there is nothing to score: the {len(examples)} images of the split have no box")
    if ap < 1 - 1e-6:
        culprit = _culprit(examples, scores)
        raise DataError(f"the ground truth scored as predictions has AP {ap:.4f}; it must be 1.0: {culprit}")
    return scores


def _score(
    truth: Truth,
    found: Callable[[Collection[int]], list[Result]],
    counts: Mapping[int, int],
    max_detections: tuple[int, ...],
    rankings: dict[str, Ranking],
) -> Scores:
    """The figures of precision [T, R, C, areas, limits] and recall [T, C, areas, limits] of all classes.

    found: gives the detections of some categories. counts: how many detections each category has.
    """
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    boxes = _by_category(truth["annotations"])
    parts = []
    with _without_garbage_collection():
        for group in _groups([category["id"] for category in categories], counts, len(truth["images"])):
            here = [box for kind in group for box in boxes.get(kind, ())]
            parts.append(_evaluate(here, found(group), group, max_detections))
    precision = np.concatenate([part[0] for part in parts], axis=2)
    recall = np.concatenate([part[1] for part in parts], axis=1)[:, None]  # an axis of length one: both have the same
    arrays = {"precision": precision, "recall": recall}

    def figure(key: str, columns: slice) -> float | None:
        name, threshold, area, limit = FIGURES[key]
        rows = slice(None) if threshold is None else np.flatnonzero(np.isclose(IOU_THRESHOLDS, threshold))
        values = arrays[name][rows][:, :, columns, AREAS.index(area), limit]
        values = values[values > -1]
        return float(values.mean()) if values.size else None

    per_class: dict[str, dict[str, float | int | None]] = {}
    for index, category in enumerate(categories):
        column = slice(index, index + 1)
        row = {key: figure(key, column) for key in CLASS_FIGURES}
        real = sum(not box.get("iscrowd", 0) for box in boxes.get(category["id"], ()))
        per_class[category["name"]] = row | {"boxes": real}
    return Scores(
        classes=tuple(per_class),
        summary={key: figure(key, slice(None)) for key in FIGURES},
        per_class=per_class,
        precision=precision[:, :, :, 0, 2],
        images=len(truth["images"]),
        detections=sum(counts.values()),
        rankings=rankings,
    )


def _groups(categories: Sequence[int], counts: Mapping[int, int], images: int) -> Iterator[list[int]]:
    """The categories in order, in groups with at most AT_ONCE detections and PAIRS_AT_ONCE pairs with the images, or of
    one category."""
    group, detections = list[int](), 0
    for kind in categories:
        detections += counts.get(kind, 0)
        if group and (detections > AT_ONCE or (len(group) + 1) * images > PAIRS_AT_ONCE):
            yield group
            group, detections = [], counts.get(kind, 0)
        group.append(kind)
    yield group


def _evaluate(
    boxes: list[Annotation], found: list[Result], categories: Sequence[int], max_detections: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Precision [T, R, C, areas, limits] and recall [T, C, areas, limits] of some categories.

    Each category is scored on its own, and an image without boxes and detections of it does not count.
    """
    images = sorted({int(entry["image_id"]) for entry in (*boxes, *found)})
    frame = {"images": [{"id": i} for i in images], "categories": [{"id": kind} for kind in categories]}
    truth, results = (COCO({**frame, "annotations": entries}) for entries in (boxes, found))
    evaluator = COCOeval_faster(truth, results, "bbox", print_function=_silent)
    evaluator.params.maxDets = list(max_detections)
    evaluator.evaluate()
    evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"]), np.asarray(evaluator.eval["recall"])


def _by_category(entries: Sequence[Entry]) -> dict[int, list[Entry]]:
    groups: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry["category_id"]].append(entry)
    return groups


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Python looks for cycles again and again while the evaluator makes its many small objects, which have none."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _refuse_classes(example: Example, count: int) -> None:
    found = f"classes {example.classes.min()}..{example.classes.max()}"
    raise DataError(f"{_source(example)}: {found}; legal: 1..{count}")


def _culprit(examples: Sequence[Example], scores: Scores) -> str:
    """Name the first box without an area, else the classes with an AP below 1."""
    for example in examples:
        sides = example.boxes[:, 2:] - example.boxes[:, :2]
        bad = np.flatnonzero(~(sides > 0).all(axis=1) & ~example.crowd)
        if len(bad):
            name = scores.classes[example.classes[bad[0]] - 1]
            box = np.round(example.boxes[bad[0]].astype(float), 1).tolist()
            return f"{_source(example)}: the {name} box {box} (ymin, xmin, ymax, xmax) has no area"
    lost = [name for name, row in scores.per_class.items() if row["AP"] is not None and row["AP"] < 1 - 1e-6]
    return f"check the boxes of the classes {first_few(lost)}"


def _source(example: Example) -> Path:
    return example.source or example.path


def _silent(*_: object) -> None:
    """faster-coco-eval prints progress through this function, and here it prints nothing."""
