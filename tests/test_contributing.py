"""CONTRIBUTING.md names what is there."""

import ast
import re
from pathlib import Path

import pytest

from tests.test_layers import LAYERS

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:detect|configs|tests|docs|scripts)/[\w/.]*)`", TEXT)))
NAMES = sorted(set(re.findall(r"`(detect(?:\.\w+)+)`", TEXT)))
MEMBERS = sorted(set(re.findall(r"`([A-Z]\w+)\.(\w+)`", TEXT)))


def defined(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Classes and functions of a module or a class, by name."""
    return {node.name: node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def exists(name: str, root: Path = ROOT) -> bool:
    """Whether a dotted name is a module or a package below `root`, or a class, a function or a method there."""
    place, rest = root, name.split(".")
    while rest and (place / rest[0]).is_dir():
        place /= rest.pop(0)
    if not rest:
        return True
    file = place / f"{rest.pop(0)}.py"
    body = ast.parse(file.read_text(encoding="utf-8")).body if file.is_file() else None
    while rest and body is not None:
        body = getattr(defined(body).get(rest.pop(0)), "body", None)
    return body is not None


def methods() -> set[tuple[str, str]]:
    """(class, method) of all classes of the package, those that subclasses inherit included."""
    classes: dict[str, ast.ClassDef] = {}
    for file in (ROOT / "detect").rglob("*.py"):
        for name, node in defined(ast.parse(file.read_text(encoding="utf-8")).body).items():
            if isinstance(node, ast.ClassDef):
                classes[name] = node

    def own(name: str) -> set[str]:
        node = classes.get(name)
        return set(defined(node.body)).union(*(own(ast.unparse(base)) for base in node.bases)) if node else set()

    return {(name, method) for name in classes for method in own(name)}


@pytest.mark.parametrize("path", [path for path in PATHS if "NAME" not in path])
def test_paths_exist(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("path", [path for path in PATHS if "NAME" in path])
def test_folders_of_new_files_exist(path):
    assert (ROOT / path).parent.is_dir()


@pytest.mark.parametrize("name", NAMES)
def test_dotted_names_exist(name):
    assert exists(name)


def test_methods_exist():
    assert len(MEMBERS) > 5
    assert set(MEMBERS) - methods() == set()


@pytest.mark.parametrize("name", ["detect.novelty", "detect.files.novelty", "detect.geometry.frame.Frame.novelty"])
def test_a_planted_name_is_not_found(name):
    assert not exists(name)


def test_every_room_is_in_the_diagram():
    diagram = TEXT.split("```")[1]
    found = [*re.findall(r"^   (\w+)(?:/|\.py)", diagram, re.M), "errors"]
    assert found == LAYERS
