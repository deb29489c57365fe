"""Groups the operations of a model into the units that TFLite runs. Each unit has one range for its output.

A unit is a convolution with its batch norm and its ReLU, an addition with its ReLU, a hard swish, or a single layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError, first_few
from detect.quantization.graph import Graph, Op, Tensor
from detect.quantization.hard_swish import hard_sigmoid_before, hard_swish_before
from detect.quantization.spec import Spec
from detect.quantization.supported_layers import (
    AFTER_ACTIVATION,
    ARITHMETIC,
    FIXED,
    FLOAT,
    KERNELS,
    LEGAL,
    OWN,
    RELUS,
    SAME,
    SWISHES,
    activation,
    after,
    cap,
    changes_nothing,
    is_operator,
    is_relu,
    norm_problem,
    why_not,
)

layers = tf_keras.layers


@dataclass(frozen=True, eq=False)
class Unit:
    """Operations that are fused into one.

    kind: `input`; `kernel`, a layer with a kernel, with its batch norm and ReLU; `linear`, such a layer without its
        own activation; `activation`, that activation; `swish`; `scaled` and `shifted`, the two halves of a Rescaling
        within the network; `partial`, an Add or Multiply of two of several tensors; `scale`, a batch norm that follows
        no kernel; `hard_sigmoid`; `hard_swish`; `copy`, layers that do not change.
    ops: operations of the model, in order. after: the kind of range that the output is rounded to.
    """

    kind: str
    ops: tuple[Op, ...]
    inputs: tuple[Tensor, ...]
    output: Tensor
    after: str = OWN

    @property
    def name(self) -> str:
        """The name of its last layer. The two units of a layer with its own activation have different names."""
        if self.kind == "partial" and isinstance(self.output, tuple):
            return f"{self.ops[-1].name}/partial_{self.output[1]}"
        return self.ops[-1].name + {"linear": "/linear", "scaled": "/scaled"}.get(self.kind, "")


def units(graph: Graph, spec: Spec) -> list[Unit]:
    """The units of the graph, in an order in which they can run. Each operation is in one unit.

    Raises ConfigError with the names of all layers that can't be quantised and are not kept float. Also raises it if
    the model has no layer with a kernel to quantise.
    """
    floats = float_layers(graph, spec)
    swishes = {unit.ops[0]: unit for unit in _hard(graph, floats)}
    taken: set[Op] = set()
    result: list[Unit] = []
    problems: dict[str, str] = {}
    for op in graph.ops:
        if op not in taken:
            for unit in [swishes[op]] if op in swishes else _start(op, graph, floats, problems):
                result.append(unit)
                taken.update(unit.ops)
    if problems:
        shown = first_few((f"{name}: {why}" for name, why in problems.items()), 8, "\n  ", "\n  and")
        raise ConfigError(
            f"{graph.model.name} has {len(problems)} layers that can't be quantised:\n  {shown}\nlegal are {LEGAL}. "
            f"To keep a layer float, name it: quantize.spec.keep_float=['{next(iter(problems))}']"
        )
    if not any(unit.kind in ("kernel", "linear") for unit in result):
        raise ConfigError(f"{graph.model.name} has no layer with a kernel to quantise: legal are {LEGAL}")
    return result


def float_layers(graph: Graph, spec: Spec) -> set[str]:
    """Names of the layers that stay float, with the batch norm and the ReLU after such a kernel.

    Raises ConfigError for a glob that matches no layer.
    """
    unused = [glob for glob in spec.keep_float if not any(fnmatchcase(op.name, glob) for op in graph.ops)]
    if unused:
        raise ConfigError(f"quantize.spec.keep_float: {', '.join(unused)} matches no layer of {graph.model.name}")
    kernels = {op.name for op in _ends(graph)} if spec.first_last_float else set()
    named = {op.name for op in graph.ops if any(fnmatchcase(op.name, glob) for glob in spec.keep_float)}
    for op in graph.ops:
        if op.name in named and isinstance(op.layer, KERNELS):
            kernels.add(op.name)
        elif isinstance(op.layer, layers.BatchNormalization) or is_relu(op):
            kernels |= {op.name} if graph.producer[op.inputs[0]].name in kernels else set()
    return named | kernels


def _start(op: Op, graph: Graph, floats: set[str], problems: dict[str, str]) -> Iterator[Unit]:
    """The unit or the two units that begin with `op`."""
    kind = type(op.layer)
    if kind is layers.InputLayer:
        floating = tf.as_dtype(op.layer.dtype).is_floating
        yield Unit("input", (op,), (), op.output, OWN if floating and not _is_scaled(op, graph) else FLOAT)
    elif op.name in floats:
        yield Unit("copy", (op,), op.inputs, op.output, FLOAT)
    elif kind in KERNELS:
        yield from _kernel(op, graph, floats, problems)
    elif kind is layers.Rescaling and _has_two_steps(op.layer) and not _is_scaled(graph.producer[op.inputs[0]], graph):
        middle: Tensor = (op.output, "scaled")
        yield Unit("scaled", (op,), op.inputs, middle)
        yield replace(_with_relu("shifted", (op,), graph, floats), inputs=(middle,))
    elif kind in (layers.Add, layers.Multiply) and len(op.inputs) > 2:
        total = op.inputs[0]
        for number, tensor in enumerate(op.inputs[1:-1]):
            before, total = total, (op.output, number)
            yield Unit("partial", (op,), (before, tensor), total)
        yield replace(_with_relu("partial", (op,), graph, floats), inputs=(total, op.inputs[-1]))
    elif changes_nothing(op) and not _is_scaled(graph.producer[op.inputs[0]], graph):
        yield Unit("copy", (op,), op.inputs, op.output, SAME)
    elif kind in ARITHMETIC or is_operator(op):
        yield _with_relu("copy", (op,), graph, floats)
    elif isinstance(op.layer, layers.BatchNormalization) and norm_problem(op.layer, rank=4) is None:
        yield _with_relu("scale", (op,), graph, floats)
    elif kind is layers.Activation and activation(op.layer) in SWISHES:
        yield Unit("swish", (op,), op.inputs, op.output)
    else:
        result = after(op)
        if result is None:
            problems[op.name] = why_not(op)
        yield Unit("copy", (op,), op.inputs, op.output, result or OWN)


def _is_scaled(op: Op, graph: Graph) -> bool:
    """Whether it is an input of the model that only a Rescaling takes: the float image, whose scaling stays float."""
    users = graph.users[op.output]
    return (
        type(op.layer) is layers.InputLayer
        and all(type(user.layer) is layers.Rescaling for user in users)
        and bool(users)
    )


def _has_two_steps(layer) -> bool:
    """Whether a Rescaling multiplies and adds. TFLite has two operations for that, with a range between them."""
    return bool(np.any(np.asarray(layer.scale) != 1) and np.any(np.asarray(layer.offset) != 0))


def _hard(graph: Graph, floats: set[str]) -> Iterator[Unit]:
    """The hard swishes, and the hard sigmoids that are not part of a hard swish."""
    taken: set[Op] = set()
    for op in graph.ops:
        ops = hard_swish_before(op, graph)
        if ops is not None and not any(o.name in floats for o in ops):
            taken.update(ops)
            yield Unit("hard_swish", ops, ops[0].inputs, op.output)
    for op in graph.ops:
        ops = hard_sigmoid_before(op.output, graph)
        if ops is not None and not any(o in taken or o.name in floats for o in ops):
            yield Unit("hard_sigmoid", ops, ops[0].inputs, op.output, FIXED)


def _kernel(op: Op, graph: Graph, floats: set[str], problems: dict[str, str]) -> Iterator[Unit]:
    layer, own = op.layer, activation(op.layer)
    if getattr(layer, "data_format", "channels_last") != "channels_last" or getattr(layer, "groups", 1) != 1:
        problems[op.name] = "legal are data_format=channels_last and groups=1"
    if own in RELUS:
        yield Unit("kernel", (op,), op.inputs, op.output)
    elif own != "linear":
        if own not in AFTER_ACTIVATION:
            problems[op.name] = f"activation={own}; legal are {', '.join(AFTER_ACTIVATION)}"
        middle: Tensor = (op.output, "linear")
        yield Unit("linear", (op,), op.inputs, middle)
        own_kind = "swish" if own in SWISHES else "activation"
        yield Unit(own_kind, (op,), (middle,), op.output, AFTER_ACTIVATION.get(own, OWN))
    else:
        norm = graph.only_user(op.output)
        folds = norm is not None and norm.name not in floats and _folds(norm, op, graph)
        yield _with_relu("kernel", (op, norm) if norm is not None and folds else (op,), graph, floats)


def _folds(norm: Op, kernel: Op, graph: Graph) -> bool:
    """Whether it is a batch norm that can be folded into the kernel before it. It must follow no other layer.

    A kernel with several of them (a tower that maps share) is folded with each.
    """
    if not isinstance(norm.layer, layers.BatchNormalization) or norm_problem(norm.layer) is not None:
        return False
    calls = [op for op in graph.ops if op.layer is norm.layer]
    return all(graph.producer[op.inputs[0]].layer is kernel.layer for op in calls)


def _with_relu(kind: str, ops: tuple[Op, ...], graph: Graph, floats: set[str]) -> Unit:
    """The unit of `ops`, with the ReLU after them if nothing else uses their output."""
    relu = graph.only_user(ops[-1].output)
    if relu is not None and is_relu(relu) and relu.name not in floats:
        ops = (*ops, relu)
    return Unit(kind, ops, ops[0].inputs, ops[-1].output, OWN if cap(ops[-1]) is None else FIXED)


def _ends(graph: Graph) -> Iterator[Op]:
    """The first and the last layers with kernels."""
    before: dict[Tensor, bool] = {}
    for op in graph.ops:
        behind = any(before[tensor] for tensor in op.inputs)
        if isinstance(op.layer, KERNELS) and not behind:
            yield op
        before[op.output] = behind or isinstance(op.layer, KERNELS)
    after: dict[Tensor, bool] = {}
    for op in reversed(graph.ops):
        ahead = after.get(op.output, False)
        if isinstance(op.layer, KERNELS) and not ahead:
            yield op
        for tensor in op.inputs:
            after[tensor] = after.get(tensor, False) or ahead or isinstance(op.layer, KERNELS)
