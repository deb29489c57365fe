"""Composes jobs through Hydra, after a check of their groups, options and keys.

Hydra itself accepts keys of a YAML file that nothing reads, and it does not name the nearest legal key. Nothing here
imports TensorFlow.
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.singleton import Singleton
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from detect.config import check, hydra_node, own_files, retarget, trust
from detect.config.grammar import Job, jobs, parse, quoted
from detect.config.other_words import meant
from detect.config.shorthand import OF_A_RUN
from detect.config.tree import Tree, below, container, nearest, nodes, read_yaml, targets, yaml_problem
from detect.errors import ConfigError
from detect.files import absolute

FOLDERED = "experiment"
"""The group whose options may lie in subfolders: experiment=ablation/two_stage."""
FOLLOWING = "schedule_of"
"""The group whose option nobody gives: it follows from the detector and the schedule."""

HYDRAS_STATE: tuple[type, ...] = (GlobalHydra, HydraConfig, VersionBase)
"""Hydra's singletons that belong to one program; the others hold plugins and their schemas."""
_state = threading.RLock()  # of Hydra, for all threads

_PACKAGED: dict[tuple[Path, str, tuple[str, ...]], Tree] = {}
"""Configurations of packaged files alone, by their folder, their name and the groups that were chosen. These files do
not change while a process runs, so each of the first MOST_KEPT choices is composed and checked once."""
MOST_KEPT = 100


class Composer:
    """Composes `config_name` from the packaged configuration and a user's own folder beside it."""

    def __init__(self, config_name: str, config_dir: Path | None = None):
        self.config_name = config_name
        self.folders = [check.CONFIG_DIR] + ([config_dir] if config_dir else [])
        self.groups = groups(self.folders)
        self._cache: dict[tuple[str, ...], DictConfig] = {}

    @contextlib.contextmanager
    def ready(self) -> Iterator["Composer"]:
        """Sets up Hydra inside this context, as its main function does it; broken YAML raises ConfigError.

        A job of another configuration may be running: its Hydra state is restored afterwards. Another thread waits.
        """
        with _state:
            instances: dict[type, Any] = Singleton._instances
            before = {kind: instances.pop(kind, None) for kind in HYDRAS_STATE}
            try:
                with initialize_config_dir(version_base="1.3", config_dir=str(check.CONFIG_DIR)):
                    yield self
            except yaml.YAMLError as error:
                raise ConfigError(f"broken YAML: {error}") from error
            finally:
                for kind, instance in before.items():
                    instances.pop(kind, None)
                    if instance is not None:
                        instances[kind] = instance

    def fitted(self, asked: list[Override], multirun: bool = False) -> list[Override]:
        """The overrides, and those that a `NODE._target_=...` among them implies (config.retarget).

        Hydra takes no null for a group, but an empty list. Raises ConfigError.
        """
        asked = self.emptied(asked)
        if not retarget.retargeted(asked):
            return asked
        tree, _ = self._base(next(jobs(asked, self.groups, multirun)))
        return retarget.fitted(asked, tree)

    def emptied(self, asked: Iterable[Override]) -> list[Override]:
        """The overrides with an empty list in place of null, as an option of a group that needs none."""
        return [self._emptied(override) for override in asked]

    def _emptied(self, override: Override) -> Override:
        group, given = override.key_or_group, str(override.input_line).partition("=")[2]
        if "null" not in given or not self._chooses(override) or group not in self.optional():
            return override
        if not override.is_sweep_override():
            values = [given]
        elif override.is_choice_sweep():
            values = list(override.sweep_string_iterator())
        else:
            return override
        line = ",".join("[]" if value == "null" else value for value in values)
        return parse([f"{override.get_key_element()}={line}"])[0]

    def checked(self, job: Job) -> DictConfig:
        """The configuration with the overrides of one job, with Hydra's own node.

        Raises ConfigError for an unknown group, option or key on the command line or in a YAML file; the message names
        the nearest legal one.
        """
        tree, lines = self._base(job)
        legal, whole, called = {key for key, _ in nodes(tree)}, own_files.indivisible(tree), targets(tree)
        values = [o for o in job if not self._chooses(o) and not o.is_hydra_override()]
        changed, linked = set(retarget.retargeted(values)), {}
        for override in values:
            key = override.key_or_group
            opened = check.is_open(key) or below(key, changed) or retarget.extensible(key, tree)
            self._check_key(override, legal, changed, opened)
            node = None if override.is_delete() or key in changed or below(key, changed) else whole.get(key)
            if node is not None and own_files.replaces(key, override.value(), called):
                raise ConfigError(own_files.replaced(key, override.value(), node))
            if node is not None:
                linked[key] = node
            if override.is_add() or override.is_force_add():  # the next override may change what this one adds
                value = override.value()
                legal.update((key, *(f"{key}.{name}" for name, _ in nodes(value))))
        cfg = self._compose((*lines, *(str(o.input_line) for o in values)))
        own_files.refuse_links(cfg, linked)
        return _as_in_a_job(cfg)

    def for_a_sweep(self, asked: list[Override]) -> list[Override]:
        """The overrides of a sweep as Hydra takes them.

        Hydra sets values before it takes the options that vary. So the value of a key that only these options have is
        written as a choice of one value, which Hydra sets for each job. A choice can't hold null, but `++` adds it.
        """
        fixed = [o for o in asked if not o.is_sweep_override()]
        if len(fixed) == len(asked):
            return asked
        legal = {key for key, _ in nodes(self._base(fixed)[0])}

        def is_late(o: Override) -> bool:
            plain = o.type is OverrideType.CHANGE and not o.is_sweep_override() and not o.is_hydra_override()
            return plain and not self._chooses(o) and o.key_or_group not in legal

        def written(o: Override) -> str:
            key, _, value = str(o.input_line).partition("=")
            return f"++{key}=null" if o.value() is None else f"{key}=choice({value})"

        return [parse([written(o)])[0] if is_late(o) else o for o in asked]

    def _base(self, job: Job) -> tuple[Tree, tuple[str, ...]]:
        """The configuration of a job with its groups but without its values, and the overrides that choose groups."""
        own = [o for o in job if o.is_hydra_override()]
        chosen = [o for o in job if self._chooses(o)]
        hydra_node.refuse_given(own)
        for override in chosen:
            self._check_option(override)
        lines = tuple(str(o.input_line) for o in [*own, *chosen])
        if len(self.folders) > 1:
            lines = (f"hydra.searchpath=[{','.join(quoted(f'file://{f}') for f in self.folders[1:])}]", *lines)
        packaged = len(self.folders) == 1 and not own
        known = _PACKAGED.get((check.CONFIG_DIR, self.config_name, lines)) if packaged else None
        if known is not None:
            return known, lines
        hydra_node.refuse_search_path(self._primary())
        fresh = lines not in self._cache
        base = self._compose(lines)
        tree = container(base)
        if fresh:
            hydra_node.refuse(base, own, lines)
            if base.get(trust.KEY):
                raise ConfigError(f"{trust.KEY}={base[trust.KEY]}: a file may not set it, only the command line")
            self._check_files(base, lines)
        if packaged and len(_PACKAGED) < MOST_KEPT:
            _PACKAGED[check.CONFIG_DIR, self.config_name, lines] = tree
        return tree, lines

    def refuse_code(self, asked: list[Override], multirun: bool) -> None:
        """Raises ConfigError if a job's files name code in Hydra's node; it composes every choice of groups once."""
        choices = [o for o in asked if o.is_hydra_override() or self._chooses(o)]
        for job in jobs(choices, self.groups, multirun):
            self._base(job)

    def _primary(self) -> Path:
        """The file of `config_name`. Raises ConfigError if it is none of the packaged ones."""
        file = check.CONFIG_DIR / f"{self.config_name}.yaml"
        if not absolute(file, "--config-name").is_file():
            raise ConfigError(
                f"--config-name {self.config_name}: there is no such packaged configuration; write your own as an "
                "experiment, DIR/experiment/NAME.yaml, and give --config-dir DIR experiment=NAME"
            )
        return file

    def _chooses(self, override: Override) -> bool:
        return override.key_or_group in self.groups and not override.is_hydra_override()

    def _compose(self, lines: tuple[str, ...]) -> DictConfig:
        if lines not in self._cache:
            try:
                self._cache[lines] = self._composed(lines)
            except yaml.YAMLError as error:  # of a file of the user
                file = getattr(getattr(error, "problem_mark", None) or error, "name", "a YAML file")
                raise ConfigError(f"{file}: the file is damaged ({yaml_problem(error)})") from error
            except (ValueError, TypeError, OSError, RecursionError, OmegaConfBaseException) as error:
                told = (str(error).splitlines() or [type(error).__name__])[0]
                raise ConfigError(f"can't compose {' '.join(lines)[:300]}: {told[:500]}") from error
            except ConfigCompositionException as error:
                known = own_files.told_by_hydra(str(error), self.folders, self.groups) or self._unmatched(str(error))
                if known is None:
                    raise
                raise ConfigError(known) from None
        return self._cache[lines]

    def _unmatched(self, error: str) -> str | None:
        """The message for an option of a group that the configuration lacks; None for another error of Hydra."""
        if "No match in the defaults list" not in error:
            return None
        group = error.split("'")[1]
        parent = group.rpartition("/")[0]
        where = f"the {parent} that was chosen" if parent else f"detect {self.config_name}"
        return f"{where} has no group '{group}'"

    def _composed(self, lines: tuple[str, ...]) -> DictConfig:
        return compose(self.config_name, list(lines), return_hydra_config=True)

    def _check_option(self, override: Override) -> None:
        group, value = override.key_or_group, override.value()
        if override.is_delete():
            raise ConfigError(f"{override.input_line}: a group can't be removed; choose an option ({group}=...)")
        if value == [] and group in self.optional():
            return
        for option in value if isinstance(value, list) and value else [value]:
            name = "null" if option is None else str(option)
            if name.removesuffix(".yaml") not in self.groups[group]:
                for file in (folder / group / f"{name.removesuffix('.yml')}.yml" for folder in self.folders):
                    if os.path.isfile(file):  # not of Path, to which a name may be too long
                        raise ConfigError(f"{file}: rename it to {file.stem}.yaml")
                near = nearest(name, self.groups[group])
                raise ConfigError(f"unknown {group}={name}{near} (options: {', '.join(self.groups[group])})")

    def optional(self) -> set[str]:
        """The groups that need no option: those that have none by default in the verb, or in `train`."""
        files = dict.fromkeys([self._primary(), check.CONFIG_DIR / "train.yaml"])
        return {group for file in files for group, option in _defaults(file).items() if not option}

    def own_groups(self) -> set[str]:
        """The groups of the verb: those in its defaults, and the groups within them."""
        tops = [group.lstrip("/").partition("@")[0] for group in _defaults(self._primary())]
        return {group for group in self.groups if any(f"{group}/".startswith(f"{top}/") for top in tops)}

    def _check_key(self, override: Override, legal: set[str], changed: set[str], opened: bool) -> None:
        """changed: nodes that the job gives another target. opened: whether `+` may add the key."""
        key, line = override.key_or_group, override.input_line
        if key.rpartition(".")[2].lower() == "num_classes":
            raise ConfigError(f"{line}: {check.COUNT_IS_DERIVED}")
        if key in legal:
            if override.is_delete() and not (check.is_open(key) or below(key, changed)):
                raise ConfigError(f"{line}: {key} can't be removed; only entries of {check.OPEN_NAMES} can")
            if override.is_add() and not opened:
                raise ConfigError(f"{line}: {key} exists already: leave out the +")
            if key.replace(".", "/") in self.groups and isinstance(override.value(), str):
                raise ConfigError(f"{line}: {key} is a group: write {key.replace('.', '/')}={override.value()}")
        elif not (opened and (override.is_add() or override.is_force_add())):
            names = legal | self.own_groups() | ({"dataset.root"} if self.config_name in OF_A_RUN else set())
            near = meant(key, names) or nearest(key, names)
            adds = opened and not override.is_delete() and not near
            raise ConfigError(f"unknown key {key}{near}" + (f" (+{line} adds it)" if adds else ""))

    def _check_files(self, base: DictConfig, lines: tuple[str, ...]) -> None:
        """Raises ConfigError for a file that `config.own_files` refuses: experiments and the user's own."""
        if len(self.folders) == 1 and not any(map(_is_global, base.hydra.runtime.choices.items())):
            return  # no such file: this check takes a third of the time of composing
        loader = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list(self.config_name, list(lines), RunMode.RUN).defaults
        own_files.refuse(defaults, self.folders, base, self.groups)


def groups(folders: Iterable[Path]) -> dict[str, list[str]]:
    """Config groups with their options, without Hydra's own: {"dataset": ["coco", "voc"], "experiment": ["a/b"]}."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            name = file.relative_to(folder / FOLDERED).with_suffix("").as_posix() if _foldered(group) else file.stem
            if group != "." and group.split("/")[0] not in ("hydra", FOLLOWING):
                found.setdefault(FOLDERED if _foldered(group) else group, set()).add(name)
    return {group: sorted(options) for group, options in sorted(found.items())}


def _defaults(file: Path) -> dict[str, Any]:
    """The groups in the defaults of a configuration, with their options."""
    listed = container(read_yaml(file)).get("defaults")
    entries = [entry for entry in (listed if isinstance(listed, list) else []) if isinstance(entry, dict)]
    return {str(group): option for entry in entries for group, option in entry.items()}


def _foldered(group: str) -> bool:
    return group.split("/")[0] == FOLDERED


def _is_global(choice: tuple[str, str | None]) -> bool:
    """Whether a packaged option of a group writes to the whole configuration."""
    return own_files.is_global(check.CONFIG_DIR / choice[0] / f"{choice[1]}.yaml")


def _as_in_a_job(cfg: DictConfig) -> DictConfig:
    """Fills in the values that Hydra sets when a job starts, so that `${hydra:runtime.output_dir}` can be resolved."""
    with read_write(cfg.hydra), open_dict(cfg.hydra):
        cfg.hydra.runtime.output_dir, cfg.hydra.job.id, cfg.hydra.job.num = ".", "0", 0
    HydraConfig.instance().set_config(cfg)
    hydra_node.refuse_folders(cfg)
    return cfg
