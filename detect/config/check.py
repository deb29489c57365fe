"""Checks a configuration: values in their legal ranges, arguments that each `_target_` takes, no missing values.

The check runs before TensorFlow is imported, so nothing here imports it. Signatures are read from source text.
"""

import fnmatch
import functools
import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from detect.config import arms, schedules, trust
from detect.config.legal_values import RUN_KEYS, Legal, refusals
from detect.config.signatures import static_signature
from detect.config.tree import RESERVED, Tree, below, listed, nearest, nodes, plain, read_yaml, targets
from detect.errors import ConfigError
from detect.files import absolute

_PACKAGE = Path(__file__).resolve().parent.parent
CONFIG_DIR = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"
"""The packaged configuration: it is beside the modules in a wheel, and in the top-level folder of a checkout."""

OPEN_NAMES = "augment.transforms"
OPEN_NODES = ("*augment.transforms", "*archives")
"""Globs of mappings whose entries a user may add (`+augment.transforms.blur=...`) and remove (`~...`)."""

PROGRAM_SUPPLIED = frozenset(
    ("num_classes", "classes", "examples", "seed", "dataset", "size", "backbone", "weights", "folder", "steps", "name")
)
"""Constructor arguments that the program may pass itself: the YAML of a `_target_` may leave them out."""

PLACEHOLDERS = {
    "root": "DIR",
    "folder": "DIR",
    "config": "FILE",
    "output": "DIR",
    "run": "RUN",
    "runs": "DIR",
    "path": "FILE",
    "images": "PATH",
}
COUNT_IS_DERIVED = "the class count is derived from the data set's class names (dataset.classes) and can't be set"


def check(cfg: DictConfig) -> None:
    """Raises ConfigError, which names every missing value, illegal value and argument that a `_target_` lacks."""
    tree = plain(cfg)
    problems = [*_missing(tree), *_out_of_range(tree), *_of_another_kind(tree), *_target_problems(tree)]
    if tree.get("minutes") is not None and tree.get("epochs") is not None:
        problems.append(
            f"minutes={tree['minutes']} and epochs={tree['epochs']} contradict each other: give one of them"
        )
    problems += [*schedules.problems(tree), *schedules.profile_problems(tree), *arms.problems(tree)]
    problems += _heads_for_stage_1(tree)
    problems += [*_unused_devices(tree.get("distribute") or {}), *_unused_precision(tree)]
    if problems:
        raise ConfigError("\n".join(problems))


def refuse_inside_data(cfg: DictConfig, folder: str | Path, key: str) -> None:
    """Raises ConfigError if a folder for results lies below the folder of the data, where nothing is ever written.

    key: the key that sets the folder, for the message.
    """
    read = ["dataset", *["classify.dataset"] * bool(OmegaConf.select(cfg, "classify.enabled"))]
    roots = [(f"{node}.root", root) for node in read for name in ("root", "roots")
             for root in listed(OmegaConf.select(cfg, f"{node}.{name}"))]  # fmt: skip
    for where, root in roots:
        data = absolute(root, where)
        data = data.parent if data.is_file() else data
        if absolute(folder, key).is_relative_to(data):
            raise ConfigError(
                f"{key}={folder} is below {where}={root}; nothing is written there. Set {key} to a folder outside of "
                "the data, or start from another folder"
            )


def refuse_unread(cfg: DictConfig, verb: str, reason: str, *keys: str) -> None:
    """Raises ConfigError for a key of a verb that has another value than its default, where nothing reads it."""
    defaults = read_yaml(CONFIG_DIR / f"{verb}.yaml")
    for key in keys:
        if (value := OmegaConf.select(cfg, key)) != OmegaConf.select(defaults, key):
            shown = {"None": "null", "True": "true", "False": "false"}.get(str(value), value)
            raise ConfigError(f"{key}={shown} is not legal here: {reason}")


def refuse_packaged_experiment(name: str) -> None:
    """Raises ConfigError for the name of a packaged experiment, as it would hide one of the user."""
    if (CONFIG_DIR / "experiment" / f"{name}.yaml").is_file():
        raise ConfigError(f"name={name}: an experiment of this program has this name; give another one")


def makes_runs(cfg: DictConfig) -> bool:
    """Whether the configuration is of a verb that trains in a run folder."""
    return "resume" in cfg


def is_open(key: str) -> bool:
    """Whether `key` lies below one of the OPEN_NODES."""
    return any(fnmatch.fnmatchcase(key, f"{glob}.*") for glob in OPEN_NODES)


def target_problems(path: str, node: Mapping[str, Any], complete: bool = False) -> list[str]:
    """Messages for arguments in a `_target_` node that its signature lacks, and for required ones that the node lacks.

    path: dotted key of the node, for the messages. complete: every argument outside PROGRAM_SUPPLIED must be given,
    with or without a default; the packaged YAML files must pass this.
    """
    target, given = node["_target_"], set(node) - RESERVED
    if not isinstance(target, str) or "." not in target:
        return [f"{path}._target_={target}: expected a dotted name such as detect.data.formats.voc.read_voc"]
    signature = _signature(target)
    if signature is None:
        if not trust.found(target.partition(".")[0]):
            return [f"{path}._target_={target}: {trust.missing(target)}"]
        known = not target.startswith(("detect.", "albumentations."))
        return [] if known else [f"{path}._target_={target}: there is no such function or class"]
    arguments = list(signature.parameters.values())
    open_ended = any(a.kind is a.VAR_KEYWORD for a in arguments)
    names = [a.name for a in arguments if a.kind not in (a.VAR_KEYWORD, a.VAR_POSITIONAL, a.POSITIONAL_ONLY)]
    problems = [f"{path}.num_classes: {COUNT_IS_DERIVED}"] if "num_classes" in given else []
    problems += [
        f"unknown key {path}.{key}: {target} has no argument {key}{nearest(key, names)}"
        for key in sorted(given - {"num_classes"})
        if key not in names and not open_ended
    ]
    if node.get("_args_") or (node.get("_partial_") and not complete):
        return problems
    needed = {a.name for a in arguments if a.name in names and (complete or a.default is a.empty)}
    return problems + [f"{path}.{k} is missing: {target} needs it" for k in sorted(needed - given - PROGRAM_SUPPLIED)]


def _signature(target: str) -> inspect.Signature | None:
    if not target.startswith("albumentations."):
        return trust.signature(target)
    module, _, name = target.rpartition(".")
    try:
        return inspect.signature(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError):
        return None


def _heads_for_stage_1(tree: Tree) -> Iterator[str]:
    if (tree.get("init") or {}).get("scope") == "detector" and (tree.get("classify") or {}).get("enabled"):
        told = "stage 1 would change the backbone before the heads; expected false, or init.scope=backbone"
        yield f"init.scope=detector is not legal with classify.enabled=true: {told}"


def _unused_devices(distribute: Mapping[str, Any]) -> Iterator[str]:
    kind, devices = distribute.get("kind"), distribute.get("devices")
    if devices is not None and kind in ("none", "tpu"):
        legal = "null; distribute.kind=mirrored takes so many devices of this process"
        yield f"distribute.devices={devices} has no effect with distribute.kind={kind}: expected {legal}"


def _unused_precision(tree: Tree) -> Iterator[str]:
    classify, quantize, precision = tree.get("classify") or {}, tree.get("quantize") or {}, tree.get("precision")
    in_float = classify.get("enabled") or quantize.get("float_stage", True) or not quantize.get("enabled")
    if precision not in (None, "float32") and not in_float:
        told = "without stage 1 and a float stage: fake-quant training computes in float32; expected float32"
        yield f"precision={precision} has no effect {told}"


def _missing(tree: Tree) -> Iterator[str]:
    disabled = tuple(f"{key.removesuffix('enabled')}" for key, v in nodes(tree) if key.endswith(".enabled") and not v)
    no_data = tree.get("only") in ("network", "quantize") or (tree.get("to") and tree.get("images"))
    disabled += ("dataset.",) if no_data else ()  # `inspect` and `convert` then read no data set
    for key in sorted(key for key, value in nodes(tree) if value == "???"):
        if not key.startswith(disabled):
            wanted = f"give {key}={PLACEHOLDERS.get(key.rpartition('.')[2], 'VALUE')}"
            if choices := [legal for legal in _legal_of(key) if legal.choices]:
                wanted = f"expected {choices[0]}"
            hint = ", or train on the embedded data set: dataset=digits" if key == "dataset.root" else ""
            yield f"{key} is missing: {wanted}{hint}"


def _out_of_range(tree: Tree) -> Iterator[str]:
    """Messages for illegal values of run-level keys. A key inside a `_target_` is not run-level, whatever its name."""
    called = targets(tree)
    for key, value in nodes(tree):
        for legal in _legal_of(key):
            if key == "minutes" and "propose" in tree:  # a proposal has a time
                legal = replace(legal, null=False)
            if value != "???" and not below(key, called) and not legal.admits(value):
                yield legal.refusal(key, value)


def _of_another_kind(tree: Tree) -> Iterator[str]:
    """Messages for folders of data or a run that are no path, and for hooks that are no nodes with a `_target_`."""
    if tree.get("run") == "":
        yield "run= is not legal: expected the folder of a run"
    for path, node in targets(tree).items():
        if not str(node["_target_"]).startswith("detect.data."):
            continue
        if "root" in node and not _is_path(node["root"]):
            told = "null" if node["root"] is None else node["root"]
            yield f"{path}.root={told} is not legal: expected the path of a folder or a file"
        roots = node.get("roots")
        if isinstance(roots, list) and not (roots and all(map(_is_path, roots))):
            yield f"{path}.roots={roots} is not legal: expected a list of folders, as [DIR,DIR]"
    hooks = tree.get("hooks") or []
    if not (isinstance(hooks, list) and all(isinstance(hook, dict) and "_target_" in hook for hook in hooks)):
        yield f"hooks={hooks} is not legal: expected a list of classes with arguments, as [{{_target_: my.Hook}}]"


def _is_path(value: object) -> bool:
    """Whether a value may be a path. An empty text is none: a variable that is not set makes it."""
    return isinstance(value, str | int | float) and value != ""


@functools.lru_cache(maxsize=4096)
def _legal_of(key: str) -> tuple[Legal, ...]:
    """The rules of RUN_KEYS for a dotted key."""
    return tuple(legal for glob, legal in RUN_KEYS.items() if fnmatch.fnmatchcase(key, glob))


def _target_problems(tree: Tree) -> Iterator[str]:
    refused = trust.problems(tree)
    if refused:  # no signature is read and nothing is built
        yield from refused
        return
    for path, node in targets(tree).items():
        problems = target_problems(path, node) or _illegal_arguments(path, node)
        yield from problems or _refused_by_itself(path, node)


def _illegal_arguments(path: str, node: Mapping[str, Any]) -> list[str]:
    """Messages for values that the annotations of a target's signature do not allow."""
    signature = static_signature(node["_target_"])
    arguments = signature.parameters if signature else {}
    return [
        message
        for name, argument in arguments.items()
        if name in node and argument.annotation is not argument.empty
        for message in refusals(f"{path}.{name}", node[name], argument.annotation, argument.default)
    ]


def _refused_by_itself(path: str, node: Mapping[str, Any]) -> Iterator[str]:
    """albumentations and `Spec` check values when they are built: this builds them now, and names the key."""
    if str(node["_target_"]).startswith(("albumentations.", "detect.quantization.spec.")):
        yield from _refused(path, json.dumps(node, default=str))


@functools.lru_cache(maxsize=512)
def _refused(path: str, text: str) -> tuple[str, ...]:
    """text: the node as JSON. The jobs of a sweep mostly have the same transforms."""
    node = json.loads(text)
    try:
        trust.instantiate(node, _convert_="all")
    except ConfigError as error:  # it names the key
        return (str(error),)
    except Exception as error:
        causes: list[BaseException] = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
            causes.append(cause)
        details: list[Any] = next((cause.errors() for cause in causes if hasattr(cause, "errors")), [])
        if not details:
            return (f"{path}: {node['_target_']}: {causes[-1]}",)
        return tuple(
            f"{'.'.join([path, *map(str, detail['loc'])])}={detail['input']} is not legal: {detail['msg']}"
            for detail in details
        )
    return ()
