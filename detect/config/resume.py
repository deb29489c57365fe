"""`resume=RUN`: the run goes on in its folder, with the overrides that Hydra saved there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from detect.config import check
from detect.config.fingerprint import differences
from detect.config.grammar import parse, quoted
from detect.errors import ConfigError
from detect.files import absolute

SAVED = ("config.yaml", "hydra.yaml", "overrides.yaml")
"""The files that Hydra writes into `.hydra` of a run folder."""


@dataclass(frozen=True)
class Past:
    """A run that is to be resumed: its folder and its configuration.

    config_dir: the user's own folder that the run was composed with. lines: its overrides. cfg: its configuration.
    """

    folder: Path
    config_name: str
    config_dir: str | None
    lines: tuple[str, ...]
    cfg: DictConfig

    def refuse_changes(self, cfg: DictConfig) -> None:
        """Raises ConfigError, which names each key that makes `cfg` another run (config.fingerprint)."""
        changed = differences(self.cfg, cfg)
        if changed:
            head = f"resume={self.folder}: the configuration differs from that run's; a changed one needs a new run"
            raise ConfigError("\n".join([head, *changed]))


def with_past(lines: Sequence[str], config_name: str, multirun: bool = False) -> tuple[tuple[str, ...], Past | None]:
    """The overrides of the run that `resume=RUN` names, then `lines`, and that run; without `resume=RUN`, only `lines`.

    Raises ConfigError if the folder is not a run folder, and for a sweep.
    """
    asked = [line for line in lines if line.startswith("resume=") and line != "resume=null"]
    primary = check.CONFIG_DIR / f"{config_name}.yaml"
    if not asked or (primary.is_file() and "resume" not in OmegaConf.load(primary)):
        return tuple(lines), None
    if multirun:
        raise ConfigError("resume=RUN resumes one run: leave out -m and give one run folder of the sweep")
    past = _past(absolute(str(parse(asked[-1:])[0].value()), "resume"))
    place = quoted(str(past.folder))
    own = [line for line in lines if line not in asked]
    return (*past.lines, *own, f"resume={place}", f"hydra.run.dir={place}"), past


def _past(run: Path) -> Past:
    saved = run / ".hydra"
    if not all((saved / name).is_file() for name in SAVED):
        jobs = sorted(place.parent.name for place in run.glob("*/.hydra"))
        hint = f"; it holds a sweep: give one of its runs ({', '.join(jobs[:5])})" if jobs else ""
        raise ConfigError(f"resume={run}: this is not a run folder, it has no .hydra/config.yaml{hint}")
    hydra: Any = OmegaConf.load(saved / "hydra.yaml").hydra
    lines = [str(line) for line in hydra.overrides.hydra if str(line).startswith("hydra.searchpath=")]
    lines += [str(line) for line in hydra.overrides.task if not str(line).startswith("resume=")]
    folders = [str(s.path) for s in hydra.runtime.config_sources if s.provider == "command-line"]
    cfg = OmegaConf.load(saved / "config.yaml")
    assert isinstance(cfg, DictConfig)
    return Past(run, str(hydra.job.config_name), folders[0] if folders else None, tuple(lines), cfg)
