"""Reads, checks and cleans the data set of a run, and applies `limit`."""

import logging
import os
from collections.abc import Callable

from hydra.errors import InstantiationException
from omegaconf import DictConfig

from detect.config.trust import instantiate
from detect.data.dataset import ClassificationDataset, DetectionDataset
from detect.data.subset import limit
from detect.data.text import printable
from detect.data.validate import check, clean, first_of_each_kind, summarise
from detect.errors import ConfigError, DataError, UserError, first_few
from detect.evaluation.coco import ground_truth_check
from detect.runs.folder import RunFolder

log = logging.getLogger("detect")
NAMED_ERRORS = 10


def open_dataset(
    cfg: DictConfig, decode: bool = True, before_decoding: Callable[[DetectionDataset], None] | None = None
) -> DetectionDataset:
    """Reads, checks and cleans the data set: `read_dataset`, then `clean`, whose findings are logged."""
    dataset, findings = clean(read_dataset(cfg, decode, before_decoding))
    shown = first_of_each_kind(findings)
    for finding in shown:
        log.warning(
            "%s %s: %s (%s)", finding.kind, printable(finding.path.name), printable(finding.detail), finding.action
        )
    for line in summarise(findings) if len(shown) < len(findings) else ():
        log.warning("in all: %s", line.strip())
    return dataset


def read_dataset(
    cfg: DictConfig, decode: bool = True, before_decoding: Callable[[DetectionDataset], None] | None = None
) -> DetectionDataset:
    """Reads and checks the data set. Raises DataError for errors in it, with one message for all of them.

    decode: also decode every image, to find those that training could not use.
    before_decoding: is called with the data set before its images are decoded; it may raise an error of its own.
    """
    try:
        dataset = instantiate(cfg.dataset)
    except InstantiationException as error:
        raise error.__cause__ if isinstance(error.__cause__, UserError) else error from None
    if not isinstance(dataset, DetectionDataset):
        raise ConfigError(f"dataset._target_={cfg.dataset._target_} reads no boxes; use it as classify.dataset")
    if decode and before_decoding is not None:
        before_decoding(dataset)
    errors = [finding for finding in check(dataset, decode=decode) if finding.action == "error"]
    if errors:
        lines = [printable(f"  {finding.kind}: {finding.path}: {finding.detail}") for finding in errors]
        named = first_few(lines, NAMED_ERRORS, "\n", "\n  and")
        raise DataError(f"data set {dataset.name}: {len(errors)} errors\n{named}")
    return dataset


def dataset_of(
    cfg: DictConfig, decode: bool = True, before_decoding: Callable[[DetectionDataset], None] | None = None
) -> DetectionDataset:
    """The data set of a run: `open_dataset`, then `limit`."""
    return limit(open_dataset(cfg, decode, before_decoding), cfg.limit, cfg.seed)


def own_dataset(run: RunFolder, decode: bool = True) -> DetectionDataset:
    """The data set that a run was trained on, with its `limit`; warns of what changed since then.

    Raises DataError if the classes are others now.
    """
    dataset, known = dataset_of(run.saved_config(), decode), list(run.class_names())
    if list(dataset.classes) != known:
        raise DataError(f"{run.path} was trained on {known}; its data set now has {list(dataset.classes)}")
    run.warn_of_other_data(dataset)
    return dataset


def check_ground_truth(dataset: DetectionDataset) -> None:
    """Scores the ground truth of val and test as predictions; any AP other than 1.0 is an error."""
    for split in ("val", "test"):
        if any((~example.crowd).any() for example in dataset.splits[split]):
            ground_truth_check(dataset.splits[split], dataset.classes)


def selection_split(dataset: DetectionDataset | ClassificationDataset) -> str:
    """The split that chooses the best checkpoint: val, or else test, or else train."""
    split = next((name for name in ("val", "test") if dataset.splits[name]), "train")
    if split != "val":
        log.warning("data set %s has no val images: the best checkpoint is chosen on %s", dataset.name, split)
    return split


def threads(cfg: DictConfig) -> int:
    """Worker threads of the input pipeline: `threads`, or the number of cores."""
    return cfg.threads or os.cpu_count() or 1
