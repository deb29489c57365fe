"""The score from which detections are shown: chosen where F1 is highest, and stored with a run and its files.

Precision is the share of detections that are right at IoU .5, recall the share of boxes that are found, and F1 their
harmonic mean, 2 TP / (2 TP + FP + FN) (van Rijsbergen 1979). They are exact at every score: nothing is smoothed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from detect.evaluation.calibration import Calibration
from detect.evaluation.matching import Ranking

FALLBACK = 0.3
"""The lowest score that is shown if nothing was stored."""


@dataclass(frozen=True)
class Point:
    """What detections with a score of at least `score` reach. All are in 0..1."""

    score: float
    f1: float
    precision: float
    recall: float

    def __str__(self) -> str:
        return f"F1 {self.f1:.3f}, precision {self.precision:.3f}, recall {self.recall:.3f}"


@dataclass(frozen=True)
class Curve:
    """F1, precision and recall, float64 [n] each, from each of the n different `scores`, the highest first."""

    scores: np.ndarray
    f1: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    @classmethod
    def of(cls, ranking: Ranking) -> "Curve":
        """The curve of a class, or of all classes together (`pooled`)."""
        last = np.flatnonzero(np.diff(ranking.scores, append=-1.0))  # equal scores are shown or left out together
        true, shown = np.cumsum(ranking.hits)[last].astype(float), last + 1.0
        boxes = max(ranking.boxes, 1)
        return cls(ranking.scores[last].astype(float), 2 * true / (shown + boxes), true / shown, true / boxes)

    def best(self) -> Point | None:
        """The point of the highest F1, of equal ones that with the fewest detections; None without a true positive.

        Its score lies in the middle between the last detection that is shown and the next one, so that rounding, for
        example in an exported file, does not decide which detections are shown.
        """
        if not len(self.f1) or not self.f1.max() > 0:
            return None
        place = int(self.f1.argmax())
        below = float(self.scores[place + 1]) if place + 1 < len(self.scores) else 0.0
        middle = (float(self.scores[place]) + below) / 2
        return Point(middle, *(float(part[place]) for part in (self.f1, self.precision, self.recall)))

    def at(self, score: float) -> Point:
        """The point of a given score; without a detection, all three figures are 0."""
        place = int(np.searchsorted(-self.scores, -score, side="right")) - 1
        parts = (self.f1, self.precision, self.recall)
        return Point(score, *(float(part[place]) if place >= 0 else 0.0 for part in parts))


@dataclass(frozen=True)
class Shipped:
    """The thresholds that a run and its exported files carry.

    score: of all classes together. per_class: of each class in order; None for a class without a true positive.
    split: the images that they were chosen on. calibration: from scores to probabilities; None if it was not fitted.
    class_agnostic: whether boxes competed with those of all classes then; None if nothing tells it.
    """

    score: float
    per_class: tuple[float | None, ...]
    split: str
    calibration: Calibration | None = None
    class_agnostic: bool | None = None

    def lowest(self, classes: np.ndarray, by_class: bool) -> np.ndarray:
        """The threshold of each detection, float64 [n]. classes: int [n] in 1..C. by_class: those of their classes."""
        own = np.array([self.score if one is None or not by_class else one for one in self.per_class])
        chosen: np.ndarray = own[np.asarray(classes, int) - 1]
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def read(cls, said: object, classes: int) -> "Shipped | None":
        """The thresholds in a JSON value; None for null. Raises ValueError, which says what is legal."""
        if said is None:
            return None
        if not isinstance(said, Mapping) or not _is_share(said.get("score")) or not isinstance(said.get("split"), str):
            raise ValueError("its threshold must have a score in 0..1 and a split")
        own = said.get("per_class")
        if not isinstance(own, list) or len(own) != classes or not all(x is None or _is_share(x) for x in own):
            raise ValueError("its threshold must have per_class, a score in 0..1 or null for each class")
        together = said["class_agnostic"] if type(said.get("class_agnostic")) is bool else None
        fitted = Calibration.read(said.get("calibration"))
        return cls(float(said["score"]), tuple(own), said["split"][:20], fitted, together)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds chosen on one split, and what they reach there and on other splits.

    chosen: that of all classes together, at one score; None if no detection is right. per_class: by name.
    reached: {split: (Point of all classes, {name: Point})}, `chosen` and `per_class` on each split.
    """

    split: str
    chosen: Point | None
    per_class: dict[str, Point | None]
    reached: dict[str, tuple[Point, dict[str, Point]]]
    calibration: Calibration | None = None

    @classmethod
    def choose(cls, rankings: Mapping[str, Mapping[str, Ranking]], split: str) -> "Thresholds":
        """Chooses on a split, and looks at all. rankings: {split: {class name: Ranking}}."""
        curves = {name: {kind: Curve.of(r) for kind, r in rows.items()} for name, rows in rankings.items()}
        whole = {name: Curve.of(pooled(list(rows.values()))) for name, rows in rankings.items()}
        chosen, own = whole[split].best(), {kind: curve.best() for kind, curve in curves[split].items()}
        known = {kind: point.score for kind, point in own.items() if point}
        reached = {
            name: (whole[name].at(chosen.score), {kind: curves[name][kind].at(score) for kind, score in known.items()})
            for name in rankings
            if chosen
        }
        together = pooled(list(rankings[split].values()))
        return cls(split, chosen, own, reached, Calibration.fit(together.scores, together.hits))

    def shipped(self) -> Shipped | None:
        """What a run carries; None if no detection is right."""
        if self.chosen is None:
            return None
        own = tuple(point.score if point else None for point in self.per_class.values())
        return Shipped(self.chosen.score, own, self.split, self.calibration)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: what is shipped, and the figures."""
        reached = {
            split: {"overall": asdict(point), "per_class": {name: asdict(p) for name, p in own.items()}}
            for split, (point, own) in self.reached.items()
        }
        shipped = self.shipped()
        return {"split": self.split, "shipped": shipped.to_dict() if shipped else None, "reached": reached}

    def lines(self) -> list[str]:
        """For the console: at most 80 columns each."""
        if self.chosen is None:
            return [f"no threshold: no detection on {self.split} is right"]
        head = f"show detections from score {self.chosen.score:.3f} (highest F1 on {self.split})"
        return [head, *(f"  {split + ':':<6} {point}" for split, (point, _) in self.reached.items())]


def pooled(rankings: Sequence[Ranking]) -> Ranking:
    """The detections of all classes in one ranking."""
    scores = np.concatenate([np.zeros(0, np.float32), *(one.scores for one in rankings)])
    hits = np.concatenate([np.zeros(0, bool), *(one.hits for one in rankings)])
    order = np.argsort(-scores, kind="stable")
    return Ranking(scores[order], hits[order], sum(one.boxes for one in rankings))


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]
