"""Composes the files of a choice of groups once, for programs that compose thousands of configurations.

Hydra reads the files first and sets the values afterwards. A Composer of this kind keeps what was read, and lets Hydra
set the values in a copy (pickle copies in a sixth of the time of copy.deepcopy). Another choice of groups shares most
of its files with earlier ones: each packaged file is read, and put into its package, once. tests/config/test_compose.py
compares the result with Hydra's own.
"""

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import ConfigRepository, IConfigRepository
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from detect.config import check
from detect.config.composer import Composer
from detect.config.grammar import parse

FILES = ("hydra/", "hydra.searchpath")
"""Overrides of Hydra that decide which files are read."""
MOST_KEPT = 300
PACKAGED = check.CONFIG_DIR
UNCHANGED = (f"file://{PACKAGED}", "pkg://hydra.conf")
"""Where the packaged files and Hydra's own lie."""

compose = Composer._composed
_kept: dict[tuple[str, tuple[str, ...]], bytes] = {}


def composed_once(composer: Composer, lines: tuple[str, ...]) -> DictConfig:
    """As `Composer._composed`. Files of the user, and of a test, may change: only the packaged ones are kept."""
    parsed = parse(lines)
    chosen = tuple(str(o.input_line) for o in parsed if composer._chooses(o) or o.key_or_group.startswith(FILES))
    if composer.folders != [PACKAGED] or any(line.startswith("hydra.searchpath") for line in chosen):
        return compose(composer, lines)
    key = composer.config_name, chosen
    if key not in _kept:
        if len(_kept) == MOST_KEPT:
            _kept.clear()
        _kept[key] = pickle.dumps(compose(composer, chosen))
    cfg: DictConfig = pickle.loads(_kept[key])
    OmegaConf.set_struct(cfg, True)
    ConfigLoaderImpl._apply_overrides_to_config([o for o in parsed if str(o.input_line) not in chosen], cfg)
    hydra = cfg.hydra
    hydra.overrides.task = [str(o.input_line) for o in parsed if not o.is_hydra_override()]
    hydra.overrides.hydra = [str(o.input_line) for o in parsed if o.is_hydra_override()]
    hydra.runtime.cwd = os.getcwd()
    named = dict(hydra.job.config.override_dirname)
    hydra.job.override_dirname = get_overrides_dirname([o for o in parsed if not o.is_hydra_override()], **named)
    return cfg


def read_once() -> None:
    """From now on Hydra, wherever it composes, reads each packaged file and each of its own once in this process."""
    for (owner, name), function in zip(HYDRAS, (_load_config, _load_single_config, _map_if_needed), strict=True):
        setattr(owner, name, function)


@contextlib.contextmanager
def by_hydra() -> Iterator[None]:
    """Inside it, Hydra composes as it does by itself."""
    with contextlib.ExitStack() as stack:
        for (owner, name), function in HYDRAS.items():
            stack.enter_context(mock.patch.object(owner, name, function))
        yield


HYDRAS: dict[tuple[Any, str], Callable[..., Any]] = {
    (ConfigRepository, "load_config"): ConfigRepository.load_config,
    (ConfigLoaderImpl, "_load_single_config"): ConfigLoaderImpl._load_single_config,
    (defaults_list, "_create_interpolation_map"): defaults_list._create_interpolation_map,
}
"""The functions that are replaced."""
_load_config_of_hydra, _load_single_config_of_hydra, _interpolation_map = HYDRAS.values()
_known: dict[Any, bytes] = {}


def _load_config(repository: ConfigRepository, config_path: str) -> ConfigResult | None:
    source = repository._find_object_source(config_path, ObjectType.CONFIG)
    place = f"{source.scheme()}://{source.path}" if source else ""
    return _copied(place, (place, config_path), lambda: _load_config_of_hydra(repository, config_path))


def _load_single_config(loader: ConfigLoaderImpl, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
    """The file within its package."""
    found = repo.load_config(str(default.config_path))
    place = str(found.path) if found else ""
    key = place, default.config_path, default.package, default.primary
    return _copied(place, key, lambda: _load_single_config_of_hydra(loader, default, repo))


def _copied(place: str, key: Any, read: Callable[[], Any]) -> Any:
    """A copy of what was read before, if its place is one whose files do not change."""
    if place not in UNCHANGED:
        return read()
    if key not in _known:
        _known[key] = pickle.dumps(read())
    return pickle.loads(_known[key])


def _map_if_needed(overrides: Any, defaults: list[Any], self_added: bool) -> DictConfig | None:
    """Hydra makes this map for each file, and reads it where a defaults list has an interpolation."""
    return _interpolation_map(overrides, defaults, self_added) if any(d.is_interpolation() for d in defaults) else None
