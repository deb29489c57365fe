"""Finds the grids of the integers that a layer with a kernel takes and gives, in the graph of its model."""

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from detect.quantization.activations import FakeQuant

Step = Callable[[], Any]


@tf.autograph.experimental.do_not_convert
def steps(layer, number: int) -> tuple[Step | None, Step | None]:
    """Functions that return the steps of the input's and the output's grid of one call of a layer; None: no grid.

    number: the argument `number` of the call. The grids are those of the `FakeQuant` layers before and after the call.
    Keras keeps the graph when it saves, loads and clones a model, so a copy rounds as the model does. While Keras
    connects the layer, the call is not in the graph yet, and both are None.
    """
    before, after = around(layer, number)
    return _step(before[0] if before else None), _step(after)


def around(layer, number: int) -> tuple[list[FakeQuant | None], FakeQuant | None]:
    """The roundings before each input and after one call of a layer. They are None where there is no grid.

    number: the argument `number` of the call. While Keras connects the layer, there are ([], None).
    """
    calls = layer._inbound_nodes
    index = next((i for i, node in enumerate(calls) if node.call_kwargs.get("number", 0) == number), None)
    if index is None:
        return [], None
    before = [] if calls[index].is_input else [_source(x) for x in calls[index].keras_inputs]
    return [_built(quantiser) for quantiser in before], _built(_after(layer, index))


def calls(layer) -> Iterator[tuple[Any, list[Step], Step]]:
    """The Keras node of each call of a layer, with the steps of all inputs and of the output.

    A call without one of the grids is left out.
    """
    for index, node in enumerate(layer._inbound_nodes):
        before = [step for x in node.keras_inputs if (step := _step(_source(x)))]
        after = _step(_after(layer, index))
        if after is not None and len(before) == len(node.keras_inputs):
            yield node, before, after


def _source(tensor) -> FakeQuant | None:
    """The last rounding before a tensor. Layers between them keep the grid."""
    while not isinstance((history := tensor._keras_history).layer, FakeQuant):
        node = history.layer._inbound_nodes[history.node_index]
        if node.is_input:
            return None
        tensor = node.keras_inputs[0]
    return history.layer


def _after(layer, index: int) -> FakeQuant | None:
    """The rounding after a call, directly or after a ReLU."""
    for node in layer._outbound_nodes:
        if any(x._keras_history.layer is layer and x._keras_history.node_index == index for x in node.keras_inputs):
            after = node.layer
            return after if isinstance(after, FakeQuant) else _after(after, after._inbound_nodes.index(node))
    return None


def _built(quantiser: FakeQuant | None) -> FakeQuant | None:
    return quantiser if quantiser is not None and quantiser.built else None


def _step(quantiser: FakeQuant | None) -> Step | None:
    built = _built(quantiser)
    return None if built is None else built.step
