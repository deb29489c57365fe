"""Where to set the score: F1, precision and recall over it, and how far a score is a probability."""

from collections.abc import Mapping

import numpy as np

from detect.evaluation.calibration import LEAST, error, reliability
from detect.evaluation.matching import Ranking
from detect.evaluation.thresholds import Curve, Shipped, pooled
from detect.reporting.figures import line_color, new_figure, render, short
from detect.reporting.text import PALETTE

POINTS = 501  # of a curve in the figure
MOST_CLASSES = 10


def f1_figure(rankings: Mapping[str, Ranking], shipped: Shipped | None) -> np.ndarray:
    """Three panels as RGB uint8: F1 of each class over the score; precision, recall and F1 of all classes; reliability.

    rankings: name -> Ranking. shipped: its threshold is a line, its calibration a second curve; None has neither.
    At most MOST_CLASSES classes, those with most boxes, have a colour and a name; the others are grey.
    """
    figure, axes = new_figure(1, 3, 15, 4.4)
    levels = np.linspace(0, 1, POINTS)
    names = [name for name, ranking in rankings.items() if ranking.boxes]
    first = set(sorted(names, key=lambda name: -rankings[name].boxes)[:MOST_CLASSES])
    for number, (name, ranking) in enumerate(rankings.items(), 1):
        if not ranking.boxes:
            continue
        curve = Curve.of(ranking)
        values = [curve.at(level).f1 for level in levels]
        if name in first:
            color = line_color(number if len(rankings) <= len(PALETTE) else 1 + sorted(first).index(name))
            best = curve.best()
            label = f"{best.f1:.3f} at {best.score:.2f}  {short(name, 18)}" if best else f"0  {short(name, 18)}"
            axes[0].plot(levels, values, color=color, linewidth=1.5, label=label)
        else:
            axes[0].plot(levels, values, color="0.85", linewidth=0.8)
    whole = pooled(list(rankings.values()))
    points = [Curve.of(whole).at(level) for level in levels]
    there = levels <= whole.scores.max(initial=0)  # above it, there is no precision
    for key, shade in {"f1": (0.1, 0.1, 0.1), "precision": line_color(2), "recall": line_color(7)}.items():
        shares = np.array([getattr(point, key) for point in points])
        axes[1].plot(levels[there], shares[there], color=shade, linewidth=1.8, label=key)
    if shipped:
        for axis in axes[:2]:
            axis.axvline(shipped.score, color="0.3", linewidth=1, linestyle="--")
        at = Curve.of(whole).at(shipped.score)
        axes[1].plot([], [], color="0.3", linestyle="--", label=f"threshold {shipped.score:.2f} ({shipped.split})")
        axes[1].set_xlabel(f"score; at the threshold: {at}", fontsize=9)
    axes[0].set(title="F1 of each class (highest, and its score)", xlabel="score")
    axes[1].set_title("all classes")
    _reliability(axes[2], whole, shipped)
    for axis in axes:
        axis.set(xlim=(0, 1), ylim=(0, 1.02))
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8, loc="best", framealpha=0.8)
        else:
            axis.text(0.5, 0.5, "nothing to show", ha="center", color="0.5")
    return render(figure)


def _reliability(axis, whole: Ranking, shipped: Shipped | None) -> None:
    """The share of right detections in ten parts of the scores."""
    seen = whole.scores >= LEAST
    scores, hits = whole.scores[seen], whole.hits[seen]
    axis.set(title="reliability", xlabel="score", ylabel="share of right detections (IoU .50)")
    axis.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=":")
    if not len(scores):
        return
    lines = {"as found": (scores, line_color(1))}
    if shipped and shipped.calibration:
        lines["calibrated"] = (shipped.calibration(scores), line_color(2))
    for name, (values, color) in lines.items():
        mean, share, _ = reliability(values, hits)
        label = f"{name}, error {error(values, hits):.3f}"
        axis.plot(mean, share, color=color, marker="o", markersize=4, linewidth=1.5, label=label)
