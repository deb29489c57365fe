"""The forms of json files: what a file of a strange run must hold to be used.

A form is a type of FORMS by name, {key: form} for a mapping, where `key?` may be missing or null, {"*": form} for any
key, [form] for a list, or a tuple of alternatives. Keys that a form does not name may hold anything.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detect.errors import DataError, printable
from detect.files import read_json

Form = str | Mapping[str, "Form"] | list["Form"] | tuple["Form", ...]

LARGEST = 1e15  # of what is counted or measured; a loss and a number of operations may be larger
LONGEST = 10_000  # characters of a text
FORMS: dict[str, Callable[[Any], bool]] = {
    "number": lambda v: type(v) in (int, float) and math.isfinite(v),
    "amount": lambda v: type(v) in (int, float) and 0 <= v <= LARGEST,
    "count": lambda v: type(v) is int and 0 <= v <= LARGEST,
    "text": lambda v: type(v) is str and len(v) <= LONGEST,
    "truth": lambda v: type(v) is bool,
    "null": lambda v: v is None,
}
FIGURE: Form = ("number", "null")
ENDED: Form = {"scores": {"*": {}}}
SCORED: Form = {"scores": {"*": {"AP": FIGURE}}}
HISTORY: Form = [{"changed": {}}]
EVALUATED: Form = {"data?": "text", "threshold?": "amount"}
IMAGES: Form = {"*": {"*": "text"}}
DATA: Form = {"classes": ["text"], "splits": IMAGES, "classify?": {"classes": ["text"], "splits": IMAGES}}
BUDGET: Form = {"steps": {"*": "number"}, "configured": {"*": "count"}}


def read(path: Path, form: Form) -> dict[str, Any]:
    """The content of a json file of this form, which is a mapping. Raises DataError, naming the place in the file."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} is not readable JSON: legal is a mapping, found is {type(content).__name__}")
    check(content, form, path)
    return content


def check(content: object, form: Form, path: Path) -> None:
    """Raises DataError, naming the file and the place in it, if its content does not have a form."""
    if found := problem(content, form):
        raise DataError(f"{path}: {printable(found)}")


def problem(value: object, form: Form, place: str = "") -> str | None:
    """Where a value does not have a form, and what is legal there; None if it has it."""
    if isinstance(form, tuple):
        tried = [problem(value, one, place) for one in form]
        return None if None in tried else tried[-1] if isinstance(value, dict) else _wrong(value, form, place)
    if isinstance(form, str):
        return None if FORMS[form](value) else _wrong(value, form, place)
    if isinstance(form, list):
        if not isinstance(value, list):
            return _wrong(value, "a list", place)
        return next((p for i, v in enumerate(value) if (p := problem(v, form[0], f"{place}[{i}]"))), None)
    if not isinstance(value, Mapping):
        return _wrong(value, "a mapping", place)
    for key, inner in form.items():
        name = key.removesuffix("?")
        if key == "*":
            known = {one.removesuffix("?") for one in form}
            places = [one for one in value if one not in known]
        elif name in value and not (key.endswith("?") and value[name] is None):
            places = [name]
        elif key.endswith("?"):
            places = []
        else:
            return f"{place}{'.' * bool(place)}{name} is missing"
        for one in places:
            if found := problem(value[one], inner, f"{place}{'.' * bool(place)}{one}"):
                return found
    return None


def _wrong(value: object, form: Form, place: str) -> str:
    legal = " or ".join("a list" if isinstance(one, list) else str(one) for one in form if not isinstance(one, dict))
    return f"{place or 'it'} is {repr(value)[:60]}; legal is {form if isinstance(form, str) else legal}"
