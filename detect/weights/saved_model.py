"""Checks a SavedModel of a stranger before TensorFlow loads it. A SavedModel is a program: this limits what it may do.

Legal are operations that only compute: no state but variables, no text, no name of a file, a function of Python or a
device. Any other one is refused before anything of the model runs. A legal graph may still need much time and memory.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from detect.errors import WeightsError, first_few, printable
from detect.files import sha256_of
from detect.weights import claims, table

PB, VARIABLES, SIGNATURE = "saved_model.pb", "variables/variables", "serving_default"
LARGEST = 64 << 20  # bytes of the graph; the weights are in other files
NOT_NUMBERS = (types_pb2.DT_STRING, types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT)
VARIABLE = {"VarHandleOp", "ReadVariableOp", "AssignVariableOp", "VarIsInitializedOp", "DestroyResourceOp"}
VARIABLE |= {"AssignAddVariableOp", "AssignSubVariableOp"}
CALLS = {"PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "While", "StatelessWhile", "Case"}
LISTS = {f"TensorList{name}" for name in ("Reserve", "SetItem", "GetItem", "Stack", "FromTensor", "Length", "PushBack")}
# Their attributes of free text are names of modes.
COMPUTE = {"Einsum", "GatherNd", "ScatterNd", "TensorScatterUpdate", "TensorScatterAdd", "ScaleAndTranslate", "Assert"}
COMPUTE |= {"StatelessCase", "EmptyTensorList", "ImageProjectiveTransformV3", "ResourceGather"}
LEGAL = VARIABLE | CALLS | LISTS | COMPUTE
SAVERS = ("__inference__traced_save_", "__inference__traced_restore_")  # functions that the loader does not call


def hashes(folder: Path) -> dict[str, str]:
    """The sha256 of the files of a SavedModel, by their paths in its folder. Raises WeightsError."""
    files = (folder / PB, *sorted(folder.glob(f"{VARIABLES}.*")))
    try:
        return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}
    except OSError as error:
        raise WeightsError(f"{folder}: {error.filename} can't be read: {error.strerror}") from error


def check(folder: Path, sha256: object = None) -> None:
    """Raises WeightsError for a SavedModel that is damaged, or has an operation that does more than to compute.

    sha256: the `hashes` of its files when it was written; None for a model of an earlier version.
    """
    if sha256 is not None and sha256 != (found := hashes(folder)):
        told = sha256 if isinstance(sha256, dict) else {}
        changed = sorted(name for name in {*found, *told} if found.get(name) != told.get(name))
        raise WeightsError(f"{folder}: {printable(first_few(changed))} is not what it was when the model was written")
    _check_program(folder)


def _check_program(folder: Path) -> None:
    size = claims.size_of(folder / PB)
    if size > LARGEST:
        raise WeightsError(f"{folder}/{PB} has {size} bytes; legal are at most {LARGEST >> 20} MB")
    try:
        model = saved_model_pb2.SavedModel.FromString((folder / PB).read_bytes())
    except (OSError, DecodeError) as error:
        raise WeightsError(f"{folder}/{PB} can't be read: it is damaged") from error
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].object_graph_def.nodes:
        raise WeightsError(
            f"{folder}: legal is a SavedModel of TensorFlow 2 with one graph, as `detect export` writes it"
        )
    (graph,) = model.meta_graphs
    if SIGNATURE not in graph.signature_def:
        raise WeightsError(f"{folder}: the SavedModel has no signature {SIGNATURE}")
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    bodies = {name: list(function.node_def) for name, function in functions.items()}
    savers = {name for name in functions if name.startswith(SAVERS)} - set(graph.object_graph_def.concrete_functions)
    reached, new = set(bodies) - savers, set(bodies) - savers
    while new := {name for body in new for name in _called(bodies[body], bodies) if name in bodies} - reached:
        reached |= new
    run = [node for name in sorted(reached) for node in bodies[name]]
    nodes = [*graph.graph_def.node, *(node for body in bodies.values() for node in body)]
    constants = (node.attr["value"].tensor for node in nodes if node.op == "Const")
    claims.numbers(f"{folder}/{PB}", ([side.size for side in c.tensor_shape.dim] for c in constants), size)
    odd = sorted({node.op for node in run if not (node.op in bodies or _computes(node.op))})
    odd += sorted(name for name in bodies if op_def_registry.get(name))  # which of the two would run?
    if odd:
        raise WeightsError(
            f"{folder}: the SavedModel has operations that do more than to compute, such as reading or writing files: "
            f"{printable(first_few(odd))}. It is not loaded"
        )
    table.check(folder / VARIABLES, objects=True)


def _called(nodes: Iterable[Any], functions: Iterable[str]) -> Iterator[str]:
    """The functions that nodes name, in their attributes or as their operation."""
    for node in nodes:
        if node.op in functions:
            yield node.op
        for value in node.attr.values():
            yield from (function.name for function in (value.func, *value.list.func) if function.name)


def _computes(name: str) -> bool:
    """Whether an operation only computes numbers of numbers, by its definition."""
    if name in LEGAL:
        return True
    operation = op_def_registry.get(name)
    if operation is None or operation.is_stateful:
        return False
    if any(end.type in NOT_NUMBERS for end in (*operation.input_arg, *operation.output_arg)):
        return False
    free = (a for a in operation.attr if a.type in ("string", "list(string)", "func", "list(func)"))
    return all(attribute.HasField("allowed_values") for attribute in free)
