"""What happens before TensorFlow is imported: bad configurations and bad data stop here, within seconds."""

import dataclasses
import fcntl
import json
import logging
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from omegaconf import DictConfig, OmegaConf

from detect.config.fingerprint import differences
from detect.config.tree import plain
from detect.data.dataset import DetectionDataset, Example, class_counts
from detect.data.validate import check, clean
from detect.errors import ConfigError, DataError
from detect.evaluation.coco import ground_truth_check
from detect.runs import provenance

log = logging.getLogger("detect")
SAVED_CONFIG, SAVED_CLASSES, SUMMARY = "config.yaml", "classes.json", "summary.json"


@dataclass(frozen=True)
class Run:
    """A training run: its folder, its configuration, its data, and where it came from."""

    folder: Path
    cfg: DictConfig
    dataset: DetectionDataset
    provenance: dict[str, Any]
    lock: Any = None  # an open file: the folder is this process's as long as it lives


def finished(cfg: DictConfig, folder: Path) -> float | None:
    """The objective of a run that has ended in its folder before; None where there is work to do.

    Raises ConfigError, naming each key, for the folder of a run of another configuration.
    """
    refuse_another(folder, cfg)
    score = objective(folder)
    if score is not None:
        log.info("finished before: AP %.3f in %s", score, folder)
    return score


def objective(folder: Path) -> float | None:
    """AP on the split that chose the checkpoint, of a run that has ended; else None."""
    if not (folder / SUMMARY).exists():
        return None
    scores = json.loads((folder / SUMMARY).read_text())["scores"]
    return scores[next(split for split in ("val", "test", "train") if split in scores)]["AP"] or 0.0


def claim(folder: Path) -> Any:
    """Makes the folder, and takes it for this process: a locked file. Raises ConfigError where another trains in it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(f"run folder {folder}: another process is training in it") from error
    return lock


def refuse_another(folder: Path, cfg: DictConfig) -> None:
    """Raises ConfigError, naming each key, if the folder holds a run of another configuration."""
    if not (folder / SAVED_CONFIG).exists():
        return
    changed = differences(saved_config(folder), cfg)
    if changed:
        head = f"run folder {folder}: it holds a run of another configuration (take another folder, or remove it)"
        raise ConfigError("\n".join([head, *changed]))


def start_run(cfg: DictConfig, folder: Path, command: str | None = None) -> Run:
    """Checks the data set, and writes configuration and classes into the run folder.

    command: what makes the run again; None is the command line of this process.
    """
    if any(sign in str(folder) for sign in "[]\\*?"):
        raise ConfigError(f"run folder {folder}: TensorFlow can't keep checkpoints in a path with [ ] \\ * or ?")
    dataset = limit(open_dataset(cfg, cfg.decode), cfg)
    for line in dataset.describe():
        log.info(line)
    if not dataset.splits["train"]:
        raise DataError(f"data set {dataset.name}: no training images")
    check_ground_truth(dataset)
    lock = claim(folder)
    OmegaConf.save(OmegaConf.create(plain(cfg)), folder / SAVED_CONFIG)
    (folder / SAVED_CLASSES).write_text(json.dumps(list(dataset.classes)))
    return Run(folder, cfg, dataset, provenance.collect() | ({"command": command} if command else {}), lock)


def saved_config(folder: Path) -> DictConfig:
    """The composed configuration that a run has left in its folder."""
    cfg = OmegaConf.load(folder / SAVED_CONFIG)
    if not isinstance(cfg, DictConfig):
        raise ConfigError(f"{folder / SAVED_CONFIG}: not the configuration of a run")
    return cfg


def open_dataset(cfg: DictConfig, decode: bool = True) -> DetectionDataset:
    """Reads, checks and cleans the data set; errors in it stop the program, all named in one message.

    decode: also decode every image, which finds truncated files.
    """
    dataset = hydra.utils.instantiate(cfg.dataset)
    if not isinstance(dataset, DetectionDataset):
        raise ConfigError(f"dataset: {cfg.dataset._target_} reads no boxes; use it as classify.dataset")
    errors = [finding for finding in check(dataset, decode=decode) if finding.action == "error"]
    if errors:
        lines = [f"  {finding.kind}: {finding.path}: {finding.detail}" for finding in errors[:10]]
        more = [f"  and {len(errors) - 10} more"] if len(errors) > 10 else []
        raise DataError("\n".join([f"data set {dataset.name}: {len(errors)} errors", *lines, *more]))
    dataset, findings = clean(dataset)
    for finding in findings:
        log.warning("%s %s: %s (%s)", finding.kind, finding.path.name, finding.detail, finding.action)
    return dataset


def limit(dataset: DetectionDataset, cfg: DictConfig) -> DetectionDataset:
    """Applies `limit`: a share of the training images, then fewer of a split, evenly spread.

    `limit.overfit` scores the training images.
    """
    splits = {}
    for name, examples in dataset.splits.items():
        if name == "train" and (fraction := cfg.limit.get("fraction")) is not None:  # runs of old have none
            examples = share(examples, fraction, cfg.seed)
            log.info("limit.fraction=%s: %d training images, of seed %d", fraction, len(examples), cfg.seed)
        keep = cfg.limit.get(name)
        if keep is not None and keep < len(examples):
            examples = tuple(examples[i * len(examples) // keep] for i in range(keep))
        splits[name] = examples
    if cfg.limit.overfit:
        same = tuple(dataclasses.replace(example, id=f"{example.id}@val") for example in splits["train"])
        splits |= {"val": same, "test": ()}
    return dataclasses.replace(dataset, splits=splits)


def share(examples: Sequence[Example], fraction: float, seed: int) -> tuple[Example, ...]:
    """A share of the images drawn from a seed, in their order; at least one.

    Classes keep their proportions, as far as an image's rarest class tells. For one seed a smaller share lies within
    a larger one: all are beginnings of the same order.
    """
    counts = class_counts(examples, max((int(e.classes.max(initial=0)) for e in examples), default=0))
    drawn = [np.random.default_rng((seed, zlib.crc32(e.id.encode()))).random() for e in examples]
    groups: dict[int, list[int]] = {}
    for i in sorted(range(len(examples)), key=lambda i: (drawn[i], examples[i].id)):
        rarest = min(examples[i].classes.tolist(), key=lambda label: (counts[label - 1], label), default=0)
        groups.setdefault(rarest, []).append(i)
    # The k-th of n images of a group stands at (k + 1/2) / n of the order, so that every beginning is a fair sample.
    place = {i: ((k + 0.5) / len(group), drawn[i]) for group in groups.values() for k, i in enumerate(group)}
    kept = sorted(place, key=lambda i: place[i])[: max(1, round(fraction * len(examples)))]
    return tuple(examples[i] for i in sorted(kept))


def check_ground_truth(dataset: DetectionDataset) -> None:
    """Scores the ground truth of val and test as if it had been predicted; anything but AP 1.0 is an error."""
    for split in ("val", "test"):
        if any((~example.crowd).any() for example in dataset.splits[split]):
            ground_truth_check(dataset.splits[split], dataset.classes)


def selection_split(dataset) -> str:
    """The split that chooses the best checkpoint: val, else test, else train."""
    split = next((name for name in ("val", "test") if dataset.splits[name]), "train")
    if split != "val":
        log.warning("data set %s has no val images: the best checkpoint is chosen on %s", dataset.name, split)
    return split


def threads(cfg: DictConfig) -> int:
    """Worker threads of the input pipeline: `threads`, or the number of cores."""
    return cfg.threads or os.cpu_count() or 1
