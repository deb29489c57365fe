"""Sweeps: `detect train -m`. A job of a sweep is a cell. It has its own folder and its own process.

If the sweep's folder (`hydra.sweep.dir`) does not depend on the time, the same command continues the sweep: finished
cells are skipped, interrupted cells continue, failed cells run again. Nothing here imports TensorFlow. Every verb
imports this module, so modules that read data or write reports are imported where they are used.
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
"""Launcher or sweeper -> the extra of this package that installs its plugin."""


class CellFailed(UserError):
    """The process of a cell ended without a result. The process itself has printed the reason."""


def grid(cfg: DictConfig) -> tuple[str, ...]:
    """The grid in the configuration (`hydra.sweeper.params`), as overrides."""
    return tuple(f"{key}={value}" for key, value in (cfg.hydra.sweeper.get("params") or {}).items())


def check_plugins(cfg: DictConfig) -> None:
    """Raises ConfigError, which says what to install, if the package of the launcher or sweeper is missing."""
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
            raise ConfigError(f"hydra/{group}={option}: the module {module} is not installed{hint}")


def threads_of_a_cell(cfg: DictConfig) -> int | None:
    """The number of cores that a launcher gives each cell; None if `threads` is given, or if a cell gets all cores.

    The number of threads changes the last bits of a sum, so it becomes part of the cell's configuration.
    """
    launcher, cores = cfg.hydra.launcher, os.cpu_count() or 1
    if cfg.get("threads", 0) is not None:
        return None
    if "n_jobs" in launcher:
        return max(1, cores // (cores if launcher.n_jobs == -1 else launcher.n_jobs))
    cpus: int | None = OmegaConf.select(launcher, "cpus_per_task") or OmegaConf.select(launcher, "ray.remote.num_cpus")
    return cpus


class Cells:
    """The folders of a sweep's cells that are known before the first cell starts."""

    def __init__(self) -> None:
        self._overrides: dict[Path, str] = {}

    def add(self, cfg: DictConfig, overrides: str) -> None:
        """Adds the next cell. overrides: the overrides of this cell, for messages.

        Raises ConfigError if another cell has the same folder, or if the folder has a run with another configuration.
        """
        with read_write(cfg.hydra):
            cfg.hydra.job.num = len(self._overrides)
        folder = Path(str(cfg.hydra.sweep.dir)) / str(cfg.hydra.sweep.subdir)
        if folder in self._overrides:
            raise ConfigError(
                f"two cells would share the folder {folder}: {self._overrides[folder]} and {overrides}; put the keys "
                "that differ into hydra.sweep.subdir, for example hydra.sweep.subdir='${hydra.job.num}'"
            )
        self._overrides[folder] = overrides
        RunFolder(folder).extensions(cfg)


def run_cell(folder: Path, words: Sequence[str]) -> float | None:
    """Trains a job as a separate run in a new process. This frees its memory, and a crash does not stop the sweep.

    Returns the objective. Raises CellFailed, or KeyboardInterrupt if a signal stopped the cell.
    """
    command = [sys.executable, "-m", "detect.cli", *words[1:], f"hydra.run.dir={quoted(str(folder))}"]
    process = subprocess.Popen(command, preexec_fn=_die_with_parent if sys.platform == "linux" else None)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the cell has the same signal, and saves its state
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if code == 130:
        raise KeyboardInterrupt
    if code:
        if not RunFolder(folder).failed.exists():
            record(folder, UserError(f"the process ended with {_ending(code)} and without a message"))
        raise CellFailed(RunFolder(folder).failed.read_text(encoding="utf-8"))
    return RunFolder(folder).objective()


def _die_with_parent() -> None:
    """Asks Linux to end this process when its parent ends, also by SIGKILL."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _ending(code: int) -> str:
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"{signal.Signals(-code).name}{hint}" if code < 0 else f"code {code}"


def record(folder: Path, error: Exception) -> None:
    """Writes the error of a failed run into its folder. It stays there until the next try."""
    lines = [str(error)]
    if not isinstance(error, UserError):
        first = (str(error).splitlines() or [""])[0]
        lines = [f"{type(error).__name__}: {first}", "", *traceback.format_exception(error)]
    text = "\n".join(line.rstrip("\n") for line in lines) + "\n"
    RunFolder(folder).failed.write_text(text, encoding="utf-8", errors="backslashreplace")


def forget_failure(folder: Path) -> None:
    """Removes the recorded error before a run is tried again."""
    RunFolder(folder).failed.unlink(missing_ok=True)


def failures(folder: Path, since: float) -> list[str]:
    """A line for each cell that failed since a time (seconds since the epoch)."""
    files = [file for file in sorted(folder.rglob(FAILED)) if file.stat().st_mtime >= since]
    return [f"{file.parent.relative_to(folder)}: {file.read_text(encoding='utf-8').splitlines()[0]}" for file in files]
