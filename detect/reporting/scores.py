"""Scores of a detector on splits, with their pictures."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.dataset import BACKGROUND, DetectionDataset
from detect.data.image_file import read_image
from detect.data.subset import evenly_spread
from detect.evaluation.coco import CocoEvaluator, Scores
from detect.evaluation.coco_json import results_file, truth_file
from detect.evaluation.confusion import confusion_matrix
from detect.evaluation.evaluators import DetectionEvaluator, traced
from detect.evaluation.interface import Detect
from detect.files import write_json
from detect.geometry.frame import Frame
from detect.reporting import pictures as draw
from detect.reporting.logger import RunLogger

log = logging.getLogger("detect")
SHOWN_SCORE = 0.3  # detections with a lower score are not drawn
SHOWN_IMAGES = 8
BATCH = 8


def score_splits(
    folder: Path, detect: Detect, frame: Frame, dataset: DetectionDataset, splits: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Scores a detector on splits, and writes the pictures and COCO results of each into `folder`.

    detect: images of the frame -> detections in pixels of it, as `DetectionEvaluator` takes it.
    """
    once = traced(detect)
    evaluators = {s: DetectionEvaluator(once, frame, dataset, s, BATCH) for s in splits}
    return {split: keep_scores(folder, split, dataset, *evaluator()) for split, evaluator in evaluators.items()}


def keep_scores(folder: Path, split: str, dataset: DetectionDataset, scores: Scores, found: CocoEvaluator) -> dict:
    """Logs a split's scores, writes its pictures and COCO results into `folder`, and returns the figures."""
    log.info("%s: %s", split, scores.table())
    draw.save(folder / f"{split}_confusion.png", confusion_picture(dataset, split, found.detections))
    draw.save(folder / f"{split}_pr_curves.png", draw.pr_figure(scores))
    sheet = draw.contact_sheet(truth_beside_predictions(dataset, split, found.detections), columns=2)
    draw.save(folder / f"{split}_predictions.png", sheet)
    write_json(folder / f"{split}_detections.json", results_file(dataset, split, found.detections), indent=None)
    write_json(folder / f"{split}_ground_truth.json", truth_file(dataset, split), indent=None)
    return scores.summary | {"per_class": scores.per_class}


def confusion_picture(dataset: DetectionDataset, split: str, detections: dict) -> np.ndarray:
    """The confusion matrix of a split, background first."""
    matrix = confusion_matrix(dataset.splits[split], detections, dataset.num_classes)
    return draw.confusion_figure(matrix, (BACKGROUND, *dataset.classes))


def truth_beside_predictions(dataset: DetectionDataset, split: str, detections: dict, width: int = 480) -> list:
    """Pictures of a fixed few images of a split: ground truth on the left, detections on the right."""
    examples = dataset.splits[split]
    pictures = []
    for example in evenly_spread(examples, SHOWN_IMAGES):
        image = read_image(example.path)
        boxes, scores, classes = detections[example.id]
        shown = scores >= SHOWN_SCORE
        truth = (example.boxes[~example.crowd], example.classes[~example.crowd])
        pictures.append(
            draw.side_by_side(image, truth, (boxes[shown], classes[shown], scores[shown]), dataset.classes, width)
        )
    return pictures


def show_batch(logger: RunLogger, path: Path, images, boxes=None, classes=None, names=()) -> None:
    """Saves the first augmented batch as the network sees it, as a picture at `path` and in TensorBoard."""
    if boxes is not None:
        rows = zip(images, boxes, classes, strict=True)
        images = [draw.draw_boxes(image, b[c > 0], c[c > 0], names=names) for image, b, c in rows]
    sheet = draw.contact_sheet(list(images), columns=4)
    draw.save(path, sheet)
    logger.images("first_batch", 0, sheet)
