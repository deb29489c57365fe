"""The code that a configuration may name, and the only place that builds what it names.

A `_target_` is the name of code, and a configuration may be a stranger's: the `config.yaml` of a run folder, or a file
of `--config-dir`. So only three kinds of names are legal without more:

- parts of this package: the public classes of PARTS, and the readers of READERS
- transforms of albumentations
- optimisers and schedules of tf_keras

The user opens a module of their own with `trust=[mylib]`, on the command line or with the argument `trust` of
`detect.api`. A file can't do that. A legal name is one whose object is defined there: a name that reaches through a
module into another one, such as `mylib.os.system`, is refused.

`instantiate` refuses a tree with an illegal name before it imports a module. Nothing here imports TensorFlow.
"""

import ast
import contextlib
import contextvars
import fnmatch
import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate as _build
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detect.config.grammar import parse
from detect.config.legal_values import with_floats
from detect.config.signatures import static_signature
from detect.config.source import definition
from detect.config.source import parse as source_of
from detect.config.tree import nodes, targets
from detect.errors import ConfigError, UserError

KEY = "trust"
PARTS = (
    *("detect.modeling.*", "detect.geometry.anchors", "detect.geometry.box_coder", "detect.geometry.points"),
    *("detect.data.augment", "detect.data.mixing", "detect.data.scale_jitter"),
    *("detect.training.schedule", "detect.quantization.spec", "detect.weights.sources"),
    *("detect.loggers.csv_file", "detect.loggers.mlflow", "detect.loggers.wandb"),
)
"""Globs of modules whose public classes a configuration may name. They build objects and write no file."""

READERS = (
    *("detect.data.formats.*.read_*", "detect.data.image_folder.read_image_folder"),
    *("detect.data.digits.make_digits", "detect.data.crops.crop_dataset"),
)
"""Globs of the functions that a configuration may name: they read a data set."""

_OPTIMIZERS = "Adadelta Adafactor Adagrad Adam AdamW Adamax Lion Nadam RMSprop SGD"
_SCHEDULES = "CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay"
KERAS = frozenset(
    (
        *(f"tf_keras.optimizers.{name}" for name in _OPTIMIZERS.split()),
        *(f"tf_keras.optimizers.schedules.{name}" for name in _SCHEDULES.split()),
    )
)
"""Optimisers and schedules of tf_keras, by name: the check must not import TensorFlow. Ftrl is none of them, because it
divides by the rate, which is 0 at the first step."""

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_trusted: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("trusted", default=frozenset())


@contextlib.contextmanager
def trusting(modules: Iterable[str]) -> Iterator[None]:
    """Opens modules of the user's own inside this context, for the thread that enters it.

    Raises ConfigError for what is no name of a module.
    """
    before = _trusted.set(trusted() | frozenset(_names(modules)))
    try:
        yield
    finally:
        _trusted.reset(before)


def trusted() -> frozenset[str]:
    """The modules of the user's own that are open now."""
    return _trusted.get()


def asked(lines: Iterable[str]) -> tuple[str, ...]:
    """The modules that `trust=[...]` among the overrides of a command line opens. The last one counts.

    Raises ConfigError for several values, and for what is no name of a module.
    """
    names: tuple[str, ...] = ()
    for override in parse(line for line in lines if is_trust(line)):
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: expected names of modules, such as {KEY}=[mylib]")
        names = () if override.is_delete() else _names(override.value() or ())
    return names


def is_trust(line: str) -> bool:
    """Whether an override sets the key `trust`."""
    return re.fullmatch(rf"[+~]*{KEY}\b.*", line, re.DOTALL) is not None


def line(modules: Iterable[str]) -> list[str]:
    """The override that opens modules; none if there are none."""
    names = _names(modules)
    return [f"{KEY}=[{','.join(names)}]"] if names else []


def refusal(target: object) -> str | None:
    """Why a configuration may not name `target`; None if it may. It imports nothing but albumentations."""
    if not isinstance(target, str) or not _DOTTED.fullmatch(target):
        return "expected a dotted name such as detect.data.formats.voc.read_voc"
    if _is_part(target) or target in KERAS or _opened(target) or _is_transform(target):
        return None
    top = target.partition(".")[0]
    if not found(top):
        return missing(target)
    if top in _LEGAL:
        if not _defined(target):
            return "there is no such function or class"
        return f"a configuration may not name it; legal of {top} are {_LEGAL[top]}"
    return f"a configuration may not name code of {top}. If you know that code, give {KEY}=[{top}] on the command line"


def signature(target: str) -> inspect.Signature | None:
    """What `static_signature` tells. Optimisers of tf_keras have **kwargs, but refuse whatever has no name."""
    found = static_signature(target)
    if found is None or target not in KERAS:
        return found
    return found.replace(parameters=[p for p in found.parameters.values() if p.kind is not p.VAR_KEYWORD])


def missing(target: str) -> str:
    """The message for a target whose module can't be found."""
    return f"there is no module {target.partition('.')[0]}; is it on PYTHONPATH?"


def problems(tree: object) -> list[str]:
    """A message for each `_target_` below `tree` that a configuration may not name."""
    found = ((key, node["_target_"], refusal(node["_target_"])) for key, node in targets(tree).items())
    return [f"{key}._target_={target}: {why}" for key, target, why in found if why]


def instantiate(config: DictConfig | ListConfig | dict[str, Any] | None, **supplied: object) -> Any:
    """Builds the object of a configuration node, with the objects of its nested nodes; None for None.

    supplied: arguments that the program passes itself. Raises ConfigError, which names the key, for a name that is not
    legal and for text that would become an interpolation. A UserError of a constructor is raised as it is, and any
    other error as the cause of an InstantiationException.
    """
    if config is None:
        return None
    key = str(config._get_full_key(None) or "") if isinstance(config, DictConfig | ListConfig) else ""
    key = key or "configuration"
    tree = {key: _plain(config, key)}
    if found := problems(tree):
        raise ConfigError("\n".join(found))
    for path, value in nodes(tree):
        if isinstance(value, str) and "${" in value:  # Hydra would resolve it again, after this check
            raise ConfigError(f"{path}={value} is not legal: ${{ stays after all interpolations are resolved")
    for path, node in targets(tree).items():
        if isinstance(node, dict):
            _as_annotated(node)
        if not (_is_part(node["_target_"]) or node["_target_"] in KERAS or _is_transform(node["_target_"])):
            _refuse_foreign(path, node["_target_"])
    try:
        return _build(tree[key], **supplied)
    except InstantiationException as error:
        if isinstance(cause := error.__cause__, UserError):
            raise cause from cause.__cause__
        raise


def _as_annotated(node: dict[str, Any]) -> None:
    """Makes floats of whole numbers in a node, where the signature of its target has floats."""
    signature = static_signature(node["_target_"])
    for name, argument in (signature.parameters if signature else {}).items():
        if name in node:
            node[name] = with_floats(node[name], argument.annotation, argument.default)


def _plain(config: DictConfig | ListConfig | dict[str, Any], key: str) -> Any:
    """The node as plain dicts and lists: every interpolation is resolved once, and what is checked is what is built."""
    try:
        node = config if OmegaConf.is_config(config) else OmegaConf.create(config)
        assert isinstance(node, DictConfig | ListConfig)
        return OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or key}: {str(error).splitlines()[0]}") from error


def _names(modules: object) -> tuple[str, ...]:
    names = (modules,) if isinstance(modules, str) else tuple(modules) if isinstance(modules, Iterable) else (modules,)
    for name in names:
        if not isinstance(name, str) or not _MODULE.fullmatch(name):
            raise ConfigError(f"{KEY}={name} is not legal: expected names of modules, such as {KEY}=[mylib]")
    return names


def _opened(name: str) -> bool:
    """Whether a dotted name is a module that the user has opened, or lies in one."""
    return any(name == each or name.startswith(f"{each}.") for each in trusted())


def _is_part(target: str) -> bool:
    """Whether a target is a class of PARTS or a function of READERS, defined in that module itself."""
    module, _, name = target.rpartition(".")
    kind: type
    if any(fnmatch.fnmatchcase(module, glob) for glob in PARTS):
        kind = ast.ClassDef
    elif any(fnmatch.fnmatchcase(target, glob) for glob in READERS):
        kind = ast.FunctionDef
    else:
        return False
    tree = source_of(module)
    return bool(tree) and not name.startswith("_") and isinstance(definition(tree.body, name), kind)  # type: ignore[union-attr]


def _defined(target: str) -> bool:
    """Whether a name of this package or of albumentations exists; tf_keras is not looked at."""
    module, _, name = target.rpartition(".")
    if target.startswith("detect."):
        tree = source_of(module)
        return tree is not None and definition(tree.body, name) is not None
    return not target.startswith("albumentations.") or bool(_transform(name))


def _is_transform(target: str) -> bool:
    """Whether a target is a public transform of albumentations, by its short or its whole name."""
    found = _transform(target.rpartition(".")[2]) if re.fullmatch(r"albumentations(\.\w+)+", target) else None
    return found is not None and target in (f"albumentations.{found.__name__}", f"{found.__module__}.{found.__name__}")


def _transform(name: str) -> Any:
    """The public transform of albumentations with a name, or None."""
    import albumentations

    found = getattr(albumentations, name, None)
    kinds = (albumentations.BasicTransform, albumentations.BaseCompose)
    is_one = inspect.isclass(found) and issubclass(found, kinds) and found.__module__.startswith("albumentations.")
    return found if is_one and found is not None and found.__name__ == name else None


_LEGAL = {
    "detect": "the classes of its networks, data augmentation, schedules and weights, and the readers of data sets",
    "albumentations": "transforms",
    "tf_keras": f"the optimisers {', '.join(_OPTIMIZERS.split())}, and schedules of the rate",
}


def found(module: str) -> bool:
    """Whether a module can be found. It is not imported, but the packages around it are."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _refuse_foreign(path: str, target: str) -> None:
    """Raises ConfigError if a target of an opened module leads to code that is defined in a module that is not open."""
    try:
        passed = _walk(target.split("."))
    except Exception as error:
        raise ConfigError(f"{path}._target_={target}: can't load {target}: {error!r}") from error
    *way, found = passed
    homes = [each.__name__ for each in way if isinstance(each, ModuleType)]
    if isinstance(found, type) or inspect.isroutine(found):
        homes.append(str(getattr(found, "__module__", None) or type(getattr(found, "__self__", None)).__module__))
    else:
        raise ConfigError(f"{path}._target_={target}: expected a class or a function, not {type(found).__name__}")
    for home in homes:
        above = any(each.startswith(f"{home}.") for each in trusted())  # the packages around an opened module
        if not (above or _opened(home)):
            raise ConfigError(
                f"{path}._target_={target}: its code is defined in {home}, which is not open; {KEY} has "
                f"{', '.join(sorted(trusted()))}"
            )


def _walk(parts: Sequence[str]) -> list[Any]:
    """The objects along a dotted name, from its first module to what it names; modules are imported."""
    objects: list[Any] = [importlib.import_module(parts[0])]
    for count, part in enumerate(parts[1:], 2):
        holder = objects[-1]
        if not hasattr(holder, part) and isinstance(holder, ModuleType) and _near(".".join(parts[:count])):
            importlib.import_module(".".join(parts[:count]))
        objects.append(getattr(holder, part))
    return objects


def _near(module: str) -> bool:
    """Whether a module is open, or is a package around one."""
    return _opened(module) or any(each.startswith(f"{module}.") for each in trusted())
