"""What happens before TensorFlow is imported: bad configurations and bad data stop here, within seconds."""

import dataclasses
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from detect import config, provenance
from detect.data.dataset import DetectionDataset
from detect.data.validate import check, clean
from detect.errors import ConfigError, DataError
from detect.metrics.coco import ground_truth_check

log = logging.getLogger("detect")
SAVED_CONFIG, SAVED_CLASSES = "config.yaml", "classes.json"


@dataclass(frozen=True)
class Run:
    """A training run: its folder, its configuration, its data, and where it came from."""

    folder: Path
    cfg: DictConfig
    dataset: DetectionDataset
    provenance: dict[str, Any]


def start_run(cfg: DictConfig) -> Run:
    """Checks the data set, and writes configuration and classes into the run folder."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if any(sign in str(folder) for sign in "[]\\*?"):
        raise ConfigError(f"run folder {folder}: TensorFlow can't keep checkpoints in a path with [ ] \\ * or ?")
    dataset = limit(open_dataset(cfg, cfg.decode), cfg)
    for line in dataset.describe():
        log.info(line)
    if not dataset.splits["train"]:
        raise DataError(f"data set {dataset.name}: no training images")
    check_ground_truth(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(config.plain(cfg)), folder / SAVED_CONFIG)
    (folder / SAVED_CLASSES).write_text(json.dumps(list(dataset.classes)))
    return Run(folder, cfg, dataset, provenance.collect())


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
    """Applies `limit`: fewer images a split, evenly spread; `limit.overfit` scores the training images."""
    splits = {}
    for name, examples in dataset.splits.items():
        keep = cfg.limit.get(name)
        if keep is not None and keep < len(examples):
            examples = tuple(examples[i * len(examples) // keep] for i in range(keep))
        splits[name] = examples
    if cfg.limit.overfit:
        same = tuple(dataclasses.replace(example, id=f"{example.id}@val") for example in splits["train"])
        splits |= {"val": same, "test": ()}
    return dataclasses.replace(dataset, splits=splits)


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
