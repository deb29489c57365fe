"""Ground truth and detections in COCO's JSON format, from boxes [ymin, xmin, ymax, xmax] in pixels of the image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from detect.evaluation.matching import NOTHING, Detections

if TYPE_CHECKING:
    from detect.data.dataset import Example


class Image(TypedDict):
    """An image of COCO's ground truth; sides in pixels."""

    id: int
    file_name: str
    width: int
    height: int


class Category(TypedDict):
    """A class of COCO's ground truth."""

    id: int
    name: str


class Annotation(TypedDict):
    """A box of COCO's ground truth: bbox [x, y, width, height] in pixels, area in square pixels, iscrowd 0 or 1."""

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int


class Result(Annotation):
    """A detection in COCO's format: as an annotation, with its score in 0..1."""

    score: float


class Truth(TypedDict):
    """COCO's ground truth of a split."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


def coco_truth(examples: "Sequence[Example]", classes: Sequence[str]) -> Truth:
    """The examples as a COCO ground-truth dictionary: images 1..N in order, categories 1..C, area = width * height."""
    annotations: list[Annotation] = []
    for number, example in enumerate(examples, 1):
        rows = zip(_xywh(example.boxes), example.classes.tolist(), example.crowd.tolist(), strict=True)
        for box, kind, crowd in rows:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": kind,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(crowd),
                }
            )
    images: list[Image] = [
        {"id": number, "file_name": e.path.name, "width": e.width, "height": e.height}
        for number, e in enumerate(examples, 1)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
    }


def coco_results(examples: "Sequence[Example]", detections: Detections) -> list[Result]:
    """Detections by image id as a COCO results list; image numbers are those of `coco_truth`."""
    results: list[Result] = []
    for number, example in enumerate(examples, 1):
        boxes, scores, classes = detections.get(example.id, NOTHING)
        for box, score, kind in zip(_xywh(boxes), scores.tolist(), classes.tolist(), strict=True):
            results.append(
                {"id": len(results) + 1, "image_id": number, "category_id": kind, "bbox": box, "score": score,
                 "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
    return results


def _xywh(boxes: np.ndarray) -> list[list[float]]:
    """[n, 4] yxyx to a list of [x, y, width, height], in float64 so that a box overlaps itself by exactly 1."""
    ymin, xmin, ymax, xmax = np.asarray(boxes, np.float64).reshape(-1, 4).T
    rows: list[list[float]] = np.stack([xmin, ymin, xmax - xmin, ymax - ymin], axis=1).tolist()
    return rows
