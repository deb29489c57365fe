"""CONTRIBUTING.md names what is there."""

import re
from pathlib import Path

import pytest

from tests.test_layers import LAYERS

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:detect|configs|tests|docs|scripts)/[\w/]+\.(?:py|yaml|md))`", TEXT)))
NAMES = sorted(set(re.findall(r"`(detect(?:\.\w+)+)`", TEXT)))


@pytest.mark.parametrize("path", [path for path in PATHS if "NAME" not in path])
def test_paths_exist(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_dotted_names_exist(name):
    *modules, last = name.split(".")
    file = ROOT / Path(*modules).with_suffix(".py")
    assert re.search(rf"^(def|class) {last}\b", file.read_text(encoding="utf-8"), re.M)


def test_every_room_is_in_the_diagram():
    diagram = TEXT.split("```")[1]
    found = [*re.findall(r"^   (\w+)(?:/|\.py)", diagram, re.M), "errors"]
    assert found == LAYERS
