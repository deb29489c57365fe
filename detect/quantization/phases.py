"""The common base of the layers of a fake-quantised model: the training step, and the mode in which they run.

Training uses batch statistics, updates ranges and statistics, and follows the steps of the spec. Evaluation
(`training=False`) is the exported network: moving statistics, stored ranges, no update. Within
`running(model, COLLECT)`, evaluation collects ranges and does not round. Within `running(model, ROUND)`, it rounds at
any step. Within `running(model, SHIP)` it does, too, but in the operations that the converter knows.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras

from detect.errors import ConfigError
from detect.quantization.spec import Spec

NORMAL, COLLECT, ROUND, SHIP = "normal", "collect", "round", "ship"
WHOLE = (NORMAL, ROUND)  # evaluation computes in whole numbers


def read_spec(spec: Spec | dict[str, Any]) -> Spec:
    """The specification, or one made from a layer's saved configuration."""
    return spec if isinstance(spec, Spec) else Spec(**spec)


class Stepped(tf_keras.layers.Layer):
    """The base of these layers: the specification, the training step if the layer needs it, and the mode."""

    def __init__(self, spec: Spec | dict[str, Any], **kwargs: object):
        super().__init__(**{**kwargs, "dtype": "float32"})  # whatever policy of mixed precision there is
        self.spec = read_spec(spec)
        self.run = NORMAL
        self.range_step: Any = None

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "spec": self.spec.to_config()}

    def add_step(self, *limits: float | None) -> None:
        """Adds a variable for the step if one of the limits is after step 0."""
        if any(limits):
            self.range_step = self.add_weight(name="range_step", dtype=tf.int64, trainable=False, initializer="zeros")

    def before(self, limit: float | None, then, otherwise):
        """`then()` before step `limit` (None: always), `otherwise()` from that step on. Every call checks the step."""
        if limit is None:
            return then()
        return otherwise() if limit == 0 else tf.cond(self.range_step < limit, then, otherwise)

    def rounded(self, quantised, plain):
        """`quantised()` after the delay, with ROUND and SHIP; `plain()` during the delay and calibration (COLLECT)."""
        if self.run == COLLECT:
            return plain()
        return quantised() if self.run in (ROUND, SHIP) else self.before(self.spec.delay, plain, quantised)


def stepped(model) -> list[Stepped]:
    """The fake-quant layers of a model, also those inside of layers."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, Stepped)]


@contextlib.contextmanager
def running(model, how: str) -> Iterator[None]:
    """In this context, evaluation runs in this mode. A function that is traced here keeps it."""
    before = [(layer, layer.run) for layer in stepped(model)]
    try:
        for layer, _ in before:
            layer.run = how
        yield
    finally:
        for layer, way in before:
            layer.run = way


def static(training, layer) -> bool:
    """`training` as a bool. Raises ConfigError for a tensor: training and evaluation are two graphs."""
    if tf.is_tensor(training):
        training = tf.get_static_value(training)
        if training is None:
            raise ConfigError(f"{layer.name}: training must be True or False, not a tensor: call the model for each")
    return bool(training)


@tf.autograph.experimental.do_not_convert
def can_read() -> bool:
    """Whether variables have values that can be read: not while Keras connects layers, and not on several replicas."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:  # from a branch of a condition outwards
        if getattr(graph, "name", "").endswith("_scratch_graph"):
            return False
        graph = getattr(graph, "outer_graph", None)
    with tf.init_scope():
        return tf.executing_eagerly() and tf.distribute.get_strategy().num_replicas_in_sync == 1
