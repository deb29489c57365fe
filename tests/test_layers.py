"""Imports go downward only, from package to package and inside `modeling`: read from every syntax tree."""

import ast
import functools
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "detect"

LAYERS = [
    "api",
    "cli",
    "train",
    "advice",
    "migration",
    "export",
    "detector",
    "loaders",
    "training",
    "studies",
    "portable",
    "tflite",
    "weights",
    "quantization",
    "reporting",
    "runs",
    "loggers",
    "evaluation",
    "modeling",
    "data",
    "geometry",
    "config",
    "apart",
    "environment",
    "text_format",
    "files",
    "errors",
]
"""The rooms of `detect`, from the top down: packages, and the few modules beside them."""

INSIDE = {
    "modeling": [
        "ssd faster_rcnn fcos classifier",
        "one_stage",
        "cost",
        "necks heads box_heads rpn",
        "backbones",
        "point_assigner",
        "target_assigner sampler losses nms roi",
        "matcher",
        "replicas precision",
        "interface",
    ],
}
"""Layers within a package, from the top down. A module that is not named, such as a new one, is in the first layer."""

DEPTH = {name: depth for depth, name in enumerate(LAYERS)}
HYDRA = {"api", "cli", "train", "advice", "export", "training", "runs", "config"}
"""What may import Hydra or OmegaConf: the others take plain objects."""


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
    tree, (own, *rest) = ast.parse(source), module.split(".")
    if own not in DEPTH:
        return [f"detect.{module}: in no layer; add {own} to LAYERS in {Path(__file__).name}"]
    inside = {name: depth for depth, names in enumerate(INSIDE.get(own, ())) for name in names.split()}
    found = []
    for line, name in imported(tree):
        parts = name.split(".")
        where = f"detect.{module}:{line}"
        if name.startswith("."):
            found.append(f"{where}: relative import {name}")
        elif parts[0] == "detect" and len(parts) > 1 and DEPTH.get(parts[1], 0) < DEPTH[own]:
            found.append(f"{where}: imports detect.{parts[1]}, which is above {own}")
        elif parts[:2] == ["detect", own] and rest and inside and inside.get(parts[2], 0) < inside.get(rest[0], 0):
            found.append(f"{where}: imports detect.{own}.{parts[2]}, which is above {own}.{rest[0]}")
        elif parts[0] in ("hydra", "omegaconf") and own not in HYDRA:
            found.append(f"{where}: imports {parts[0]}, which {own} may not")
        elif name.startswith(("tensorflow.keras", "keras.")) or name == "keras":
            found.append(f"{where}: imports {name}; Keras is tf_keras")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "keras" and ast.unparse(node.value) in ("tf", "tensorflow"):
            found.append(f"detect.{module}:{node.lineno}: writes {ast.unparse(node)}; Keras is tf_keras")
    return found


@functools.cache
def modules() -> dict[str, str]:
    """Dotted names below `detect` and their source; packages are left out (their __init__.py files are empty)."""
    files = sorted(file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py")
    return {".".join(f.relative_to(PACKAGE).with_suffix("").parts): f.read_text(encoding="utf-8") for f in files}


WRONG = "tf" + "." + "keras"
"""The name that no file may write."""


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_downward(module):
    assert violations(module, modules()[module]) == []


def test_every_room_is_in_the_plan():
    rooms = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms - {"__init__"} == set(LAYERS)


@pytest.mark.parametrize("package", sorted(INSIDE))
def test_layers_within_a_package_name_what_is_there(package):
    folder = PACKAGE / package
    there = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert {name for names in INSIDE[package] for name in names.split()} <= there


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


def test_only_the_job_of_the_command_line_reads_hydras_state():
    readers = [module for module, source in modules().items() if "HydraConfig.get()" in source]
    assert readers == ["cli.job"]


def untyped(source: str) -> list[str]:
    """The parameters of public functions and methods that are typed Any and nothing else."""
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [
        f"{function.name}({argument.arg})"
        for function in functions
        if not function.name.startswith("_")
        for argument in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        if argument.annotation is not None and ast.unparse(argument.annotation) == "Any"
    ]


def test_no_parameter_of_a_public_function_is_typed_any():
    assert {str(path): found for path in PACKAGE.rglob("*.py") if (found := untyped(path.read_text()))} == {}
    assert untyped("def at(a: int, b: Any): ...\ndef _at(a: Any): ...\nclass A:\n    def of(self, *, c: Any): ...") == [
        "at(b)",
        "of(c)",
    ]


def test_init_files_are_empty():
    assert [str(f.relative_to(PACKAGE)) for f in PACKAGE.rglob("__init__.py") if f.read_text().strip()] == []


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        (
            "geometry.boxes",
            "from detect.modeling.ssd import SSD",
            "detect.geometry.boxes:1: imports detect.modeling, which is above geometry",
        ),
        (
            "data.formats.voc",
            "import os\nimport detect.modeling.ssd",
            "detect.data.formats.voc:2: imports detect.modeling, which is above data",
        ),
        (
            "data.formats.voc",
            "from detect import modeling",
            "detect.data.formats.voc:1: imports detect.modeling, which is above data",
        ),
        (
            "reporting.logger",
            "def f():\n    from detect.training.stages import fit",
            "detect.reporting.logger:2: imports detect.training, which is above reporting",
        ),
        (
            "modeling.heads",
            "from detect.modeling.ssd import SSD",
            "detect.modeling.heads:1: imports detect.modeling.ssd, which is above modeling.heads",
        ),
        (
            "modeling.heads",
            "from hydra.utils import instantiate",
            "detect.modeling.heads:1: imports hydra, which modeling may not",
        ),
        (
            "evaluation.coco",
            "import omegaconf",
            "detect.evaluation.coco:1: imports omegaconf, which evaluation may not",
        ),
        (
            "modeling.ssd",
            f"import tensorflow as tf\nx = {WRONG}.layers",
            f"detect.modeling.ssd:2: writes {WRONG}; Keras is tf_keras",
        ),
        (
            "modeling.ssd",
            "from tensorflow.keras import layers",
            "detect.modeling.ssd:1: imports tensorflow.keras.layers; Keras is tf_keras",
        ),
        (
            "modeling.ssd",
            "from .heads import ConvPredictor",
            "detect.modeling.ssd:1: relative import .heads.ConvPredictor",
        ),
        ("novelty", "", "detect.novelty: in no layer; add novelty to LAYERS in test_layers.py"),
    ],
)
def test_planted_violation_is_found(module, source, message):
    assert violations(module, source) == [message]


def test_what_is_allowed():
    source = "import hydra\nfrom detect.runs.start import Run\nfrom detect.errors import UserError"
    assert violations("training.stages", source) == []
    assert violations("evaluation.coco", "from detect.evaluation.confusion import matrix\nimport tf_keras") == []
