"""Tells a fake-quantised model its training step: an object for your own training loop, and a callback for `fit`."""

from typing import Any

import tf_keras

from detect.quantization.phases import Stepped, stepped


class Phases:
    """Tells a model the training step. Rounding begins at step `delay`, batch norm is frozen from `freeze_bn` on, and
    ranges from `freeze_ranges` on.

    The step is stored in variables: functions that are traced already use it, and a checkpoint keeps it.
    """

    def __init__(self, model: tf_keras.Model):
        self._layers = [layer for layer in stepped(model) if layer.range_step is not None]
        self._passed: tuple[int, ...] | None = None

    def step(self, number: int) -> None:
        """Call it before training step `number`, counted from 0. It writes variables only when a phase ends."""
        passed = tuple(_passed(layer, number) for layer in self._layers)
        if passed != self._passed:
            for layer, limit in zip(self._layers, passed, strict=True):
                layer.range_step.assign(limit)
            self._passed = passed


def _passed(layer: Stepped, number: int) -> int:
    """The step at which the current phase began: a run that resumes within a phase writes the same one."""
    return max(begin for begin in layer.spec.phases if begin <= number)


class FakeQuantCallback(tf_keras.callbacks.Callback):
    """`Phases` for `model.fit`. It uses the optimizer's steps, so that a second `fit` continues the count."""

    def __init__(self) -> None:
        super().__init__()
        self._phases: Phases | None = None

    def set_model(self, model: tf_keras.Model) -> None:
        """Called by `fit`."""
        super().set_model(model)
        self._phases = Phases(model)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by `fit` before each step."""
        assert self._phases is not None  # `fit` has called `set_model`
        self._phases.step(int(self.model.optimizer.iterations))
