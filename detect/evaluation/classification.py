"""Scores of the classifier of stage 1."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detect.errors import counted, printable, score_text, shortened


@dataclass(frozen=True)
class ClassificationScores:
    """top1: share of images with the correct class. mean: mean of the per-class accuracies (balanced accuracy).

    per_class: name -> {"accuracy", "images"}; accuracy is None (n/a) for a class without images; `mean` excludes it.
    confusion: int64 [C, C], rows truth, columns prediction. top1 and mean are None if there are no images.
    """

    classes: tuple[str, ...]
    top1: float | None
    mean: float | None
    per_class: dict[str, dict[str, float | int | None]]
    confusion: np.ndarray

    def table(self, most_classes: int = 20) -> str:
        """The figures as text of at most 80 columns; at most `most_classes` classes, those with most images."""
        counts = self.confusion.sum(axis=1)
        most = sorted(np.argsort(-counts, kind="stable")[:most_classes].tolist())
        width = min(40, max([5, *(len(self.classes[index]) for index in most)]))
        top1, mean = score_text(self.top1), score_text(self.mean)
        lines = [
            f"{counted(int(counts.sum()), 'image')}, top-1 {top1}, mean of classes {mean}",
            "",
            f" {'class':<{width}} accuracy  images  most often taken for",
        ]
        for index in most:
            name = self.classes[index]
            accuracy = score_text(self.per_class[name]["accuracy"])
            line = f" {shortened(name, width):<{width}} {accuracy:>8}{counts[index]:>8}  {self._rival(index)}"
            lines.append(line[:80].rstrip())
        if len(self.classes) > most_classes:
            lines.append(f" ... and {len(self.classes) - most_classes} more classes")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """The figures for a summary file: top1, mean, per_class, and confusion as a list of rows."""
        return {
            "top1": self.top1,
            "mean": self.mean,
            "per_class": self.per_class,
            "confusion": self.confusion.tolist(),
        }

    def _rival(self, index: int) -> str:
        row = self.confusion[index].copy()
        row[index] = 0
        return f"{printable(self.classes[int(row.argmax())])} ({row.max()})" if row.any() else "-"


def score_classification(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> ClassificationScores:
    """Compares predicted and true class indices, both [n] in 0..C-1.

    Raises ValueError for different lengths or an index outside 0..C-1.
    """
    labels, predictions = np.asarray(labels, np.int64).ravel(), np.asarray(predictions, np.int64).ravel()
    if len(labels) != len(predictions):
        raise ValueError(f"{len(labels)} labels, {len(predictions)} predictions")
    for name, values in (("labels", labels), ("predictions", predictions)):
        if len(values) and not 0 <= values.min() <= values.max() < len(classes):
            raise ValueError(f"{name} {values.min()}..{values.max()}; legal: 0..{len(classes) - 1}")
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    counts, right = confusion.sum(axis=1), confusion.diagonal()
    accuracy = [float(r / n) if n else None for r, n in zip(right, counts, strict=True)]
    known = [value for value in accuracy if value is not None]
    return ClassificationScores(
        classes=tuple(classes),
        top1=float(right.sum() / counts.sum()) if known else None,
        mean=float(np.mean(known)) if known else None,
        per_class={
            name: {"accuracy": value, "images": int(count)}
            for name, value, count in zip(classes, accuracy, counts, strict=True)
        },
        confusion=confusion,
    )
