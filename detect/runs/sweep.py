"""Sweeps: `detect train -m`. A job of a sweep is a cell, with a folder and a process of its own.

Where the sweep's folder does not change with the time (`hydra.sweep.dir`), the same command again goes on: a cell that
has ended is skipped, one that was cut off goes on, one that failed is tried again. Nothing here imports TensorFlow,
and what reads data or reports is imported where it is used, as every verb passes through here.
"""

import ctypes
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, read_write

from detect.config.grammar import quoted
from detect.errors import ConfigError, UserError
from detect.runs.folder import FAILED, RunFolder

log = logging.getLogger("detect")
EXTRAS = {"joblib": "sweep", "submitit": "sweep", "optuna": "sweep", "ray": "ray"}
"""Which extra of this package brings the plugin of a launcher or a sweeper."""


class CellFailed(UserError):
    """A cell's process ended without a result; it has said why itself."""


def grid(cfg: DictConfig) -> tuple[str, ...]:
    """The grid that the configuration itself asks for (`hydra.sweeper.params`), as overrides."""
    return tuple(f"{key}={value}" for key, value in (cfg.hydra.sweeper.get("params") or {}).items())


def check_plugins(cfg: DictConfig) -> None:
    """Raises ConfigError, saying what to install, for a launcher or sweeper whose package is missing."""
    for group in ("launcher", "sweeper"):
        module = str(cfg.hydra[group]["_target_"]).rpartition(".")[0]
        option = str(cfg.hydra.runtime.choices[f"hydra/{group}"])
        try:
            found = importlib.util.find_spec(module)
        except ImportError:
            found = None
        if found is None:
            extra = EXTRAS.get(option.partition("_")[0])
            hint = f": pip install 'detect[{extra}]'" if extra else ""
            raise ConfigError(f"hydra/{group}={option}: there is no {module} here{hint}")


def threads_of_a_cell(cfg: DictConfig) -> int | None:
    """The cores that a launcher leaves to each cell; None where `threads` is given, or a cell has all of them.

    The number of threads decides the last bits of a sum: it becomes part of the cell's configuration.
    """
    launcher, cores = cfg.hydra.launcher, os.cpu_count() or 1
    if cfg.get("threads", 0) is not None:
        return None
    if "n_jobs" in launcher:
        return max(1, cores // (cores if launcher.n_jobs == -1 else launcher.n_jobs))
    cpus: int | None = OmegaConf.select(launcher, "cpus_per_task") or OmegaConf.select(launcher, "ray.remote.num_cpus")
    return cpus


class Cells:
    """The folders of a sweep's cells, as far as they are known before the first one starts."""

    def __init__(self) -> None:
        self._overrides: dict[Path, str] = {}

    def add(self, cfg: DictConfig, overrides: str) -> None:
        """Takes in the next cell. overrides: what makes it this cell, for messages.

        Raises ConfigError if another one has its folder, or a run of another configuration is in it.
        """
        with read_write(cfg.hydra):
            cfg.hydra.job.num = len(self._overrides)
        folder = Path(str(cfg.hydra.sweep.dir)) / str(cfg.hydra.sweep.subdir)
        if folder in self._overrides:
            raise ConfigError(
                f"two cells would share the folder {folder}: {self._overrides[folder]} and {overrides}; name what "
                "differs in hydra.sweep.subdir, such as hydra.sweep.subdir='${hydra.job.num}'"
            )
        self._overrides[folder] = overrides
        RunFolder(folder).refuse_another(cfg)


def run_cell(folder: Path, words: Sequence[str]) -> float | None:
    """Trains a job as a run of its own, in a new process: its memory ends with it, and its death is its own.

    Returns the objective. Raises CellFailed, and KeyboardInterrupt where the cell was stopped by a signal.
    """
    command = [sys.executable, "-m", "detect.cli", *words[1:], f"hydra.run.dir={quoted(str(folder))}"]
    process = subprocess.Popen(command, preexec_fn=_die_with_parent if sys.platform == "linux" else None)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    except KeyboardInterrupt:  # it has had the same signal, and saves its state
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if code == 130:
        raise KeyboardInterrupt
    if code:
        if not RunFolder(folder).failed.exists():
            record(folder, UserError(f"ended with {_ending(code)}, and left no message"))
        raise CellFailed(RunFolder(folder).failed.read_text())
    return RunFolder(folder).objective()


def _die_with_parent() -> None:
    """Asks Linux to end this process when the one that started it ends, which may be by SIGKILL."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _ending(code: int) -> str:
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"{signal.Signals(-code).name}{hint}" if code < 0 else f"code {code}"


def record(folder: Path, error: Exception) -> None:
    """Keeps what a run failed of in its folder, until the next try."""
    lines = [str(error)]
    if not isinstance(error, UserError):
        first = (str(error).splitlines() or [""])[0]
        lines = [f"{type(error).__name__}: {first}", "", *traceback.format_exception(error)]
    RunFolder(folder).failed.write_text("\n".join(line.rstrip("\n") for line in lines) + "\n")


def forget_failure(folder: Path) -> None:
    """A run is tried again."""
    RunFolder(folder).failed.unlink(missing_ok=True)


def failures(folder: Path, since: float) -> list[str]:
    """A line for each cell that failed since a time (seconds of the epoch)."""
    files = [file for file in sorted(folder.rglob(FAILED)) if file.stat().st_mtime >= since]
    return [f"{file.parent.relative_to(folder)}: {file.read_text().splitlines()[0]}" for file in files]
