"""Signatures from source text equal those that Python itself finds after an import."""

import inspect
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Annotated

import pytest

from detect.config.legal_values import Values, legal_of, refusals, whole
from detect.config.signatures import static_signature

SOURCE = '''
import dataclasses
from typing import ClassVar, NamedTuple

from neighbour import imported as renamed
from neighbour import Base

def function(root, classes=None, *paths, split: str = "train", limit: float, **options):
    """Reads."""

class WithInit:
    def __init__(self, size, scale=(1.0, 2.0), /, ratio=-0.5, *, names=tuple("ab")):
        pass

    @classmethod
    def load(cls, path, strict=True):
        pass

    @staticmethod
    def build(width):
        pass

class Child(WithInit):
    pass

class FarChild(Base):
    pass

class Plain:
    pass

class Unknown(dict):
    pass

@dataclasses.dataclass(frozen=True)
class Data:
    name: str
    kind: ClassVar[str] = "x"
    steps: int = 3
    parts: list = dataclasses.field(default_factory=list)
    hidden: int = dataclasses.field(default=0, init=False)

@dataclasses.dataclass(frozen=True)
class MoreData(Data):
    extra: bool = False

class Pair(NamedTuple):
    left: int
    right: int = 2
'''


@pytest.fixture(autouse=True)
def sample(tmp_path, monkeypatch):
    package = tmp_path / "sample_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "module.py").write_text(SOURCE)
    (tmp_path / "sample_module.py").write_text(SOURCE)
    (tmp_path / "neighbour.py").write_text(
        textwrap.dedent("""
        def imported(a, b=1): ...
        class Base:
            def __init__(self, depth): ...
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    static_signature.cache_clear()
    yield
    static_signature.cache_clear()
    for name in ("sample_module", "neighbour"):
        sys.modules.pop(name, None)


def names(target: str) -> dict[str, bool]:
    """Parameter names, and whether each must be given."""
    signature = static_signature(target)
    assert signature is not None
    return {p.name: p.default is p.empty for p in signature.parameters.values()}


NAMES = ["function", "WithInit", "Child", "FarChild", "Plain", "Data", "MoreData", "Pair", "renamed"]


@pytest.mark.parametrize("name", [*NAMES, "WithInit.load", "WithInit.build"])
def test_equals_the_signature_after_import(name):
    import importlib

    thing = importlib.import_module("sample_module")
    for part in name.split("."):
        thing = getattr(thing, part)
    expected = {p.name: p.default is p.empty for p in inspect.signature(thing).parameters.values()}
    assert names(f"sample_module.{name}") == expected


def test_nothing_is_imported():
    assert names("sample_package.module.Data") == {"name": True, "steps": False, "parts": False}
    assert "sample_package" not in sys.modules


def test_defaults_are_values_or_source_text():
    parameters = static_signature("sample_module.WithInit").parameters
    assert parameters["scale"].default == (1.0, 2.0)
    assert parameters["ratio"].default == -0.5
    assert parameters["names"].default == "tuple('ab')"


@pytest.mark.parametrize(
    "target",
    [
        "sample_module.absent",
        "no_such_package.thing",
        "sample_package.other.thing",
        "sample_module.Unknown",
        "math.sin",
    ],
)
def test_unknown_is_none(target):
    assert static_signature(target) is None


def test_real_target():
    assert "root" in names("detect.data.formats.voc.read_voc")


def test_annotations_are_read_as_far_as_they_can_be_told(tmp_path):
    (tmp_path / "told.py").write_text("from typing import Literal\nKind = Literal['a', 'b']\n")
    (tmp_path / "hinted.py").write_text(
        textwrap.dedent("""
        from __future__ import annotations
        import typing
        from collections.abc import Sequence
        from typing import Annotated

        from detect.config.legal_values import Share, whole
        from told import Kind as Sort
        from no_such_package import Thing

        Size = Sequence[Annotated[int, whole(1, 9)]]

        def build(kind: Sort, share: Share | None, size: Size, quoted: "typing.Literal['x']", plain: bool,
                  thing: Thing, mixed: Thing | int, called: open("x"), free): ...
        """)
    )
    hints = {p.name: p.annotation for p in static_signature("hinted.build").parameters.values()}
    told = {name: legal_of(hint) and str(legal_of(hint)) for name, hint in hints.items()}
    assert told == {
        "kind": "one of a, b",
        "share": "a number from 0 to 1 or null",
        "size": None,
        "quoted": "one of x",
        "plain": "true or false",
        "thing": None,
        "mixed": None,
        "called": None,
        "free": None,
    }
    assert refusals("size", [1, 10], hints["size"]) == ["size.1=10 is not legal: expected a whole number from 1 to 9"]
    assert [hints[name] for name in ("thing", "mixed", "called", "free")] == [inspect.Parameter.empty] * 4


LIST, PAIR = Sequence[float], Annotated[Sequence[Annotated[int, whole(1, 9)]], Values("height", "width")]


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (PAIR, [1, 9], None),
        (PAIR, [1], r"\[height, width\]"),
        (PAIR, [], r"\[height, width\]"),
        (PAIR, [1, 2, 3], r"\[height, width\]"),
        (PAIR, 5, r"k=5 .*\[height, width\]"),
        (PAIR, "5", r"\[height, width\]"),
        (PAIR, None, r"k=null .*\[height, width\]"),
        (PAIR, {"a": 1}, r"\[height, width\]"),
        (PAIR, [1, 10], "k.1=10 .*from 1 to 9"),
        (LIST | None, None, None),
        (LIST | None, 1.0, "a list.* or null"),
        (LIST | float, 1.0, None),
        (LIST | float, "a", "a number"),
        (LIST | Sequence[LIST], [[1.0], [2.0]], None),
        (LIST | Sequence[LIST], [[1.0], ["a"]], "k.1.0=a"),
        (tuple[float, int], [0.5, 1], None),
        (tuple[float, int], [0.5, 1.5], "k.1=1.5 .*whole"),
        (tuple[float, int], [0.5], "a list of 2"),
        (tuple[int, ...], [1, 2, 3], None),
        (tuple[int, ...], [1, "a"], "k.1=a"),
        (Mapping[str, int], {"a": 1}, None),
        (Mapping[str, int], {"a": "b"}, "k.a=b .*whole"),
        (Mapping[str, int], [1], "KEY:VALUE"),
        (Mapping[str, int], "a:1", "KEY:VALUE"),
        (str | Sequence[str], "2007", None),
        (str | Sequence[str], ["a"], None),
        (str, [1], None),
    ],
)
def test_lists_and_mappings(hint, value, said):
    found = refusals("k", value, hint)
    assert (not found) == (said is None) and (said is None or re.search(said, found[0])), found
