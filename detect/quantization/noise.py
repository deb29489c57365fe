"""Measures the noise when one layer of a network is rounded. Several such networks run as copies in one batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from detect.quantization.activations import Cap, FakeQuant
from detect.quantization.folded import Folded
from detect.quantization.graph import Graph, Op, Tensor
from detect.quantization.phases import COLLECT, ROUND, SHIP, running

TOGETHER = 32  # layers whose copies run in one batch; a deep network needs memory for up to 33 times the batch


@dataclass(frozen=True)
class Energies:
    """Energies (sums of squares) for one layer, float64, summed over batches.

    own: energy of its float output. alone: of the noise in its output when only this layer is rounded. network: of
    the noise in its output when all layers are rounded.
    outputs: [outputs, 2]: energy of each float output of the network, and of the noise in it when only this layer is
    rounded.
    low, high: extremes of the layer's float output.
    """

    own: float
    alone: float
    network: float
    outputs: np.ndarray
    low: float
    high: float


def probe(model: tf_keras.Model, batches: Sequence[Any]) -> dict[str, Energies]:
    """{layer with a kernel: Energies}, in the network's order.

    model: a fake-quantised model with ranges, which do not change. batches: its inputs.
    The cost for each layer is a run of the part of the network after it.
    """
    graph = Graph(model)
    names = list(dict.fromkeys(op.name for op in graph.ops if isinstance(op.layer, Folded)))
    found: dict[str, list[Any]] = {name: [] for name in names}
    with running(model, SHIP):
        for start in range(0, len(names), TOGETHER):
            run = tf.function(_Pass(graph, frozenset(names[start : start + TOGETHER])), autograph=False)
            for batch in batches:
                for name, figures in run(batch).items():
                    found[name].append([part.numpy().astype(np.float64) for part in figures])
    return {name: _sum(parts) for name, parts in found.items() if parts}


def _sum(found: list[Any]) -> Energies:
    calls = np.concatenate([calls for calls, _ in found])
    own, alone, network = calls[:, :3].sum(axis=0).tolist()
    outputs = np.sum([outputs for _, outputs in found], axis=0)
    return Energies(own, alone, network, outputs, float(calls[:, 3].min()), float(calls[:, 4].max()))


@dataclass(frozen=True)
class Copies:
    """One tensor in several networks. value [(1 + layers) * B, ...] holds the tensor of the float network, then, for
    each of `layers`, of the network in which only this layer is rounded. Networks with an equal tensor have no copy."""

    value: tf.Tensor
    layers: tuple[str, ...] = ()

    def of(self, layers: Sequence[str], with_float: bool = True) -> tf.Tensor:
        """The float tensor, then the tensors for these layers; without a copy, the float tensor again."""
        if with_float and tuple(layers) == self.layers:
            return self.value
        places = [1 + self.layers.index(layer) if layer in self.layers else 0 for layer in layers]
        shape = self.value.shape[1:]
        blocks = tf.reshape(self.value, [1 + len(self.layers), -1, *shape])
        return tf.reshape(tf.gather(blocks, [0, *places] if with_float else places), [-1, *shape])

    def rounded(self, layer: str, plain: Callable, quantised: Callable) -> "Copies":
        """The copies after one more operation: `quantised` in the network of `layer`, `plain` in all others."""
        others = tuple(other for other in self.layers if other != layer)
        mine = quantised(self.of([layer], with_float=False))
        return Copies(tf.concat([plain(self.of(others)), mine], axis=0), (*others, layer))


class _Pass:
    """Runs a batch through the float network, the rounded one, and those in which one layer of `names` is rounded."""

    def __init__(self, graph: Graph, names: frozenset[str]):
        self.graph, self.names = graph, names

    def __call__(self, batch: Any) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """{layer: (float32 [calls, 5]: own, alone, network, low, high; float32 [outputs, 2])}. See `Energies`."""
        network: dict[Tensor, tf.Tensor] = {
            id(x): y for x, y in zip(self.graph.model.inputs, tf.nest.flatten(batch), strict=True)
        }
        copies = {tensor: Copies(value) for tensor, value in network.items()}
        begun: dict[Tensor, str] = {}  # tensor -> its layer, until the output of the layer is rounded
        calls: dict[str, list[tf.Tensor]] = {}
        for op in self.graph.ops:
            if not op.inputs:
                continue
            with running(op.layer, ROUND):
                network[op.output] = _call(op, network)
            name = op.name if isinstance(op.layer, Folded) else begun.get(op.inputs[0], "")
            copies[op.output] = self._run(op, copies, name)
            if name and isinstance(op.layer, FakeQuant):
                calls.setdefault(name, []).append(_figures(copies[op.output], name, network[op.output]))
            elif name in self.names:
                begun[op.output] = name
        ends = [copies[id(tensor)] for tensor in tf.nest.flatten(self.graph.model.outputs)]
        return {name: (tf.stack(calls[name]), tf.stack([_noise(end, name) for end in ends])) for name in calls}

    def _run(self, op: Op, copies: dict[Tensor, Copies], name: str) -> Copies:
        if name in self.names and isinstance(op.layer, Folded | FakeQuant):
            source = op.inputs[0]
            return copies[source].rounded(name, lambda x: _float(op, {source: x}), lambda x: _call(op, {source: x}))
        layers = tuple(dict.fromkeys(layer for tensor in op.inputs for layer in copies[tensor].layers))
        return Copies(_float(op, {tensor: copies[tensor].of(layers) for tensor in op.inputs}), layers)


def _float(op: Op, tensors: dict[Tensor, tf.Tensor]) -> tf.Tensor:
    """The output of an operation without rounding."""
    if isinstance(op.layer, FakeQuant):
        return tensors[op.inputs[0]]
    if not isinstance(op.layer, Folded | Cap):
        return _call(op, tensors)
    with running(op.layer, COLLECT):
        result = _call(op, tensors)
    if isinstance(op.layer, Folded) and op.layer.between is not None:  # it has collected a range, which must not change
        with tf.init_scope():
            before = [variable.numpy() for variable in op.layer.between.weights]
        for variable, value in zip(op.layer.between.weights, before, strict=True):
            variable.assign(value)
    return result


def _call(op: Op, tensors: dict[Tensor, tf.Tensor]) -> tf.Tensor:
    """The output of an operation's layer, called as in its model, but on these tensors."""
    args, kwargs = op.arguments(tensors)
    return op.layer(*args, **kwargs)


def _figures(output: Copies, layer: str, network: tf.Tensor) -> tf.Tensor:
    signal, alone = output.of([]), output.of([layer], with_float=False)
    energies = [_energy(part) for part in (signal, alone - signal, network - signal)]
    return tf.stack([*energies, tf.reduce_min(signal), tf.reduce_max(signal)])


def _noise(end: Copies, layer: str) -> tf.Tensor:
    signal = end.of([])
    return tf.stack([_energy(signal), _energy(end.of([layer], with_float=False) - signal)])


def _energy(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(x))
