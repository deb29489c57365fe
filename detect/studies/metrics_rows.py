"""Figures from the rows of a metrics.jsonl."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from detect.runs.forms import FORMS

Row = Mapping[str, Any]


def figure(row: Row, key: str) -> float | None:
    """A figure of a row; None if the row does not have it, or something else under its name."""
    value = row.get(key)
    return float(value) if value is not None and FORMS["number"](value) else None


def figures(rows: Sequence[Row], key: str) -> list[float]:
    """A figure of all rows that have it."""
    return [value for row in rows if (value := figure(row, key)) is not None]


def evaluations(rows: Sequence[Row], key: str, first: int) -> list[Row]:
    """The evaluations with a figure, from step `first` on."""
    return [row for row in rows if row["kind"] == "eval" and row["step"] >= first and figure(row, key) is not None]


def best_ap50(scored: Sequence[Row], split: str) -> float | None:
    """AP50 of the evaluation with the best AP; None without one."""
    best = max(scored, key=lambda row: figure(row, f"{split}/AP") or 0.0, default={})
    return figure(best, f"{split}/AP50")


def ends(values: Sequence[float]) -> tuple[float, float]:
    """The mean over the first and over the last tenth."""
    tenth = max(1, len(values) // 10)
    return fmean(values[:tenth]), fmean(values[-tenth:])
