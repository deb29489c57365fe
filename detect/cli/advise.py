"""Proposes an experiment that fits a data set and this machine: `detect advise dataset=voc dataset.root=DIR`."""

import logging
import shlex
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from detect.advice import rules
from detect.advice.choice import NETWORKS, choose, expected, reasons
from detect.cli import job
from detect.config import trust
from detect.config.check import refuse_inside_data
from detect.config.grammar import parse
from detect.config.retarget import SUFFIX
from detect.config.tree import below, container
from detect.data.dataset import DetectionDataset
from detect.data.examples import Examples
from detect.data.statistics import outline, statistics
from detect.errors import ConfigError, DataError
from detect.files import expanded
from detect.runs.dataset import open_dataset
from detect.runs.summary import network
from detect.runs.unstarted import refuse_unwritable
from detect.studies.nearest import nearest

log = logging.getLogger("detect")
FOLDER = "advice"
"""Of the experiment, without `output` and `--config-dir`."""


def main(cfg: DictConfig) -> None:
    """Prints a description of the data set, the nearest study and the proposal; writes the experiment file."""
    own, fixed = job.config_folder(), given()
    folder = expanded(cfg.output or FOLDER)
    if own and cfg.propose == "experiment":
        if cfg.output:
            raise ConfigError(f"output={cfg.output}: with --config-dir {own}, the experiment goes there; leave output")
        folder = own
    refuse_unwritable(folder, "output")
    refuse_inside_data(cfg, folder, "output")
    if cfg.propose == "experiment":
        rules.place(folder, cfg.name)
    dataset = open_dataset(cfg, cfg.decode)
    about = outline(dataset)
    if not Examples.of(dataset.splits["train"]).learned().counts.any():
        raise DataError(f"data set {dataset.name}: there is no box to learn in its {about['images']} training images")
    for line in [*dataset.describe(), *statistics(dataset).lines(), *rules.imbalance(dataset)]:
        log.info(line)
    if cfg.propose == "rate":
        return advise_rate(cfg, dataset, folder, fixed, own)
    like = nearest(about, network(cfg))
    found = ["nearest cell of the studies in experiments/:", *like.lines()] if like else ["no study to compare with"]
    for line in ["", *found, ""]:
        log.info(line)
    chosen = choose(cfg, dataset, like, options(), fixed, own)
    if chosen.minutes > cfg.minutes:
        log.warning("minutes=%s is too little: the fewest steps take %.1f minutes here", cfg.minutes, chosen.minutes)
    words = ["detect", "train", "--config-dir", str(folder), f"experiment={cfg.name}", *trust.line(cfg.trust)]
    command = shlex.join(words)
    about_it = ["", *reasons(chosen, dataset, like)]
    head = [f"Proposed {rules.BY} for {dataset.name}.", f"Command:  {command}", *expected(chosen), *about_it[1:]]
    file = rules.write_experiment(folder, cfg.name, rules.experiment_text(head, chosen.choices, chosen.values))
    for line in [*about_it, *expected(chosen), f"wrote {file}; train it with", f"  {command}"]:
        log.info(line)


def advise_rate(
    cfg: DictConfig, dataset: DetectionDataset, folder: Path, fixed: dict[str, Any], own: Path | None
) -> None:
    """Prints the learning rate of a range test of the last network that is tried, and writes its curve.

    fixed, own: as in `choose`.
    """
    from detect.advice import rate  # imports TensorFlow

    found = rate.range_test(cfg, dataset, options()[-1], fixed, own)
    written = rate.write(found, folder)
    log.info("the loss falls fastest at a rate of %s (%d steps)", rate.text(found.suggested), len(found.rates))
    log.info("try: schedule.rate=%s", rate.text(found.suggested))
    log.info("wrote %s", " and ".join(map(str, written)))


def options() -> list[dict[str, str]]:
    """The options of groups to try, the best first; if the user names no network, these are NETWORKS under SSD."""
    chosen = job.choices()
    named = [override.key_or_group for override in parse(job.task_overrides())]
    inner = [name for name in named if name.startswith(("detector/", "backbone/", "dataset/", "init/"))]
    groups = ["detector", "backbone", "dataset", "init", *inner]
    asked = {group: chosen[group] for group in groups}
    fixed = any(name == "detector" or name.startswith(("detector/", "backbone")) for name in named)
    return [asked | {"backbone": backbone} for backbone in ([asked["backbone"]] if fixed else NETWORKS)]


def given() -> dict[str, Any]:
    """The values that the command line gives for the network, as a tree; the proposal keeps them.

    Raises ConfigError for a part of one's own that the command line describes: an experiment can't leave keys out.
    """
    found = OmegaConf.create()
    for override in parse(job.task_overrides()):
        key = override.key_or_group
        if not below(key, ("detector", "backbone")):
            continue
        if key.endswith(SUFFIX):
            told = "put the part into DIR/GROUP/NAME.yaml, and give --config-dir DIR and GROUP=NAME"
            raise ConfigError(f"{override.input_line}: {told}")
        OmegaConf.update(found, key, override.value())
    return container(found)
