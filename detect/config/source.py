"""Modules as syntax trees. A module is found by file name and read; it is not imported."""

import ast
import functools
import importlib.util
from collections.abc import Iterable
from pathlib import Path


@functools.cache
def parse(module: str) -> ast.Module | None:
    """The syntax tree of a module, or None if there is no such file. No parent package is imported."""
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


def definition(body: Iterable[ast.stmt], name: str) -> ast.FunctionDef | ast.ClassDef | None:
    """The function or class of a name in the body of a module or class; None if there is none."""
    return next((n for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == name), None)


def imported_from(body: Iterable[ast.stmt], name: str) -> str | None:
    """Dotted name that `from x import y [as name]` binds to `name`."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return f"{node.module}.{alias.name}"
    return None


def assigned(body: Iterable[ast.stmt], name: str) -> ast.expr | None:
    """The value in a module's `name = ...` or `name: TypeAlias = ...`."""
    for node in body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            bound = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(each, ast.Name) and each.id == name for each in bound):
                return node.value
    return None
