"""Which files of the library name a meta-architecture: its own, and no other. A newcomer is tested unasked."""

import ast
from pathlib import Path

import pytest
import yaml

from detect.config.check import CONFIG_DIR

PACKAGE = Path(__file__).resolve().parent.parent / "detect"
TARGETS = sorted(
    {
        target
        for file in CONFIG_DIR.joinpath("detector").glob("*.yaml")
        if (target := yaml.safe_load(file.read_text(encoding="utf-8")).get("_target_"))
    }
    | {"detect.modeling.classifier.Classifier"}
)


def naming(source: str, target: str) -> list[int]:
    """Lines of a source that name a class by its dotted path, its module, or, in a condition, its name as text.

    What a comment or a docstring tells of it is free.
    """
    module, _, name = target.rpartition(".")
    package, _, last = module.rpartition(".")
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            named = any(alias.name == module for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            named = node.module == module or (node.module == package and any(a.name == last for a in node.names))
        elif isinstance(node, ast.Constant):
            named = node.value in (module, target, name, last)
        else:
            continue
        if named:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.rpartition(".")[2])
def test_only_its_own_file_names_a_meta_architecture(target):
    own = PACKAGE.parent / Path(*target.split(".")[:-1]).with_suffix(".py")
    # `migration` names the messages of the Object Detection API, which are called so, too.
    files = [file for file in PACKAGE.rglob("*.py") if file.parent.name != "migration"]
    sources = {file: file.read_text(encoding="utf-8") for file in files}
    found = {f.relative_to(PACKAGE).as_posix(): naming(source, target) for f, source in sources.items() if f != own}
    assert {file: lines for file, lines in found.items() if lines} == {}
    assert f"class {target.rpartition('.')[2]}(" in sources[own]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("from detect.modeling.ssd import SSD", [1]),
        ("import os\nfrom detect.modeling import cost, ssd", [2]),
        ("import detect.modeling.ssd", [1]),
        ("if type(x).__name__ == 'SSD':\n    pass", [1]),
        ("# SSD\ndef f():\n    'As in SSD.'", []),
        ("from detect.geometry.anchors import SSDAnchors", []),
    ],
)
def test_planted_names_are_found(source, lines):
    assert naming(source, "detect.modeling.ssd.SSD") == lines
