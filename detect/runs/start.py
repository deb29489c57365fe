"""The start of a run, before TensorFlow is imported: a bad configuration or bad data stops it within seconds."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from omegaconf import DictConfig

from detect.data.dataset import DetectionDataset
from detect.errors import DataError
from detect.runs import provenance
from detect.runs.dataset import check_ground_truth, dataset_of
from detect.runs.folder import RunFolder

log = logging.getLogger("detect")


@dataclass(frozen=True)
class Run:
    """A training run: its folder, configuration, data set and origin.

    lock: an open file; the folder is locked for this process as long as this object exists.
    """

    folder: RunFolder
    cfg: DictConfig
    dataset: DetectionDataset
    provenance: Mapping[str, object]
    lock: IO[str] | None = None


def finished(cfg: DictConfig, folder: Path) -> float | None:
    """The objective of a run that is already finished in its folder; None if there is work to do.

    Raises ConfigError, which names each key, if the folder holds a run of another configuration.
    """
    place = RunFolder(folder)
    place.refuse_another(cfg)
    score = place.objective()
    if score is not None:
        log.info("finished before: AP %.3f in %s", score, folder)
    return score


def start_run(cfg: DictConfig, folder: Path, command: str | None = None) -> Run:
    """Checks the data set, and writes configuration and classes into the run folder.

    command: the command that repeats the run; None is the command line of this process.
    """
    place = RunFolder(folder)
    place.check_path()
    dataset = dataset_of(cfg, cfg.decode)
    for line in dataset.describe():
        log.info(line)
    if not dataset.splits["train"]:
        raise DataError(f"data set {dataset.name}: it has no training images")
    check_ground_truth(dataset)
    lock = place.claim()  # after the checks, so that bad data leaves no folder
    place.save(cfg, dataset.classes, dataset.category_ids)
    return Run(place, cfg, dataset, provenance.collect() | ({"command": command} if command else {}), lock)
