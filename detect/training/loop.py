"""The training loop of both stages: step, evaluate, checkpoint, stop, resume."""

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orbit
import psutil
import tensorflow as tf

from detect.data.pipeline import to_tf
from detect.errors import UserError
from detect.reporting.logger import RunLogger
from detect.training.schedule import Schedule
from detect.weights import checkpoint

log = logging.getLogger("detect")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM arrived; the state was saved."""


class Diverged(UserError):
    """The loss or the gradient is no longer finite."""

    def __init__(self, step: int, scalars: dict, batch: dict):
        bad = ", ".join(name for name, value in scalars.items() if not math.isfinite(value))
        super().__init__(f"step {step}: {bad} is not finite")
        self.step, self.batch = step, batch


class Trainer(orbit.AbstractTrainer):
    """Optimises a meta-architecture on a stream of batches.

    architecture: has `model` (a tf_keras model) and `losses(batch, training) -> (parts, scalars)`.
    stream: `detect.data.pipeline` stream; the batch of a step depends on the step alone.
    before_step: called with the number of each step, from 0, before it is taken.
    """

    def __init__(
        self,
        architecture,
        schedule: Schedule,
        stream,
        strategy: tf.distribute.Strategy | None = None,
        before_step: Callable[[int], None] = lambda step: None,
    ):
        self.architecture, self.stream, self.before_step = architecture, stream, before_step
        self.strategy = strategy or tf.distribute.get_strategy()
        with self.strategy.scope():
            self.optimizer = schedule.build_optimizer()
            self.optimizer.build(architecture.model.trainable_variables)
        self.interrupted = False
        self.waited = 0.0
        self._batches: Iterator | None = None
        self._step = tf.function(self._distributed_step)

    @property
    def step(self) -> int:
        """Optimiser steps done so far."""
        return int(self.optimizer.iterations)

    def train(self, num_steps) -> dict[str, float]:
        """Runs up to `num_steps` steps; returns the mean of each scalar over them. Stops early when interrupted."""
        if self._batches is None:
            dataset = to_tf(self.stream, self.step)
            self._batches = iter(self.strategy.experimental_distribute_dataset(dataset))
        rows = []
        for _ in range(int(num_steps)):
            self.before_step(self.step)
            start = time.perf_counter()
            batch = self._next_batch()
            self.waited += time.perf_counter() - start
            rows.append({name: float(value) for name, value in self._step(batch).items()})
            if not all(math.isfinite(value) for value in rows[-1].values()):
                raise Diverged(self.step, rows[-1], {name: value.numpy() for name, value in batch.items()})
            if self.interrupted:
                break
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _next_batch(self):
        try:
            return next(self._batches)
        except tf.errors.OpError as error:  # the pipeline's own error names the image; TensorFlow's wraps it
            raise self.stream.failure or error from error

    def _distributed_step(self, batch):
        per_replica = self.strategy.run(self._replica_step, args=(batch,))
        return {n: self.strategy.reduce(tf.distribute.ReduceOp.MEAN, v, axis=None) for n, v in per_replica.items()}

    def _replica_step(self, batch):
        variables = self.architecture.model.trainable_variables
        with tf.GradientTape() as tape:
            parts, scalars = self.architecture.losses(batch, training=True)
            loss = tf.add_n(list(parts.values()))
            scaled = loss / self.strategy.num_replicas_in_sync
        gradients = tape.gradient(scaled, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {
            "loss/total": loss,
            **{f"loss/{name}": value for name, value in parts.items()},
            **scalars,
            "gradient_norm": tf.linalg.global_norm(gradients),
        }

    @contextlib.contextmanager
    def averaged_weights(self):
        """Within, the model holds the moving average of its weights, where the schedule keeps one."""
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
        """Replaces batch norm's moving statistics by their mean over `batches` training batches of these weights."""
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


@dataclass
class Progress:
    """What a resumed stage must know beside weights and optimiser; saved with them."""

    best: tf.Variable
    best_step: tf.Variable
    evaluations_since_best: tf.Variable
    seconds: tf.Variable

    @classmethod
    def create(cls) -> "Progress":
        """Nothing done yet."""
        return cls(
            tf.Variable(-math.inf, dtype=tf.float64, trainable=False),
            tf.Variable(0, dtype=tf.int64, trainable=False),
            tf.Variable(0, dtype=tf.int64, trainable=False),
            tf.Variable(0.0, dtype=tf.float64, trainable=False),
        )


def fit(
    trainer: Trainer,
    evaluate: Callable[[int], float | None],
    schedule: Schedule,
    logger: RunLogger,
    folder: Path,
    names: Callable[[int], str],
) -> dict[str, Any]:
    """Trains until the schedule ends, and leaves `folder/last` (all state) and `folder/best` (weights by name).

    evaluate: scores the model as it stands (with averaged weights) at a step; higher is better, None is no candidate.
    names: the image that stands behind an index of a batch, for messages.
    Returns {"steps", "best", "best_step", "seconds" of training proper, "images_per_second"}.
    Raises Interrupted after a signal and Diverged at a NaN; both leave `last` as it should be resumed.
    """
    model = trainer.architecture.model
    progress = Progress.create()
    state = tf.train.Checkpoint(model=model, optimizer=trainer.optimizer, **vars(progress))
    manager = tf.train.CheckpointManager(state, str(folder / "last"), max_to_keep=1)
    if manager.latest_checkpoint:
        state.restore(manager.latest_checkpoint).assert_existing_objects_matched()
        logger.resume_at(trainer.step)
        log.info("%s: resumed at step %d", folder.name, trainer.step)

    with _signals(trainer):
        while trainer.step < schedule.steps and not _exhausted(progress, schedule):
            _train_until(_next_stop(trainer.step, schedule), trainer, schedule, progress, logger, folder, names)
            step = trainer.step
            if not trainer.interrupted and (step % schedule.evaluate_every == 0 or step == schedule.steps):
                _evaluate(step, trainer, evaluate, schedule, progress, folder)
            if trainer.interrupted or step % schedule.checkpoint_every == 0 or step == schedule.steps:
                manager.save(checkpoint_number=step)
            if trainer.interrupted:
                log.warning("stopped at step %d, all is saved; go on with: detect train resume=%s", step, folder.parent)
                raise Interrupted
    if _exhausted(progress, schedule):
        manager.save(checkpoint_number=trainer.step)
        log.info("no better for %d evaluations: stopped at step %d", schedule.patience, trainer.step)
    seconds = float(progress.seconds)
    return {
        "steps": trainer.step,
        "best": float(progress.best),
        "best_step": int(progress.best_step),
        "seconds": seconds,
        "images_per_second": trainer.step * schedule.batch_size / max(seconds, 1e-9),
    }


def _next_stop(step: int, schedule: Schedule) -> int:
    """The next step at which something else than training happens."""
    intervals = (schedule.log_every, schedule.evaluate_every, schedule.checkpoint_every)
    return min(schedule.steps, *((step // every + 1) * every for every in intervals))


def _train_until(stop: int, trainer: Trainer, schedule: Schedule, progress, logger, folder: Path, names) -> None:
    start, first = time.perf_counter(), trainer.step
    trainer.waited = 0.0
    try:
        scalars = trainer.train(stop - first)
    except Diverged as error:
        path = folder / f"diverged_at_{error.step}.npz"
        np.savez_compressed(path, **error.batch)
        images = ", ".join(names(int(i)) for i in error.batch["index"] if i >= 0)
        raise UserError(
            f"{error}. The batch is in {path}; its images: {images}. The state before it is in {folder / 'last'}. "
            "Lower schedule.rate or schedule.clip_norm, or look at these images with `detect inspect`."
        ) from error
    seconds = time.perf_counter() - start
    progress.seconds.assign_add(seconds)
    scalars["rate"] = float(trainer.optimizer.learning_rate)
    scalars["images_per_second"] = (trainer.step - first) * schedule.batch_size / seconds
    scalars["data_wait_share"] = trainer.waited / seconds
    scalars["memory_mb"] = psutil.Process().memory_info().rss / 2**20
    logger.train(trainer.step, scalars)


def _evaluate(step: int, trainer: Trainer, evaluate, schedule: Schedule, progress: Progress, folder: Path) -> None:
    with trainer.averaged_weights():
        if schedule.reestimate_batch_norm:
            trainer.reestimate_batch_norm(schedule.reestimate_batch_norm)
        value = evaluate(step)
        if value is None:
            return
        if value > float(progress.best):
            progress.best.assign(value)
            progress.best_step.assign(step)
            progress.evaluations_since_best.assign(0)
            variables = trainer.architecture.model.variables
            checkpoint.write(folder / "best", {v.name.removesuffix(":0"): v for v in variables})
        else:
            progress.evaluations_since_best.assign_add(1)


def _exhausted(progress: Progress, schedule: Schedule) -> bool:
    return schedule.patience is not None and int(progress.evaluations_since_best) >= schedule.patience


@contextlib.contextmanager
def _signals(trainer: Trainer):
    """Ctrl-C and SIGTERM let the current step end; a second Ctrl-C stops at once."""

    def stop(number, frame):
        if trainer.interrupted:
            raise KeyboardInterrupt
        log.warning("signal %s: saving after this step", signal.Signals(number).name)
        trainer.interrupted = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
