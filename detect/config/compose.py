"""Composes a configuration through Hydra, after every group, option and key of it has been found legal.

Hydra itself lets a YAML file invent keys that nobody reads, and names no nearest key. Nothing here imports TensorFlow.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import ConfigCompositionException
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from detect.config import check
from detect.config.tree import container, leaves, nearest, nodes
from detect.errors import ConfigError

FOLDERED = "experiment"
"""The group whose options may lie in folders of it: experiment=ablation/two_stage."""


class Composer:
    """Composes `config_name` from the packaged configuration and a user's own folder beside it."""

    def __init__(self, config_name: str, config_dir: Path | None = None):
        self.config_name = config_name
        self.folders = [check.CONFIG_DIR] + ([config_dir] if config_dir else [])
        self.groups = groups(self.folders)
        self._cache: dict[tuple[str, ...], DictConfig] = {}

    @contextlib.contextmanager
    def ready(self) -> Iterator["Composer"]:
        """Hydra is set up inside this context, as its main function would do it; broken YAML raises ConfigError.

        A job of another configuration may be under way: it has its Hydra back afterwards.
        """
        before = get_gh_backup()
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(version_base="1.3", config_dir=str(check.CONFIG_DIR)):
                yield self
        except yaml.YAMLError as error:
            raise ConfigError(f"broken YAML: {error}") from error
        finally:
            restore_gh_from_backup(before)

    def checked(self, job: list[Override]) -> DictConfig:
        """The configuration with the overrides of one job, Hydra's own node included.

        Raises ConfigError for an unknown group, option or key, on the command line or in a YAML file, with the nearest
        legal one.
        """
        own = [o for o in job if o.is_hydra_override()]
        chosen = [o for o in job if o.key_or_group in self.groups and not o.is_hydra_override()]
        values = [o for o in job if o.key_or_group not in self.groups and not o.is_hydra_override()]
        for override in chosen:
            self._check_option(override)
        lines = tuple(str(o.input_line) for o in [*own, *chosen])
        if len(self.folders) > 1 and not any(o.key_or_group == "hydra.searchpath" for o in own):
            lines = (f"hydra.searchpath=[{','.join(quoted(f'file://{f}') for f in self.folders[1:])}]", *lines)
        fresh = lines not in self._cache
        base = self._compose(lines)
        if fresh:
            self._check_files(base, lines)
        legal = {key for key, _ in nodes(container(base))}
        for override in values:
            self._check_key(override, legal)
            if override.is_add() or override.is_force_add():  # what one `+` adds, the next override may change
                key, value = override.key_or_group, override.value()
                legal.update((key, *(f"{key}.{name}" for name, _ in nodes(value))))
        return _as_in_a_job(self._compose((*lines, *(str(o.input_line) for o in values))))

    def _compose(self, lines: tuple[str, ...]) -> DictConfig:
        if lines not in self._cache:
            try:
                self._cache[lines] = compose(self.config_name, list(lines), return_hydra_config=True)
            except ConfigCompositionException as error:
                if "No match in the defaults list" not in str(error):
                    raise
                group = str(error).split("'")[1]
                parent = group.rpartition("/")[0]
                where = f"the {parent} that was chosen" if parent else f"detect {self.config_name}"
                raise ConfigError(f"{where} has no group '{group}'") from None
        return self._cache[lines]

    def _check_option(self, override: Override) -> None:
        group, value = override.key_or_group, override.value()
        if override.is_delete():
            raise ConfigError(f"{override.input_line}: a group can't be removed; choose an option ({group}=...)")
        for option in value if isinstance(value, list) else [value]:
            if option is not None and str(option).removesuffix(".yaml") not in self.groups[group]:
                near = nearest(str(option), self.groups[group])
                raise ConfigError(f"unknown {group}={option}{near} (options: {', '.join(self.groups[group])})")

    def _check_key(self, override: Override, legal: set[str]) -> None:
        key, line = override.key_or_group, override.input_line
        if key.rpartition(".")[2] == "num_classes":
            raise ConfigError(f"{line}: {check.COUNT_IS_DERIVED}")
        if key in legal:
            if override.is_delete() and not check.is_open(key):
                raise ConfigError(f"{line}: {key} can't be removed; only entries of {check.OPEN_NAMES} can")
            if override.is_add() and not check.is_open(key):
                raise ConfigError(f"{line}: {key} exists already: leave out the +")
            if key.replace(".", "/") in self.groups and isinstance(override.value(), str):
                raise ConfigError(f"{line}: {key} is a group: write {key.replace('.', '/')}={override.value()}")
        elif not (check.is_open(key) and (override.is_add() or override.is_force_add())):
            near = nearest(key, legal | set(self.groups))
            adds = check.is_open(key) and not override.is_delete() and not near
            raise ConfigError(f"unknown key {key}{near}" + (f" (+{line} adds it)" if adds else ""))

    def _check_files(self, base: DictConfig, lines: tuple[str, ...]) -> None:
        """Raises ConfigError for a key that a YAML file invents: nobody reads it, it is a typo.

        Suspects are files that write to the whole configuration (experiments) and the user's own files. Arguments of
        a `_target_` are left to its signature (config.check).
        """
        loader = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list(self.config_name, list(lines), RunMode.RUN).defaults
        legal: set[str] = set()
        suspects: list[tuple[Path, dict[str, Any]]] = []
        for default in defaults:
            name, package = str(default.config_path), default.package or ""
            file = next((f / f"{name}.yaml" for f in self.folders if (f / f"{name}.yaml").is_file()), None)
            if file is None or name.startswith("hydra/"):
                continue
            group = name.rpartition("/")[0]
            packaged = file.is_relative_to(check.CONFIG_DIR)
            trees = [_placed(file, package)]
            if (group and not package) or (not packaged and (default.primary or (check.CONFIG_DIR / group).is_dir())):
                suspects.append((file, trees[0]))
                # A user's option of a packaged group may hold what the packaged options hold.
                siblings = sorted((check.CONFIG_DIR / group).glob("*.yaml")) if group and package else []
                trees = [_placed(sibling, package) for sibling in siblings]
            legal.update(key for tree in trees for key, _ in nodes(tree))
        targets = [k for k, v in nodes(container(base)) if isinstance(v, dict) and "_target_" in v]
        for file, tree in suspects:
            for key, _ in leaves(tree):
                if not (key in legal or check.is_open(key) or any(key.startswith(f"{t}.") for t in targets)):
                    near = nearest(key, legal | set(self.groups))
                    raise ConfigError(f"{file}: unknown key {key}{near}")


def groups(folders: Iterable[Path]) -> dict[str, list[str]]:
    """Config groups with their options, Hydra's own left out: {"dataset": ["coco", "voc"], "experiment": ["a/b"]}."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            name = file.relative_to(folder / FOLDERED).with_suffix("").as_posix() if _foldered(group) else file.stem
            if group != "." and group.split("/")[0] != "hydra":
                found.setdefault(FOLDERED if _foldered(group) else group, set()).add(name)
    return {group: sorted(options) for group, options in sorted(found.items())}


def _foldered(group: str) -> bool:
    return group.split("/")[0] == FOLDERED


def quoted(text: str) -> str:
    """A value that Hydra's grammar reads back as `text`, whatever is in it: =, spaces, commas, quotes."""
    return QuotedString(text, Quote.single).with_quotes()


def _placed(file: Path, package: str) -> dict[str, Any]:
    """What a YAML file holds, where its package puts it, without its defaults list."""
    content = {k: v for k, v in container(OmegaConf.load(file)).items() if k != "defaults"}
    for name in reversed(package.split(".") if package else []):
        content = {name: content}
    return content


def _as_in_a_job(cfg: DictConfig) -> DictConfig:
    """Fills in what Hydra knows when the job starts, so that `${hydra:runtime.output_dir}` can be resolved."""
    with open_dict(cfg.hydra):
        cfg.hydra.runtime.output_dir, cfg.hydra.job.id, cfg.hydra.job.num = ".", "0", 0
    HydraConfig.instance().set_config(cfg)
    return cfg
