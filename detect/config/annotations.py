"""Reads annotations from source text, as far as they tell the legal values (detect.config.legal_values).

It understands names of `typing`, of `collections.abc` and of that module, builtin types, and aliases that a module
defines or imports (`Padding = Literal["same", "valid"]`).
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
"""Modules whose objects are used themselves; of other modules only the source text is read."""


def hint(node: ast.expr | None, module: str) -> Any:
    """The annotation itself; EMPTY if there is none, or if the source text does not tell it."""
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
    """The names that the annotations of a module may use; each is looked up when it is needed."""

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
