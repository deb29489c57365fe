"""Ground truth and detections in COCO's JSON format, from boxes [ymin, xmin, ymax, xmax] in pixels of the image.

This is the only module that writes the format. Ids are those of the user's own files where these have some, so that a
file of results is scored against them: cocodataset.org/#format-results.
"""

import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np

from detect.data.examples import Example, Examples
from detect.evaluation.matching import NOTHING, Detections

if TYPE_CHECKING:
    from detect.data.dataset import DetectionDataset

ImageId = int | str


class Image(TypedDict):
    """An image of COCO's ground truth; sides in pixels."""

    id: ImageId
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
    image_id: ImageId
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int


class Result(Annotation):
    """A detection as an evaluator takes it: as an annotation, with its score in 0..1."""

    score: float


class Row(TypedDict):
    """A detection in a file: bbox [x, y, width, height] in pixels, score in 0..1, and names for human readers."""

    image_id: ImageId
    file_name: str
    category_id: int
    category: str
    bbox: list[float]
    score: float


class Head(TypedDict):
    """What stands in a file of COCO's beside the lists. pycocotools 2.0.9 and 2.0.10 stop at a file without `info`."""

    info: dict[str, str]
    licenses: list[dict[str, str]]


class Truth(Head):
    """COCO's ground truth of a split."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


class Remark(Result):
    """A box to look at: as a detection, with attributes that labelling tools show."""

    attributes: dict[str, str | float]


class Remarks(Head):
    """Boxes to look at, in a file that labelling tools open as ground truth."""

    images: list[Image]
    annotations: list[Remark]
    categories: list[Category]


class Marked(NamedTuple):
    """A box to look at: the place of its image in the split, its class 1..C, its score, and further attributes."""

    place: int
    box: np.ndarray
    kind: int
    score: float
    attributes: dict[str, str]


def categories_of(classes: Sequence[str], ids: Sequence[int] | None = None) -> list[Category]:
    """The classes as COCO's categories. ids: the number of each class; None is 1..C."""
    numbers = range(1, len(classes) + 1) if ids is None else ids
    return [{"id": int(number), "name": name} for number, name in zip(numbers, classes, strict=True)]


def image_ids(examples: Sequence[Example]) -> list[ImageId]:
    """The id of each image: that of the source if every image has its own there, else its place 1..N."""
    split = Examples.of(examples)
    known = split.source_ids.tolist() if isinstance(split.source_ids, np.ndarray) else split.source_ids or ()
    ids = [number for number in known if number is not None]
    return ids if len(set(ids)) == len(split) else list(range(1, len(split) + 1))


def image_numbers(examples: Sequence[Example]) -> list[int]:
    """`image_ids` as an evaluator takes them. It breaks ties of scores in the order of these."""
    return whole_numbers(image_ids(examples))


def whole_numbers(ids: Sequence[ImageId]) -> list[int]:
    """The ids if all are whole numbers of 64 bits, else 1..N."""
    numbers = [number for number in ids if isinstance(number, int) and -(1 << 63) <= number < 1 << 63]
    return numbers if len(numbers) == len(ids) else list(range(1, len(ids) + 1))


def file_names(paths: Sequence[Path], folder: Path | None = None) -> list[str]:
    """The paths relative to `folder`, with forward slashes; None is the folder that all of them share."""
    if not paths:
        return []
    absolute = [Path(os.path.abspath(path)) for path in paths]
    base = Path(os.path.abspath(folder)) if folder else Path(os.path.commonpath([path.parent for path in absolute]))
    return [path.relative_to(base).as_posix() for path in absolute]


def coco_truth(
    examples: Sequence[Example],
    classes: Sequence[str],
    category_ids: Sequence[int] | None = None,
    ids: Sequence[ImageId] | None = None,
) -> Truth:
    """The examples as a COCO ground-truth dictionary. An area is that of the source, or else width * height.

    category_ids: the number of each class; None is 1..C. ids: of the images; None is `image_numbers`.
    """
    numbers = image_numbers(examples) if ids is None else ids
    categories = categories_of(classes, category_ids)
    annotations: list[Annotation] = []
    for number, example in zip(numbers, examples, strict=True):
        areas = [math.nan] * len(example.boxes) if example.areas is None else example.areas.tolist()
        rows = zip(xywh(example.boxes), areas, example.classes.tolist(), example.crowd.tolist(), strict=True)
        for box, area, kind, crowd in rows:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": categories[kind - 1]["id"],
                    "bbox": box,
                    "area": box[2] * box[3] if math.isnan(area) else area,
                    "iscrowd": int(crowd),
                }
            )
    names = file_names([example.path for example in examples])
    images: list[Image] = [
        {"id": number, "file_name": name, "width": e.width, "height": e.height}
        for number, name, e in zip(numbers, names, examples, strict=True)
    ]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


@dataclass(frozen=True, eq=False)
class FlatDetections:
    """The detections of all images in arrays, in the order of the images.

    images: int64 [n], `image_numbers`. boxes: float32 [n, 4] yxyx. scores: float32 [n]. classes: int32 [n] in 1..C.
    """

    images: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(cls, examples: Sequence[Example], detections: Detections) -> "FlatDetections":
        """The detections by image id of a split."""
        parts = [detections.get(name, NOTHING) for name in Examples.of(examples).ids]
        images = np.repeat(np.array(image_numbers(examples), np.int64), [len(scores) for _, scores, _ in parts])
        boxes, scores, classes = (np.concatenate(part) for part in zip(*[*parts, NOTHING], strict=True))
        return cls(images, boxes, scores, classes)

    def results(self, categories: Collection[int] | None = None) -> list[Result]:
        """As COCO's list for an evaluator, in the same order, with ids from 1; None takes all categories."""
        chosen = slice(None) if categories is None else np.isin(self.classes, list(categories))
        images, scores, kinds = (part[chosen].tolist() for part in (self.images, self.scores, self.classes))
        return [
            {"id": i, "image_id": image, "category_id": kind, "bbox": box, "score": score, "area": box[2] * box[3],
             "iscrowd": 0}
            for i, (image, kind, box, score) in enumerate(
                zip(images, kinds, xywh(self.boxes[chosen]), scores, strict=True), 1
            )
        ]  # fmt: skip


def rows_of(
    image_id: ImageId,
    file_name: str,
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
    categories: Sequence[Category],
) -> list[Row]:
    """The detections of one image as rows of a file. found: boxes [n, 4] yxyx, scores [n], classes [n] in 1..C."""
    boxes, scores, classes = found
    return [
        {
            "image_id": image_id,
            "file_name": file_name,
            "category_id": categories[kind - 1]["id"],
            "category": categories[kind - 1]["name"],
            "bbox": box,
            "score": score,
        }
        for box, score, kind in zip(xywh(boxes), scores.tolist(), classes.tolist(), strict=True)
    ]


def truth_file(dataset: "DetectionDataset", split: str) -> Truth:
    """The ground truth of a split with the ids of its source, for a file."""
    examples = dataset.splits[split]
    return coco_truth(examples, dataset.classes, dataset.category_ids, image_ids(examples))


def results_file(dataset: "DetectionDataset", split: str, detections: Detections) -> list[Row]:
    """The detections of a split with the ids of its source, for a file that COCO's own evaluation reads."""
    examples = dataset.splits[split]
    categories = categories_of(dataset.classes, dataset.category_ids)
    places = zip(image_ids(examples), file_names([e.path for e in examples]), examples, strict=True)
    return [
        row
        for number, name, example in places
        for row in rows_of(number, name, detections.get(example.id, NOTHING), categories)
    ]


def remarks_file(dataset: "DetectionDataset", split: str, marked: Sequence[Marked]) -> Remarks:
    """Boxes to look at, in the given order, and only their images, in the order in which they come first."""
    whole = truth_file(dataset, split)
    annotations: list[Remark] = []
    for number, mark in enumerate(marked, 1):
        (box,) = xywh(mark.box)
        annotations.append(
            {
                "id": number,
                "image_id": whole["images"][mark.place]["id"],
                "category_id": whole["categories"][mark.kind - 1]["id"],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "score": mark.score,
                "attributes": {**mark.attributes, "score": round(mark.score, 4)},
            }
        )
    images = [whole["images"][place] for place in dict.fromkeys(mark.place for mark in marked)]
    categories = whole["categories"]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def xywh(boxes: np.ndarray) -> list[list[float]]:
    """[n, 4] yxyx to a list of [x, y, width, height], in float64 so that a box overlaps itself by exactly 1."""
    ymin, xmin, ymax, xmax = np.asarray(boxes, np.float64).reshape(-1, 4).T
    rows: list[list[float]] = np.stack([xmin, ymin, xmax - xmin, ymax - ymin], axis=1).tolist()
    return rows
