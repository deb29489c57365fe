"""Reads signatures from source text. It does not import the module, because a detector would load TensorFlow."""

import ast
import functools
import inspect
from collections.abc import Iterable
from typing import Any

from detect.config.annotations import EMPTY, hint
from detect.config.source import definition, imported_from, parse


@functools.cache
def static_signature(target: str) -> inspect.Signature | None:
    """The signature of `target` ("package.module.function", "package.module.Class" or "...Class.method").

    It understands functions, classes with an `__init__` of their own or inherited, dataclasses, named tuples, and
    names that a module imports from another. A default that is not a literal is given as its source text. An
    annotation that source text does not tell is left out.
    Returns None if there is no such module or name, or if the module is not Python text.
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
        tree = parse(module)
        if tree is None:
            continue
        node = definition(tree.body, parts[cut])
        if node is None:
            source = imported_from(tree.body, parts[cut])
            return _find(".".join([source, *parts[cut + 1 :]])) if source else None
        for name in parts[cut + 1 :]:
            node = definition(node.body, name) if node else None
        return (node, module) if node else None
    return None


def _owner(target: str) -> bool:
    """Whether `target` names a method."""
    found = _find(target.rpartition(".")[0]) if target.count(".") > 1 else None
    return found is not None and isinstance(found[0], ast.ClassDef)


def _names(nodes: Iterable[ast.expr]) -> set[str]:
    """Last names of decorators or bases: `dataclasses.dataclass(frozen=True)` -> "dataclass"."""
    return {ast.unparse(n.func if isinstance(n, ast.Call) else n).rpartition(".")[2] for n in nodes}


def _class_parameters(node: ast.ClassDef, module: str) -> list[inspect.Parameter] | None:
    init = definition(node.body, "__init__")
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
    """Fields of a dataclass, as keyword-only parameters: their order does not matter here."""
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
        kind, told = inspect.Parameter.KEYWORD_ONLY, hint(node.annotation, module)
        fields.append(inspect.Parameter(node.target.id, kind, default=default, annotation=told))
    return fields


def _parameters(arguments: ast.arguments, module: str, skip_first: bool) -> list[inspect.Parameter]:
    kinds = inspect.Parameter
    positional = [
        *((a, kinds.POSITIONAL_ONLY) for a in arguments.posonlyargs),
        *((a, kinds.POSITIONAL_OR_KEYWORD) for a in arguments.args),
    ]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    found = [
        kinds(a.arg, kind, default=EMPTY if d is None else _literal(d), annotation=hint(a.annotation, module))
        for (a, kind), d in zip(positional, defaults, strict=True)
    ]
    found = found[1:] if skip_first else found
    if arguments.vararg:
        found.append(kinds(arguments.vararg.arg, kinds.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        value = EMPTY if default is None else _literal(default)
        told = hint(argument.annotation, module)
        found.append(kinds(argument.arg, kinds.KEYWORD_ONLY, default=value, annotation=told))
    if arguments.kwarg:
        found.append(kinds(arguments.kwarg.arg, kinds.VAR_KEYWORD))
    return found


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
