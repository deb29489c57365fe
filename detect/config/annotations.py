"""Reads annotations from source text, as far as they tell the legal values (detect.config.legal_values).

It understands names of `typing`, of `collections.abc` and of that module, builtin types, and aliases that a module
defines or imports (`Padding = Literal["same", "valid"]`).
"""

import ast
import builtins
import collections.abc
import inspect
import pathlib
import typing
from typing import Annotated, Any

from detect.config import legal_values
from detect.config.source import assigned, imported_from, parse

EMPTY = inspect.Parameter.empty
TOLD = {"typing": typing, "collections.abc": collections.abc, "pathlib": pathlib, legal_values.__name__: legal_values}
"""Modules whose objects are used themselves; of other modules only the source text is read."""
PART = Annotated[object, legal_values.Legal(object)]
"""What an annotation is taken for that the source text does not tell, but that does not name None."""


def hint(node: ast.expr | None, module: str) -> Any:
    """The annotation itself; EMPTY if there is none. If the source text does not tell it: PART, or EMPTY if it may
    allow None.
    """
    if node is None:
        return EMPTY
    try:
        return _evaluated(node, module)
    except (AttributeError, NameError, KeyError, TypeError, SyntaxError, RecursionError):
        return EMPTY if _may_allow_null(node, module) else PART


def _may_allow_null(node: ast.expr, module: str) -> bool:
    """Whether an annotation names None, or has text or an alias, which may."""
    return any(
        (isinstance(part, ast.Constant) and part.value is not ...)
        or (isinstance(part, ast.Name) and (part.id == "Optional" or _is_alias(part.id, module)))
        for part in ast.walk(node)
    )


def _is_alias(name: str, module: str) -> bool:
    """Whether a name stands for another annotation, or for what no source text tells."""
    tree = parse(module)
    if tree is None:
        return True
    source, _, original = (imported_from(tree.body, name) or "").rpartition(".")
    return source not in TOLD and _is_alias(original, source) if source else assigned(tree.body, name) is not None


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
