"""What stands between a command line and Hydra: conveniences, and a check of all jobs before the first one.

    init=PATH           reads as init=path init.path=PATH when PATH is no option of the group
    init=NAME           reads as init=catalogue init.name=NAME for a name of the catalogue of published weights
    init.scope=detector brings the heads, so that stage 1 is left out: classify.enabled=false; with quantize=int8
                        the float detector is there, so that stage 2 is left out, too: quantize.float_stage=false
    fetch NAME          reads as fetch name=NAME
    report STUDY        reads as report study=STUDY
    inspect WHAT        reads as inspect only=WHAT, for example `inspect quantize`
    export quantize=X   reads as export quantization=X, as `quantize` is a group of the training's
    resume=RUN          goes on in the run folder RUN with the overrides saved there

A typo costs a second and leaves no run folder. Nothing here imports TensorFlow.
"""

import argparse
import difflib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from detect.config import check
from detect.config.compose import FOLDERED, Composer, quoted
from detect.config.tree import container, leaves, nearest
from detect.errors import ConfigError
from detect.runs import sweep

RESUME_MAY_CHANGE: tuple[str, ...] = ("resume",)
"""Keys that `resume=RUN` lets differ from the run's own configuration."""

PUBLIC = "public"
"""The catalogue of published weights that the configuration takes by itself."""

ONLY = ("data", "network", "quantize")
"""What `detect inspect` looks at alone."""

CHECKED_JOBS = 32
"""A sweep of more jobs has its first ones checked up front, the others when their turn comes."""


@dataclass(frozen=True)
class Command:
    """A parsed command line: Hydra's flags, and the overrides in their order.

    sweep_folder: of a sweep that `prepare` has seen. grid: what the configuration itself lets it vary.
    """

    config_name: str
    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    options: argparse.Namespace
    config_dir: Path | None = None
    sweep_folder: Path | None = None
    grid: tuple[str, ...] = ()

    @property
    def argv(self) -> list[str]:
        return [*self.flags, *self.overrides]

    @property
    def multirun(self) -> bool:
        return bool(self.options.multirun) or "hydra.mode=MULTIRUN" in self.overrides

    @property
    def composer(self) -> Composer:
        return Composer(self.config_name, self.config_dir)


def read(argv: list[str], config_name: str) -> Command:
    """Parses `argv`. Raises ConfigError for a flag that does not exist and a config folder that can't be used."""
    parser = get_args_parser()
    legal = sorted(flag for action in parser._actions for flag in action.option_strings if flag.startswith("--"))

    def refuse(message: str) -> None:
        flags = [a.partition("=")[0] for a in argv if a.startswith("--") and a not in legal]
        near = "".join(f"; did you mean {n}?" for a in flags for n in difflib.get_close_matches(a, legal, 1, 0.75))
        raise ConfigError(f"{message}{near} (values are set as key=value; --help lists the keys)")

    parser.error = refuse  # type: ignore[assignment,method-assign]
    options = parser.parse_intermixed_args(argv)
    if options.config_path:
        raise ConfigError("--config-path would hide the packaged configuration: --config-dir DIR adds to it")
    rest = list(options.overrides)
    flags = [token for token in argv if not (rest and token == rest[0] and rest.pop(0))]
    folder = _config_dir(options.config_dir) if options.config_dir else None
    name = (options.config_name or config_name).removesuffix(".yaml")
    overrides = (_export_key(override) if name == "export" else override for override in options.overrides)
    return Command(name, tuple(flags), tuple(overrides), options, folder)


def prepare(command: Command) -> Command:
    """The command with `init=PATH` and `resume=RUN` written out, after all its jobs have been checked.

    Raises ConfigError with one message for everything that is wrong with the first wrong job.
    """
    options = command.composer.groups.get("init", [])
    names = catalogue(command.composer.folders)
    asked = [line for override in command.overrides for line in _fetched(override, names, command)]
    lines = [line for override in asked for line in _init_path(override, options, names, command.multirun)]
    if "init.scope=detector" in lines and "classify" in command.composer.groups:
        quantised = any(line.startswith("quantize=") and line != "quantize=none" for line in lines)
        implied = ["classify.enabled=false", "quantize.float_stage=false"] if quantised else ["classify.enabled=false"]
        lines += [line for line in implied if not any(o.startswith(line.partition("=")[0] + "=") for o in lines)]
    command, saved = _resumed(replace(command, overrides=tuple(lines)))
    with command.composer.ready() as composer:
        command, study = _planned(command, composer)
        cells = sweep.Cells()
        for job in itertools.islice(_jobs(command), None if study else CHECKED_JOBS):
            cfg = composer.checked(job)
            if saved is not None:
                _check_same(saved, cfg)
            if command.options.cfg is None:
                check.check(cfg)
                if command.sweep_folder and not _drawn(command):
                    cells.add(cfg, " ".join(str(o.input_line) for o in job if not o.is_hydra_override()))
    return command


def _planned(command: Command, composer: Composer) -> tuple[Command, str | None]:
    """A sweep's command with what its configuration adds to it, and the name of the study that it is of.

    Its folder is fixed here, as it may hold the time; where a launcher divides the cores, `threads` is set.
    """
    if not command.multirun or command.options.cfg is not None:
        return command, None
    cfg = composer.checked(next(_jobs(command)))
    sweep.check_plugins(cfg)
    lines = [f"hydra.sweep.dir={quoted(str(cfg.hydra.sweep.dir))}"]
    if (threads := sweep.threads_of_a_cell(cfg)) is not None:
        lines.append(f"threads={threads}")
    grid, asked = sweep.grid(cfg), _parse(command.overrides)
    if any(o.key_or_group == FOLDERED and o.is_sweep_override() for o in asked):
        # Hydra composes a sweep without the groups that it varies: it would not see an experiment's grid.
        given = {o.get_key_element() for o in asked}
        lines += [line for line in grid if _parse([line])[0].get_key_element() not in given]
    planned = replace(
        command,
        overrides=(*command.overrides, *lines),
        sweep_folder=Path(str(cfg.hydra.sweep.dir)),
        grid=grid,
    )
    return planned, cfg.get("study")


def _drawn(command: Command) -> bool:
    """Whether a sampler draws values, so that the cells are not known beforehand."""
    return any(o.value_type is ValueType.INTERVAL_SWEEP for o in _parse([*command.grid, *command.overrides]))


def catalogue(folders: Iterable[Path]) -> dict[str, str]:
    """Names of the published weights, and the option of the group `init/archives` that holds each."""
    files = [file for folder in folders for file in sorted(folder.glob("init/archives/*.yaml"))]
    return {str(name): file.stem for file in files for name in OmegaConf.load(file)}


def first_job(command: Command) -> DictConfig:
    """The configuration of the command's first job, Hydra's own node included."""
    with command.composer.ready() as composer:
        return composer.checked(next(_jobs(command)))


def _config_dir(name: str) -> Path:
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {name}: no such folder")
    for file in sorted(folder.rglob("*.yaml")):
        packaged = check.CONFIG_DIR / file.relative_to(folder)
        if packaged.is_file() and packaged.read_bytes() != file.read_bytes():
            raise ConfigError(f"{file} would be hidden by the packaged file of that name: give it another name")
    return folder


def _parse(lines: Iterable[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for line in lines:
        try:
            parsed.append(parser.parse_override(line))
        except HydraException as error:
            reason = str(error).splitlines()[0] if "=" in line else "expected key=value or group=option"
            raise ConfigError(f"can't read {line!r}: {reason}") from None
    return parsed


def _export_key(line: str) -> str:
    """`quantize=X` under the key that it has in the configuration of `detect export`."""
    return line.replace("quantize", "quantization", 1) if line.startswith("quantize=") else line


def _fetched(line: str, names: dict[str, str], command: Command) -> list[str]:
    """The one word that `detect fetch`, `report` and `inspect` take without a key, written out."""
    if command.config_name == "inspect" and line in ONLY:
        return [f"only={line}"]
    if command.config_name == "report" and "=" not in line:
        return [f"study={quoted(line)}"]
    if command.config_name != "fetch" or "=" in line:
        return [line]
    return [f"name={quoted(line)}", *_held(names.get(line, PUBLIC), "init/archives@archives")]


def _held(option: str, group: str) -> list[str]:
    """The choice of a catalogue of the user's own."""
    return [] if option == PUBLIC else [f"{group}={option}"]


def _init_path(line: str, options: list[str], names: dict[str, str], multirun: bool) -> list[str]:
    """`init=VALUE` for a VALUE that is no option of the group, written out: a file or folder, else a published name."""
    key, _, value = line.partition("=")
    known = value in ("", "null", *options) or (multirun and all(v.strip() in options for v in value.split(",")))
    if key != "init" or "path" not in options or known:
        return [line]
    unquoted = value[1:-1] if len(value) > 1 and value[0] in "'\"" and value[0] == value[-1] else value
    place = Path(unquoted).expanduser().resolve()
    # A TensorFlow checkpoint is named by a prefix: model.ckpt stands for model.ckpt.index and its data files.
    if place.exists() or place.with_name(place.name + ".index").exists():
        return ["init=path", f"init.path={quoted(str(place))}"]
    if unquoted in names and "catalogue" in options:
        return ["init=catalogue", f"init.name={quoted(unquoted)}", *_held(names[unquoted], "init/archives")]
    near = nearest(value, [*options, *names])
    fetched = ", a name that `detect fetch` lists," if names else ""
    raise ConfigError(
        f"init={value}: neither an option ({', '.join(options)}){fetched} nor a file or folder here{near}"
    )


def _resumed(command: Command) -> tuple[Command, DictConfig | None]:
    """With `resume=RUN`: the command in the words of that run, and the configuration that it ran with."""
    asked = [o for o in command.overrides if o.startswith("resume=") and o != "resume=null"]
    primary = check.CONFIG_DIR / f"{command.config_name}.yaml"
    if not asked or (primary.is_file() and "resume" not in OmegaConf.load(primary)):
        return command, None
    if command.multirun:
        raise ConfigError("resume goes on with one run: leave out -m and give one run folder of the sweep")
    run = Path(str(_parse(asked[-1:])[0].value())).expanduser().resolve()
    saved = run / ".hydra"
    if not all((saved / name).is_file() for name in ("config.yaml", "hydra.yaml", "overrides.yaml")):
        jobs = sorted(place.parent.name for place in run.glob("*/.hydra"))
        hint = f"; it holds a sweep: give one of its runs ({', '.join(jobs[:5])})" if jobs else ""
        raise ConfigError(f"resume={run}: not a run folder, there is no .hydra/config.yaml in it{hint}")
    past: Any = OmegaConf.load(saved / "hydra.yaml")
    before = [str(o) for o in past.hydra.overrides.hydra if str(o).startswith("hydra.searchpath=")]
    before += [str(o) for o in past.hydra.overrides.task if not str(o).startswith("resume=")]
    own = [o for o in command.overrides if o not in asked]
    place = quoted(str(run))
    flags, folder, name = command.flags, command.config_dir, command.config_name
    folders = [str(s.path) for s in past.hydra.runtime.config_sources if s.provider == "command-line"]
    if folder is None and folders:
        flags, folder = (*flags, "--config-dir", folders[0]), _config_dir(folders[0])
    if command.options.config_name is None and past.hydra.job.config_name != name:
        name = str(past.hydra.job.config_name)
        flags = (*flags, "--config-name", name)
    resumed = replace(command, config_name=name, flags=flags, config_dir=folder)
    saved_config = OmegaConf.load(saved / "config.yaml")
    assert isinstance(saved_config, DictConfig)
    return replace(resumed, overrides=(*before, *own, f"resume={place}", f"hydra.run.dir={place}")), saved_config


def _check_same(saved: DictConfig, cfg: DictConfig) -> None:
    """Raises ConfigError naming each key that the resumed run would see changed."""
    then, now = dict(leaves(container(saved))), dict(leaves(container(cfg)))
    changed = [
        f"  {key}: the run has {then.get(key, 'no such key')}, asked is {now.get(key, 'no such key')}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key) and key not in RESUME_MAY_CHANGE
    ]
    if changed:
        head = f"resume={cfg.resume}: this is not the configuration of that run (a changed one needs a new run)"
        raise ConfigError("\n".join([head, *changed]))


def _jobs(command: Command) -> Iterator[list[Override]]:
    """The overrides of every job of a sweep, or of the one job."""
    choices: list[list[Override]] = []
    asked = _parse([*command.grid, *command.overrides])
    if command.multirun:  # Hydra's sweepers let the last value of a key count, in the place of the first
        asked = list({override.get_key_element(): override for override in asked}.values())
    for override in asked:
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices.append([override])
        elif not command.multirun:
            raise ConfigError(
                f"{override.input_line}: several values make a sweep, which needs -m; "
                f"{key}=[...] is a list, {key}='...' is text"
            )
        elif override.value_type is ValueType.INTERVAL_SWEEP:
            continue  # a sampler draws from it: the value is checked when the job comes
        elif isinstance(override._value, Glob):
            options = command.composer.groups.get(override.key_or_group, [])
            choices.append(_parse(f"{key}={name}" for name in override._value.filter(options)))
        else:
            choices.append(_parse(f"{key}={value}" for value in override.sweep_string_iterator()))
    return (list(job) for job in itertools.product(*choices))
