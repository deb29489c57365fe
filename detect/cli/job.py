"""Hydra's information about the running job: its folder, its command and whether it belongs to a sweep.

No other module reads Hydra's global state. `detect.config.composer` sets it while it composes, and restores it.
"""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode


def folder() -> Path:
    """The folder that this run writes its files into."""
    return Path(HydraConfig.get().runtime.output_dir)


def leaves_files() -> bool:
    """Whether the job has a folder of its own; a verb that only prints has none."""
    return bool(HydraConfig.get().output_subdir)


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


def command() -> list[str]:
    """The words of the `detect train ...` that repeats this run; for a job of a sweep, only that job."""
    hydra = HydraConfig.get()
    words = ["detect", "train"]
    folders = [str(s.path) for s in hydra.runtime.config_sources if s.provider == "command-line"]
    words += ["--config-dir", folders[0]] if folders else []
    words += ["--config-name", str(hydra.job.config_name)] if hydra.job.config_name != "train" else []
    words += [line for line in hydra.overrides.hydra if line.startswith("hydra.searchpath=")]
    given = [line for line in hydra.overrides.task if not line.startswith("resume=") and line != "init=path"]
    given.sort(key=lambda line: not line.startswith("experiment="))  # the experiment comes first, for the reader
    return [*words, *(line.replace("init.path=", "init=", 1) for line in given)]
