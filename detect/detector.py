"""A trained detector as a Python object: `Detector.load(run_or_file)(images)`."""

import numbers
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from detect import loaders
from detect.config.trust import trusting
from detect.data import given_images
from detect.data.dataset import DetectionDataset
from detect.data.given_images import Images, pixels
from detect.errors import ConfigError, WeightsError, first_few
from detect.evaluation.coco import CocoEvaluator, Scores
from detect.evaluation.thresholds import FALLBACK, Shipped
from detect.files import expanded
from detect.geometry import tiles
from detect.loaders import Find, Found
from detect.reporting.progress import ProgressLine

BATCH = 8


@dataclass(frozen=True)
class Detections:
    """The detections of one image, best first.

    boxes: float32 [n, 4], [ymin, xmin, ymax, xmax] in pixels of that image; scores: float32 [n];
    classes: int32 [n] from 1; names: the n class names.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]


class Detector:
    """Finds objects in images of any size.

    classes: the class names, in order. category_ids: their numbers in the user's own files; None is 1..C.
    size: (height, width) of the network's input frame.
    find: a list of uint8 [H, W, 3] images -> (boxes [n, 4] in pixels of the image, scores [n], classes [n]) of each.
    architecture: the meta-architecture, if the detector comes from a run.
    threshold: the scores from which its detections are shown; None if nothing was stored.
    class_agnostic: whether boxes compete with those of all classes.
    """

    def __init__(
        self,
        find: Find,
        classes: Sequence[str],
        size: Sequence[int],
        name: str,
        architecture: Any = None,
        category_ids: Sequence[int] | None = None,
        threshold: Shipped | None = None,
        class_agnostic: bool = False,
    ):
        self.classes, self.size, self.name = tuple(classes), (int(size[0]), int(size[1])), name
        self.category_ids = tuple(category_ids or range(1, len(self.classes) + 1))
        self.architecture, self.threshold, self.class_agnostic = architecture, threshold, class_agnostic
        self._network, self._alone = find, threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | Path,
        stage: str | None = None,
        trust: Sequence[str] = (),
        class_agnostic: bool | None = None,
        threads: int | None = None,
    ) -> "Detector":
        """Loads the best checkpoint of a run folder, or an export: a SavedModel folder, a TFLite or ONNX file, an
        OpenVINO model (`.xml`), or the folder of one.

        stage: for a run: `detector`, the float stage, or `quantized`; None is the last stage of the run.
        trust: for a run: your own modules that its configuration names.
        class_agnostic: whether boxes compete with those of all classes; None is as trained or exported.
        threads: of an exported file; None is the number of cores. A SavedModel uses those of TensorFlow.
        Raises WeightsError for any other path, and for a run that has no best checkpoint yet; ConfigError if the
        suppression can't be changed, because it is inside a file.
        """
        whole = isinstance(threads, numbers.Integral) and not isinstance(threads, bool)
        if threads is not None and not (whole and int(threads) >= 1):
            raise ConfigError(f"threads={threads!r} is not legal: expected a whole number from 1, or None")
        if not isinstance(class_agnostic, bool | None):
            raise ConfigError(f"class_agnostic={class_agnostic} is not legal: expected True, False or None")
        with trusting(trust):
            return cls(**vars(loaders.load(expanded(path), stage, class_agnostic, threads)))

    def __call__(self, images: Images, score: float | str = 0.0, tile: int | str | None = None) -> list[Detections]:
        """images: one or several, of any sizes: paths, a folder, PIL images, uint8 arrays and tensors in RGB or grey.

        score: leaves out detections below it: 0 to 1, or `auto` or `per_class` (`shown`). tile: cuts large images into
        tiles of this side, or `auto` (`detect.geometry.tiles`), beside the whole image. Raises DataError, naming the
        image, for what is no image, and ConfigError for another score or tile.
        """
        _check_score(score)
        tiles.check(tile)
        images, found = given_images.listed(images), list[Detections]()
        count = BATCH if tile is None else 1  # large images take much memory
        for start in range(0, len(images), count):
            batch = [pixels(image, f"image {start + k}") for k, image in enumerate(images[start : start + count])]
            for boxes, scores, classes in self._found(batch, tile):
                if len(classes) and not 1 <= classes.min() <= classes.max() <= len(self.classes):
                    odd = {int(c) for c in classes} - set(range(1, len(self.classes) + 1))
                    raise WeightsError(f"{self.name}: it finds class {min(odd)}; legal are 1 to {len(self.classes)}")
                every = Detections(boxes, scores, classes, tuple(self.classes[c - 1] for c in classes))
                kept = np.flatnonzero(self.shown(every, score))
                names = tuple(every.names[k] for k in kept)
                found.append(Detections(boxes[kept], scores[kept], classes[kept], names))
        return found

    def shown(self, found: Detections, score: float | str) -> np.ndarray:
        """Which detections are shown, bool [n]. score: a number, `auto` for the threshold that was stored with the
        detector, or `per_class` for those of its classes; without one both are FALLBACK."""
        if not isinstance(score, str):
            return np.asarray(found.scores >= score)
        if self.threshold is None:
            return np.asarray(found.scores >= FALLBACK)
        return np.asarray(found.scores >= self.threshold.lowest(found.classes, score == "per_class"))

    def showing(self, score: float | str) -> str:
        """What `shown` does, for the console."""
        if not isinstance(score, str):
            return f"detections with a score of {score:g} or more"
        if self.threshold is None:
            return f"detections with a score of {FALLBACK:g} or more: no threshold was stored with {self.name}"
        origin, chosen = f"highest F1 on {self.threshold.split}", self.threshold.class_agnostic
        if chosen not in (None, self.class_agnostic):
            origin += f", chosen with class_agnostic={str(chosen).lower()}"
        if score == "auto":
            return f"detections with a score of {self.threshold.score:.3f} or more: {origin}"
        pairs = zip(self.classes, self.threshold.per_class, strict=True)
        told = first_few([f"{n} {self.threshold.score if s is None else s:.3f}" for n, s in pairs])
        return f"detections with a score of its class or more: {told}; {origin}"

    def calibrated(self) -> "Detector":
        """The same detector with probabilities in place of scores. Raises ConfigError if none were fitted."""
        stored = self.threshold
        if stored is None or stored.calibration is None:
            raise ConfigError(f"calibrated=true: no calibration was stored with {self.name}; legal is false")
        to_probability = stored.calibration

        def find(images: list[np.ndarray]) -> list[Found]:
            return [(boxes, to_probability(scores), kinds) for boxes, scores, kinds in self._find(images)]

        moved = [None if s is None else float(to_probability(np.array(s))) for s in (stored.score, *stored.per_class)]
        threshold = replace(stored, score=moved[0] or 0.0, per_class=tuple(moved[1:]), calibration=None)
        ids = self.category_ids
        about = (self.classes, self.size, self.name, self.architecture, ids, threshold, self.class_agnostic)
        return Detector(find, *about)

    def _find(self, images: list[np.ndarray]) -> list[Found]:
        """`find`, for one thread at a time: a network keeps the images of a call until it has its detections."""
        with self._alone:
            return self._network(images)

    def _found(self, images: list[np.ndarray], tile: int | str | None) -> list[Found]:
        if tile is None:
            return self._find(images)
        return [self._tiled(image, tiles.size_of(tile, image.shape, self.size)) for image in images]

    def _tiled(self, image: np.ndarray, size: tuple[int, int] | None) -> Found:
        """The detections of one image and of its tiles, joined."""
        if size is None:
            return self._find([image])[0]
        height, width = image.shape[:2]
        windows = [(0, 0, height, width), *tiles.places(height, width, size)]
        parts: list[Found] = []
        for start in range(0, len(windows), BATCH):
            crops = [np.ascontiguousarray(image[t:b, x:r]) for t, x, b, r in windows[start : start + BATCH]]
            parts += self._find(crops)
        return tiles.joined(parts, windows, self.class_agnostic)

    def evaluate(
        self, dataset: DetectionDataset, split: str, tile: int | str | None = None
    ) -> tuple[Scores, CocoEvaluator]:
        """Scores the detector on a split; returns the scores, and the evaluator with all detections.

        Classes are compared by name. Raises DataError if the detector does not know a class, and
        ConfigError if the split has no images.
        """
        examples = dataset.with_classes(self.classes).images(split)
        evaluator, progress = CocoEvaluator(examples, self.classes), ProgressLine("evaluate", len(examples), 30.0)
        try:
            for start in range(0, len(examples), BATCH):
                batch = examples[start : start + BATCH]
                for example, found in zip(batch, self([e.path for e in batch], tile=tile), strict=True):
                    evaluator.add(example.id, found.boxes, found.scores, found.classes)
                progress.update(start + len(batch), {})
        finally:  # the line hides the cursor of a terminal
            progress.close()
        return evaluator.result(), evaluator


def _check_score(score: object) -> None:
    """Raises ConfigError unless it is a share, `auto` or `per_class`."""
    share = isinstance(score, numbers.Real) and not isinstance(score, bool) and 0 <= float(score) <= 1
    if not share and score not in ("auto", "per_class"):
        raise ConfigError(f"score={score!r} is not legal: expected a number from 0 to 1, auto or per_class")
