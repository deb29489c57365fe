"""Annotations read from source text, as far as they say what is legal (detect.config.legal_values).

Understood are names of `typing`, of `collections.abc` and of that module, builtin types, and what modules call by other
names (`Padding = Literal["same", "valid"]`), imported ones too.
"""

import ast
import builtins
import collections.abc
import inspect
import typing
from typing import Any

from detect.config import legal_values
from detect.config.source import assigned, imported_from, parse

EMPTY = inspect.Parameter.empty
TOLD = {"typing": typing, "collections.abc": collections.abc, legal_values.__name__: legal_values}
"""Modules whose names are looked up as they are; the others are only read."""


def hint(node: ast.expr | None, module: str) -> Any:
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


class _Scope(dict[str, Any]):
    """The names that the annotations of a module may use, each looked up when it is met."""

    def __init__(self, module: str):
        super().__init__(typing=typing)
        self.module = module

    def __missing__(self, name: str) -> Any:
        tree = parse(self.module)
        body = tree.body if tree else []
        meant = assigned(body, name)
        if meant is not None:
            return _evaluated(meant, self.module)
        source, _, original = (imported_from(body, name) or f"builtins.{name}").rpartition(".")
        if source in TOLD:
            return getattr(TOLD[source], original)
        if source != "builtins":
            return _Scope(source)[original]
        if not isinstance(found := getattr(builtins, original), type):
            raise NameError(original)
        return found
