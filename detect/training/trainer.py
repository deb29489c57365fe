"""Takes training steps: a network, its optimiser, and a stream of batches."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import orbit
import tensorflow as tf
import tf_keras

from detect.data.interface import Batch, Stream
from detect.errors import UserError
from detect.modeling import replicas as others
from detect.modeling.interface import Architecture, Figures, Tensor
from detect.modeling.precision import needs_loss_scale
from detect.training import determinism, kernel_gradient
from detect.training.distribution import Replicas, Tensors
from detect.training.schedule import Schedule

Row = dict[str, float]
SECONDS, WAITED, STOP = "seconds", "waited", "stop"
"""In the figures of a step: how long it took, which part of that it waited for its batch, and whether a worker asked
for an end."""
UNREAD = 10
"""Steps whose figures are read together at most: their batches are kept until then."""
COUNT = "count"
"""Of held-out batches: what the sums of their losses are divided by."""


class Diverged(UserError):
    """The loss or the gradient is no longer finite."""

    def __init__(self, step: int, scalars: Mapping[str, float], batch: Batch):
        bad = ", ".join(name for name, value in scalars.items() if not math.isfinite(value))
        super().__init__(f"step {step}: {bad} is not finite")
        self.step, self.batch = step, batch


def means(rows: Sequence[Row]) -> Row:
    """The mean of each figure of some steps."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


class Measured(NamedTuple):
    """Gradients and figures of a batch, or of a replica's part of it.

    Of several parts, those of the loss are multiplied by `weight`, so that they can be added up: max(count, 1), or in
    float16, in which large sums overflow, max(count, 1) divided by the images of a step.
    """

    gradients: list[Tensor]
    parts: Figures
    scalars: Figures
    count: Tensor


class Taken(NamedTuple):
    """A step whose figures are not read yet: its number from 0, its start, and its wait for batches in seconds."""

    step: int
    batches: list[Tensors]
    figures: Tensors
    start: float
    waited: float


class Trainer(orbit.AbstractTrainer):  # type: ignore[misc]  # orbit has no types
    """Optimises a meta-architecture on a stream of batches.

    stream: that of this worker. replicas: those that share a batch; the network was built in the scope of their
        strategy. A step takes `schedule.accumulate` batches.
    reads_each: whether the figures of each step are read at once, which waits for the device. False reads them after
        UNREAD steps and at the end of `train`; the batches are kept until then. None reads each on processors, and
        later on GPUs.
    """

    def __init__(
        self,
        architecture: Architecture,
        schedule: Schedule,
        stream: Stream,
        replicas: Replicas | None = None,
        reads_each: bool | None = None,
    ):
        self.architecture, self.stream = architecture, stream
        self.before_step: Callable[[int], None] = lambda step: None  # called before each step, with its number from 0
        self.after_step: Callable[[Row], object] = lambda figures: None  # called after each step
        self.replicas = replicas or Replicas()
        self.strategy, self.accumulate = self.replicas.strategy, schedule.accumulate
        self._sums = self.replicas.count * self.accumulate > 1
        with self.strategy.scope():
            self._plain = self.optimizer = schedule.build_optimizer()
            self._plain.build(architecture.model.trainable_variables)
            self._scales = needs_loss_scale(architecture.model)
            if self._scales:
                self.optimizer = tf_keras.mixed_precision.LossScaleOptimizer(self._plain)
        self._share = 1 / schedule.step_images if self._scales else 1.0
        self.reads_each = not tf.config.list_logical_devices("GPU") if reads_each is None else reads_each
        self.interrupted = self._asked = False
        self._batches: Iterator[Tensors] | None = None
        self._step = tf.function(self._whole_step, autograph=False)
        self._first = tf.function(lambda batch: self.strategy.run(self._measure, args=(batch,)), autograph=False)
        self._held_out = tf.function(lambda batch: self.strategy.run(self._sums_of, args=(batch,)), autograph=False)
        self._next = tf.function(lambda *given: self.strategy.run(self._add, args=given), autograph=False)

    @property
    def step(self) -> int:
        """Optimiser steps done so far."""
        return int(self._plain.iterations.numpy())

    @property
    def rate(self) -> float:
        """The learning rate of the last step; before the first one, that of the first."""
        return float(self._plain.learning_rate.numpy())

    def stop(self) -> None:
        """Asks for an end after the current step. With several workers, all of them end after the same step: the next
        one, or on GPUs, which are read late, one of the next UNREAD. A second call raises KeyboardInterrupt."""
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self.interrupted = self.replicas.worker.count == 1

    def settle(self) -> None:
        """Tells all workers whether one of them was asked to end after its last step."""
        self.interrupted = self.interrupted or any(self.replicas.gather(self._asked))

    def train(self, num_steps: int | tf.Tensor) -> dict[str, float]:
        """Runs up to `num_steps` steps, fewer after `stop`; returns the mean of each figure over them."""
        if self._batches is None:
            self._batches = self.replicas.batches(self.stream, self.step * self.accumulate)
        first, rows, unread = self.step, list[Row](), list[Taken]()
        for step in range(first, first + int(num_steps)):
            start = time.perf_counter()
            self.before_step(step)
            begun = time.perf_counter()
            batches = [self._next_batch() for _ in range(self.accumulate)]
            waited = time.perf_counter() - begun
            with determinism.told():
                unread.append(Taken(step, batches, self.take(batches), start, waited))
            if self.reads_each or len(unread) == UNREAD or step + 1 == first + int(num_steps) or self.interrupted:
                with determinism.told():
                    rows += self._read(unread)
            if self.interrupted:
                break
        return means(rows)

    def _read(self, unread: "list[Taken]") -> list[Row]:
        """The figures of steps that are not read yet, in order; afterwards all are read. Raises Diverged for the first
        step with a figure that is not finite."""
        rows = []
        for taken, after in zip(unread, [*unread[1:], None], strict=True):
            row = {name: float(value) for name, value in taken.figures.items()}
            self.interrupted = row.pop(STOP, float(self.interrupted)) > 0
            if not all(math.isfinite(value) for value in row.values()):
                raise Diverged(taken.step + 1, row, self._rows(taken.batches))
            end = after.start if after else time.perf_counter()
            rows.append(row | {SECONDS: end - taken.start, WAITED: taken.waited})
            self.after_step(rows[-1])
        unread.clear()
        return rows

    def _next_batch(self) -> Tensors:
        assert self._batches is not None  # `train` makes it
        try:
            return next(self._batches)
        except tf.errors.OpError as error:  # the pipeline's own error names the image; TensorFlow's wraps it
            raise self.stream.failure or error from error

    def _rows(self, batches: Sequence[Tensors]) -> Batch:
        parts = [self.replicas.rows(batch) for batch in batches]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def held_out_losses(self, batches: Iterable[Batch]) -> Row:
        """The parts of the loss over batches of which nothing is learned, and their sum.

        Batch norm uses its moving statistics, as in evaluation, and nothing changes. The parts are those of all images
        together: sums of the batches, divided by the sum of their counts.
        """
        found: Row = {}
        for batch in batches:
            for name, values in self._held_out(self.replicas.divided(batch)).items():
                value = self.strategy.experimental_local_results(values)[0]
                found[name] = found.get(name, 0.0) + float(value)
        count = max(found.pop(COUNT), 1.0)
        parts = {f"loss/{name}": value / count for name, value in found.items()}
        return {"loss/total": sum(parts.values()), **parts}

    def _sums_of(self, batch: Tensors) -> Tensors:
        parts, _, count = self.architecture.losses(batch, training=False)
        sums = {name: value * tf.maximum(count, 1.0) for name, value in parts.items()} | {COUNT: count}
        return dict(zip(sums, others.total(list(sums.values())), strict=True))

    def take(self, batches: Sequence[Tensors]) -> Tensors:
        """Takes one optimiser step on `schedule.accumulate` batches. Returns its figures, on the device."""
        asked = tf.constant(float(self._asked))
        if self.accumulate == 1:
            return self._step(batches[0], asked)  # type: ignore[no-any-return]
        measured = self._first(batches[0])
        for batch in batches[1:]:
            measured = self._next(batch, measured)
        return self._step(None, asked, measured)  # type: ignore[no-any-return]

    def _whole_step(self, batch: Tensors | None, asked: Tensor, measured: Measured | None = None) -> Tensors:
        def step(asked: Tensor, batch: Tensors | None, measured: Measured | None) -> Tensors:  # on a replica
            return self._update(tf.identity(asked), measured or self._measure(batch))

        found = self.strategy.run(step, args=(asked, batch, measured))
        return {name: self.strategy.experimental_local_results(value)[0] for name, value in found.items()}

    def _measure(self, batch: Tensors | None) -> Measured:
        assert batch is not None
        variables = self.architecture.model.trainable_variables
        fast = self.replicas.count == 1 and kernel_gradient.helps()
        with kernel_gradient.differentiated(fast) as gradients_of:
            parts, scalars, count = self.architecture.losses(batch, training=True)
            if self._sums:  # within the tape: synchronised batch norm takes gradients from replica to replica
                weight = tf.maximum(count, 1.0) * self._share
                parts = {name: value * weight for name, value in parts.items()}
            loss = tf.add_n(list(parts.values()))
            scaled = self.optimizer.get_scaled_loss(loss) if self._scales else loss
        gradients = gradients_of(scaled, variables)
        if self._scales:
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        if not self.replicas.sync_batch_norm:
            self._average_statistics()
        return Measured(gradients, parts, scalars, count)

    def _add(self, batch: Tensors, before: Measured) -> Measured:
        pairs = zip(tf.nest.flatten(before), tf.nest.flatten(self._measure(batch)), strict=True)
        sums = [None if one is None else one + other for one, other in pairs]
        return tf.nest.pack_sequence_as(before, sums)  # type: ignore[no-any-return]

    def _update(self, asked: Tensor, measured: Measured) -> Tensors:
        gradients, parts, scalars, _ = measured
        figures: Tensors = {}
        if self._sums:
            flat = [value for value in tf.nest.flatten((measured, asked)) if value is not None]
            places = iter(others.total(flat))
            whole = [None if value is None else next(places) for value in tf.nest.flatten((measured, asked))]
            (gradients, parts, scalars, count), stop = tf.nest.pack_sequence_as((measured, asked), whole)
            weight, batches = tf.maximum(count, 1.0) * self._share, self.replicas.count * self.accumulate
            gradients = [None if gradient is None else gradient / weight for gradient in gradients]
            parts = {name: value / weight for name, value in parts.items()}
            scalars = {name: value / batches for name, value in scalars.items()}
            figures = {STOP: stop} if self.replicas.worker.count > 1 else {}
        pairs = zip(gradients, self.architecture.model.trainable_variables, strict=True)
        step = tf.identity(self._plain.iterations)
        self.optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)
        if self._scales:  # a step that is left out counts, too: it has used its batch
            self._plain.iterations.assign(step + 1)
        return figures | {
            "loss/total": tf.add_n(list(parts.values())),
            **{f"loss/{name}": value for name, value in parts.items()},
            **scalars,
            **self._norm(gradients),
        }

    def _norm(self, gradients: list[Tensor]) -> Tensors:
        norm = tf.linalg.global_norm(gradients)
        if not self._scales:
            return {"gradient_norm": norm}
        scale = self.optimizer.loss_scale  # the optimiser leaves a step with infinite gradients out and halves it
        norm = tf.where(tf.math.is_finite(norm) | (scale <= 1), norm, 0.0)
        return {"gradient_norm": norm, "loss_scale": scale}

    def _average_statistics(self) -> None:
        """Makes batch norm's moving statistics of all replicas the same, so that a saved state holds all of them."""
        norms = [layer for layer in self.architecture.model.layers if hasattr(layer, "moving_variance")]
        statistics = [v for layer in norms if layer.trainable for v in (layer.moving_mean, layer.moving_variance)]
        if others.count() > 1 and statistics:
            for variable, value in zip(statistics, others.total([tf.identity(v) for v in statistics]), strict=True):
                variable.assign(value / others.count())

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside this context, the model has the moving average of its weights, if the schedule keeps one."""
        if not self._plain.use_ema:
            yield
            return
        variables = self.architecture.model.trainable_variables
        current = [variable.numpy() for variable in variables]
        try:
            for variable, average in zip(variables, self._plain._model_variables_moving_average, strict=True):
                variable.assign(average)
            yield
        finally:
            for variable, value in zip(variables, current, strict=True):
                variable.assign(value)

    @contextlib.contextmanager
    def measured_statistics(self, batches: int) -> Iterator[None]:
        """Inside this context, batch norm's moving statistics are their mean over the next `batches` training batches.

        With 0 batches, they stay those of training. After it all is as before, also the ranges of fake quantisation.
        """
        variables = self.architecture.model.non_trainable_variables if batches else []
        current = [variable.numpy() for variable in variables]
        try:
            self._measure_statistics(batches)
            yield
        finally:
            for variable, value in zip(variables, current, strict=True):
                variable.assign(value)

    def _measure_statistics(self, batches: int) -> None:
        norms = [layer for layer in self.architecture.model.layers if hasattr(layer, "moving_variance")]
        norms = [layer for layer in norms if layer.trainable]
        decays = [layer.momentum for layer in norms]
        for k in range(batches if norms else 0):
            for layer in norms:
                layer.momentum = k / (k + 1)
            part = self.replicas.divided(self.stream.batch(self.step * self.accumulate + k))
            self.strategy.run(self._forward, args=(part,))  # eager: a trace would keep the first momentum
        for layer, decay in zip(norms, decays, strict=True):
            layer.momentum = decay

    def _forward(self, batch: Tensors) -> None:
        self.architecture.losses(batch, training=True)
        if not self.replicas.sync_batch_norm:
            self._average_statistics()
