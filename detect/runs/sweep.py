"""Sweeps: `detect train -m`. A job of a sweep is a cell. It has its own folder and its own process.

If the sweep's folder (`hydra.sweep.dir`) does not depend on the time, the same command continues the sweep: finished
cells are skipped, interrupted cells continue, failed cells run again. Nothing here imports TensorFlow. Every verb
imports this module, so modules that read data or write reports are imported where they are used.

The main process owns the sweep: it holds the lock of the folder. A launcher may put processes between it and the cells.
A signal to the main process stops all cells, which save their state. Its death ends them: a cell watches its owner.
"""

import contextlib
import ctypes
import fcntl
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import psutil
from omegaconf import DictConfig, OmegaConf, read_write

from detect import files
from detect.config import trust
from detect.config.grammar import quoted
from detect.environment import usable_cores
from detect.errors import ConfigError, InUse, UserError, to_install
from detect.files import write_text
from detect.runs.folder import FAILED, LOCK, RunFolder
from detect.runs.signals import STOPPING, handled

log = logging.getLogger("detect")
EXTRAS = {"joblib": "sweep", "submitit": "sweep", "optuna": "sweep", "ray": "ray"}
"""Launcher or sweeper -> the extra of this package that installs its plugin."""
OWNER = "DETECT_SWEEP"
"""The environment variable that tells the processes of a sweep its main process: number and time of start."""

SWEEP_LOCK = "sweep.lock"
WATCHED_EVERY = 0.5  # seconds
PATIENCE = 10.0  # seconds that cells of a dead sweep may take to end


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
        if not trust.found(module):
            extra = EXTRAS.get(option.partition("_")[0])
            hint = f": {to_install(extra)}" if extra else ""
            raise ConfigError(f"hydra/{group}={option}: the module {module} is not installed{hint}")


def threads_of_a_cell(cfg: DictConfig) -> int | None:
    """The number of cores that a launcher gives each cell; None if `threads` is given, or if a cell gets all cores.

    The number of threads changes the last bits of a sum, so it becomes part of the cell's configuration.
    """
    launcher, cores = cfg.hydra.launcher, usable_cores()
    if cfg.get("threads", 0) is not None:
        return None
    if "n_jobs" in launcher:
        if not isinstance(jobs := launcher.n_jobs if launcher.n_jobs is not None else 1, int) or jobs < -1 or not jobs:
            raise ConfigError(f"hydra.launcher.n_jobs={jobs}: legal are numbers of 1 or more, and -1 for one per core")
        return max(1, cores // (cores if jobs == -1 else jobs))
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
        refuse_in_use(folder)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the cells, in order."""
        return tuple(self._overrides)


def in_use(folder: Path) -> bool:
    """Whether another process trains in a run folder. It changes nothing there."""
    return _held(folder / LOCK)


def _held(lock: Path) -> bool:
    """Whether an open file of another process, or of this one, holds a lock."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def refuse_in_use(folder: Path) -> None:
    """Raises InUse if another process trains in a run folder. It waits for the cells of a sweep that was killed."""
    end = time.monotonic() + PATIENCE
    while in_use(folder):
        if time.monotonic() > end or not _orphaned(folder):
            raise InUse(f"run folder {folder}: another process is training in it")
        time.sleep(0.1)


def _orphaned(folder: Path) -> bool:
    """Whether no process holds the lock of the sweep that a cell's folder belongs to."""
    places = (parent / SWEEP_LOCK for parent in folder.absolute().parents[:3])
    locks = [place for place in places if place.is_file()]
    return bool(locks) and not any(map(_held, locks))


@contextlib.contextmanager
def owned(folder: Path, launcher: str) -> Iterator[None]:
    """Makes this process the owner of a sweep: it locks the folder, and a signal stops the cells before it raises.

    launcher: the `_target_` of the launcher; jobs of submitit live on without their sweep. Raises InUse, and
    KeyboardInterrupt after a signal of STOPPING.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / SWEEP_LOCK).open("a") as lock:
        try:
            files.lock(lock, wait=False)
        except BlockingIOError:
            raise InUse(
                f"hydra.sweep.dir={folder}: another sweep is running in it; wait, or name another folder"
            ) from None
        if "submitit" not in launcher:
            os.environ[OWNER] = _identity(os.getpid()) or ""
        try:
            with handled(_stop, *STOPPING):
                yield
        finally:
            os.environ.pop(OWNER, None)


def _identity(number: int) -> str | None:
    """A process by number and time of start; None if there is none."""
    try:
        return f"{number}:{psutil.Process(number).create_time()}"
    except psutil.Error:
        return None


def owner_is_gone() -> bool:
    """Whether this process belongs to a sweep whose main process has ended."""
    owner = os.environ.get(OWNER)
    return bool(owner) and _identity(int(str(owner).partition(":")[0])) != owner


@functools.cache
def end_with_owner() -> None:
    """Ends this process, a cell's or a launcher's, within a second when its parent or the owner of its sweep ends."""
    if os.environ.get(OWNER) in (None, _identity(os.getpid())):
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and not owner_is_gone():
            time.sleep(WATCHED_EVERY)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="sweep-owner", daemon=True).start()


def _stop(number: int, frame: FrameType | None) -> None:
    """Lets all cells save and end, also those that a launcher begins meanwhile; a second signal stops them at once."""
    told: set[int] = set()
    quiet = 0
    while quiet < 5:
        cells = _cells()
        quiet = 0 if cells else quiet + 1
        for cell in cells:
            if cell.pid not in told:
                told.add(cell.pid)
                with contextlib.suppress(psutil.Error):
                    cell.terminate()
        time.sleep(0.1)
    raise KeyboardInterrupt


def _cells() -> list[psutil.Process]:
    """The living processes of cells below this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if "detect.cli" in words and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def run_cell(folder: Path, words: Sequence[str]) -> float | None:
    """Trains a job as a separate run in a new process. This frees its memory, and a crash does not stop the sweep.

    Returns the objective. Raises CellFailed; InUse if another process trains in the folder; KeyboardInterrupt if a
    signal stopped the cell.
    """
    command = [sys.executable, "-m", "detect.cli", *words[1:], f"hydra.run.dir={quoted(str(folder))}"]
    process = subprocess.Popen(
        command,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        env=os.environ | ({} if {"", os.getcwd()} & set(sys.path) else {"PYTHONSAFEPATH": "1"}),
        start_new_session=True,  # Ctrl-C reaches the main process alone, which passes it on once
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(handled(lambda *_: process.terminate(), signal.SIGTERM))
        if os.environ.get(OWNER) != _identity(os.getpid()):  # a launcher's process, which gets SIGHUP beside the owner
            told = OWNER in os.environ
            stack.enter_context(handled(lambda *_: None if told else process.terminate(), signal.SIGHUP))
        try:
            code = process.wait()
        except KeyboardInterrupt:
            if OWNER not in os.environ:  # else the main process of the sweep has told the cell
                process.terminate()
            process.wait()
            raise
    if code == 130 or -code in STOPPING or owner_is_gone():
        raise KeyboardInterrupt
    if code and in_use(folder):
        raise InUse(f"run folder {folder}: another process is training in it")
    if code:
        failed, unsaid = RunFolder(folder).failed, f"the process ended with {_ending(code)} and without a message"
        if not failed.exists():
            record(folder, UserError(unsaid))
        raise CellFailed(failed.read_text(encoding="utf-8") if failed.exists() else unsaid)
    return RunFolder(folder).objective()


def _die_with_parent() -> None:
    """Asks Linux to end this process when its parent ends, also by SIGKILL."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _ending(code: int) -> str:
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"{signal.Signals(-code).name}{hint}" if code < 0 else f"code {code}"


def record(folder: Path, error: Exception) -> None:
    """Writes the error of a failed run into its folder, if the disk takes it. It stays there until the next try."""
    lines = [str(error)]
    if not isinstance(error, UserError):
        first = (str(error).splitlines() or [""])[0]
        lines = [f"{type(error).__name__}: {first}", "", *traceback.format_exception(error)]
    text = "\n".join(line.rstrip("\n") for line in lines) + "\n"
    with contextlib.suppress(OSError):
        write_text(RunFolder(folder).failed, text.encode("utf-8", "backslashreplace").decode())


def forget_failure(folder: Path) -> None:
    """Removes the recorded error before a run is tried again."""
    RunFolder(folder).failed.unlink(missing_ok=True)


def failures(folder: Path, since: float) -> list[str]:
    """A line for each cell that failed since a time (seconds since the epoch)."""
    files = [file for file in sorted(folder.rglob(FAILED)) if file.stat().st_mtime >= since]
    texts = [
        file.read_text(encoding="utf-8").splitlines() or ["there is no message; was the disk full?"] for file in files
    ]
    return [f"{file.parent.relative_to(folder)}: {lines[0]}" for file, lines in zip(files, texts, strict=True)]
