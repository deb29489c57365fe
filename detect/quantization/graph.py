"""A tf_keras model as a list of operations. Tensors go by the identity of the model's Keras tensors."""

from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_keras

from detect.errors import ConfigError

Tensor = Hashable  # the id of a Keras tensor, or a pair that stands for one the float model does not have


@dataclass(frozen=True, eq=False)
class Op:
    """One call of a layer: which tensors go in, which comes out. args, kwargs: as the layer was called."""

    layer: Any
    args: Any
    kwargs: dict[str, Any]
    inputs: tuple[Tensor, ...]
    output: Tensor

    @property
    def name(self) -> str:
        """Of the layer."""
        return self.layer.name


class Graph:
    """The operations of a model in an order in which they can run, and who uses which tensor.

    Raises ConfigError for a model that is not a flat functional or Sequential one of tf_keras.
    """

    def __init__(self, model: Any):
        check_model(model)
        self.model = model
        self.ops = list(_ops(model))
        self.producer = {op.output: op for op in self.ops}
        self.outputs = {id(tensor) for tensor in tf.nest.flatten(model.outputs)}
        self.users: dict[Tensor, list[Op]] = defaultdict(list)
        for op in self.ops:
            for tensor in op.inputs:
                self.users[tensor].append(op)

    def only_user(self, tensor: Tensor) -> Op | None:
        """The one operation that uses a tensor; None where there are more, or the model returns it."""
        users = self.users[tensor]
        return users[0] if len(users) == 1 and tensor not in self.outputs else None

    def calls(self, layer: Any) -> int:
        """How often the model calls a layer."""
        return sum(op.layer is layer for op in self.ops)


def check_model(model: Any) -> None:
    """Raises ConfigError, with what to do, for anything but a built functional or Sequential model of tf_keras."""
    if not isinstance(model, tf_keras.Model):
        family = type(model).__module__.partition(".")[0]
        told = "a Keras 3 model" if family == "keras" else f"a {type(model).__name__} of {type(model).__module__}"
        raise ConfigError(
            f"{getattr(model, 'name', model)} is {told}: fake_quant takes tf_keras models (Keras 2). Build it with "
            "`import tf_keras` in place of `keras` or `tf.keras`, or set TF_USE_LEGACY_KERAS=1 before TensorFlow is "
            "imported"
        )
    if not getattr(model, "_is_graph_network", False):
        what = "has no input shape yet: build it" if isinstance(model, tf_keras.Sequential) else "is subclassed"
        raise ConfigError(f"{model.name} {what}: legal are functional models, and Sequential ones that are built")


def _ops(model) -> Iterator[Op]:
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            outputs = tf.nest.flatten(node.outputs)
            if isinstance(node.layer, tf_keras.Model):
                raise ConfigError(
                    f"{node.layer.name} is a model within {model.name}: call its layers one by one on the tensors, so "
                    "that the model is flat; legal are layers"
                )
            if len(outputs) != 1:
                raise ConfigError(f"{node.layer.name} returns {len(outputs)} tensors: legal are layers with one")
            inputs = () if node.is_input else tuple(id(tensor) for tensor in node.keras_inputs)
            yield Op(node.layer, node.call_args or (), node.call_kwargs or {}, inputs, id(outputs[0]))


def operator(op: Op) -> str:
    """`add` of the layer that Keras makes of `x + 3.0` or `tf.math.add(x, y)`; empty for any other layer."""
    return op.layer.symbol.rpartition(".")[2].strip("_") if type(op.layer).__name__ == "TFOpLambda" else ""
