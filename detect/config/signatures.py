"""Signatures read from source text, without importing the module: importing a detector would load TensorFlow.

Annotations come with them as far as they say what is legal (detect.config.legal_values): names of `typing`, of
`collections.abc` and of that module, builtin types, and what modules call by other names (`Padding = Literal[...]`).
"""

import ast
import builtins
import collections.abc
import functools
import importlib.util
import inspect
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detect.config import legal_values

EMPTY = inspect.Parameter.empty
TOLD = {"typing": typing, "collections.abc": collections.abc, legal_values.__name__: legal_values}
"""Modules whose names in annotations are looked up as they are; the others are only read."""


@functools.cache
def static_signature(target: str) -> inspect.Signature | None:
    """The signature of `target` ("package.module.function", "package.module.Class" or "...Class.method").

    Functions, classes with an `__init__` (inherited ones too), dataclasses and named tuples are understood, and
    names that a module imports from another. Defaults that are not literals are given as their source text;
    annotations that can't be told from source text are left out.
    Returns None where the source does not tell: no such module or name, or a module that is not Python text.
    """
    found = _find(target)
    if found is None:
        return None
    node, module = found
    if isinstance(node, ast.ClassDef):
        parameters = _class_parameters(node, module)
        return None if parameters is None else inspect.Signature(parameters)
    method = bool(_owner(target)) and "staticmethod" not in _names(node.decorator_list)
    return inspect.Signature(_parameters(node.args, module, skip_first=method))


def _find(target: str) -> tuple[ast.FunctionDef | ast.ClassDef, str] | None:
    """The definition of `target` and the name of the module that holds it."""
    parts = target.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:cut])
        tree = _parse(module)
        if tree is None:
            continue
        node = _definition(tree.body, parts[cut])
        if node is None:
            source = _imported_from(tree.body, parts[cut])
            return _find(".".join([source, *parts[cut + 1 :]])) if source else None
        for name in parts[cut + 1 :]:
            node = _definition(node.body, name) if node else None
        return (node, module) if node else None
    return None


@functools.cache
def _parse(module: str) -> ast.Module | None:
    """The syntax tree of a module found by file name alone: no parent package is imported."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest and spec.origin and spec.origin.endswith(".py"):
        return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for folder in spec.submodule_search_locations or ():
        place = Path(folder, *rest)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if rest and file.is_file():
                return ast.parse(file.read_text(encoding="utf-8"))
    return None


def _definition(body: Iterable[ast.stmt], name: str) -> ast.FunctionDef | ast.ClassDef | None:
    return next((n for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == name), None)


def _imported_from(body: Iterable[ast.stmt], name: str) -> str | None:
    """Dotted name that `from x import y [as name]` binds to `name`."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return f"{node.module}.{alias.name}"
    return None


def _owner(target: str) -> bool:
    """Whether `target` names a method."""
    found = _find(target.rpartition(".")[0]) if target.count(".") > 1 else None
    return found is not None and isinstance(found[0], ast.ClassDef)


def _names(nodes: Iterable[ast.expr]) -> set[str]:
    """Last names of decorators or bases: `dataclasses.dataclass(frozen=True)` -> "dataclass"."""
    return {ast.unparse(n.func if isinstance(n, ast.Call) else n).rpartition(".")[2] for n in nodes}


def _class_parameters(node: ast.ClassDef, module: str) -> list[inspect.Parameter] | None:
    init = _definition(node.body, "__init__")
    if isinstance(init, ast.FunctionDef):
        return _parameters(init.args, module, skip_first=True)
    inherited = [_base_parameters(base, module) for base in node.bases]
    if "dataclass" in _names(node.decorator_list) or "NamedTuple" in _names(node.bases):
        own = _fields(node.body, module)
        return list({p.name: p for p in [*(p for base in inherited if base for p in base), *own]}.values())
    if not node.bases:
        return []
    return next((base for base in inherited if base is not None), None)


def _base_parameters(base: ast.expr, module: str) -> list[inspect.Parameter] | None:
    found = _find(f"{module}.{ast.unparse(base)}")
    return _class_parameters(found[0], found[1]) if found and isinstance(found[0], ast.ClassDef) else None


def _fields(body: Iterable[ast.stmt], module: str) -> list[inspect.Parameter]:
    """Fields of a dataclass, keyword-only: their order is not asked for."""
    fields = []
    for node in body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(node.annotation):
            continue
        default = EMPTY if node.value is None else _literal(node.value)
        if isinstance(node.value, ast.Call) and "field" in _names([node.value]):
            given = {k.arg: k.value for k in node.value.keywords}
            if "init" in given and _literal(given["init"]) is False:
                continue
            default = next((_literal(given[k]) for k in ("default", "default_factory") if k in given), EMPTY)
        kind, hint = inspect.Parameter.KEYWORD_ONLY, _hint(node.annotation, module)
        fields.append(inspect.Parameter(node.target.id, kind, default=default, annotation=hint))
    return fields


def _parameters(arguments: ast.arguments, module: str, skip_first: bool) -> list[inspect.Parameter]:
    kinds = inspect.Parameter
    positional = [
        *((a, kinds.POSITIONAL_ONLY) for a in arguments.posonlyargs),
        *((a, kinds.POSITIONAL_OR_KEYWORD) for a in arguments.args),
    ]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    found = [
        kinds(a.arg, kind, default=EMPTY if d is None else _literal(d), annotation=_hint(a.annotation, module))
        for (a, kind), d in zip(positional, defaults, strict=True)
    ]
    found = found[1:] if skip_first else found
    if arguments.vararg:
        found.append(kinds(arguments.vararg.arg, kinds.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        value = EMPTY if default is None else _literal(default)
        hint = _hint(argument.annotation, module)
        found.append(kinds(argument.arg, kinds.KEYWORD_ONLY, default=value, annotation=hint))
    if arguments.kwarg:
        found.append(kinds(arguments.kwarg.arg, kinds.VAR_KEYWORD))
    return found


class _Scope(dict[str, Any]):
    """The names that the annotations of a module may use, each looked up when it is met."""

    def __init__(self, module: str):
        super().__init__(typing=typing)
        self.module = module

    def __missing__(self, name: str) -> Any:
        tree = _parse(self.module)
        body = tree.body if tree else []
        meant = _assigned(body, name)
        if meant is not None:
            return _evaluated(meant, self.module)
        source, _, original = (_imported_from(body, name) or f"builtins.{name}").rpartition(".")
        if source in TOLD:
            return getattr(TOLD[source], original)
        if source != "builtins":
            return _Scope(source)[original]
        if not isinstance(found := getattr(builtins, original), type):
            raise NameError(original)
        return found


def _assigned(body: Iterable[ast.stmt], name: str) -> ast.expr | None:
    """What a module's `name = ...` or `name: TypeAlias = ...` binds it to."""
    for node in body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            bound = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(each, ast.Name) and each.id == name for each in bound):
                return node.value
    return None


def _hint(node: ast.expr | None, module: str) -> Any:
    """The annotation itself; EMPTY without one, and where the source text does not tell."""
    try:
        return EMPTY if node is None else _evaluated(node, module)
    except (AttributeError, NameError, KeyError, TypeError, SyntaxError, RecursionError):
        return EMPTY


def _evaluated(node: ast.expr, module: str) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # "Literal['a']", in quotes
        node = ast.parse(node.value, mode="eval").body
    code = compile(ast.Expression(node), f"<annotation in {module}>", "eval")
    return eval(code, {"__builtins__": {}}, _Scope(module))


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
