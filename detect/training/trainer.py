"""Takes training steps: a network, its optimiser, and a stream of batches."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import orbit
import tensorflow as tf

from detect.data.interface import Batch, Stream
from detect.data.pipeline import to_tf
from detect.errors import UserError
from detect.modeling.interface import Architecture
from detect.training import kernel_gradient
from detect.training.schedule import Schedule

Tensors = dict[str, tf.Tensor]
Row = dict[str, float]
SECONDS, WAITED = "seconds", "waited"
"""In the figures of a step: how long it took, and which part of that it waited for its batch."""


class Diverged(UserError):
    """The loss or the gradient is no longer finite."""

    def __init__(self, step: int, scalars: Mapping[str, float], batch: Batch):
        bad = ", ".join(name for name, value in scalars.items() if not math.isfinite(value))
        super().__init__(f"step {step}: {bad} is not finite")
        self.step, self.batch = step, batch


def means(rows: Sequence[Row]) -> Row:
    """The mean of each figure of some steps."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


class Trainer(orbit.AbstractTrainer):  # type: ignore[misc]  # orbit has no types
    """Optimises a meta-architecture on a stream of batches."""

    def __init__(
        self,
        architecture: Architecture,
        schedule: Schedule,
        stream: Stream,
        strategy: tf.distribute.Strategy | None = None,
    ):
        self.architecture, self.stream = architecture, stream
        self.before_step: Callable[[int], None] = lambda step: None  # called before each step, with its number from 0
        self.after_step: Callable[[Row], object] = lambda figures: None  # called after each step
        self.strategy = strategy or tf.distribute.get_strategy()
        with self.strategy.scope():
            self.optimizer = schedule.build_optimizer()
            self.optimizer.build(architecture.model.trainable_variables)
        self.interrupted = False
        self._batches: Iterator[Tensors] | None = None
        self._step = tf.function(self._distributed_step, autograph=False)

    @property
    def step(self) -> int:
        """Optimiser steps done so far."""
        return int(self.optimizer.iterations)

    def train(self, num_steps: int | tf.Tensor) -> dict[str, float]:
        """Runs up to `num_steps` steps, fewer after a signal; returns the mean of each figure over them."""
        if self._batches is None:
            dataset = to_tf(self.stream, self.step)
            self._batches = iter(self.strategy.experimental_distribute_dataset(dataset))
        rows = []
        for _ in range(int(num_steps)):
            start = time.perf_counter()
            self.before_step(self.step)
            begun = time.perf_counter()
            batch = self._next_batch()
            waited = time.perf_counter() - begun
            figures = {name: float(value) for name, value in self._step(batch).items()}
            if not all(math.isfinite(value) for value in figures.values()):
                raise Diverged(self.step, figures, {name: value.numpy() for name, value in batch.items()})
            rows.append(figures | {SECONDS: time.perf_counter() - start, WAITED: waited})
            self.after_step(rows[-1])
            if self.interrupted:
                break
        return means(rows)

    def _next_batch(self) -> Tensors:
        assert self._batches is not None  # `train` makes it
        try:
            return next(self._batches)
        except tf.errors.OpError as error:  # the pipeline's own error names the image; TensorFlow's wraps it
            raise self.stream.failure or error from error

    def _distributed_step(self, batch: Tensors) -> Tensors:
        per_replica = self.strategy.run(self._replica_step, args=(batch,))
        return {n: self.strategy.reduce(tf.distribute.ReduceOp.MEAN, v, axis=None) for n, v in per_replica.items()}

    def _replica_step(self, batch: Tensors) -> Tensors:
        variables = self.architecture.model.trainable_variables
        single = self.strategy.num_replicas_in_sync == 1
        with kernel_gradient.differentiated(single and kernel_gradient.helps()) as gradients_of:
            parts, scalars = self.architecture.losses(batch, training=True)
            loss = tf.add_n(list(parts.values()))
            scaled = loss / self.strategy.num_replicas_in_sync
        gradients = gradients_of(scaled, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {
            "loss/total": loss,
            **{f"loss/{name}": value for name, value in parts.items()},
            **scalars,
            "gradient_norm": tf.linalg.global_norm(gradients),
        }

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside this context, the model has the moving average of its weights, if the schedule keeps one."""
        if not self.optimizer.use_ema:
            yield
            return
        variables = self.architecture.model.trainable_variables
        current = [variable.numpy() for variable in variables]
        try:
            for variable, average in zip(variables, self.optimizer._model_variables_moving_average, strict=True):
                variable.assign(average)
            yield
        finally:
            for variable, value in zip(variables, current, strict=True):
                variable.assign(value)

    def reestimate_batch_norm(self, batches: int) -> None:
        """Replaces batch norm's moving statistics by their mean over `batches` training batches."""
        norms = [layer for layer in self.architecture.model.layers if hasattr(layer, "moving_variance")]
        norms = [layer for layer in norms if layer.trainable]
        decays = [layer.momentum for layer in norms]
        for k in range(batches):
            for layer in norms:
                layer.momentum = k / (k + 1)
            self.architecture.losses(
                self.stream.batch(k), training=True
            )  # eager: a trace would keep the first momentum
        for layer, decay in zip(norms, decays, strict=True):
            layer.momentum = decay
