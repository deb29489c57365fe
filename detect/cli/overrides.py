"""Reads a command line and checks all its jobs before Hydra starts the first one.

`read` splits the command line into flags and overrides. `prepare` passes the overrides through the steps of
`detect.config.compose`: each job is parsed, composed and checked once. It writes out the overrides that Hydra does not
know, and returns the command (to cli.main). Hydra then composes each job again from the same overrides.

Checked in advance are the single job, or the jobs of a sweep: all cells of a study, otherwise the first CHECKED_JOBS.
Later jobs, and those whose values a sampler draws, are checked when they start.

A typo costs a second and leaves no run folder. Nothing here imports TensorFlow.
"""

import argparse
import difflib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override, ValueType
from omegaconf import DictConfig, OmegaConf

from detect.config import check, trust
from detect.config.compose import Request, config_folder, understood
from detect.config.composer import FOLDERED, Composer
from detect.config.fingerprint import digest
from detect.config.grammar import jobs, parse, quoted, without_globs
from detect.config.tree import plain
from detect.errors import ConfigError
from detect.runs import sweep, unstarted
from detect.runs.folder import RunFolder

CHECKED_JOBS = 32
"""The number of jobs of a sweep that are checked in advance; the others are checked when they start."""


@dataclass(frozen=True)
class Command:
    """A parsed command line: Hydra's flags, the overrides in their order, and the user's own modules (`trust=`).

    `prepare` adds sweep_folder, the folder of a sweep that trains, and cells, those of its cells that are known;
    checked, the digests of the configurations that are legal; and first, the first of these configurations, with
    Hydra's own node.
    """

    config_name: str
    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    options: argparse.Namespace
    config_dir: Path | None = None
    trusted: tuple[str, ...] = ()
    sweep_folder: Path | None = None
    cells: tuple[Path, ...] = ()
    checked: frozenset[str] = frozenset()
    first: DictConfig | None = None

    @property
    def argv(self) -> list[str]:
        return [*self.flags, "--", *self.overrides]  # the value of --info may be missing

    @property
    def multirun(self) -> bool:
        return bool(self.options.multirun)

    @property
    def composer(self) -> Composer:
        return Composer(self.config_name, self.config_dir)

    @property
    def request(self) -> Request:
        named = self.options.config_name is not None
        return Request(self.overrides, self.config_name, self.config_dir, self.multirun, named)


def read(argv: list[str], config_name: str) -> Command:
    """Parses `argv`. Raises ConfigError for an unknown flag, and for a configuration folder that can't be used."""
    parser = get_args_parser()
    legal = sorted(flag for action in parser._actions for flag in action.option_strings if flag.startswith("--"))

    def refuse(message: str) -> None:
        flags = [a.partition("=")[0] for a in argv if a.startswith("--") and a not in legal]
        near = "".join(f"; did you mean {n}?" for a in flags for n in difflib.get_close_matches(a, legal, 1, 0.75))
        raise ConfigError(f"{message}{near} (values are set as key=value; --help lists the keys)")

    parser.error = refuse  # type: ignore[assignment,method-assign]
    options = parser.parse_intermixed_args(argv)
    asked = [f"--{name}" for name in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(options, name)]
    if len(asked) > 1:
        raise ConfigError(
            f"{' and '.join(asked)} can't be given together; --cfg job shows the configuration of one run"
        )
    if shown := [f"--{name}" for name in ("resolve", "package") if getattr(options, name) and not options.cfg]:
        raise ConfigError(f"{shown[0]} is for --cfg, which prints the configuration: --cfg job {shown[0]}")
    if options.experimental_rerun:
        raise ConfigError("--experimental-rerun reads a pickle, which can run code: use resume=RUN")
    if options.config_path:
        raise ConfigError("--config-path would hide the packaged configuration: use --config-dir DIR, which adds to it")
    rest = list(options.overrides)
    flags = [token for token in argv if token != "--" and not (rest and token == rest[0] and rest.pop(0))]
    folder = config_folder(options.config_dir) if options.config_dir else None
    name = (options.config_name or config_name).removesuffix(".yaml")
    lines = tuple(options.overrides)
    return Command(name, tuple(flags), lines, options, folder, trust.asked(lines))


def prepare(command: Command) -> Command:
    """Checks the jobs of a command. Returns the command with all implied overrides written out.

    Raises ConfigError, with one message for all errors of the first illegal job.
    """
    with trust.trusting(command.trusted):
        return _prepared(command)


def _prepared(command: Command) -> Command:
    request = understood(command.request)
    command = _following(command, request)
    digests: list[str] = []
    with command.composer.ready() as composer:
        asked = composer.fitted(parse(request.lines), command.multirun)
        asked = without_globs(asked, composer.groups) if command.multirun else asked
        command, asked, study = _planned(command, asked, composer)
        composer.refuse_code(asked, command.multirun)
        cells = sweep.Cells()
        todo = jobs(asked, composer.groups, command.multirun)
        for job in itertools.islice(todo, None if study else CHECKED_JOBS):
            cfg = composer.checked(job)
            command = command if command.first else replace(command, first=cfg)
            request.refuse(cfg)
            if command.options.resolve or command.options.package:
                plain(cfg)  # it names the key of a bad interpolation
            if command.options.cfg is None:
                check.check(cfg)
                _refuse_folder(cfg, command.multirun)
                digests.append(digest(cfg))
                if command.sweep_folder and not _drawn(asked):
                    cells.add(cfg, " ".join(str(o.input_line) for o in job if not o.is_hydra_override()))
    return replace(command, checked=frozenset(digests), cells=cells.folders)


def _refuse_folder(cfg: DictConfig, multirun: bool) -> None:
    """Raises ConfigError if the job can't write into its folder, or if the run there is another one."""
    if not check.makes_runs(cfg):
        return
    kind = "sweep" if multirun else "run"
    if not cfg.hydra[kind].dir:
        raise ConfigError(f"hydra.{kind}.dir is empty; name a folder, or . for the current one")
    folder = Path(str(cfg.hydra[kind].dir))
    unstarted.refuse_unwritable(folder, f"hydra.{kind}.dir")
    check.refuse_inside_data(cfg, str(folder), f"hydra.{kind}.dir")
    # A further worker starts while the first one trains there; each locks a folder of its own.
    if not multirun and OmegaConf.select(cfg, "distribute.kind") != "multi_worker":
        sweep.refuse_in_use(folder)
        RunFolder(folder).extensions(cfg)  # refuses another configuration


def first_job(command: Command) -> DictConfig:
    """The configuration of the command's first job, with Hydra's own node; values are not checked here."""
    if command.first is not None:
        return command.first
    request = understood(command.request)
    with trust.trusting(command.trusted), request.composer.ready() as composer:
        asked = composer.fitted(parse(request.lines), request.multirun)
        return composer.checked(next(jobs(asked, composer.groups, request.multirun)))


def _following(command: Command, request: Request) -> Command:
    """The command with the configuration name and folder that the resumed run was composed from."""
    flags = command.flags
    if request.config_dir != command.config_dir:
        flags = (*flags, "--config-dir", str(request.config_dir))
    if request.config_name != command.config_name:
        flags = (*flags, "--config-name", request.config_name)
    return replace(command, flags=flags, config_name=request.config_name, config_dir=request.config_dir)


def _planned(command: Command, asked: list[Override], composer: Composer) -> tuple[Command, list[Override], str | None]:
    """The command, the overrides of all its jobs with those that a sweep's configuration adds, and its study.

    The sweep folder is fixed here, because its name may hold the time. If a launcher divides the cores, `threads` is
    set. Both need the configuration of the first job. Values that the configuration varies come first in the overrides.
    """
    command = replace(command, overrides=_lines(asked))
    if not command.multirun or command.options.cfg is not None:
        return command, asked, None
    cfg = composer.checked(next(jobs(asked, composer.groups, multirun=True)))
    sweep.check_plugins(cfg)
    lines = [f"hydra.sweep.dir={quoted(str(cfg.hydra.sweep.dir))}"]
    if (threads := sweep.threads_of_a_cell(cfg)) is not None:
        lines.append(f"threads={threads}")
    configured = parse(sweep.grid(cfg))
    grid = composer.emptied(configured)
    # Hydra composes a sweep without the groups that the sweep varies, so it does not see an experiment's grid.
    unseen = any(o.key_or_group == FOLDERED and o.is_sweep_override() for o in asked)
    given = {o.get_key_element() for o in asked}
    added = [o for o, before in zip(grid, configured, strict=True) if unseen or o is not before]
    more = [*parse(lines), *(o for o in added if o.get_key_element() not in given)]
    asked = [*asked, *more]
    folder = Path(str(cfg.hydra.sweep.dir)) if check.makes_runs(cfg) else None
    planned = replace(command, overrides=_lines(composer.for_a_sweep(asked)), sweep_folder=folder)
    return planned, [*grid, *asked], cfg.get("study")


def _lines(parsed: Iterable[Override]) -> tuple[str, ...]:
    return tuple(str(override.input_line) for override in parsed)


def _drawn(asked: Iterable[Override]) -> bool:
    """Whether a sampler draws values; then the cells are not known in advance."""
    return any(override.value_type is ValueType.INTERVAL_SWEEP for override in asked)
