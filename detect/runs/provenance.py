"""The origin of a result: commit, versions, machine and command. Imports no heavy libraries."""

import functools
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

from detect.environment import usable_cores
from detect.errors import DISTRIBUTION

CHECKOUT = Path(__file__).resolve().parent.parent.parent
"""The folder that holds the package: a checkout with .git, or the site-packages of an installation."""

PACKAGES = (
    *("detect", "tensorflow", "tf_keras", "tf-models-official", "tensorboard", "numpy"),
    *("albumentations", "opencv-python-headless", "faster-coco-eval", "hydra-core", "omegaconf"),
)
"""Distributions whose versions can change a result."""


class Commit(TypedDict):
    """The commit of a checkout, and whether tracked files differ from it."""

    commit: str
    dirty: bool


class Host(TypedDict):
    """A machine: processor, usable cores, memory in GB (1e9 bytes), NVIDIA devices, system."""

    cpu: str
    cores: int | None
    memory_gb: float | None
    gpus: list[str]
    system: str


class Provenance(TypedDict):
    """The origin of a result. versions: those of Python and of PACKAGES; None for a missing package."""

    command: str
    git: Commit | None
    versions: dict[str, str | None]
    host: Host


def collect() -> Provenance:
    """The origin of a run for summary.json: plain values that JSON can hold."""
    return {"command": command_line(), "git": git_state(), "versions": versions(), "host": host()}


def command_line() -> str:
    """The command that started this process, without the local path of the program."""
    program, *rest = sys.orig_argv
    if rest and Path(rest[0]).name == "detect":
        return shlex.join(["detect", *rest[1:]])
    return shlex.join([Path(program).name, *rest])


def git_state(folder: Path = CHECKOUT) -> Commit | None:
    """{"commit", "dirty"} of the checkout that the package runs from; None for an installed package or without git."""
    if not (folder / ".git").exists():
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-c", f"safe.directory={folder}", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> dict[str, str | None]:
    """Versions of Python and of each of PACKAGES; None for a missing package."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def version(name: str) -> str | None:
    """The installed version of a distribution, or of this package (`detect`); None if it is not installed."""
    try:
        return importlib.metadata.version(DISTRIBUTION if name == "detect" else name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def host() -> Host:
    """Processor, usable cores, memory in GB, NVIDIA devices and system of this machine."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "memory_gb": memory_gb(),
        "gpus": gpu_models(),
        "system": platform.platform(),
    }


def cpu_model() -> str:
    """The processor's name from /proc/cpuinfo, or else from Python."""
    lines = _lines(Path("/proc/cpuinfo"))
    named = (line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def memory_gb() -> float | None:
    """Total memory in GB (1e9 bytes)."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def gpu_models() -> list[str]:
    """Names of the NVIDIA devices that the driver lists."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return [line.partition(":")[2].strip() for file in files for line in _lines(file) if line.startswith("Model")]


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
