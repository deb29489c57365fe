"""The hooks of every stage: logging, evaluation, early stop, the phases of fake quantisation, checkpoints.

They are called in their order. A hook of your own is a subclass of `detect.training.loop.Hook` that overrides some of
its methods. The configuration names it:

    detect train ... 'hooks=[{_target_: mylib.Message, address: me}]' trust=[mylib]
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import tensorflow as tf
import tf_keras

from detect.data.subset import evenly_spread
from detect.environment import free_cycles
from detect.quantization.callbacks import Phases
from detect.runs.start import Run
from detect.training.loop import Fit, Hook
from detect.weights import checkpoint

PICTURES = 10
"""The evaluations of a stage whose pictures TensorBoard gets: it shows as many of a tag."""


class Keeping(Hook):
    """Writes an extended run into its folder, whose results go away. Its state is read by then: nothing refuses it."""

    def __init__(self, run: Run):
        self.run = run

    def begin(self, fit: Fit) -> None:
        self.run.keep()


class Logging(Hook):
    """Writes the training figures at every stop to metrics.jsonl, TensorBoard and the console."""

    def __init__(self, every: int):
        self.every = every

    def after_steps(self, fit: Fit, scalars: Mapping[str, float]) -> None:
        fit.logger.train(fit.step, scalars)


class QuantizationPhases(Hook):
    """Tells a fake-quantised model the current training step (`Spec`: delay, freeze_bn, freeze_ranges)."""

    def __init__(self, model: tf_keras.Model):
        self._phases = Phases(model)

    def before_step(self, fit: Fit, step: int) -> None:
        self._phases.step(step)

    def after_steps(self, fit: Fit, scalars: Mapping[str, float]) -> None:
        self._phases.step(fit.step)  # an evaluation at this stop scores the network of the next step


class Evaluation(Hook, ABC):
    """Scores the current weights (their average, if there is one) and keeps the best ones in `best`.

    every: steps between two evaluations; there is also one at the last step.
    """

    long = True

    def __init__(self, every: int):
        self.every = every
        self._best = tf.Variable(-math.inf, dtype=tf.float64, trainable=False)
        self._best_step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._worse = tf.Variable(0, dtype=tf.int64, trainable=False)

    def draws(self, fit: Fit, score: float | None) -> bool:
        """Whether the evaluation after this step draws its pictures: the first, the last, and others between them.

        PICTURES of a stage do, evenly spread. score: that of the evaluation. The stage may end by it (`EarlyStop`).
        """
        total, number = (math.ceil(step / (self.every or 1)) for step in (fit.schedule.steps, fit.step))
        patience, no_better = fit.schedule.patience, score is not None and score <= self.best
        ends = fit.stopping is not None or (no_better and patience is not None and self.worse + 1 >= patience)
        return ends or number in (*evenly_spread(range(1, total), PICTURES - 1), total)

    @property
    def best(self) -> float:
        """The best score so far."""
        return float(self._best)

    @property
    def best_step(self) -> int:
        """The step of the best score."""
        return int(self._best_step)

    @property
    def worse(self) -> int:
        """The number of evaluations since the best one."""
        return int(self._worse)

    def wait_again(self) -> None:
        """Counts the evaluations without a better score from now on: a stage that had ended early goes on."""
        self._worse.assign(0)

    def state(self) -> Mapping[str, tf.Variable]:
        return {"best": self._best, "best_step": self._best_step, "evaluations_since_best": self._worse}

    @abstractmethod
    def score(self, fit: Fit) -> float | None:
        """The score of the current model; higher is better. None does not count for the best weights."""

    def after_steps(self, fit: Fit, scalars: Mapping[str, float]) -> None:
        if fit.due(self.every):
            self._evaluate(fit)
            free_cycles()

    def end(self, fit: Fit) -> None:
        if self.best == -math.inf:  # a hook ended the stage before the first score that counts
            self._evaluate(fit)
        if not checkpoint.exists(fit.folder.best):
            fit.save_best()

    def _evaluate(self, fit: Fit) -> None:
        with fit.trainer.averaged_weights(), fit.trainer.measured_statistics(fit.schedule.reestimate_batch_norm):
            value = self.score(fit)
            if value is None:
                return
            if value > self.best:
                self._best.assign(value)
                self._best_step.assign(fit.step)
                self._worse.assign(0)
                fit.save_best()
            else:
                self._worse.assign_add(1)


class EarlyStop(Hook):
    """Ends a stage after `patience` evaluations without a better score."""

    def __init__(self, patience: int, evaluation: Evaluation):
        self.patience, self.evaluation = patience, evaluation

    def begin(self, fit: Fit) -> None:
        if fit.extended:
            self.evaluation.wait_again()
        self._stop(fit)

    def after_steps(self, fit: Fit, scalars: Mapping[str, float]) -> None:
        self._stop(fit)

    def _stop(self, fit: Fit) -> None:
        if self.evaluation.worse >= self.patience:
            fit.stop(f"no better for {self.patience} evaluations")


class Checkpointing(Hook):
    """Saves the whole state. It is the last hook, so that the state includes the changes of the others at this step."""

    def __init__(self, every: int):
        self.every = every

    def after_steps(self, fit: Fit, scalars: Mapping[str, float]) -> None:
        if fit.stopping or fit.due(self.every):
            fit.save()
