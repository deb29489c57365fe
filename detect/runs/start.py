"""The start of a run: a bad configuration, or data that can't be read, stop it before TensorFlow is imported."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hydra.errors import InstantiationException
from omegaconf import DictConfig

from detect.config import trust
from detect.config.resume import Command
from detect.config.tree import leaves, plain
from detect.data.dataset import ClassificationDataset, DetectionDataset
from detect.errors import ConfigError, DataError, first_few
from detect.loggers.interface import Described, Logger, Loggers
from detect.runs import provenance
from detect.runs.dataset import check_ground_truth, dataset_of, own_pictures
from detect.runs.folder import CLASSIFY, RunFolder
from detect.runs.log import keep_log
from detect.runs.workers import ALONE, Worker, worker

log = logging.getLogger("detect")


@dataclass(frozen=True)
class Run:
    """A training run: its folder, configuration, data set and origin. As a context, it ends its lock.

    lock: an open file; the folder is locked for this process as long as it is open.
    worker: this process among those that train the run together.
    loggers: the services that get its figures.
    pictures: those of stage 1, if it has its own and is not finished.
    command: the command that repeats the run, if it came from the command line.
    extending: the run as its command has it, if that extends the one in the folder; it is kept once its state is read.
    """

    folder: RunFolder
    cfg: DictConfig
    dataset: DetectionDataset
    provenance: Mapping[str, object]
    lock: IO[str] | None = None
    worker: Worker = ALONE
    loggers: Loggers = field(default_factory=Loggers)
    pictures: ClassificationDataset | None = None
    command: Command | None = None
    extending: "Run | None" = None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        if self.lock is not None:
            self.lock.close()

    def keep(self) -> None:
        """Writes command, configuration, classes and the record of the data into the folder.

        A run that is extended is then unfinished, so that this comes after all that could refuse the extension.
        """
        self.folder.extend(self.cfg)
        self.folder.save(self.cfg, self.dataset, self.command, self.pictures)

    def described(self) -> Described:
        """The run, for logging services."""
        return described(self.folder, self.cfg)


def described(folder: RunFolder, cfg: DictConfig) -> Described:
    """A run in its folder, for logging services."""
    return Described(folder.path, folder.loggers, str(cfg.name), cfg.study, dict(leaves(plain(cfg))))


def finished(cfg: DictConfig, folder: Path) -> float | None:
    """The objective of a run that is already finished in its folder; None if there is work to do.

    Raises ConfigError, which names each key, if the folder holds a run of another configuration.
    """
    place = RunFolder(folder)
    score = None if place.extensions(cfg) else place.objective()
    if score is not None:
        log.info("finished before: AP %.3f in %s", score, folder)
    return score


def start_run(
    cfg: DictConfig,
    folder: Path,
    command: Command | None = None,
    before_decoding: Callable[[DetectionDataset], None] | None = None,
) -> Run:
    """Checks the data set, and writes command, configuration and classes into the run folder.

    If the run extends the one in the folder, `Run.keep` has to write them later.

    command: the command that repeats the run; None is the command line of this process, and saves none.
    before_decoding: see `detect.runs.dataset.open_dataset`.
    """
    own = worker(cfg)
    place = RunFolder(folder).of_worker(own)
    place.check_path()
    services = loggers(cfg, own)
    dataset = dataset_of(cfg, cfg.decode, before_decoding)
    for line in dataset.describe():
        log.info(line)
    if not dataset.splits["train"]:
        where = next((note for note in dataset.notes if note.startswith("split:")), "")
        held = (f"{split}: {part[0].source or part[0].path}" for split, part in dataset.splits.items() if part)
        raise DataError(
            f"data set {dataset.name}: it has no training images ({where}); {first_few(held)}. Lists, or words such as "
            "val and test in names of files and folders, tell a split"
        )
    pictures = own_pictures(cfg) if place.stage(CLASSIFY).scores() is None else None
    place.refuse_other_data(dataset, pictures)
    check_ground_truth(dataset)
    origin = provenance.collect() | ({"command": command.line} if command else {})
    lock = place.claim()  # after the checks, so that bad data leaves no folder
    run = Run(place, cfg, dataset, origin, lock, own, services, pictures, command)
    try:
        keep_log(place.log)
        if not place.extensions(cfg):
            run.keep()
    except BaseException:
        lock.close()
        raise
    return run


def loggers(cfg: DictConfig, own: Worker = ALONE) -> Loggers:
    """The loggers of the group `logger`, ready to begin; only worker 0 has any.

    Raises ConfigError for an entry that is none, and if one can't work, for example without its package.
    """
    made: dict[str, Logger] = {}
    for name, node in (cfg.get("logger") or {}).items():  # runs of older versions have no such key
        if node is None:
            continue
        if not isinstance(node, DictConfig) or "_target_" not in node:
            raise ConfigError(f"logger.{name}={node} is not legal: expected an option of the group logger")
        try:
            logger = trust.instantiate(node)
        except InstantiationException as error:
            raise ConfigError(f"logger.{name}: {error.__cause__ or error}") from error
        if not isinstance(logger, Logger):
            raise ConfigError(f"logger.{name}._target_={node._target_}: expected a detect.loggers.interface.Logger")
        made[str(name)] = logger
    found = Loggers(made if own.is_chief else {})
    found.check()
    return found
