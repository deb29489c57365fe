"""Refuses in files of the user, and in experiments, what Hydra takes without a word: keys that nothing reads, as they
are typos or lie in a wrong place, and one value in place of a node.

`config.check` compares the arguments of a `_target_` with its signature.
"""

import codecs
import contextlib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.default_element import ResultDefault
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detect.config import check
from detect.config.tree import Tree, below, container, leaves, nearest, nodes, read_yaml, targets
from detect.errors import ConfigError, first_few

GLOBAL = "# @package _global_"
"""The first line of a file that writes to the whole configuration."""
HEADER = re.compile(r"\s*#\s*@package\s+_global_\s*$", re.MULTILINE)
"""This line as Hydra also reads it."""


def refuse(
    defaults: Iterable[ResultDefault], folders: Sequence[Path], cfg: DictConfig, groups: Mapping[str, Sequence[str]]
) -> None:
    """Raises ConfigError for a file of a defaults list that writes to the whole configuration or is the user's own.

    folders: of the files. cfg: the configuration that they make. groups: their options.
    """
    content = container(cfg)
    legal: set[str] = set()
    whole: dict[str, Mapping[str, Any]] = {}
    ours: set[str] = set()
    suspects: list[tuple[Path, Tree]] = []
    apart: list[tuple[Path, str]] = []
    for default in defaults:
        name, package = str(default.config_path), default.package or ""
        file, group = file_of(name, folders), name.rpartition("/")[0]
        if file is None or name.startswith("hydra/"):
            continue
        packaged = file.is_relative_to(check.CONFIG_DIR)
        if package and not packaged and all_global(check.CONFIG_DIR / group.partition("/")[0]):
            raise _misplaced(file, package)
        trees = [_packaged(file, package) if packaged else _placed(file, package)]
        ours |= set(trees[0]) if packaged else set()
        if (group and not package) or (not packaged and (default.primary or (check.CONFIG_DIR / group).is_dir())):
            suspects.append((file, trees[0]))
            # A user's option of a packaged group may have the keys that the packaged options have.
            siblings = sorted((check.CONFIG_DIR / group).glob("*.yaml")) if group and package else []
            trees = [_packaged(sibling, "" if is_global(sibling) else package) for sibling in siblings]
        elif package and not packaged:
            apart.append((file, package))
        legal.update(key for tree in trees for key, _ in nodes(tree))
        found = [one for tree in trees for one in indivisible(tree).items()]
        whole.update((key, node) for key, node in found if len(node) > len(whole.get(key, ())))
    for file, package in apart:  # a group of one's own may hold what other files read
        keys = set(_placed(file, ""))
        if keys and keys <= ours and package.partition(".")[0] not in ours and not _is_read(package, content):
            raise _misplaced(file, package)
    called = targets(content)
    for file, tree in suspects:
        own = targets(tree)
        _refuse_dots(file, tree, called)
        for key, value in leaves(tree):
            node = None if below(key, own) else whole.get(key)
            if node is not None and not replaces(key, value, called):
                refuse_links(cfg, {key: node}, f"{file}: ")
            elif node is not None or not (key in legal or check.is_open(key) or below(key, called)):
                raise ConfigError(f"{file}: {_fault(key, value, node, groups, legal)}")


def told_by_hydra(error: str, folders: Sequence[Path], groups: Mapping[str, Sequence[str]]) -> str | None:
    """Hydra's error in a file, as a message that names the file and a group that is meant; None for another error."""
    found = re.match(r"In '(.+?)': (.*)", error, re.DOTALL)
    if found is None or (file := file_of(found[1], folders)) is None:
        return None
    folder, told = found[1].rpartition("/")[0], " ".join(map(str.strip, found[2].splitlines()[:2]))
    overridden = re.match(r"Could not override '((.+?)(?:@.+?)?)'", told)
    if overridden is None:
        return f"{file}: {told}"
    if all_global(check.CONFIG_DIR / folder.partition("/")[0]) and not HEADER.match(file.read_text(encoding="utf-8")):
        return str(_misplaced(file, folder.replace("/", ".")))
    key, group = overridden.groups()  # a group, and with `@` its package
    inner = group.removeprefix(f"{folder}/")
    if inner != group:  # a group without a slash is looked for beside the file
        near = f"; did you mean override /{inner}?" if inner in groups else nearest(inner, groups)
        return f"{file}: override {inner}: there is no group {group}{near}"
    if "No match in the defaults list" in told:
        return f"{file}: override /{key}: the defaults list has no such group{nearest(group, groups)}"
    return f"{file}: {told}"


def file_of(name: str, folders: Iterable[Path]) -> Path | None:
    """The file of an option, such as `experiment/demo`."""
    return next((file for folder in folders if (file := folder / f"{name}.yaml").is_file()), None)


def is_global(file: Path) -> bool:
    """Whether a file writes to the whole configuration; its first line says so."""
    return file.is_file() and file.read_text(encoding="utf-8").startswith(GLOBAL)


@functools.cache
def all_global(folder: Path) -> bool:
    """Whether all packaged files in a folder and below write to the whole configuration, as experiments do."""
    files = list(folder.rglob("*.yaml"))
    return bool(files) and all(map(is_global, files))


def indivisible(tree: Tree) -> dict[str, Mapping[str, Any]]:
    """The nodes that one value can't replace: those with a `_target_`, and those that are no argument of one."""
    called = targets(tree)
    return {
        key: node
        for key, node in nodes(tree)
        if isinstance(node, Mapping) and ("_target_" in node or not below(key, called))
    }


def replaces(key: str, value: object, called: Iterable[str]) -> bool:
    """Whether a value takes the place of a node. An interpolation may be a node, and null takes away an argument, whose
    annotation then decides, or an entry of an open node. called: the nodes with a `_target_`.
    """
    if value is None:
        return not (below(key, called) or check.is_open(key))
    return not (isinstance(value, Mapping) or (isinstance(value, str) and value.startswith("${")))


def refuse_links(cfg: DictConfig, replaced_nodes: Mapping[str, Mapping[str, Any]], where: str = "") -> None:
    """Raises ConfigError if an interpolation in place of a node gives a value, as `limit=${now:%Y}` does.

    replaced_nodes: by the keys that have something else now. where: the beginning of the message.
    """
    for key, node in replaced_nodes.items():
        with contextlib.suppress(OmegaConfBaseException):  # of one that can't be resolved, the check of values tells
            if isinstance(value := OmegaConf.select(cfg, key), str | int | float):
                raise ConfigError(f"{where}{replaced(key, value, node)}")


def replaced(key: str, value: object, node: Mapping[str, Any]) -> str:
    """The message for a value in place of a node."""
    keys = first_few([name for name in node if not name.startswith("_")], 3)
    told = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
    return f"{key}={told} is not legal: expected keys below it ({keys})"


def _refuse_dots(file: Path, tree: Tree, called: Iterable[str]) -> None:
    """Raises ConfigError for `schedule.steps: 120`, which Hydra takes as a key of that name. Inside of an argument, a
    dot is part of a name, as that of a class. called: the nodes with a `_target_`.
    """
    for parent, node in [("", tree), *nodes(tree)]:
        for name in node if isinstance(node, Mapping) and not below(parent, called) else ():
            if "." in str(name) and not check.is_open(f"{parent}.{name}"):
                nested = ": {".join(str(name).split(".")) + ": VALUE" + "}" * str(name).count(".")
                raise ConfigError(f"{file}: {name}: a key has no dot; write it nested, as {nested}")


def _fault(
    key: str, value: object, node: Mapping[str, Any] | None, groups: Mapping[str, Sequence[str]], legal: set[str]
) -> str:
    """The message for a value in place of a node, or for a key that is not legal."""
    if isinstance(value, str) and (options := groups.get(key.replace(".", "/"))) is not None:
        return _group_as_key(key, value, options)
    return f"unknown key {key}{nearest(key, legal | set(groups))}" if node is None else replaced(key, value, node)


def _group_as_key(key: str, value: str, options: Sequence[str]) -> str:
    """The message for the option of a group as the value of a key."""
    group = key.replace(".", "/")
    if value not in options:
        return f"{key}={value} is not legal: {key} is a group (options: {', '.join(options)})"
    entry = f"/{group}/{value}" if all_global(check.CONFIG_DIR / group) else f"override /{group}: {value}"
    return f"{key}={value} is not legal: {key} is a group; write into the defaults list: - {entry}"


def _misplaced(file: Path, package: str) -> ConfigError:
    """The refusal of a file whose keys lie where nothing reads them."""
    marked = file.read_bytes().startswith(codecs.BOM_UTF8)
    told = ", without a byte order mark before it" if marked else ""
    return ConfigError(
        f"{file}: its keys lie below {package}, where nothing reads them; its first line must be `{GLOBAL}`{told}"
    )


def _is_read(package: str, content: Tree) -> bool:
    """Whether an interpolation names a place of the configuration."""
    return re.search(rf"\$\{{[^}}]*\b{re.escape(package)}\b", str(content)) is not None


def _placed(file: Path, package: str) -> Tree:
    """The content of a YAML file below the keys of its package, without its defaults list."""
    content = {k: v for k, v in container(read_yaml(file)).items() if k != "defaults"}
    for name in reversed(package.split(".") if package else []):
        content = {name: content}
    return content


@functools.cache
def _packaged(file: Path, package: str) -> Tree:
    """As `_placed`, for a packaged file: it does not change while a process runs."""
    return _placed(file, package)
