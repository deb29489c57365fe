"""Which tensors of a model share a range."""

from dataclasses import dataclass, field

import tf_keras

from detect.quantization.fusion import Unit
from detect.quantization.graph import Tensor
from detect.quantization.supported_layers import FIXED, FLOAT, JOIN, OWN, ROUND, SAME, activation

layers = tf_keras.layers


@dataclass
class Range:
    """One range. name: of the layer that it is called after. members: the tensors that it is collected from; a pair
    stands for what goes into a concatenation with another range of its own. fixed: (low, high), where prescribed."""

    name: str = ""
    members: list[Tensor] = field(default_factory=list)
    fixed: tuple[float, float] | None = None


class SharedRanges:
    """The sets of tensors that have one range, and the `ranges` of those that have any, by the root of the set.

    What is SAME or ROUND is in the set of its input; all inputs of a concatenation (JOIN) are in one with its output,
    but for those whose range is prescribed. A set is float if nothing in it is quantised, nor what takes it.
    """

    def __init__(self, parts: list[Unit], bits: int):
        self._parent: dict[Tensor, Tensor] = {}
        fixed: dict[Tensor, tuple[float, float]] = {}
        for unit in parts:
            self._parent[unit.output] = unit.output
            if unit.after == FIXED:
                fixed[unit.output] = prescribed(unit, bits)
            inputs = unit.inputs if unit.after == JOIN else unit.inputs[:1] if unit.after in (SAME, ROUND) else ()
            for tensor in inputs:
                if unit.after != JOIN or self.root(tensor) not in fixed:
                    self._parent[self.root(unit.output)] = self.root(tensor)
        self.ranges = {root: Range(fixed=fixed.get(root)) for root in self._rounded(parts)}
        for unit in parts:
            self._enter(unit)

    def root(self, tensor: Tensor) -> Tensor:
        """The tensor that stands for its set."""
        while self._parent[tensor] != tensor:
            tensor = self._parent[tensor]
        return tensor

    def member(self, tensor: Tensor, root: Tensor | None = None) -> int:
        """The number of a tensor among those that its range (or that of `root`) is collected from."""
        return self.ranges[self.root(tensor) if root is None else root].members.index(tensor)

    def _rounded(self, parts: list[Unit]) -> dict[Tensor, None]:
        """The roots of the sets that have a range, in order."""
        rounded: dict[Tensor, None] = {}
        for unit in parts:
            if unit.after in (OWN, FIXED):
                scales_input = type(unit.ops[0].layer) is layers.Rescaling
                taken = () if scales_input else unit.inputs
                rounded.update(dict.fromkeys(self.root(tensor) for tensor in (*taken, unit.output)))
        for unit in parts:
            if unit.after == JOIN and any(self.root(tensor) in rounded for tensor in unit.inputs):
                rounded[self.root(unit.output)] = None
        return rounded

    def _enter(self, unit: Unit) -> None:
        """Adds the unit's output, or its inputs, to the members of the range."""
        root = self.root(unit.output)
        if root not in self.ranges:
            return
        shared = self.ranges[root]
        if unit.after in (OWN, FIXED, FLOAT):
            shared.members.append(unit.output)
            shared.name = shared.name or unit.name
        elif unit.after == JOIN:
            shared.name = unit.name
            shared.members += [(unit.output, tensor) for tensor in unit.inputs if self.root(tensor) != root]


def prescribed(unit: Unit, bits: int) -> tuple[float, float]:
    """What TFLite holds certain outputs in: softmax and sigmoid in [0, 255/256] (of 8 bits), tanh and vectors of
    length 1 in [-1, 127/128]; the hard sigmoid reaches 1."""
    if unit.kind == "hard_sigmoid":
        return 0.0, 1.0
    layer = unit.ops[-1].layer
    kind = type(layer)
    if kind is layers.Softmax or (kind is not layers.UnitNormalization and activation(layer) in ("softmax", "sigmoid")):
        return 0.0, 1 - 2.0**-bits
    return -1.0, 1 - 2.0 ** (1 - bits)
