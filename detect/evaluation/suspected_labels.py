"""Labels of a data set that a detector contradicts: they may be wrong, and a person should look at them first.

This follows the idea of Northcutt et al. 2021 (Confident Learning): a label is suspected where a confident model
disagrees with it. The rules are those of boxes; `suspects` states them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.image_file import read_image
from detect.data.similar import DISTANCE, nearest_twins
from detect.evaluation.matching import NOTHING, Detections, in_crowd, paired
from detect.geometry.boxes import iou

CONFIDENT = 0.5
"""The lowest score of a detection that speaks against a label."""
FAINT = 0.1
"""The lowest score of a detection that finds a box."""
SAME = 0.5
"""The lowest IoU of two boxes of the same object."""
APART = 0.1
"""Below this IoU with every box, a detection belongs to no box."""
SMALL, LEVELS = 128, 12.0
"""Two near-duplicates look alike in a box if grey copies of this side differ there by so many levels of 255 at most."""

REASONS = ("no box", "never found", "another class", "near-duplicate differs")
"""The kinds of suspects; `suspects` explains them."""


@dataclass(frozen=True)
class Suspect:
    """A suspected label.

    place: of the image in the split. box: float32 [4] yxyx in pixels of the image file. reason: one of REASONS.
    label: the class 1..C in the annotations, 0 if there is no box. found: the class that the detector, or the
    near-duplicate, has instead; 0 for none. score: how suspicious it is, 0..1. twin: place of the near-duplicate.
    """

    place: int
    box: np.ndarray
    reason: str
    label: int
    found: int
    score: float
    twin: int | None = None


@dataclass(frozen=True)
class Faults:
    """What a detector does wrong in one image: missed boxes, detections without a box, and boxes of another class.

    weight: the missed boxes, and the scores of the wrong detections.
    """

    missed: int
    extra: int
    confused: int
    weight: float

    @property
    def count(self) -> int:
        """How many there are."""
        return self.missed + self.extra + self.confused

    def __str__(self) -> str:
        told = ((self.missed, "missed"), (self.extra, "without a box"), (self.confused, "of another class"))
        return ", ".join(f"{count} {what}" for count, what in told if count)


def suspects(dataset: DetectionDataset, split: str, detections: Detections) -> list[Suspect]:
    """The suspected labels of a split, the most suspicious first. Crowd regions are neither suspected nor compared.

    "no box": a detection with a score of at least CONFIDENT and an IoU below APART with every box. Its score counts.
    "never found": no detection of any class with an IoU of at least SAME has a score of at least FAINT. The score is
        the share of the boxes of the class that are found: what a good detector misses is more suspicious.
    "another class": the best detection with an IoU of at least SAME has another class and a score of at least
        CONFIDENT. The score is that score, less the best score of the label's own class there.
    "near-duplicate differs": the most similar image of the split looks alike in the box (LEVELS), but has no box of the
        same class there (IoU at least SAME, in shares of the sides). The score is 1 for equal hashes and .5 at the
        limit of `detect.data.similar`.
    """
    examples = dataset.splits[split]
    return _ordered([*contradicted(examples, detections), *_of_twins(examples)])


def contradicted(examples: Sequence[Example], detections: Detections) -> list[Suspect]:
    """Those of `suspects` that the detections show, without near-duplicates: no image is read."""
    listed = [s for k, e in enumerate(examples) for s in _of_image(k, e, detections.get(e.id, NOTHING))]
    return _ordered([*listed, *_never_found(examples, detections)])


def _ordered(listed: Sequence[Suspect]) -> list[Suspect]:
    return sorted(listed, key=lambda s: (-s.score, REASONS.index(s.reason), s.place))


def image_faults(
    example: Example, found: tuple[np.ndarray, np.ndarray, np.ndarray], level: float = CONFIDENT
) -> Faults:
    """The faults of detections (boxes, scores, classes) with a score of at least `level`, by `paired`."""
    scores, classes, truth, missed = paired(example, found, SAME, level)
    extra, confused = truth == 0, (truth > 0) & (truth != classes)
    weight = len(missed) + float(scores[confused | extra].sum())
    return Faults(len(missed), int(extra.sum()), int(confused.sum()), weight)


def _of_image(place: int, example: Example, found: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[Suspect]:
    """Detections without a box, and boxes of another class."""
    order = np.argsort(-found[1], kind="stable")
    boxes, scores, classes = (part[order] for part in found)
    shared, real = iou(boxes, example.boxes), ~example.crowd
    strange = (scores >= CONFIDENT) & (shared[:, real].max(axis=1, initial=0) < APART)
    strange &= ~in_crowd(boxes, example.boxes[~real], SAME)
    kept: list[int] = []
    for k in np.flatnonzero(strange):
        if not (iou(boxes[k : k + 1], boxes[kept]) >= SAME).any():  # one object may have two classes
            kept.append(int(k))
    listed = [Suspect(place, boxes[k], "no box", 0, int(classes[k]), float(scores[k])) for k in kept]
    for i in np.flatnonzero(real):
        here = np.flatnonzero(shared[:, i] >= SAME)
        label = int(example.classes[i])
        if len(here) and scores[here[0]] >= CONFIDENT and classes[here[0]] != label:
            own = float(scores[here[classes[here] == label]].max(initial=0))
            score = float(scores[here[0]]) - own
            listed.append(Suspect(place, example.boxes[i], "another class", label, int(classes[here[0]]), score))
    return listed


def _never_found(examples: Sequence[Example], detections: Detections) -> list[Suspect]:
    missed: list[tuple[int, np.ndarray, int]] = []
    found: dict[int, list[bool]] = defaultdict(list)
    for place, example in enumerate(examples):
        boxes, scores, _ = detections.get(example.id, NOTHING)
        seen = iou(example.boxes, boxes[scores >= FAINT]).max(axis=1, initial=0) >= SAME
        for i in np.flatnonzero(~example.crowd).tolist():
            label = int(example.classes[i])
            found[label].append(bool(seen[i]))
            if not seen[i]:
                missed.append((place, example.boxes[i], label))
    share = {label: float(np.mean(row)) for label, row in found.items()}
    return [Suspect(place, box, "never found", label, 0, share[label]) for place, box, label in missed]


def _of_twins(examples: Sequence[Example]) -> list[Suspect]:
    """The boxes that differ between an image and the one that is most similar to it."""
    listed = []
    for place, (twin, bits) in sorted(nearest_twins([e.path for e in examples]).items()):
        mine, theirs = examples[place], examples[twin]
        shared = iou(_thousandths(mine), _thousandths(theirs))
        differ: list[int] = []
        for i in np.flatnonzero(~mine.crowd).tolist():
            rivals = theirs.crowd | (theirs.classes == mine.classes[i])
            if shared[i, rivals].max(initial=0) < SAME:
                differ.append(i)
        if not differ:
            continue
        here, there = _small(mine), _small(theirs)
        for i in differ:
            over = np.where(theirs.crowd, 0, shared[i])
            other = int(theirs.classes[over.argmax()]) if over.max(initial=0) >= SAME else 0
            if _alike(here, there, _thousandths(mine)[i] / 1000):
                score = 1 - bits / (2 * DISTANCE)
                reason = "near-duplicate differs"
                listed.append(Suspect(place, mine.boxes[i], reason, int(mine.classes[i]), other, score, twin))
    return listed


def _small(example: Example) -> np.ndarray:
    """The image in grey, float32 [SMALL, SMALL]."""
    grey = cv2.cvtColor(read_image(example.path), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (SMALL, SMALL), interpolation=cv2.INTER_AREA).astype(np.float32)


def _alike(first: np.ndarray, second: np.ndarray, box: np.ndarray) -> bool:
    """Whether two images [SMALL, SMALL] look alike in a box [4] yxyx in shares of the sides.

    In two pictures of one scene, an object that has moved is labelled rightly in both.
    """
    top, left = np.floor(box[:2] * SMALL).astype(int).clip(0, SMALL - 1)
    bottom, right = np.ceil(box[2:] * SMALL).astype(int).clip(1, SMALL)
    part = np.s_[top : max(bottom, top + 1), left : max(right, left + 1)]
    return float(np.abs(first[part] - second[part]).mean()) <= LEVELS


def _thousandths(example: Example) -> np.ndarray:
    """Boxes [n, 4] in thousandths of the image's sides: near-duplicates may have different sizes."""
    return example.boxes / np.array([example.height, example.width] * 2, np.float32) * np.float32(1000)
