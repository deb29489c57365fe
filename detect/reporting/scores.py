"""Scores of a detector on splits, with their pictures."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.dataset import BACKGROUND, DetectionDataset
from detect.data.examples import Example
from detect.data.image_file import read_image
from detect.data.subset import evenly_spread
from detect.evaluation.coco import CocoEvaluator, Scores
from detect.evaluation.coco_json import results_file, truth_file
from detect.evaluation.confusion import confusion_matrix
from detect.evaluation.error_split import error_split
from detect.evaluation.evaluators import Alone, DetectionEvaluator
from detect.evaluation.interface import Detect, Workers
from detect.evaluation.matching import NOTHING, Detections
from detect.evaluation.suspected_labels import CONFIDENT, SAME, image_faults
from detect.evaluation.thresholds import Shipped, Thresholds
from detect.files import write_json
from detect.geometry.frame import Frame
from detect.reporting import pictures as draw
from detect.reporting.error_figure import error_figure
from detect.reporting.f1_figure import f1_figure
from detect.reporting.logger import RunLogger
from detect.runs.folder import THRESHOLDS

log = logging.getLogger("detect")
SHOWN_SCORE = 0.3  # detections with a lower score are not drawn
SHOWN_IMAGES, SHOWN_OF_BATCH = 8, 64
Show = Callable[[str, np.ndarray], None]


def score_splits(
    folder: Path,
    detect: Detect,
    frame: Frame,
    dataset: DetectionDataset,
    splits: Sequence[str],
    batch_size: int,
    threads: int,
    chosen_on: str,
    workers: Workers | None = None,
    show: Show | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores a detector on splits, and writes the pictures and COCO results of each into `folder`, and the thresholds.

    detect: images of the frame -> detections in pixels of it, as `DetectionEvaluator` takes it. threads, workers: as
        there.
    chosen_on: the split of `splits` that thresholds are chosen on. show: gets some pictures, with a name for each.
    """
    workers = workers or Alone()
    once = workers.inference(detect)
    found = {s: DetectionEvaluator(once, frame, dataset, s, batch_size, threads, workers)() for s in splits}
    thresholds = Thresholds.choose({split: scores.rankings for split, (scores, _) in found.items()}, chosen_on)
    shipped = thresholds.shipped()
    figures = {split: keep_scores(folder, split, dataset, *pair, shipped, show) for split, pair in found.items()}
    for line in thresholds.lines():
        log.info(line)
    write_json(folder / THRESHOLDS, thresholds.to_dict())
    return figures


def keep_scores(
    folder: Path,
    split: str,
    dataset: DetectionDataset,
    scores: Scores,
    found: CocoEvaluator,
    shipped: Shipped | None = None,
    show: Show | None = None,
) -> dict[str, Any]:
    """Logs a split's scores, writes its pictures and COCO results into `folder`, and returns the figures.

    shipped: the thresholds that the detector carries, for the pictures. show: as in `score_splits`.
    The figures are COCO's, those of each class in `per_class`, and those of `error_split` in `errors`.
    """
    examples = dataset.splits[split]
    errors = error_split(examples, found.detections, dataset.classes)
    log.info("%s: %s", split, scores.table())
    log.info("%s: %s", split, errors.table())
    write_json(folder / f"{split}_detections.json", results_file(dataset, split, found.detections), indent=None)
    write_json(folder / f"{split}_ground_truth.json", truth_file(dataset, split), indent=None)
    level = shipped.score if shipped else CONFIDENT
    draw.save(folder / f"{split}_confusion.png", confusion_picture(dataset, split, found.detections, level))
    draw.save(folder / f"{split}_pr_curves.png", draw.pr_figure(scores))
    for name, picture in (("f1_curves", f1_figure(scores.rankings, shipped)), ("errors", error_figure(errors))):
        draw.save(folder / f"{split}_{name}.png", picture)
        if show:
            show(f"{split}_{name}", picture)
    shown = evenly_spread(examples, SHOWN_IMAGES)
    names = [example.path.name for example in shown]
    sheet = draw.contact_sheet(beside(shown, found.detections, dataset.classes), 2, captions=names)
    draw.save(folder / f"{split}_predictions.png", sheet)
    keep_worst(folder / f"{split}_worst.png", examples, found.detections, dataset.classes)
    return scores.summary | {"per_class": scores.per_class, "errors": errors.to_dict()}


def confusion_picture(
    dataset: DetectionDataset, split: str, detections: Detections, level: float = CONFIDENT
) -> np.ndarray:
    """The confusion matrix of a split, background first. level: the lowest score of a detection that counts."""
    matrix = confusion_matrix(dataset.splits[split], detections, dataset.num_classes, SAME, level)
    told = f"score at least {level:.2f}, IoU at least {SAME:.2f}"
    return draw.confusion_figure(matrix, (BACKGROUND, *dataset.classes), told)


def truth_beside_predictions(dataset: DetectionDataset, split: str, detections: Detections) -> list[np.ndarray]:
    """Pictures of a fixed few images of a split: ground truth on the left, detections on the right."""
    return beside(evenly_spread(dataset.splits[split], SHOWN_IMAGES), detections, dataset.classes)


def beside(examples: Sequence[Example], detections: Detections, classes: Sequence[str]) -> list[np.ndarray]:
    """A picture of each example: ground truth on the left, detections on the right."""
    pictures = []
    for example in examples:
        image = read_image(example.path)
        boxes, scores, kinds = detections.get(example.id, NOTHING)
        shown = scores >= SHOWN_SCORE
        truth = (example.boxes[~example.crowd], example.classes[~example.crowd])
        found = (boxes[shown], kinds[shown], scores[shown])
        pictures.append(draw.side_by_side(image, truth, found, classes))
    return pictures


def keep_worst(path: Path, examples: Sequence[Example], detections: Detections, classes: Sequence[str]) -> None:
    """Writes a sheet of the images with most faults, the worst first; none if no image has one."""
    faults = {e.id: image_faults(e, detections.get(e.id, NOTHING)) for e in examples}
    ranked = sorted((e for e in examples if faults[e.id].weight), key=lambda e: -faults[e.id].weight)[:SHOWN_IMAGES]
    if ranked:
        captions = [f"{e.path.name}: {faults[e.id]}" for e in ranked]
        draw.save(path, draw.contact_sheet(beside(ranked, detections, classes), 2, captions=captions))
    else:
        path.unlink(missing_ok=True)


def show_batch(
    logger: RunLogger, path: Path, batch: Mapping[str, np.ndarray], captions: Sequence[str], names: Sequence[str] = ()
) -> None:
    """Saves the first augmented batch as the network sees it, as a picture at `path` and in TensorBoard; of a large one
    the first SHOWN_OF_BATCH images.

    batch: `image`, and of a detector `boxes` and `classes` (`detect.data.interface.Stream`).
    """
    images = list(batch["image"][:SHOWN_OF_BATCH])
    if "boxes" in batch:
        rows = zip(images, batch["boxes"], batch["classes"], strict=False)
        images = [draw.draw_boxes(image, b[c > 0], c[c > 0], names=names) for image, b, c in rows]
    sheet = draw.contact_sheet(images, 4, captions=captions[:SHOWN_OF_BATCH])
    draw.save(path, sheet)
    logger.images("first_batch", 0, sheet)
