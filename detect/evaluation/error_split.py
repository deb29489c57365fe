"""Where AP is lost: TIDE's split of a detector's errors (Bolya et al. 2020, A General Toolbox for Identifying Object
Detection Errors).

Each detection that is no hit at IoU .5 has one kind of error; `dAP` of a kind is what AP50 gains if its errors alone
are corrected. The gains of the kinds do not add up: the correction of one error may hide another.

    classification  IoU of at least .5 with a box of another class: the detection gets this class
    localization    IoU of .1 to .5 with a box of its class: the detection gets this box
    both            neither class nor place is right: the detection is removed
    duplicate       IoU of at least .5 with a box that a better detection has: it is removed
    background      IoU of at most .1 with all boxes: it is removed
    missed          a box without a hit that no correction above finds: the box is removed

Of several corrections of one box, that of the highest score counts, and the others are removed. `false positives` is
the gain if all detections without a hit came last, `false negatives` if all boxes without a hit were removed.
The figures equal those of the authors' program tidecv, with one difference: a class without a box does not count, as in
COCO. Like it, an image has at most 100 detections of all classes together.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.examples import Example
from detect.errors import shortened
from detect.evaluation.average_precision import average_precision
from detect.evaluation.matching import MOST_DETECTIONS, NOTHING, Detections, greedy_match, in_crowd
from detect.geometry.boxes import area, iou

KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")
SIZES = ("small", "medium", "large")
EDGES = (32.0**2, 96.0**2)  # square pixels: small is up to the first, large is above the second
SAME, APART = 0.5, 0.1
TIDE_RECALLS = np.arange(101) / 100
"""The recalls of tidecv. COCO's are multiples of .01 that are rounded otherwise: for 20 boxes, a recall of .35 reaches
the 36th of these and not that of COCO, so that AP50 may differ in the third digit."""
HIT, WRONG, IGNORED = 1, 0, -1
NOBODY = np.zeros(0, np.intp)


@dataclass(frozen=True)
class ErrorSplit:
    """The errors of a detector on a split. Gains are differences of AP50 in 0..1, all others are counts.

    ap50: without a correction; None if there is nothing to score, and then all gains are 0.
    gains, counts: by KINDS. false_positives, false_negatives: gains.
    by_size: {size: {kind: gain}}; by_class: {name: {kind: gain}}: if only the errors at objects of this size or class
    are corrected. Without an object, at `both`, `duplicate` and `background`, those of the detection count.
    counts_by_class: {name: {kind: count}}.
    """

    ap50: float | None
    gains: dict[str, float]
    counts: dict[str, int]
    false_positives: float
    false_negatives: float
    by_size: dict[str, dict[str, float]]
    by_class: dict[str, dict[str, float]]
    counts_by_class: dict[str, dict[str, int]]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))

    def table(self, most_classes: int = 5) -> str:
        """As text of at most 80 columns, with the classes that lose most."""
        heads = ("all", *SIZES)
        lines = ["AP50 that is lost by errors, with their number; by size of the object"]
        lines.append(f"  {'':<16}{'errors':>8}" + "".join(f"{head:>9}" for head in heads))
        for kind in KINDS:
            gains = [self.gains[kind], *(self.by_size[size][kind] for size in SIZES)]
            lines.append(f"  {kind:<16}{self.counts[kind]:>8}" + "".join(f"{gain:>9.3f}" for gain in gains))
        lines.append(f"  {'false positives':<24}{self.false_positives:>9.3f}")
        lines.append(f"  {'false negatives':<24}{self.false_negatives:>9.3f}")
        worst = sorted(self.by_class, key=lambda name: -max(self.by_class[name].values()))[:most_classes]
        for name in worst:
            kind = max(KINDS, key=lambda kind: self.by_class[name][kind])
            if (gain := self.by_class[name][kind]) > 0:
                lines.append(f"  class {shortened(name, 40)}: {kind} {gain:.3f}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Errors:
    """All detections in arrays [n], and all boxes [m], of the images in order.

    kind: of each detection, a place in KINDS, -1 for a hit. state: HIT, WRONG or IGNORED. target: the box of the
    correction, -1 for none. corrected: whether the correction makes a hit. found: bool [m], whether a box has a hit.
    missed: bool [m], of the kind `missed`.
    """

    scores: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    kind: np.ndarray
    state: np.ndarray
    target: np.ndarray
    corrected: np.ndarray
    box_classes: np.ndarray
    box_areas: np.ndarray
    found: np.ndarray
    missed: np.ndarray

    @property
    def object_classes(self) -> np.ndarray:
        """The class of the object that each detection's error is at: of its box if it has one."""
        return np.where(self.target >= 0, self._of_target(self.box_classes), self.classes)

    @property
    def object_areas(self) -> np.ndarray:
        return np.where(self.target >= 0, self._of_target(self.box_areas), self.areas)

    def _of_target(self, values: np.ndarray) -> np.ndarray:
        if not len(values):
            return np.zeros(len(self.target), values.dtype)
        picked: np.ndarray = values[np.maximum(self.target, 0)]
        return picked


def error_split(examples: Sequence[Example], detections: Detections, classes: Sequence[str]) -> ErrorSplit:
    """Splits the errors of detections by image id on the images of a split. classes: names of 1..C."""
    errors = _gathered([_of_image(example, detections.get(example.id, NOTHING)) for example in examples])
    ap = _Ap(errors, len(classes))

    def split(those: np.ndarray, boxes: np.ndarray) -> tuple[dict[str, float], dict[str, int]]:
        """Gains and counts of some detections and some boxes, which are places in the arrays of `errors`."""
        of_kind = [those[errors.kind[those] == k] for k in range(len(KINDS) - 1)]
        missed = boxes[errors.missed[boxes]]
        gains = [*(ap.gain(part, NOBODY) for part in of_kind), ap.gain(NOBODY, missed)]
        counts = [*map(len, of_kind), len(missed)]
        return dict(zip(KINDS, gains, strict=True)), dict(zip(KINDS, counts, strict=True))

    of_size, boxes_of_size = (np.digitize(a, EDGES, right=True) for a in (errors.object_areas, errors.box_areas))
    sizes = [split(np.flatnonzero(of_size == k), np.flatnonzero(boxes_of_size == k)) for k in range(len(SIZES))]
    kinds = (_by_class(labels, len(classes)) for labels in (ap.object_classes, errors.box_classes))
    named = dict(zip(classes, (split(*parts) for parts in zip(*kinds, strict=True)), strict=True))
    gains, counts = split(np.arange(len(errors.kind)), np.arange(len(errors.missed)))
    return ErrorSplit(
        ap50=ap.mean(ap.base),
        gains=gains,
        counts=counts,
        false_positives=ap.without_false_positives(),
        false_negatives=ap.without_false_negatives(),
        by_size={size: gains for size, (gains, _) in zip(SIZES, sizes, strict=True)},
        by_class={name: gains for name, (gains, _) in named.items()},
        counts_by_class={name: counts for name, (_, counts) in named.items()},
    )


def _by_class(classes: np.ndarray, count: int) -> list[np.ndarray]:
    """The places of each of the classes 1..count in an array, in order."""
    order = np.argsort(classes, kind="stable")
    edges = np.searchsorted(classes[order], np.arange(1, count + 2))
    return [order[first:last] for first, last in itertools.pairwise(edges)]


class _Ap:
    """AP50 of each class with some errors corrected. Only classes that it touches are ranked again."""

    def __init__(self, errors: _Errors, classes: int):
        self.errors, self.hit, self.object_classes = errors, errors.state == HIT, errors.object_classes
        self.boxes = np.bincount(errors.box_classes, minlength=classes + 1)
        # As in tidecv: of equal scores, errors come before hits in an AP with corrections, and images in order in AP50.
        order = np.lexsort((self.hit, -errors.scores))
        self.rank = np.argsort(order)
        as_found, self.ranked = (self._ranked(o, classes) for o in (np.argsort(-errors.scores, kind="stable"), order))
        self.base, self.untouched = (self._of_classes(ranked, self.boxes) for ranked in (as_found, self.ranked))

    def mean(self, per_class: dict[int, float]) -> float | None:
        return float(np.mean(list(per_class.values()))) if per_class else None

    def gain(self, those: np.ndarray, boxes: np.ndarray) -> float:
        """If the errors of some detections are corrected, and some missed boxes removed. Both are given by places."""
        e = self.errors
        turned = those[e.corrected[those]]
        into = self.object_classes[turned]
        corrected, removed = np.zeros((2, len(e.kind)), bool)
        corrected[turned], removed[those] = True, True
        left = self.boxes - np.bincount(e.box_classes[boxes], minlength=len(self.boxes))
        touched = np.unique(np.concatenate([e.classes[those], into, e.box_classes[boxes]]))
        ranked = {}
        for k in touched[self.boxes[touched] > 0].tolist():
            before = self.ranked[k]
            members = np.concatenate([before[~removed[before]], turned[into == k]])
            ranked[k] = members[np.argsort(self.rank[members])]
        return max(self._difference(self._of_classes(ranked, left, corrected)), 0.0)

    def without_false_positives(self) -> float:
        first = np.bincount(self.errors.classes[self.hit], minlength=len(self.boxes))
        return self._difference({k: _ap(np.ones(first[k], bool), int(self.boxes[k])) for k in self.base})

    def without_false_negatives(self) -> float:
        e = self.errors
        left = np.bincount(e.box_classes[e.found], minlength=len(self.boxes))
        return self._difference(self._of_classes(self.ranked, left))

    def _difference(self, after: dict[int, float]) -> float:
        whole = [value for value in (self.untouched | after).values() if not np.isnan(value)]
        return float(np.mean(whole)) - float(np.mean(list(self.base.values()))) if whole else 0.0

    def _ranked(self, order: np.ndarray, classes: int) -> dict[int, np.ndarray]:
        """The places of the detections of each class that count, in an order of all."""
        order = order[self.errors.state[order] != IGNORED]
        return {k: order[places] for k, places in enumerate(_by_class(self.errors.classes[order], classes), 1)}

    def _of_classes(
        self, ranked: Mapping[int, np.ndarray], boxes: np.ndarray, corrected: np.ndarray | None = None
    ) -> dict[int, float]:
        """AP of the classes that have boxes in the ground truth; NaN if neither boxes nor detections are left.

        ranked: the places of the detections of each class, the best first. corrected: bool [n], hits besides.
        """
        hits = self.hit if corrected is None else self.hit | corrected
        return {k: _ap(hits[places], int(boxes[k])) for k, places in ranked.items() if self.boxes[k]}


def _ap(hits: np.ndarray, boxes: int) -> float:
    if not boxes:
        return 0.0 if len(hits) else np.nan
    return average_precision(hits, boxes, TIDE_RECALLS)


def _of_image(example: Example, found: tuple[np.ndarray, np.ndarray, np.ndarray]) -> _Errors:
    """The errors of one image; boxes count from 0."""
    order = np.argsort(-found[1], kind="stable")[:MOST_DETECTIONS]
    boxes, scores, classes = (part[order] for part in found)
    real = ~example.crowd
    truth, labels = example.boxes[real], example.classes[real].astype(int)
    shared = iou(boxes, truth)
    same = classes[:, None] == labels
    match = greedy_match(shared * same, SAME)
    hit = match >= 0
    used = np.zeros(len(truth), bool)
    used[match[hit]] = True
    in_region = in_crowd(boxes, example.boxes[~real], SAME, classes[:, None] == example.classes[~real])
    state = np.where(hit, HIT, np.where(in_region, IGNORED, WRONG))
    kind, target = _kinds(shared, same, used, hit)
    corrected, missed = _corrections(target, used)
    told = np.full(len(truth), np.nan) if example.areas is None else example.areas[real]
    sizes = np.where(np.isnan(told), area(truth), told)
    return _Errors(
        scores, classes.astype(int), area(boxes), kind, state, target, corrected, labels, sizes, used, missed
    )


def _kinds(shared: np.ndarray, same: np.ndarray, used: np.ndarray, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kind of each detection, a place in KINDS or -1, and the box of a correction, or -1."""
    kind, target = np.full(len(hit), 2), np.full(len(hit), -1)
    if not shared.shape[1]:
        return np.full(len(hit), 4), target
    own, other = shared * same, shared * ~same
    nearest, mistaken = own.argmax(axis=1), other.argmax(axis=1)
    best_own, best_other = own.max(axis=1), other.max(axis=1)
    background = shared.max(axis=1) <= APART
    duplicate = (own * used).max(axis=1) >= SAME
    classification = best_other >= SAME
    localization = (best_own >= APART) & (best_own <= SAME)
    kind[background] = 4
    kind[duplicate] = 3
    kind[classification], target[classification] = 0, mistaken[classification]
    kind[localization], target[localization] = 1, nearest[localization]
    kind[hit], target[hit] = -1, -1
    return kind, target


def _corrections(target: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections [n], best score first, become hits if they are corrected, and which boxes [m] stay missed."""
    corrected, missed = np.zeros(len(target), bool), ~used
    for k in np.flatnonzero(target >= 0):
        corrected[k] = missed[target[k]]
        missed[target[k]] = False
    return corrected, missed


def _gathered(parts: Sequence[_Errors]) -> _Errors:
    """The errors of all images in one."""
    nobody = Example(Path(), 1, 1, NOTHING[0], NOTHING[2], np.zeros(0, bool), "")
    nothing = _of_image(nobody, NOTHING)
    start, moved = 0, []
    for part in parts:
        moved.append(np.where(part.target >= 0, part.target + start, -1))
        start += len(part.missed)
    whole = [nothing, *parts]
    columns = {name: np.concatenate([getattr(part, name) for part in whole]) for name in _Errors.__dataclass_fields__}
    return _Errors(**columns | {"target": np.concatenate([nothing.target, *moved])})
