"""Curves of a run: its scores over steps and over seconds of training, and the time when it reaches a score."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from detect.reporting.logger import read_metrics
from detect.runs.forms import check
from detect.studies import forms
from detect.studies.records import FinishedRun
from detect.studies.statistics import band

WATCHED = {
    "loss/classification": "classification loss",
    "loss/box_classification": "classification loss",
    "loss/rpn_classification": "RPN's classification loss",
    "rpn/recall_50": "RPN's recall at IoU .5",
}
"""Training figures that show which part of a detector does not learn, and their names in tables."""
POINTS = 100  # points of a training figure; each is the mean over a hundredth of the run


@dataclass(frozen=True)
class Curve:
    """The evaluations of a run's last stage, [n] each.

    steps: steps of that stage. seconds: seconds of training until then, with earlier stages, without evaluations.
    scores: {"AP": .., "AP50": ..} on `split`; NaN if there was nothing to score. watched: {name of a figure in WATCHED:
    (steps, values)}. planned: the steps of the schedule, more than the last of `steps` after an early end; None if they
    are not known.
    """

    split: str
    steps: np.ndarray
    seconds: np.ndarray
    scores: dict[str, np.ndarray]
    watched: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    clock: tuple[np.ndarray, np.ndarray] = field(default=(np.zeros(1), np.zeros(1)), repr=False)
    planned: int | None = None

    @property
    def shares(self) -> np.ndarray:
        """The steps as shares of the schedule, [n]."""
        return self.steps / (self.planned or self.steps[-1])

    def at_the_end(self, name: str) -> float:
        """The mean of a watched figure over the last tenth of the steps."""
        steps, values = self.watched[name]
        return float(values[steps > 0.9 * steps[-1]].mean())

    def between(self, name: str) -> list[float]:
        """The mean of a watched figure before each evaluation, since the evaluation before it; NaN without a value."""
        steps, values = self.watched[name]
        places = np.searchsorted(self.steps, steps)  # the evaluation that comes next
        return [float(of.mean()) if len(of := values[places == k]) else np.nan for k in range(len(self.steps))]

    def seconds_at(self, step: float) -> float:
        """Seconds of training until a step of the last stage, with the earlier stages."""
        return float(np.interp(step, *self.clock))

    def reached(self, level: float) -> tuple[int, float] | None:
        """Step and seconds of the first evaluation with an AP of at least `level`; None if there is none."""
        there = np.flatnonzero(self.scores["AP"] >= level)
        return (int(self.steps[there[0]]), float(self.seconds[there[0]])) if len(there) else None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; the figures that a report uses are checked. Raises DataError for a damaged line."""
    rows = read_metrics(path)
    for number, row in enumerate(rows, 1):
        used = {key: row[key] for key in row if _is_used(key)} if isinstance(row, dict) else row
        check(used, forms.ROW, Path(f"{path}, line {number}"))
    return rows


def read_curve(run: FinishedRun) -> Curve | None:
    """The curve in a run's metrics.jsonl; None without an evaluation. Raises DataError for a line that is not JSON."""
    if not run.metrics.is_file():
        return None
    rows = read_rows(run.metrics)
    evaluations = [row for row in rows if row["kind"] == "eval"]
    split = next((key[: -len("/AP")] for row in evaluations for key in row if key.endswith("/AP")), None)
    if split is None:
        return None
    steps = np.array([row["step"] for row in evaluations], int)
    clock = _clock(rows, run)
    scores = {name: _column(evaluations, f"{split}/{name}") for name in ("AP", "AP50")}
    training = [row for row in rows if row["kind"] == "train"]
    known = {key for row in training for key, value in row.items() if value is not None}
    watched = {name: _thinned(training, key) for key, name in WATCHED.items() if key in known}
    planned = (run.summary.get("schedule") or {}).get("steps")
    return Curve(split, steps, np.interp(steps, *clock), scores, watched, clock, planned)


def _is_used(key: str) -> bool:
    return key in ("kind", "step", "images_per_second", *WATCHED) or key.endswith(("/AP", "/AP50"))


@dataclass(frozen=True)
class Band:
    """The mean curve of several runs, [n] each: steps, mean seconds, and AP with its interval over the runs."""

    steps: np.ndarray
    seconds: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: int


def mean_curve(curves: Sequence[Curve]) -> Band:
    """Mean and interval of AP at the steps where every run that is still training has a score."""
    common = set.intersection(*(set(curve.steps.tolist()) for curve in curves))
    if len(common) < min(len(curve.steps) for curve in curves):
        curves = _in_step(curves)
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    aligned = np.full((2, len(curves), len(steps)), np.nan)
    for row, curve in enumerate(curves):
        places = np.searchsorted(steps, curve.steps)
        aligned[0, row, places], aligned[1, row, places] = curve.scores["AP"], curve.seconds
    running = sum(steps <= curve.steps[-1] for curve in curves)
    whole = (~np.isnan(aligned[1])).sum(axis=0) == running
    mean, low, high = band(aligned[0][:, whole])
    return Band(steps[whole], np.nanmean(aligned[1][:, whole], axis=0), mean, low, high, len(curves))


def _in_step(curves: Sequence[Curve]) -> list[Curve]:
    """Runs of equal `minutes`, whose steps follow from the speed of the machine: their scores at the same shares of
    their training, and in place of their steps the mean of these."""
    # Those of the run that came furthest, and of several such runs, of the one with the fewest scores.
    shares = min(curves, key=lambda curve: (-curve.shares[-1], len(curve.steps))).shares
    picked = []
    for curve in curves:
        nearest = np.abs(curve.shares[:, None] - shares).argmin(axis=0)
        picked.append(
            np.unique(nearest) if curve.shares[-1] < shares[-1] else nearest
        )  # one that ended early drops out
    at = np.full((len(curves), len(shares)), np.nan)
    for row, curve, places in zip(at, curves, picked, strict=True):
        row[: len(places)] = curve.steps[places]
    steps = np.rint(np.nanmean(at, axis=0)).astype(int)
    return [
        replace(
            curve,
            steps=steps[: len(places)],
            seconds=curve.seconds[places],
            scores={name: of[places] for name, of in curve.scores.items()},
        )
        for curve, places in zip(curves, picked, strict=True)
    ]


def mean_figure(curves: Sequence[Curve], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps of the longest run, and the mean of one watched figure over the runs."""
    known = [curve.watched[name] for curve in curves if name in curve.watched]
    grid = max((steps for steps, _ in known), key=lambda steps: steps[-1])
    values = np.stack([np.interp(grid, steps, figures, left=np.nan, right=np.nan) for steps, figures in known])
    return grid, band(values)[0]


def _clock(rows: Sequence[dict[str, Any]], run: FinishedRun) -> tuple[np.ndarray, np.ndarray]:
    """Steps of the last stage, and the seconds of training until each, from the speed in every row.

    The result is scaled to the seconds in summary.json, which are correct after an interruption, too.
    """
    steps, spent = [0], [0.0]
    for row in rows:
        if row["kind"] == "train" and row.get("images_per_second"):
            spent.append(spent[-1] + (row["step"] - steps[-1]) / row["images_per_second"])
            steps.append(row["step"])
    total = run.summary["seconds"]
    if spent[-1] == 0:
        return np.array([0, run.summary["steps"]]), run.earlier_seconds + np.array([0.0, total])
    return np.array(steps), run.earlier_seconds + np.array(spent) * total / spent[-1]


def _column(rows: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    return np.array([np.nan if row.get(key) is None else row[key] for row in rows], float)


def _thinned(rows: Sequence[dict[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a figure, averaged to at most POINTS points."""
    points = np.array([(row["step"], row[key]) for row in rows if row.get(key) is not None], float)
    parts = np.array_split(points, min(POINTS, len(points)))
    means = np.array([part.mean(axis=0) for part in parts])
    return means[:, 0], means[:, 1]
