"""What moves a fake-quantised model along its steps: an object for loops of one's own, and a callback for `fit`."""

from typing import Any

import tf_keras

from detect.quantization.phases import Stepped, stepped


class Phases:
    """Tells a model at which step training is, so that rounding begins at `delay`, batch norm stands still from
    `freeze_bn` on, and ranges from `freeze_ranges` on.

    The steps stand in variables: functions that were traced before follow, and a checkpoint keeps them.
    """

    def __init__(self, model: tf_keras.Model):
        self._layers = [layer for layer in stepped(model) if layer.range_step is not None]
        self._passed: tuple | None = None

    def step(self, number: int) -> None:
        """To be called before training step `number`, which counts from 0. Costs nothing while no phase ends."""
        passed = tuple(_passed(layer, number) for layer in self._layers)
        if passed != self._passed:
            for layer in self._layers:
                layer.range_step.assign(number)
            self._passed = passed


def _passed(layer: Stepped, number: int) -> tuple[bool, ...]:
    spec = layer.spec
    return tuple(number >= limit for limit in (spec.delay, spec.freeze_bn, spec.freeze_ranges) if limit is not None)


class FakeQuantCallback(tf_keras.callbacks.Callback):
    """`Phases` under `model.fit`: steps are those of the optimizer, so that a second `fit` goes on with them."""

    def __init__(self) -> None:
        super().__init__()
        self._phases: Any = None

    def set_model(self, model: tf_keras.Model) -> None:
        """Called by `fit`."""
        super().set_model(model)
        self._phases = Phases(model)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by `fit` before each step."""
        self._phases.step(int(self.model.optimizer.iterations))
