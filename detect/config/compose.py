"""From overrides to a checked configuration; the command line takes the same way, so this is its walk too.

1. `understood`: short ways are written out (config.shorthand); after `resume=RUN` come the run's own (config.resume).
2. `parse`: each override is parsed, once (config.grammar); `Composer.fitted` adds what a new `_target_` implies
   (config.retarget); `jobs` makes a sweep's overrides those of its jobs.
3. `Composer.checked`: every group, option and key of a job is legal; Hydra composes it (config.composer).
4. `check`: nothing is missing, and every value and argument is legal (config.check).

`detect VERB` takes steps 1 to 4 before Hydra starts the job (cli.overrides); what Hydra hands to the job is checked
again only if it is not what has been checked, as in a process that a launcher started (cli.main).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig, open_dict, read_write

from detect.config import check
from detect.config.composer import Composer
from detect.config.grammar import jobs, parse
from detect.config.resume import Past, with_past
from detect.config.shorthand import written_out
from detect.errors import ConfigError

DEFAULT = "train"
"""The configuration that is composed where none is named."""


@dataclass(frozen=True)
class Request:
    """What is to be composed, as a user says it.

    config_dir: the user's own folder, from `config_folder`. past: the run that it goes on with, once it is understood.
    named: whether the user has named the configuration, so that a past run's name does not count.
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


def compose(
    overrides: Sequence[str] = (), config_name: str = DEFAULT, config_dir: str | Path | None = None
) -> DictConfig:
    """The configuration that `detect CONFIG_NAME --config-dir CONFIG_DIR OVERRIDES` runs with, checked as it would be.

    It may be called any number of times, within a job, too: Hydra's state is afterwards what it was before. Neither
    folder nor log is made, and TensorFlow is not imported.

    Raises ConfigError, with the message of the command line, for what is not legal, a sweep among it.
    """
    folder = None if config_dir is None else config_folder(config_dir)
    name = config_name.removesuffix(".yaml")
    request = understood(Request(tuple(overrides), name, folder, named=name != DEFAULT))
    with request.composer.ready() as composer:
        asked = composer.fitted(parse(request.lines))
        (job,) = jobs(asked, composer.groups, multirun=False)
        composed = composer.checked(job)
        if request.past:
            request.past.refuse_changes(composed)
        check.check(composed)
    cfg = copy.deepcopy(composed)
    with read_write(cfg), open_dict(cfg):
        del cfg["hydra"]
    return cfg


def understood(request: Request) -> Request:
    """The request with its short ways written out, and with the overrides of the run that it resumes.

    Raises ConfigError for an `init` or `resume` that is nothing.
    """
    composer = request.composer
    written = written_out(request.lines, request.config_name, composer.groups, composer.folders, request.multirun)
    lines, past = with_past(written, request.config_name, request.multirun)
    if past is None:
        return replace(request, lines=lines)
    folder = config_folder(past.config_dir) if request.config_dir is None and past.config_dir else request.config_dir
    name = request.config_name if request.named else past.config_name
    return replace(request, lines=lines, config_name=name, config_dir=folder, past=past)


def config_folder(name: str | Path) -> Path:
    """A user's own folder of YAML files. Raises ConfigError if there is none, or a packaged file would hide one."""
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {name}: no such folder")
    for file in sorted(folder.rglob("*.yaml")):
        packaged = check.CONFIG_DIR / file.relative_to(folder)
        if packaged.is_file() and packaged.read_bytes() != file.read_bytes():
            raise ConfigError(f"{file} would be hidden by the packaged file of that name: give it another name")
    return folder
