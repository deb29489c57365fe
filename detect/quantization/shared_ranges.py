"""The sets of tensors in a model that share a range."""

from dataclasses import dataclass, field

import tf_keras

from detect.quantization.fusion import Unit
from detect.quantization.graph import Tensor
from detect.quantization.supported_layers import FIXED, FLOAT, JOIN, OWN, ROUND, SAME, activation, cap

layers = tf_keras.layers


@dataclass
class Range:
    """One range. name: of a layer; the range gets its name. members: the tensors that it is collected from. A pair is
    an input of a concatenation that has another range of its own. fixed: (low, high) if the range is prescribed."""

    name: str = ""
    members: list[Tensor] = field(default_factory=list)
    fixed: tuple[float, float] | None = None


class SharedRanges:
    """The sets of tensors that share a range. `ranges`: root of a set -> its range; float sets are not in it.

    A SAME or ROUND tensor is in the set of its input. All inputs of a concatenation (JOIN) are in the set of its
    output, except those with a prescribed range. A set is float if neither its tensors nor their users are quantised.
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
        """The tensor that represents the set."""
        while self._parent[tensor] != tensor:
            tensor = self._parent[tensor]
        return tensor

    def member(self, tensor: Tensor, root: Tensor | None = None) -> int:
        """The index of a tensor among the members of its range (or of the range of `root`)."""
        return self.ranges[self.root(tensor) if root is None else root].members.index(tensor)

    def _rounded(self, parts: list[Unit]) -> dict[Tensor, None]:
        """The roots of the sets that have a range, in order."""
        rounded: dict[Tensor, None] = {}
        for unit in parts:
            if unit.after in (OWN, FIXED):
                scales_input = unit.kind == "copy" and type(unit.ops[0].layer) is layers.Rescaling
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
            others = dict.fromkeys(tensor for tensor in unit.inputs if self.root(tensor) != root)
            shared.members += [(unit.output, tensor) for tensor in others]


def prescribed(unit: Unit, bits: int) -> tuple[float, float]:
    """The range that TFLite prescribes: [0, 255/256] (for 8 bits) for softmax and sigmoid, [-1, 127/128] for tanh and
    vectors of length 1. For the hard sigmoid it is [0, 1]; for a ReLU with a cap, it ends at the cap."""
    if unit.kind == "hard_sigmoid":
        return 0.0, 1.0
    largest = cap(unit.ops[-1])
    if largest is not None:
        return 0.0, largest
    layer = unit.ops[-1].layer
    kind = type(layer)
    if kind is layers.Softmax or (kind is not layers.UnitNormalization and activation(layer) in ("softmax", "sigmoid")):
        return unsigned(bits)
    return -1.0, 1 - 2.0 ** (1 - bits)


def unsigned(bits: int) -> tuple[float, float]:
    """The range of a sigmoid: [0, 255/256] for 8 bits."""
    return 0.0, 1 - 2.0**-bits
