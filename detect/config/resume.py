"""`resume=RUN`: the run goes on in its folder, with the overrides that were saved there.

It may be extended: `detect train resume=RUN schedule.steps=2000` trains a finished or unfinished run for longer, and
`schedule.patience` changes when it ends early. `dataset.root` may name the place to which the same data moved. Every
other change makes another run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detect.config import check
from detect.config.fingerprint import changes
from detect.config.grammar import parse, quoted
from detect.config.tree import leaves, load_yaml, read_yaml
from detect.errors import ConfigError, first_few
from detect.files import absolute, read_json

SAVED = ("config.yaml", "hydra.yaml", "overrides.yaml")
"""The files in `.hydra` of a run folder, with Hydra's names: the configuration, Hydra's node, the overrides."""

STEPS, PATIENCE = EXTENDABLE = ("schedule.steps", "schedule.patience")
"""The keys that extend a run with `resume=RUN`; `schedule.steps` may only grow."""

BUDGET, CLASSES, HYDRA = "budget.json", "classes.json", ".hydra"
"""In a run folder: the steps of each stage that fit `minutes` or `epochs`, the classes, and the folder of SAVED."""

MOVABLE = ("dataset.root",)
"""The keys that `resume=RUN` may change and that extend nothing. The data there are compared with those of the run."""


@dataclass(frozen=True)
class Command:
    """The command of a run. line: the words that repeat it, for readers. saved: file of SAVED -> its YAML text."""

    line: str
    saved: Mapping[str, str]


@dataclass(frozen=True)
class Past:
    """A run that is to be resumed: its folder and its configuration.

    config_dir: the user's own folder that the run was composed with. lines: its overrides. cfg: its configuration.
    asked: the keys that the command gives beside `resume=RUN`.
    """

    folder: Path
    config_name: str
    config_dir: str | None
    lines: tuple[str, ...]
    cfg: DictConfig
    asked: tuple[str, ...] = ()

    def refuse_changes(self, cfg: DictConfig) -> None:
        """Raises ConfigError, which names each key that makes `cfg` another run (config.fingerprint)."""
        if STEPS in self.asked:
            refuse_ignored(self.folder / BUDGET, self.cfg.schedule.steps, cfg.schedule.steps)
        extensions(self.cfg, cfg, f"resume={self.folder}", self.asked)


def refuse_ignored(budget: Path, configured: int, wanted: int) -> None:
    """Raises ConfigError for a number of steps that does not extend a run whose steps come from `minutes` or `epochs`.

    budget: the file of its steps, which other runs do not have. configured: the steps of its configuration.
    """
    if not budget.is_file():
        return
    known = dict(leaves({"budget": read_json(budget)}))
    fitted, begun = (known.get(f"budget.{key}.detector", 0) for key in ("steps", "configured"))
    again = wanted == configured and isinstance(begun, int) and configured > begun  # it was extended to these before
    if isinstance(fitted, int) and not again and wanted <= max(fitted, configured):
        raise ConfigError(
            f"{STEPS}={wanted}: the run {budget.parent} has {fitted} steps, which fit its minutes or epochs, and "
            f"{configured} in its configuration; legal are more than {max(fitted, configured)}"
        )


def refuse_other_folder(cfg: DictConfig, folder: str | Path) -> None:
    """Raises ConfigError if a configuration that goes on with a run comes with another run folder."""
    given = cfg.get("resume")
    if given is not None and absolute(str(given), "resume") != absolute(folder, "folder"):
        raise ConfigError(f"resume={given}: this run goes on in its own folder, and the folder is {folder}")


def extensions(
    then: DictConfig, now: DictConfig, where: str, asked: Sequence[str] = (*EXTENDABLE, *MOVABLE)
) -> dict[str, tuple[object, object]]:
    """The keys that extend a run, with their values before and now.

    where: the run, for messages. asked: the keys that may differ.
    Raises ConfigError, which names each key that makes `now` another run.
    """
    changed = changes(then, now)
    lines = [
        f"  {key}: the run has {before}, this command has {after}{_reason(key, before, after, now)}"
        for key, (before, after) in changed.items()
        if key not in (*EXTENDABLE, *MOVABLE) or key not in asked or _reason(key, before, after, now)
    ]
    if lines:
        raise ConfigError(
            f"{where}: it holds a run of another configuration (use another folder; resume=RUN, or extend=True in "
            f"Python, takes only a larger {STEPS}, another {PATIENCE}, or another {MOVABLE[0]} with the same data)\n"
            + "\n".join(lines)
        )
    return {key: values for key, values in changed.items() if key not in MOVABLE}


def _reason(key: str, before: Any, after: Any, now: DictConfig) -> str:
    """Why a change of EXTENDABLE can't extend a run; empty if it can, or if no change of the key can."""
    if key not in EXTENDABLE:
        return ""
    if OmegaConf.select(now, "quantize.enabled"):
        return "; a quantised run can't be extended, because its last stage begins from the end of the float one"
    most = OmegaConf.select(now, "limit.steps")
    if key == STEPS and most is not None and after > most:
        return f"; limit.steps={most} of the run is the most"
    longer = isinstance(before, int) and isinstance(after, int) and after > before
    return "; a run can only become longer" if key == STEPS and not longer else ""


def with_past(lines: Sequence[str], config_name: str, multirun: bool = False) -> tuple[tuple[str, ...], Past | None]:
    """The overrides of the run that `resume=RUN` names, then `lines`, and that run; without `resume=RUN`, only `lines`.

    Raises ConfigError if the folder is not a run folder, and for a sweep.
    """
    parsed = parse(lines)
    asked = [override for override in parsed if override.key_or_group == "resume"]
    primary = check.CONFIG_DIR / f"{config_name}.yaml"
    if not asked or asked[-1].value() is None or (primary.is_file() and "resume" not in read_yaml(primary)):
        return tuple(lines), None
    if multirun:
        raise ConfigError("resume=RUN resumes one run: leave out -m and give one run folder of the sweep")
    past = _past(absolute(str(asked[-1].value()), "resume"))
    place = quoted(str(past.folder))
    given = [override for override in parsed if override not in asked]
    keys = tuple(override.key_or_group for override in given)
    for override in given:
        if override.key_or_group == "hydra.run.dir" and absolute(str(override.value()), "hydra.run.dir") != past.folder:
            raise ConfigError(
                f"hydra.run.dir={override.value()}: resume={past.folder} goes on in its own folder; leave "
                "hydra.run.dir out, or copy the folder and resume the copy"
            )
    own = (str(override.input_line) for override in given)
    return (*past.lines, *own, f"resume={place}", f"hydra.run.dir={place}"), replace(past, asked=keys)


def since_begun(run: Path) -> list[str]:
    """The overrides that `resume=RUN` needs beside it: those by which Python has extended a run of a command."""
    begun, now = run / HYDRA / SAVED[0], run / "config.yaml"
    if not (begun.is_file() and now.is_file()):
        return []
    then, after = _load(begun), _load(now)
    values = [(key, OmegaConf.select(then, key), OmegaConf.select(after, key)) for key in EXTENDABLE]
    return [f"{key}={'null' if new is None else new}" for key, old, new in values if new != old]


def _past(run: Path) -> Past:
    saved = run / HYDRA
    if not all((saved / name).is_file() for name in SAVED):
        jobs = sorted(place.parent.name for place in run.glob(f"*/{HYDRA}"))
        hint = f"; it holds a sweep: give one of its runs ({first_few(jobs)})" if jobs else ""
        if (run / SAVED[0]).is_file():
            hint = "; a run that was begun in Python goes on there, with train(cfg, folder) of detect.api"
        raise ConfigError(f"resume={run}: this is not a run folder, it has no .hydra/config.yaml{hint}")
    hydra: Any = _load(saved / "hydra.yaml").get("hydra")
    cfg = _load(saved / "config.yaml")
    try:
        lines = [str(line) for line in hydra.overrides.task if not str(line).startswith("resume=")]
        folders = [str(s.path) for s in hydra.runtime.config_sources if s.provider == "command-line"]
    except (AttributeError, TypeError, OmegaConfBaseException) as error:
        raise ConfigError(f"{saved / 'hydra.yaml'}: the file is damaged, it has no overrides") from error
    return Past(run, str(hydra.job.config_name), folders[0] if folders else None, tuple(lines), cfg)


def _load(file: Path) -> DictConfig:
    return load_yaml(file, "the run can't be resumed; restore it from a copy, or train in another folder")
