"""Keys of the group `dataset` that readers advise: `dataset=auto`, the default, does not have all of them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OPTIONS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "configs/dataset").glob("*.yaml")}
KEY = re.compile(r"(?<![\w.])dataset\.(?!ya?ml\b)([a-z_]++(?:\.(?:[a-z_]++|\{\}))*+)(?!=\{\})")
OWN = ("digits.py", "join.py")
"""Data sets that `dataset=auto` does not read: who has such a message has named the option."""


def texts(path: Path) -> Iterator[str]:
    """The texts of a module other than its docstrings, with {} in place of each value."""
    tree = ast.parse(path.read_text())
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def has(option: str, key: str) -> bool:
    """Whether an option has a key, in which {} is a split."""
    node = OPTIONS[option]
    for part in key.replace("{}", "train").split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def wrong(text: str) -> list[str]:
    """The keys of a message that `dataset=auto` does not have, nor the option that the message names.

    A key with a value, `dataset.KEY={}`, is the user's own.
    """
    named = re.findall(r"\bdataset=(\w+|\{\})", text)
    options = ["auto", *(OPTIONS if "{}" in named else named)]
    return [key for key in KEY.findall(text) if " " in text and not any(has(option, key) for option in options)]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("set dataset.exif=stored", []),
        ("set dataset.first_pixel=1", ["first_pixel"]),
        ("set dataset=voc dataset.first_pixel=1", []),
        ("set dataset=coco dataset.first_pixel=1", ["first_pixel"]),
        ("set dataset.images.{}=FOLDER", ["images.{}"]),
        ("set dataset=coco dataset.images.{}=FOLDER", []),
        ("dataset.first_pixel={}: it is wrong", []),
    ],
)
def test_a_key_of_another_option(text, keys):
    assert wrong(text) == keys


@pytest.mark.parametrize("path", sorted((ROOT / "detect/data").rglob("*.py")), ids=lambda path: path.stem)
def test_an_advised_key_is_one_of_the_option_that_is_named(path):
    if path.name not in OWN:
        assert [(text, keys) for text in texts(path) if (keys := wrong(text))] == []
