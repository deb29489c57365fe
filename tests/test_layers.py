"""Imports go downward only: the layers of the design, read from the syntax tree of every module."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "detect"

LAYERS = [
    "train evaluate predict export inspect advise report fetch doctor cli usage overrides composition sweep",
    "stages build detector summary start config arms ranges signatures",
    "scoring",
    "loop weights quantize tflite metrics logs draw labels plots evaluators schedule serving events "
    "progress provenance study proposal",
    "classifier ssd faster_rcnn",
    "backbones necks heads rpn box_heads cost",
    "target_assigner sampler losses postprocess roi",
    "anchors anchor_layout box_coder matcher",
    "data",
    "boxes",
    "errors",
]
"""From the top down. A name is a module or subpackage of `detect`; the boxes' plain geometry serves the data, too."""

DEPTH = {name: depth for depth, names in enumerate(LAYERS) for name in names.split()}
HYDRA_FROM_HERE_UP = DEPTH["stages"]


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, dotted module or name) of every import, those inside functions included."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, f"{'.' * node.level}{node.module or ''}.{alias.name}") for alias in node.names]
    return found


def violations(module: str, source: str) -> list[str]:
    """What `source`, the text of `detect.<module>`, imports against the rules."""
    tree, own = ast.parse(source), module.split(".")[0]
    if own not in DEPTH:
        return [f"detect.{module}: in no layer; add {own} to LAYERS in {Path(__file__).name}"]
    found = []
    for line, name in imported(tree):
        parts = name.split(".")
        where = f"detect.{module}:{line}"
        if name.startswith("."):
            found.append(f"{where}: relative import {name}")
        elif parts[0] == "detect" and len(parts) > 1 and DEPTH.get(parts[1], 0) < DEPTH[own]:
            found.append(f"{where}: imports detect.{parts[1]}, which is above {own}")
        elif parts[0] in ("hydra", "omegaconf") and DEPTH[own] > HYDRA_FROM_HERE_UP:
            found.append(f"{where}: imports {parts[0]} below stages")
        elif name.startswith(("tensorflow.keras", "keras.")) or name == "keras":
            found.append(f"{where}: imports {name}; Keras is tf_keras")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("tf.keras", "tensorflow.keras"):
            found.append(f"detect.{module}:{node.lineno}: writes {ast.unparse(node)}; Keras is tf_keras")
    return found


def modules() -> dict[str, str]:
    """Dotted names below `detect` and their source; packages are left out (their __init__.py files are empty)."""
    files = sorted(file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py")
    return {".".join(f.relative_to(PACKAGE).with_suffix("").parts): f.read_text(encoding="utf-8") for f in files}


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_downward(module):
    assert violations(module, modules()[module]) == []


def test_no_cycles():
    sources = modules()
    graph = {
        module: {
            target
            for _, name in imported(ast.parse(source))
            for target in (name.removeprefix("detect."), name.removeprefix("detect.").rpartition(".")[0])
            if name.startswith("detect.") and target in sources and target != module
        }
        for module, source in sources.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("modules import each other: " + " -> ".join(error.args[1]))


def test_init_files_are_empty():
    assert [str(f.relative_to(PACKAGE)) for f in PACKAGE.rglob("__init__.py") if f.read_text().strip()] == []


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        (
            "boxes",
            "from detect.anchors import SSDAnchors",
            "detect.boxes:1: imports detect.anchors, which is above boxes",
        ),
        ("data.voc", "import os\nimport detect.ssd", "detect.data.voc:2: imports detect.ssd, which is above data"),
        ("data.voc", "from detect import heads", "detect.data.voc:1: imports detect.heads, which is above data"),
        (
            "loop",
            "def f():\n    from detect.stages import fit",
            "detect.loop:2: imports detect.stages, which is above loop",
        ),
        ("heads", "from hydra.utils import instantiate", "detect.heads:1: imports hydra below stages"),
        ("metrics.coco", "import omegaconf", "detect.metrics.coco:1: imports omegaconf below stages"),
        ("ssd", "import tensorflow as tf\nx = tf.keras.layers", "detect.ssd:2: writes tf.keras; Keras is tf_keras"),
        (
            "ssd",
            "from tensorflow.keras import layers",
            "detect.ssd:1: imports tensorflow.keras.layers; Keras is tf_keras",
        ),
        ("ssd", "from .heads import ConvPredictor", "detect.ssd:1: relative import .heads.ConvPredictor"),
        ("novelty", "", "detect.novelty: in no layer; add novelty to LAYERS in test_layers.py"),
    ],
)
def test_planted_violation_is_found(module, source, message):
    assert violations(module, source) == [message]


def test_what_is_allowed():
    assert violations("stages", "import hydra\nfrom detect.loop import fit\nfrom detect.errors import UserError") == []
    assert violations("metrics.coco", "from detect.metrics.confusion import matrix\nimport tf_keras") == []
