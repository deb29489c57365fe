"""Ranges from data without training, whether they are fit for use, and the evaluation graph that ships."""

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
import tf_keras

from detect.errors import ConfigError, DataError
from detect.quantization.fake_quant import FakeQuant
from detect.quantization.phases import COLLECT, SHIP, running, stepped


def calibrate(model: tf_keras.Model, batches: Iterable[Any], call: Callable[[Any], Any] | None = None) -> int:
    """Collects activation ranges of a fake-quantised model from batches of input; nothing else changes.

    The folded network runs without rounding and with moving statistics of batch norm, as when TFLite calibrates. Moving
    averages go on from these ranges in training; `calibrated` and `learned` ranges hold all that was seen.

    batches: what `model` takes, or what `call` takes, which then calls the model with training=False, or models that
        share its layers (a detector of two stages: its `detect`).
    Returns how many batches there were. Raises DataError if there were none, ConfigError if a range saw nothing.
    """
    count = 0
    with running(model, COLLECT):
        run = tf.function(call or (lambda batch: model(batch, training=False)))
        for batch in batches:
            run(batch)
            count += 1
    if not count:
        raise DataError("calibration: there is not one batch of data")
    check_ranges(model)
    return count


def check_ranges(model: tf_keras.Model) -> None:
    """Raises ConfigError if a range of the model saw no data or is not finite."""
    for layer in stepped(model):
        if isinstance(layer, FakeQuant):
            layer.check()


def evaluation_graph(model: tf_keras.Model, batch_size: int | None = 1):
    """The network as it ships, as a concrete function: moving statistics folded, stored ranges, rounding throughout.

    Rounded kernels are constants in it: later changes of the model do not reach it. The TFLite converter
    (`from_concrete_functions([...])`, Optimize.DEFAULT) makes exactly these kernels of it, in int8. It is best given no
    model beside it, all of which it would save first: 27 seconds in place of one for an SSD.
    Raises ConfigError for a model that is not fake-quantised, that is still in its delay, or whose ranges are unfit.
    """
    parts = stepped(model)
    if not parts:
        raise ConfigError(f"{model.name} is not fake-quantised: it has no evaluation graph")
    early = [layer for layer in parts if layer.range_step is not None and int(layer.range_step) < layer.spec.delay]
    if early:
        raise ConfigError(
            f"{model.name} is at step {int(early[0].range_step)} of a delay of {early[0].spec.delay}, so it never "
            "trained with rounding: train on, with FakeQuantCallback or Phases.step(n)"
        )
    check_ranges(model)
    inputs = [tf.TensorSpec([batch_size, *x.shape[1:]], x.dtype, name=x.name) for x in model.inputs]
    with running(model, SHIP):
        function = tf.function(lambda *x: model(tf.nest.pack_sequence_as(model.input, x), training=False))
        return function.get_concrete_function(*inputs)
