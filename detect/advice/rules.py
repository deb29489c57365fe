"""Rules from a data set to input size, anchors and steps, each with the source of its number; and the experiment file
that holds them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from detect import files
from detect.config import check, grammar
from detect.data.dataset import DetectionDataset
from detect.data.examples import Examples
from detect.data.statistics import Coverage, coverage, in_frame
from detect.errors import printable
from detect.geometry.boxes import area
from detect.geometry.frame import Frame
from detect.modeling.interface import Detector

BY = "by detect advise"
SMALL_SIDE = 16.0
"""Pixels of the frame: at least nine tenths of the boxes of each class should have this side, two cells at stride 8."""
MULTIPLE, LEAST, MOST = 32, 192, 512
EPOCHS, LEAST_STEPS, MOST_STEPS = 40, 800, 20_000
"""experiments/bccd_ssd_mobilenet_v1 gained nothing after 30 epochs; the microcontrollers' study ran 29."""
UNMATCHED = 0.05
"""If a larger share of the boxes of a class has no anchor, the stock anchors are replaced: AP counts classes."""
FEW = 20
"""A class with fewer boxes decides neither the frame nor the anchors, unless all classes have so few."""
RARE = 0.2
"""A class is reported if it has less than this share of the boxes of the most frequent class."""


def frame_size(dataset: DetectionDataset) -> tuple[int, int]:
    """(height, width) with the shape of the median image, as large as SMALL_SIDE needs, not larger than the image."""
    train = Examples.of(dataset.splits["train"]).learned()
    width, height = map(float, np.median(train.sizes, axis=0))
    shares = np.sqrt(area(train.boxes) / train.box_sizes().prod(axis=1))
    counts = np.bincount(train.classes)
    deciding = np.flatnonzero(counts >= _fewest(counts.tolist()))
    small = min(float(np.quantile(shares[train.classes == c], 0.1)) for c in deciding)
    wanted = min(SMALL_SIDE / small, math.sqrt(height * width))
    wanted = min(max(wanted, LEAST), MOST)
    shape = min(max(width / height, 0.5), 2.0)
    return _rounded(wanted / math.sqrt(shape)), _rounded(wanted * math.sqrt(shape))


def _fewest(counts: Sequence[int]) -> int:
    """The least number of boxes with which a class decides. counts: of the boxes of each class."""
    return max(1, min(FEW, max(counts)))


def _rounded(side: float) -> int:
    return max(MULTIPLE * 3, MULTIPLE * round(side / MULTIPLE))


def steps(images: int, batch_size: int) -> int:
    """The steps of the detector: EPOCHS epochs, within bounds, rounded to fifties."""
    return 50 * round(min(max(EPOCHS * images / batch_size, LEAST_STEPS), MOST_STEPS) / 50)


def imbalance(dataset: DetectionDataset) -> list[str]:
    """A line for each class that has far fewer training boxes than the most frequent one."""
    labels = Examples.of(dataset.splits["train"]).learned().classes
    counts = np.bincount(labels, minlength=dataset.num_classes + 1)[1:]
    most = dataset.classes[int(counts.argmax())]
    return [
        f"rare: {printable(name)} has {count} boxes, {printable(most)} {counts.max()}"
        for name, count in zip(dataset.classes, counts.tolist(), strict=True)
        if count < RARE * counts.max()
    ]


def covered(dataset: DetectionDataset, detector: Detector) -> Coverage:
    """The training boxes that a detector would not learn."""
    boxes, classes = _in_frame(dataset, detector)
    return coverage(boxes, classes, dataset.classes, detector.anchors, unmatched=detector.unmatched(boxes))


def worst_class(found: Coverage) -> str | None:
    """The class of which the largest share of boxes has no anchor, if that share is above UNMATCHED; else None."""
    share, worst = _worst(found)
    return worst if share > UNMATCHED else None


def covers_more(found: Coverage, other: Coverage) -> bool:
    """Whether the largest share of a class without an anchor is smaller than in `other`; or equal, with fewer boxes."""
    return (_worst(found)[0], found.unmatched) < (_worst(other)[0], other.unmatched)


def _worst(found: Coverage) -> tuple[float, str | None]:
    """The largest share of the boxes of a class that have no anchor, and that class; (0, None) without boxes."""
    fewest = _fewest([count for _, count in found.by_class.values()])
    none: tuple[float, str | None] = (0.0, None)
    shares = [(missed / count, name) for name, (missed, count) in found.by_class.items() if count >= fewest]
    return max([none, *shares], key=lambda one: one[0])


def fitted_anchors(dataset: DetectionDataset, detector: Detector) -> tuple[dict[str, Any], Coverage] | None:
    """`detector.anchors` fitted to the boxes, and the boxes that they miss; None if there is nothing to fit."""
    boxes, classes = _in_frame(dataset, detector)
    shapes = [tuple(tensor.shape[1:3]) for tensor in detector.maps.values()]
    suited = detector.anchor_generator.fitted(boxes, shapes, detector.size)
    if suited is None:
        return None
    values, generator = suited
    return values, coverage(boxes, classes, dataset.classes, generator(shapes, detector.size))


def _in_frame(dataset: DetectionDataset, detector: Detector) -> tuple[np.ndarray, np.ndarray]:
    return in_frame(Examples.of(dataset.splits["train"]), Frame(detector.size, detector.resize))


def experiment_text(head: Sequence[str], choices: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """An experiment file: comment lines, the options of groups that it chooses, and the values that it sets."""
    defaults = [*({f"override /{group}": option} for group, option in choices.items()), "_self_"]
    body = yaml.safe_dump({"defaults": defaults}, sort_keys=False)
    body += yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None, width=116)
    return files.experiment_text(head, body)


def place(folder: Path, name: str) -> Path:
    """The file of an experiment. Raises ConfigError if one is there that a user has written or changed, and for the
    name of a packaged one."""
    check.refuse_packaged_experiment(grammar.demand_text("name", name))
    path = folder / "experiment" / f"{name}.yaml"
    files.refuse_written_by_hand(path, BY)
    return path


def write_experiment(folder: Path, name: str, text: str) -> Path:
    """Writes `FOLDER/experiment/NAME.yaml`; with `--config-dir FOLDER` it is `experiment=NAME`."""
    path = place(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, text)
    return path
