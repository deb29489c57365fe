"""Hydra's information about the running job: its folder, its command and whether it belongs to a sweep.

No other module reads Hydra's global state. `detect.config.composer` sets it while it composes, and restores it.
"""

import re
import shlex
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from detect.config.resume import SAVED, Command


def folder() -> Path:
    """The folder that this run writes its files into."""
    return Path(HydraConfig.get().runtime.output_dir)


def title() -> str:
    """A short name of the job of a sweep, for messages."""
    job = HydraConfig.get().job
    return f"job {job.num} ({job.override_dirname})"


def is_cell() -> bool:
    """Whether this job is one of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def task_overrides() -> list[str]:
    """The overrides of this job that are not Hydra's own."""
    return list(HydraConfig.get().overrides.task)


def choices() -> dict[str, str]:
    """The chosen option of each configuration group."""
    return {str(group): str(option) for group, option in HydraConfig.get().runtime.choices.items()}


def command(cfg: DictConfig) -> Command:
    """The command that repeats this run; for a job of a sweep, only that job."""
    hydra = HydraConfig.get()
    saved = (cfg, OmegaConf.create({"hydra": hydra}), hydra.overrides.task)
    return Command(shlex.join(shortened()), dict(zip(SAVED, map(OmegaConf.to_yaml, saved), strict=True)))


def words() -> list[str]:
    """The command of this job as it was composed: nothing is shortened, so that another process composes the same."""
    return [*_head(), *(line for line in HydraConfig.get().overrides.task if not line.startswith("resume="))]


def shortened() -> list[str]:
    """The words of `command`, for readers."""
    given = [line for line in words()[len(_head()) :] if line != "init=path"]
    given.sort(key=lambda line: not line.startswith("experiment="))  # the experiment comes first, for the reader
    return [*_head(), *(re.sub(r"^\+*init\.path=", "init=", line) for line in given)]


def config_folder() -> Path | None:
    """The user's own folder of configurations, from `--config-dir`."""
    folders = [s.path for s in HydraConfig.get().runtime.config_sources if s.provider == "command-line"]
    return Path(str(folders[0])) if folders else None


def _head() -> list[str]:
    """The program, the verb, and the configuration that the job was composed from."""
    hydra = HydraConfig.get()
    words = ["detect", "train"]
    words += ["--config-dir", str(folder)] if (folder := config_folder()) else []
    return words + (["--config-name", str(hydra.job.config_name)] if hydra.job.config_name != "train" else [])
