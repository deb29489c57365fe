"""Configurations as plain trees: their nodes and leaves by dotted key, and the nearest legal key to a wrong one."""

import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detect.errors import ConfigError
from detect.files import unswollen

Tree = dict[str, Any]
"""A mapping of names to values as a YAML file holds them."""

RESERVED = frozenset(("_target_", "_convert_", "_recursive_", "_partial_", "_args_"))
"""Keys of a node with a `_target_` that Hydra reads; they are not arguments."""


def read_yaml(file: Path, need: str = "") -> DictConfig | ListConfig:
    """The content of a YAML file. Raises ConfigError, which names the file and the line, if it is damaged.

    need: the end of the message.
    """
    try:
        unswollen(file.read_text(encoding="utf-8"))
        return OmegaConf.load(file)
    except (yaml.YAMLError, ValueError, OSError, RecursionError, OmegaConfBaseException) as error:
        end = f"; {need}" if need else ""
        raise ConfigError(f"{file}: the file is damaged ({yaml_problem(error)}){end}") from error


def yaml_problem(error: Exception) -> str:
    """What is wrong in a YAML file, and where: `line 2: found duplicate key a`."""
    mark = getattr(error, "problem_mark", None)
    told = getattr(error, "problem", None) or (str(error).splitlines() or [type(error).__name__])[0]
    return f"line {mark.line + 1}: {told}" if mark else str(told)


def load_yaml(file: Path, need: str = "it must hold a mapping of keys to values") -> DictConfig:
    """The configuration in a YAML file. Raises ConfigError, which names the file, if it is damaged or holds none.

    need: the end of the message.
    """
    cfg = read_yaml(file, need)
    if not isinstance(cfg, DictConfig) or not cfg:
        raise ConfigError(f"{file}: the file is empty or damaged; {need}")
    return cfg


def listed(value: object) -> list[Any]:
    """The items of a list; another value is a list of one, and null an empty list."""
    return list(value) if isinstance(value, list | ListConfig) else [] if value is None else [value]


def plain(cfg: DictConfig) -> Tree:
    """The configuration as plain dicts and lists, with interpolations resolved; missing values stay "???".

    Raises ConfigError, which names the key, for an interpolation of a key that does not exist.
    """
    try:
        return {str(key): _resolved(cfg, key) for key in cfg if key != "hydra"}
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'the configuration'}: {str(error).splitlines()[0]}") from error


def _resolved(cfg: DictConfig, key: Any) -> Any:
    value = "???" if OmegaConf.is_missing(cfg, key) else cfg[key]
    if not OmegaConf.is_config(value):
        return value
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=False)


def container(cfg: DictConfig | ListConfig) -> Tree:
    """The configuration as plain dicts and lists, with interpolations unresolved, without Hydra's node."""
    return _without_hydra(OmegaConf.to_container(cfg))


def _without_hydra(tree: object) -> Tree:
    return {str(key): value for key, value in tree.items() if key != "hydra"} if isinstance(tree, dict) else {}


def nodes(tree: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All (dotted key, value) pairs below `tree`, also mappings and lists; list items are numbered."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(tree, Mapping):
        items = tree.items()
    elif isinstance(tree, list):
        items = enumerate(tree)
    for key, value in items:
        path = f"{prefix}.{key}" if prefix else str(key)
        yield path, value
        yield from nodes(value, path)


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All (dotted key, value) pairs below `tree` except non-empty mappings; a list is one value."""
    for key, value in tree.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, path)
        else:
            yield path, value


def targets(tree: object) -> dict[str, Mapping[str, Any]]:
    """The nodes below `tree` with a `_target_`, by dotted key."""
    return {key: node for key, node in nodes(tree) if isinstance(node, Mapping) and "_target_" in node}


def below(key: str, prefixes: Iterable[str]) -> bool:
    """Whether `key` lies below one of the nodes."""
    return any(key.startswith(f"{prefix}.") for prefix in prefixes)


def nearest(wanted: str, legal: Iterable[str]) -> str:
    """`; did you mean A or B?` with up to three legal names that are near to `wanted`, or "" if none is near.

    An equal last part counts more than similar spelling: `steps` and `shedule.steps` both mean `schedule.steps`.
    """
    names = sorted(set(legal) - {wanted})
    parent, _, last = wanted.rpartition(".")
    same_end = sorted((name for name in names if name.rpartition(".")[2] == last), key=len)
    beside = [name for name in names if parent and name.rpartition(".")[0] == parent]
    alike = functools.partial(difflib.get_close_matches, wanted)
    found = (
        alike(same_end, 1, 0.9) or alike(beside, 1, 0.75) or same_end[:3] or alike(beside, 1, 0.5) or alike(names, 1)
    )
    return f"; did you mean {' or '.join(found)}?" if found else ""
