"""Layers with kernels and the ones that they feed: how a factor of a channel is put into a kernel, or taken out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tf_keras

from detect.quantization.folded import Folded
from detect.quantization.fusion import Unit, units
from detect.quantization.graph import Graph
from detect.quantization.spec import Spec
from detect.quantization.supported_layers import activation

layers = tf_keras.layers
# What passes a channel's positive factor on unchanged.
PASSES = (
    *(layers.MaxPooling2D, layers.AveragePooling2D, layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D),
    *(layers.ZeroPadding2D, layers.Cropping2D, layers.UpSampling2D, layers.Dropout, layers.SpatialDropout2D),
)


@dataclass(frozen=True, eq=False)
class Side:
    """A Conv2D, DepthwiseConv2D or Dense layer of a model, with the batch norm and the ReLU that are one with it.

    The last two methods change its variables.
    """

    unit: Unit

    @property
    def layer(self) -> Any:
        """The one with the kernel."""
        return self.unit.ops[0].layer

    @property
    def norm(self) -> Any:
        """The batch norm that is folded into the kernel, or None."""
        return next((op.layer for op in self.unit.ops if isinstance(op.layer, layers.BatchNormalization)), None)

    @property
    def relu6(self) -> Any:
        """The ReLU6 that follows, a ReLU or Activation layer, or None."""
        last = self.unit.ops[-1].layer
        six = last.max_value == 6 if type(last) is layers.ReLU else _is_activation(last, "relu6")
        return last if six else None

    @property
    def kernel(self) -> Any:
        """The variable: [h, w, inputs, outputs], depthwise [h, w, inputs, multiplier], dense [inputs, outputs]."""
        return self.layer.depthwise_kernel if self._is_depthwise else self.layer.kernel

    @property
    def output_axes(self) -> tuple[int, ...]:
        """The axes of the kernel along which its output channels lie."""
        last = len(self.kernel.shape) - 1
        return (last - 1, last) if self._is_depthwise else (last,)

    @property
    def input_axes(self) -> tuple[int, ...]:
        """The axis of the kernel along which its input channels lie."""
        return (len(self.kernel.shape) - 2,)

    @property
    def _is_depthwise(self) -> bool:
        return isinstance(self.layer, layers.DepthwiseConv2D)

    def magnitudes(self) -> np.ndarray:
        """Of the folded kernel, float64 in its shape."""
        return np.abs(Folded(Spec(), self.layer, self.norm).folded_kernel().numpy()).astype(np.float64)

    def multiply_kernel(self, factor: np.ndarray, axes: tuple[int, ...]) -> None:
        """factor: [C], of the channels along `axes`."""
        self.kernel.assign(scaled(self.kernel.numpy(), factor, axes))

    def divide_output(self, scale: np.ndarray) -> None:
        """scale: [C], what each output channel is divided by: gamma and beta, or without gamma all that precedes."""
        norm = self.norm
        if norm is not None and norm.scale:
            changed = [norm.gamma]
        else:
            self.multiply_kernel(1 / scale, self.output_axes)
            changed = [self.layer.bias] if self.layer.use_bias else []
            changed += [] if norm is None else [norm.moving_mean]
        changed += [norm.beta] if norm is not None and norm.center else []
        for variable in changed:
            variable.assign(variable.numpy() / scale)


def sides(model: tf_keras.Model) -> list[Side]:
    """The layers of a flat model that have one kernel and are called once, in order. Raises ConfigError as `units`."""
    graph = Graph(model)
    return [Side(unit) for unit in units(graph, Spec()) if _has_one_kernel(unit, graph)]


def pairs(model: tf_keras.Model) -> list[tuple[Side, Side]]:
    """Every two of `sides` of which the first feeds the second and nothing else, through ReLU, ReLU6, pooling and the
    like, in order. Raises ConfigError as `units` does."""
    graph = Graph(model)
    parts = units(graph, Spec())
    takers = {tensor: part for part in parts for tensor in part.inputs}
    found = []
    for first in (part for part in parts if _is_homogeneous(part, graph)):
        end: Unit | None = first
        while end is not None:
            end = takers[end.output] if graph.only_user(end.output) is not None else None
            if end is not None and _has_one_kernel(end, graph):
                found.append((Side(first), Side(end)))
            if end is not None and (end.kind != "copy" or type(end.ops[0].layer) not in PASSES):
                end = None
    return found


def largest(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The largest value of each channel, [C], where channels lie along `axes`."""
    return values.max(axis=tuple(axis for axis in range(values.ndim) if axis not in axes)).reshape(-1)


def scaled(values: np.ndarray, factor: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """values times a factor [C] of each channel along `axes`."""
    return values * factor.reshape([size if axis in axes else 1 for axis, size in enumerate(values.shape)])


def _has_one_kernel(unit: Unit, graph: Graph) -> bool:
    layer = unit.ops[0].layer
    plain = unit.kind in ("kernel", "linear") and not isinstance(layer, layers.SeparableConv2D)
    return plain and graph.calls(layer) == 1


def _is_homogeneous(unit: Unit, graph: Graph) -> bool:
    """Whether its output is scaled by what its kernel and bias are, or could be with another cap than 6."""
    first = unit.ops[0].layer
    return unit.kind == "kernel" and _has_one_kernel(unit, graph) and not _is_activation(first, "relu6")


def _is_activation(layer: Any, name: str) -> bool:
    return hasattr(layer, "activation") and activation(layer) == name
