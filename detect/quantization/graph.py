"""A tf_keras model as a list of operations. The id of a Keras tensor of the model identifies a tensor."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError

Tensor = Hashable  # the id of a Keras tensor, or a pair for a tensor that the float model does not have


@dataclass(frozen=True, eq=False)
class Op:
    """One call of a layer, with its input tensors and its output tensor. args, kwargs: arguments of the call."""

    layer: tf_keras.layers.Layer
    args: Any
    kwargs: dict[str, Any]
    inputs: tuple[Tensor, ...]
    output: Tensor

    @property
    def name(self) -> str:
        """The name of the layer."""
        return self.layer.name

    def arguments(self, tensors: Mapping[Tensor, Any]) -> Any:
        """args and kwargs of the call with these tensors in place of its own."""
        return tf.nest.map_structure(lambda given: tensors.get(id(given), given), (self.args, self.kwargs))


class Graph:
    """The operations of a model in an order in which they can run, and the users of each tensor.

    Raises ConfigError for a model that is not a flat functional or Sequential model of tf_keras.
    """

    def __init__(self, model: tf_keras.Model):
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
        """The only operation that uses a tensor; None if there are more or none, or if the model returns the tensor."""
        users = self.users[tensor]
        return users[0] if len(users) == 1 and tensor not in self.outputs else None

    def calls(self, layer: tf_keras.layers.Layer) -> int:
        """The number of calls of a layer in the model."""
        return sum(op.layer is layer for op in self.ops)


def check_model(model: object) -> None:
    """Raises ConfigError, which says what to do, unless it is a built functional or Sequential model of tf_keras."""
    if not isinstance(model, tf_keras.Model):
        family = type(model).__module__.partition(".")[0]
        told = "a Keras 3 model" if family == "keras" else f"a {type(model).__name__} of {type(model).__module__}"
        raise ConfigError(
            f"{getattr(model, 'name', model)} is {told}: fake_quant takes tf_keras models (Keras 2). Build it with "
            "`import tf_keras` in place of any other Keras, or set TF_USE_LEGACY_KERAS=1 before the import of "
            "TensorFlow"
        )
    if not getattr(model, "_is_graph_network", False):
        what = "has no input shape yet: build it" if isinstance(model, tf_keras.Sequential) else "is subclassed"
        raise ConfigError(f"{model.name} {what}: legal are functional models and built Sequential models")


def _ops(model: tf_keras.Model) -> Iterator[Op]:
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            outputs = tf.nest.flatten(node.outputs)
            if isinstance(node.layer, tf_keras.Model):
                raise ConfigError(
                    f"{node.layer.name} is a model within {model.name}: legal are flat models. Call its layers one by "
                    "one on the tensors"
                )
            if len(outputs) != 1:
                raise ConfigError(f"{node.layer.name} returns {len(outputs)} tensors: legal are layers with one output")
            inputs = () if node.is_input else tuple(id(tensor) for tensor in node.keras_inputs)
            yield Op(node.layer, node.call_args or (), node.call_kwargs or {}, inputs, id(outputs[0]))


def operator(layer: tf_keras.layers.Layer) -> str:
    """`add` for the layer that Keras makes from `x + 3.0` or `tf.math.add(x, y)`; empty for any other layer."""
    return layer.symbol.rpartition(".")[2].strip("_") if type(layer).__name__ == "TFOpLambda" else ""


def numbers(args: object, kwargs: Mapping[str, object]) -> np.ndarray | None:
    """What a call of an operator takes beside its one tensor: 3.0 for `x + 3.0`; None for a call on tensors alone."""
    given = [x for x in _operands(args, kwargs) if not is_keras_tensor(x)]
    return np.asarray(given[0]) if len(given) == 1 else None


def number_first(op: Op) -> bool:
    """Whether it is `1.0 - x` and not `x - 1.0`."""
    return not is_keras_tensor(_operands(op.args, op.kwargs)[0])


def is_keras_tensor(x: object) -> bool:
    """Whether it is a tensor of a Keras graph. tf_keras.backend.is_keras_tensor takes no numbers."""
    return hasattr(x, "_keras_history")


def _operands(args: object, kwargs: Mapping[str, object]) -> list[Any]:
    return [x for x in tf.nest.flatten([args, kwargs]) if not isinstance(x, (str, bool, type(None)))]
