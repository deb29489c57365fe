"""From overrides to a checked configuration. The command line takes the same steps:

1. `understood` writes out short forms (config.shorthand). `resume=RUN` adds the overrides of that run (config.resume).
2. `parse` parses each override once (config.grammar). `Composer.fitted` adds the overrides that a new `_target_`
   implies (config.retarget). `jobs` splits the overrides of a sweep into those of its jobs.
3. `Composer.checked` checks every group, option and key of a job, and Hydra composes it (config.composer).
4. `check` checks that nothing is missing, and that every value and argument is legal (config.check).

`detect VERB` takes steps 1 to 4 before Hydra starts the job (cli.overrides). The job checks its configuration again
only if it is not one of those already checked, for example in a process that a launcher started (cli.main).
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from omegaconf import DictConfig, open_dict, read_write

from detect.config import check, trust
from detect.config.composer import Composer
from detect.config.grammar import jobs, parse
from detect.config.resume import Past, with_past
from detect.config.shorthand import written_out
from detect.errors import ConfigError
from detect.files import absolute, unswollen

MOST_FILES = 10_000
"""The most files in a user's own folder of YAML files: it is searched several times."""

DEFAULT = "train"
"""The configuration that is composed if none is named."""


@dataclass(frozen=True)
class Request:
    """A configuration that a user asks for.

    config_dir: the user's own folder, from `config_folder`. past: the run that is resumed; `understood` sets it.
    named: whether the user named the configuration; then the name of a resumed run is ignored.
    """

    lines: tuple[str, ...]
    config_name: str = DEFAULT
    config_dir: Path | None = None
    multirun: bool = False
    named: bool = False
    past: Past | None = None

    @property
    def composer(self) -> Composer:
        return Composer(self.config_name, self.config_dir)

    def refuse(self, cfg: DictConfig) -> None:
        """Raises ConfigError if `cfg` is another run than the resumed one, or if a file names a run to resume."""
        if self.past is not None:
            self.past.refuse_changes(cfg)
        elif cfg.get("resume") is not None:
            given = f"resume={cfg.resume}"
            raise ConfigError(f"{given}: a file may not set it; give {given} on the command line")


def compose(
    overrides: Sequence[str] = (), config_name: str = DEFAULT, config_dir: str | Path | None = None
) -> DictConfig:
    """The configuration that `detect CONFIG_NAME --config-dir CONFIG_DIR OVERRIDES` runs with, after the same checks.

    It may be called any number of times, also within a job: it restores Hydra's state. It writes no folder and no
    log, and it does not import TensorFlow.

    Raises ConfigError, with the message of the command line, for anything illegal, and for a sweep.
    """
    folder = None if config_dir is None else config_folder(config_dir)
    name = config_name.removesuffix(".yaml")
    with trust.trusting(trust.asked(overrides)):
        return _composed(Request(tuple(overrides), name, folder, named=name != DEFAULT))


def _composed(request: Request) -> DictConfig:
    request = understood(request)
    with request.composer.ready() as composer:
        asked = composer.fitted(parse(request.lines))
        (job,) = jobs(asked, composer.groups, multirun=False)
        cfg = composer.checked(job)
        request.refuse(cfg)
        check.check(cfg)
    with read_write(cfg), open_dict(cfg):
        del cfg["hydra"]
    return cfg


def understood(request: Request) -> Request:
    """The request with its short forms written out, and with the overrides of the run that it resumes.

    Raises ConfigError for an `init` or `resume` that names nothing.
    """
    composer = request.composer
    written = written_out(request.lines, request.config_name, composer.groups, composer.folders, request.multirun)
    lines, past = with_past(written, request.config_name, request.multirun)
    if past is None:
        return replace(request, lines=lines)
    count = len(past.lines)
    lines = (*_without_code(lines[:count]), *lines[count:])
    folder = config_folder(past.config_dir) if request.config_dir is None and past.config_dir else request.config_dir
    name = request.config_name if request.named else past.config_name
    return replace(request, lines=lines, config_name=name, config_dir=folder, past=past)


def _without_code(lines: Iterable[str]) -> list[str]:
    """The saved overrides of a run, which may be a stranger's, without `trust` and Hydra's own keys."""
    return [str(o.input_line) for o in parse(lines) if o.key_or_group != trust.KEY and not o.is_hydra_override()]


def config_folder(name: str | Path) -> Path:
    """A user's own folder of YAML files. Raises ConfigError if it does not exist or a packaged file hides one in it."""
    folder = absolute(name, "--config-dir")
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {name}: no such folder")
    try:
        found = list(itertools.islice(folder.rglob("*"), MOST_FILES + 1))
    except OSError as error:
        raise ConfigError(f"--config-dir {name}: it can't be listed: {error}") from None
    if len(found) > MOST_FILES:
        raise ConfigError(
            f"--config-dir {name}: it holds more than {MOST_FILES} files; name the folder of the YAML files"
        )
    files = sorted(file for file in found if file.suffix == ".yaml")
    for file in files:
        packaged = check.CONFIG_DIR / file.relative_to(folder)
        if packaged.is_file() and packaged.read_bytes() != file.read_bytes():
            raise ConfigError(f"{file}: the packaged file of that name hides it; give it another name")
        try:
            unswollen(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: the file is damaged ({error})") from error
    return folder
