"""Reads, checks and cleans the data set of a run, and applies `limit`."""

import logging
from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf

from detect.config.trust import instantiate
from detect.data.dataset import ClassificationDataset, DetectionDataset
from detect.data.examples import Examples
from detect.data.subset import limit, limit_pictures
from detect.data.text import printable
from detect.data.validate import Finding, check, clean, first_of_each_kind, summarise
from detect.environment import usable_cores
from detect.errors import ConfigError, DataError, first_few
from detect.evaluation.coco import ground_truth_check
from detect.files import expanded
from detect.runs.folder import RunFolder

log = logging.getLogger("detect")
NAMED_ERRORS = 10
LEAK = "duplicate"
"""The warning of `check` that concerns every score. `detect inspect` tells the others, too."""


def open_dataset(
    cfg: DictConfig, decode: bool = True, before_decoding: Callable[[DetectionDataset], None] | None = None
) -> DetectionDataset:
    """Reads, checks and cleans the data set; what is found is logged.

    decode, before_decoding: see `_checked`. Raises DataError for errors in the data set.
    """
    dataset, doubts = _checked(cfg, decode, before_decoding)
    dataset, findings = clean(dataset)
    findings = [*findings, *(finding for finding in doubts if finding.kind == LEAK)]
    shown = first_of_each_kind(findings)
    for finding in shown:
        log.warning(
            "%s %s: %s (%s)", finding.kind, printable(finding.path.name), printable(finding.detail), finding.action
        )
    for line in summarise(findings) if len(shown) < len(findings) else ():
        log.warning("in all: %s", line.strip())
    return dataset


def _checked(
    cfg: DictConfig, decode: bool, before_decoding: Callable[[DetectionDataset], None] | None
) -> tuple[DetectionDataset, list[Finding]]:
    """The data set, and the warnings of its check. Raises DataError for errors in it, with one message for all of them.

    decode: also decode every image, to find those that training could not use.
    before_decoding: is called with the data set before its images are decoded; it may raise an error of its own.
    """
    dataset = instantiate(cfg.dataset)
    if not isinstance(dataset, DetectionDataset):
        raise ConfigError(f"dataset._target_={cfg.dataset._target_} reads no boxes; use it as classify.dataset")
    if decode and before_decoding is not None:
        before_decoding(dataset)
    return dataset, _doubts(dataset, decode)


def _doubts(dataset: DetectionDataset | ClassificationDataset, decode: bool) -> list[Finding]:
    """The warnings of the check of a data set. Raises DataError for errors in it, with one message for all of them."""
    findings = check(dataset, decode=decode)
    errors = [finding for finding in findings if finding.action == "error"]
    if errors:
        lines = [printable(f"  {finding.kind}: {finding.path}: {finding.detail}") for finding in errors]
        named = first_few(lines, NAMED_ERRORS, "\n", "\n  and")
        raise DataError(f"data set {dataset.name}: {len(errors)} errors\n{named}")
    return [finding for finding in findings if finding.action == "warning"]


def own_pictures(cfg: DictConfig) -> ClassificationDataset | None:
    """The pictures of stage 1, limited and then checked, if they are a data set of their own; None for crops, and
    without stage 1.

    Raises DataError for errors in the data set.
    """
    if not cfg.classify.enabled:
        return None
    pictures = instantiate(cfg.classify.dataset)
    if not isinstance(pictures, ClassificationDataset):
        return None
    pictures = limit_pictures(pictures, cfg.limit)
    _doubts(pictures, cfg.decode)
    return pictures


def dataset_of(
    cfg: DictConfig, decode: bool = True, before_decoding: Callable[[DetectionDataset], None] | None = None
) -> DetectionDataset:
    """The data set of a run: `open_dataset`, then `limit`. Raises DataError if that leaves no box to learn."""
    whole = open_dataset(cfg, decode, before_decoding)
    dataset = limit(whole, cfg.limit, cfg.seed)
    train, left = (Examples.of(one.splits["train"]).learned().counts for one in (whole, dataset))
    if train.any() and not left.any():
        told = ", ".join(f"limit.{key}={value}" for key in ("fraction", "train") if (value := cfg.limit.get(key)))
        raise DataError(f"data set {dataset.name}: {told} leaves {len(left)} training images without a box; take more")
    return dataset


def own_dataset(run: RunFolder, decode: bool = True) -> DetectionDataset:
    """The data set that a run was trained on, with its `limit`; warns of what changed since then.

    Raises DataError if the classes are others now.
    """
    try:
        dataset = dataset_of(run.saved_config(), decode)
    except DataError as error:
        root = OmegaConf.select(run.saved_config(), "dataset.root")
        if root is None or expanded(str(root)).exists():
            raise
        hint = f"{run.config} names this folder; if the data moved, correct dataset.root there"
        raise DataError(f"{error} ({hint})") from error
    known = list(run.class_names())
    if list(dataset.classes) != known:
        raise DataError(f"{run.path} was trained on {known}; its data set now has {list(dataset.classes)}")
    run.warn_of_other_data(dataset)
    return dataset


def other_dataset(cfg: DictConfig, run: RunFolder | None) -> DetectionDataset:
    """The data set that a command names to score, described as `detect train` does; `run`: the trained run, or None.

    Warns if images that are scored have been trained on.
    """
    dataset = open_dataset(cfg)
    for line in dataset.describe():
        log.info(line)
    if run is not None and (trained := run.trained_images(dataset, cfg.split)):
        log.warning(
            "%s was trained on %d of the %d images of %s: %s. Their scores tell nothing of other images. Give the "
            "options of the split with which it was trained (dataset.split_seed and others), or other images",
            run.path, len(trained), len(dataset.splits[cfg.split]), cfg.split, first_few(trained),
        )  # fmt: skip
    return dataset


def check_ground_truth(dataset: DetectionDataset) -> None:
    """Scores the ground truth of val and test as predictions; any AP other than 1.0 is an error."""
    for split in ("val", "test"):
        if scorable(dataset, split):
            ground_truth_check(dataset.splits[split], dataset.classes)


def scorable(dataset: DetectionDataset | ClassificationDataset, split: str) -> bool:
    """Whether AP, or top-1, can be told of a split: it has a box that is no crowd, or a picture."""
    if isinstance(dataset, ClassificationDataset):
        return bool(dataset.splits[split])
    return bool(Examples.of(dataset.splits[split]).learned().counts.any())


def selection_split(dataset: DetectionDataset | ClassificationDataset) -> str:
    """The split that chooses the best checkpoint: val, or else test, or else train; a split that can be scored."""
    split = next((name for name in ("val", "test") if scorable(dataset, name)), "train")
    if split != "val":
        lacking = "its val images have no boxes" if dataset.splits["val"] else "it has no val images"
        log.warning("data set %s: %s, so the best checkpoint is chosen on %s", dataset.name, lacking, split)
    return split


def threads(cfg: DictConfig) -> int:
    """Worker threads of the input pipeline: `threads`, or the number of usable cores."""
    return cfg.threads or usable_cores()
