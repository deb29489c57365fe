"""What the files of a configuration may set in Hydra's own node, which also names code.

Hydra builds its launcher, sweeper, callbacks and logging from names, sets environment variables, and a launcher writes
text into shell scripts. A file may be a stranger's. So in these nodes (GUARDED) a file may set numbers, switches and
the texts of TEXTS and FREE; all other text must stand on the command line. `trust=[hydra]` lets the files set all.

A text with an interpolation is refused unless it is one of TEXTS: it could have another value when Hydra reads it.
"""

import fnmatch
import re
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detect.config import trust
from detect.config.tree import below, nodes, read_yaml
from detect.errors import ConfigError

GUARDED = ("launcher", "sweeper", "callbacks", "job_logging", "hydra_logging", "job.env_set", "job.name")
"""The nodes below `hydra` that are checked."""

EMPTY = ("callbacks", "job.env_set", "launcher.additional_parameters", "launcher.setup", "sweeper.search_space")
"""Nodes that a file must leave empty: code, environment variables, lines of shell scripts, and overrides."""

TEXTS = frozenset(
    (
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper",
        "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
        *(f"optuna.samplers.{name}Sampler" for name in ("TPE", "Random", "CmaEs", "Grid", "NSGAII", "MOTPE")),
        *("logging.StreamHandler", "logging.FileHandler", "detect.runs.log.Console", "detect.runs.log.Memory"),
        *("ext://sys.stdout", "ext://sys.stderr"),
        *("${hydra.runtime.output_dir}/${hydra.job.name}.log", "hydra-${hydra.job.name}.log"),
        *("${hydra.sweep.dir}/.submitit/%j", "${hydra.job.name}"),
        *("processes", "n_jobs", "2*n_jobs", "auto", "r", "w", "a", "utf-8", "maximize", "minimize", "???"),
    )
)
"""The texts of Hydra's own options and of the packaged ones."""

FREE = {
    r"[^\n\r$]*": ("*_logging.formatters.*.format", "*_logging.formatters.*.datefmt"),
    r"\w[\w.-]*": (
        *("*_logging.*.level", "*_logging.*.formatter", "*_logging.*.handlers.*", "*_logging.*.filters.*", "job.name"),
        *(f"launcher.{key}" for key in ("name", "partition", "qos", "account", "constraint", "exclude", "comment")),
        "sweeper.study_name",
    ),
    r"[\w.:-]+": ("launcher.gres", "launcher.mem_per_gpu", "launcher.mem_per_cpu"),
}
"""Further texts that a file may set, as a pattern, and the globs of their keys."""

ELSEWHERE = {
    "hydra.searchpath": "a folder of configurations is --config-dir DIR",
    "hydra.sweeper.params": "give the values themselves, as in -m seed=0,1",
}
"""Keys that a command line has another way for."""

_NAME = re.compile(r"[\w.-]*", re.ASCII)
_VARIED = re.compile(r"[+~]{0,2}(?!hydra\b|trust\b)[A-Za-z_][\w./@:]*", re.ASCII)


def refuse_given(given: Iterable[Override]) -> None:
    """Raises ConfigError for a key of ELSEWHERE. given: the overrides of the command line for Hydra's node."""
    for override in given:
        for key, told in ELSEWHERE.items():
            if override.key_or_group == key or below(override.key_or_group, [key]):
                raise ConfigError(f"{override.input_line}: the command line does not take {key}; {told}")


def refuse(cfg: DictConfig, given: Iterable[Override], lines: Iterable[str]) -> None:
    """Raises ConfigError for what a file sets in Hydra's node and may not set, and for what nobody may set.

    cfg: a composed configuration, with Hydra's node. given: the overrides of the command line for this node.
    lines: all overrides that it was composed with.
    """
    raw = OmegaConf.to_container(cfg.hydra) if isinstance(cfg.get("hydra"), DictConfig) else None
    if not isinstance(raw, dict) or not all(isinstance(raw.get(key), dict) for key in ("job", "overrides")):
        raise ConfigError("hydra: expected the keys of Hydra below it")
    if (mode := raw.get("mode")) is not None:  # else each cell would be a sweep of its own, without an end
        raise ConfigError(f"hydra.mode={getattr(mode, 'name', mode)}: it can't be set; a sweep is detect train -m")
    if raw["job"].get("chdir"):
        raise ConfigError("hydra.job.chdir=true: it can't be set, as paths are relative to the current folder")
    if "hydra" in trust.trusted():
        return
    own = [o.key_or_group.removeprefix("hydra.") for o in given if o.key_or_group.startswith("hydra.")]
    made_up = {str(line) for kind in ("hydra", "task") for line in raw["overrides"].get(kind) or ()} - set(lines)
    for line in made_up - {"hydra.mode=RUN", "hydra.mode=MULTIRUN"}:
        raise ConfigError(f"hydra.overrides: only Hydra may set it, but a file has {line}")
    for guarded in GUARDED:
        head, _, last = guarded.rpartition(".")
        value = (raw[head] if head else raw).get(last)
        for key, each in [(guarded, value), *nodes(value, guarded)]:
            if not (key in own or below(key, own)) and not _legal(key, each):
                shown = each if isinstance(each, str) else "..."
                raise ConfigError(
                    f"hydra.{key}={shown}: a file may not set this, as it can run code. If you know what it does, give "
                    f"it on the command line, or let files set all that is Hydra's: {trust.KEY}=[hydra]"
                )
    if raw.get("output_subdir") not in (None, ".hydra") and "output_subdir" not in own:
        raise ConfigError(f"hydra.output_subdir={raw['output_subdir']}: a file may set .hydra or null only")


def refuse_folders(cfg: DictConfig) -> None:
    """Raises ConfigError for a folder of runs with a control character: a launcher writes it into a shell script.

    It also raises ConfigError for a folder that is named after a value that the configuration does not have.
    """
    for key in ("run.dir", "sweep.dir", "sweep.subdir"):
        try:
            folder = OmegaConf.select(cfg, f"hydra.{key}", throw_on_missing=False)
        except OmegaConfBaseException as error:
            told = str(error).splitlines()[0]
            raise ConfigError(f"hydra.{key}: the folder has no name with these overrides ({told})") from error
        if re.search(r"[\x00-\x1f\x7f]", str(folder)):
            raise ConfigError(f"hydra.{key}={str(folder)!r} is not legal: it has a control character")


def refuse_search_path(file: Path) -> None:
    """Raises ConfigError for a place in `hydra.searchpath` that is no folder: `pkg://mylib` imports a module.

    file: the primary configuration, which alone may set it.
    """
    loaded = read_yaml(file)
    asked: Any = OmegaConf.to_container(loaded) if isinstance(loaded, DictConfig) else {}
    hydra = asked.get("hydra")
    places = hydra.get("searchpath") if isinstance(hydra, dict) else hydra
    for place in places if isinstance(places, list) else [places]:
        text = "" if place is None else str(place)
        package = text.removeprefix("pkg://").partition("/")[0]
        opened = text.startswith("pkg://") and any(
            package == name or package.startswith(f"{name}.") for name in trust.trusted()
        )
        if not (opened or text.startswith("file://") or not ("://" in text or "${" in text)):
            raise ConfigError(
                f"{file}: hydra.searchpath: {text} is not legal: expected folders (file://DIR); a package "
                f"(pkg://mylib.configs) only with {trust.KEY}=[mylib] on the command line"
            )


def _legal(key: str, value: object) -> bool:
    if below(key, EMPTY) and not isinstance(value, dict | list):
        return False
    if key.startswith("sweeper.params"):
        return key == "sweeper.params" or _VARIED.fullmatch(key.removeprefix("sweeper.params.")) is not None
    if not all(_NAME.fullmatch(part) for part in key.split(".")):
        return False
    if value is None or isinstance(value, bool | int | float | Enum | dict | list):
        return True
    return isinstance(value, str) and (
        value in TEXTS
        or any(
            re.fullmatch(pattern, value, re.ASCII) and "://" not in value
            for pattern, globs in FREE.items()
            if any(fnmatch.fnmatchcase(key, glob) for glob in globs)
        )
    )
