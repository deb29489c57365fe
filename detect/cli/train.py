"""Trains a detector in two or three stages: `detect train`. With -m, each job runs in a process of its own."""

from typing import TYPE_CHECKING

from detect import train
from detect.cli import job
from detect.runs import sweep

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: "DictConfig") -> float | None:
    """Returns AP on the validation images: the objective of a sweep."""
    folder = job.folder()
    if job.is_cell():
        score = train.finished(cfg, folder)
        return sweep.run_cell(folder, job.words()) if score is None else score
    return train.main(cfg, folder, job.command(cfg))
