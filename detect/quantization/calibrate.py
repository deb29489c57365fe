"""Calibration (ranges from data without training), a check of the ranges, and the evaluation graph for export."""

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
import tf_keras

from detect.errors import ConfigError, DataError
from detect.quantization import interpreter_limits
from detect.quantization.activations import FakeQuant
from detect.quantization.phases import COLLECT, SHIP, running, stepped

UNTRACED = 2
"""Batches of a calibration that run without a graph: to trace one takes longer than these."""


def calibrate(model: tf_keras.Model, batches: Iterable[Any], call: Callable[[Any], Any] | None = None) -> int:
    """Collects activation ranges of a fake-quantised model from batches of input; nothing else changes.

    The folded network runs without rounding and with batch norm's moving statistics, as in TFLite's calibration. In
    training, moving averages continue from these ranges. `calibrated` and `learned` ranges contain all values seen.

    batches: inputs of `model`, or of `call`, which then calls the model with training=False, or models that share its
        layers (for a detector with two stages: its `detect`).
    Returns the number of batches. Raises DataError without a batch, ConfigError if a range saw no data.
    """
    count = 0
    run = call or (lambda batch: model(batch, training=False))
    with running(model, COLLECT):
        for batch in batches:
            if count == UNTRACED:
                run = tf.function(run, autograph=False)
            run(batch)
            count += 1
    if not count:
        raise DataError("calibration: there are no batches of data; it needs at least one")
    check_ranges(model)
    return count


def check_ranges(model: tf_keras.Model) -> None:
    """Raises ConfigError if a range of the model saw no data or is not finite."""
    for layer in stepped(model):
        if isinstance(layer, FakeQuant):
            layer.check()


def evaluation_graph(model: tf_keras.Model, batch_size: int | None = 1):
    """The network for export, as a concrete function: moving statistics are folded, all tensors are rounded.

    Ranges are the stored ones. Rounded kernels are constants: later changes of the model have no effect on them. The
    TFLite converter (`from_concrete_functions([...])`, Optimize.DEFAULT) turns them into the same kernels in int8. Give
    the converter no model in addition: it would first save the whole model, which takes 27 s instead of 1 s for an SSD.
    Raises ConfigError for a model that is not fake-quantised, is still in its delay, or has ranges without data, and
    for ranges that the interpreter of TFLite refuses.
    """
    parts = stepped(model)
    if not parts:
        raise ConfigError(f"{model.name} is not fake-quantised: it has no evaluation graph")
    early = [layer for layer in parts if layer.range_step is not None and int(layer.range_step) < layer.spec.delay]
    if early:
        raise ConfigError(
            f"{model.name} is at step {int(early[0].range_step)} of a delay of {early[0].spec.delay}, so it has not "
            "trained with rounding yet: continue the training, with FakeQuantCallback or Phases.step(n)"
        )
    check_ranges(model)
    interpreter_limits.check(model)
    inputs = [tf.TensorSpec([batch_size, *x.shape[1:]], x.dtype, name=x.name) for x in model.inputs]
    with running(model, SHIP):
        function = tf.function(lambda *x: model(tf.nest.pack_sequence_as(model.input, x), training=False))
        return function.get_concrete_function(*inputs)
