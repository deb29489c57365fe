"""Trains a detector in two or three stages: `detect train`. With -m, each job runs in a process of its own."""

import shlex
from typing import TYPE_CHECKING

from detect import train
from detect.cli import job
from detect.cli.main import verb
from detect.runs import start, sweep

if TYPE_CHECKING:
    from omegaconf import DictConfig


@verb("train")
def main(cfg: "DictConfig") -> float | None:
    """Returns AP on the validation images: the objective of a sweep."""
    folder, words = job.folder(), job.command()
    if job.is_cell():
        score = start.finished(cfg, folder)
        return sweep.run_cell(folder, words) if score is None else score
    return train.main(cfg, folder, shlex.join(words))


if __name__ == "__main__":
    main()
