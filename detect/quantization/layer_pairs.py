"""Pairs of layers with kernels: multiplies or divides the channels of a kernel by factors."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tf_keras

from detect.quantization.folded import Folded
from detect.quantization.fusion import Unit, units
from detect.quantization.graph import Graph
from detect.quantization.spec import Spec
from detect.quantization.supported_layers import OWN, activation

layers = tf_keras.layers
# If a channel of the input is multiplied by a positive factor, so is the channel of the output of these layers.
PASSES = (
    *(layers.MaxPooling2D, layers.AveragePooling2D, layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D),
    *(layers.ZeroPadding2D, layers.Cropping2D, layers.UpSampling2D, layers.Dropout, layers.SpatialDropout2D),
)


@dataclass(frozen=True, eq=False)
class Side:
    """A Conv2D, DepthwiseConv2D or Dense layer of a model, with the batch norm and the ReLU that are fused with it.

    `multiply_kernel` and `divide_output` change its variables.
    """

    unit: Unit

    @property
    def layer(self) -> tf_keras.layers.Layer:
        """The layer with the kernel."""
        return self.unit.ops[0].layer

    @property
    def norm(self) -> tf_keras.layers.BatchNormalization | None:
        """The batch norm that is folded into the kernel, or None."""
        return next((op.layer for op in self.unit.ops if isinstance(op.layer, layers.BatchNormalization)), None)

    @property
    def relu6(self) -> tf_keras.layers.Layer | None:
        """The ReLU6 after it (a ReLU or Activation layer), or None."""
        last = self.unit.ops[-1].layer
        six = last.max_value == 6 if type(last) is layers.ReLU else _has_relu6(last)
        return last if six else None

    @property
    def kernel(self) -> tf.Variable:
        """The kernel: [h, w, inputs, outputs], depthwise [h, w, inputs, multiplier], dense [inputs, outputs]."""
        return self.layer.depthwise_kernel if self._is_depthwise else self.layer.kernel

    @property
    def output_axes(self) -> tuple[int, ...]:
        """The axes of the kernel for its output channels."""
        last = len(self.kernel.shape) - 1
        return (last - 1, last) if self._is_depthwise else (last,)

    @property
    def input_axes(self) -> tuple[int, ...]:
        """The axis of the kernel for its input channels."""
        return (len(self.kernel.shape) - 2,)

    @property
    def _is_depthwise(self) -> bool:
        return isinstance(self.layer, layers.DepthwiseConv2D)

    def magnitudes(self) -> np.ndarray:
        """Magnitudes of the folded kernel, float64, in the shape of the kernel."""
        return np.abs(Folded(Spec(), self.layer, self.norm).folded_kernel().numpy()).astype(np.float64)

    def multiply_kernel(self, factor: np.ndarray, axes: tuple[int, ...]) -> None:
        """Multiplies the channels along `axes` by factor [C]."""
        self.kernel.assign(scaled(self.kernel.numpy(), factor, axes))

    def divide_output(self, scale: np.ndarray) -> None:
        """Divides each output channel by scale [C]: gamma and beta; without gamma, also kernel, bias and mean."""
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
    """The layers of a flat model with one kernel and one call, in order. Raises ConfigError as `units` does."""
    graph = Graph(model)
    return [Side(unit) for unit in units(graph, Spec()) if _has_one_kernel(unit, graph)]


def pairs(model: tf_keras.Model) -> list[tuple[Side, Side]]:
    """Pairs of `sides`, in order. The first feeds only the second, directly or through ReLU, ReLU6, pooling and other
    layers in PASSES. Raises ConfigError as `units` does."""
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
    """The largest value of each channel, [C]. axes: the axes of the channels."""
    return values.max(axis=tuple(axis for axis in range(values.ndim) if axis not in axes)).reshape(-1)


def scaled(values: np.ndarray, factor: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """values times factor [C], one for each channel along `axes`."""
    return values * factor.reshape([size if axis in axes else 1 for axis, size in enumerate(values.shape)])


def _has_one_kernel(unit: Unit, graph: Graph) -> bool:
    layer = unit.ops[0].layer
    plain = unit.kind in ("kernel", "linear") and not isinstance(layer, layers.SeparableConv2D)
    return plain and graph.calls(layer) == 1


def _is_homogeneous(unit: Unit, graph: Graph) -> bool:
    """Whether scaling its kernel and bias by a positive factor scales its output (a ReLU6 then needs another cap)."""
    own = unit.kind == "kernel" and unit.after == OWN
    return own and _has_one_kernel(unit, graph) and not _has_relu6(unit.ops[0].layer)


def _has_relu6(layer: tf_keras.layers.Layer) -> bool:
    return hasattr(layer, "activation") and activation(layer) == "relu6"
