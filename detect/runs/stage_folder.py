"""The files of one stage of a run, as `detect.runs.folder` lists them."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detect.errors import DataError
from detect.runs import forms

log = logging.getLogger("detect")

SUMMARY, METRICS, LAST, BEST = "summary.json", "metrics.jsonl", "last", "best"
LEDGER, RESULTS = "transfer.json", "results.png"


@dataclass(frozen=True)
class StageFolder:
    """The files of one stage.

    path: The folder that this process writes.
    shared: The stage's folder of worker 0, whose states, best weights and scores are those of all workers.
    """

    path: Path
    shared: Path

    @property
    def name(self) -> str:
        """The name of the stage: classify, detector or quantized."""
        return self.path.name

    @property
    def metrics(self) -> Path:
        """The file with one JSON line for each row of figures."""
        return self.path / METRICS

    @property
    def last(self) -> Path:
        """The folder of the whole state; only the same run reads it."""
        return self.shared / LAST

    @property
    def best(self) -> Path:
        """The prefix of the checkpoint with the best weights, stored by name."""
        return self.shared / BEST

    @property
    def ledger(self) -> Path:
        """The ledger: where the weights come from."""
        return self.path / LEDGER

    @property
    def summary(self) -> Path:
        """The scores and the cost of a finished stage."""
        return self.path / SUMMARY

    @property
    def first_batch(self) -> Path:
        """A picture of the first augmented batch."""
        return self.path / "first_batch.png"

    @property
    def confusion(self) -> Path:
        """A picture of the confusion matrix of a classifier with its best weights."""
        return self.path / "confusion.png"

    def diverged(self, step: int) -> Path:
        """The file with the batch whose loss was not finite."""
        return self.path / f"diverged_at_{step}.npz"

    def summary_figure(self, name: str) -> float:
        """A figure of the stage's summary, such as `seconds`; 0 if the stage is not finished."""
        summary = summary_of(self.shared / SUMMARY, {f"{name}?": "number"})
        return float((summary or {}).get(name) or 0)

    def scores(self) -> dict[str, Any] | None:
        """The scores of a finished stage; None if the stage is not finished."""
        summary = summary_of(self.shared / SUMMARY, forms.ENDED)
        return summary["scores"] if summary else None


def summary_of(path: Path, form: forms.Form) -> dict[str, Any] | None:
    """The content of a summary.json. None without one, and for a damaged one: then the scores are made again."""
    if not path.exists():
        return None
    try:
        return forms.read(path, form)
    except DataError as error:
        log.warning("%s; its scores are made again", error)
        return None
