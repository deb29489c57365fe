"""The training loop of every stage: steps, and hooks around them. It saves and stops at a signal, and can resume."""

import gc
import json
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn, TypedDict

import numpy as np
import psutil
import tensorflow as tf

from detect.errors import ConfigError, UserError, first_few
from detect.reporting.logger import RunLogger
from detect.runs.folder import SCHEDULES, RunFolder
from detect.runs.signals import STOPPING, handled
from detect.runs.stage_folder import StageFolder
from detect.training import saved_states
from detect.training.schedule import Schedule
from detect.training.trainer import SECONDS, WAITED, Diverged, Row, Trainer, means
from detect.weights import checkpoint

log = logging.getLogger("detect")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP arrived; the state was saved, with all work that is due at its step."""


class Spent(TypedDict):
    """The cost of training: steps, seconds without evaluation and saving, and training images per second."""

    steps: int
    seconds: float
    images_per_second: float


class Hook:
    """An object that the loop calls around the training steps of a stage. A subclass overrides the methods it needs.

    every: the hook needs a stop after each so many steps; None needs no stops of its own. `after_steps` is called at
        every stop, also at those of other hooks: `fit.due(self.every)` tells whether this is one of its own.
    long: its `after_steps` takes long: the state is saved before it, so that a kill loses no steps.
    """

    every: int | None = None
    long = False

    def state(self) -> Mapping[str, tf.Variable]:
        """Variables that are saved with weights and optimiser, and restored when the run resumes."""
        return {}

    def begin(self, fit: "Fit") -> None:
        """Called once before the first step, after a saved state is restored; `fit.step` counts the steps done."""

    def before_step(self, fit: "Fit", step: int) -> None:
        """Called before training step `step`, counted from 0 within the stage."""

    def after_steps(self, fit: "Fit", scalars: Mapping[str, float]) -> None:
        """Called at a stop, after step number `fit.step`: when any hook is due, and at the last step.

        scalars: the means of the training figures since the previous stop. A signal is no stop: the state is saved, and
        the run that resumes calls the hooks at the stop.
        """

    def end(self, fit: "Fit") -> None:
        """Called once, when all steps are done or a hook stops the stage; not after a signal or an error."""


@dataclass
class Fit:
    """A stage during training: the information and the methods for hooks.

    trainer: the network, its optimiser and its batches. schedule: the number of steps, and the intervals of events.
    folder: that of the stage. logger: writes figures, pictures and text to metrics.jsonl and TensorBoard.
    hooks: called in this order. image_name: the name of the image with a given index in a batch, for messages.
    stopping: why a hook ends the stage at this stop. extended: whether the stage had ended early, and now has more
    steps.
    seconds: the time of training steps, without evaluation and saving; time before an interruption is included.
    """

    trainer: Trainer
    schedule: Schedule
    folder: StageFolder
    logger: RunLogger
    hooks: Sequence[Hook]
    image_name: Callable[[int], str] = str
    stopping: str | None = None
    extended: bool = False
    _seconds: tf.Variable = field(default_factory=lambda: tf.Variable(0.0, dtype=tf.float64, trainable=False))
    _unfinished: tf.Variable = field(default_factory=lambda: tf.Variable("", trainable=False))

    def __post_init__(self) -> None:
        state = {
            "model": self.trainer.architecture.model,
            "optimizer": self.trainer.optimizer,
            "seconds": self._seconds,
            "unfinished": self._unfinished,
        }
        for hook in self.hooks:
            if hook.every is not None and not (isinstance(hook.every, int) and hook.every >= 1):
                told = "legal are whole numbers of 1 or more, and None"
                raise ConfigError(f"{type(hook).__name__}.every={hook.every}: {told}")
            for name, variable in hook.state().items():
                if name in state:
                    raise ConfigError(
                        f"{type(hook).__name__}.state() has the name {name}, and another hook or the program has it, "
                        f"too; legal are names that are not {', '.join(state)}"
                    )
                state[name] = variable
        self._states = saved_states.SavedStates(self.folder.last, state, self.trainer.replicas.worker.is_chief)
        self._rows: list[Row] = []  # the figures of the steps since the previous stop
        self.trainer.before_step, self.trainer.after_step = self._before_step, self._after_step

    @property
    def name(self) -> str:
        """The name of the stage: classify, detector or quantized."""
        return self.folder.name

    @property
    def step(self) -> int:
        """Steps done so far."""
        return self.trainer.step

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return float(self._seconds)

    @property
    def interrupted(self) -> bool:
        """Whether a signal asked to save and stop."""
        return self.trainer.interrupted

    def due(self, every: int | None) -> bool:
        """Whether the current step is a multiple of `every`, or the last one."""
        return self.step == self.schedule.steps or (every is not None and self.step % every == 0)

    def stop(self, reason: str) -> None:
        """Ends the stage at this stop, as if its schedule ended here. In `before_step`: at the next stop."""
        self.stopping = reason

    def save(self) -> None:
        """Saves the whole state in `last`."""
        stopping = [self.stopping, *self._plan()] if self.stopping else None
        self._unfinished.assign(json.dumps({"rows": self._rows, "stopping": stopping}))
        self._states.save(self.step)

    def _restore(self) -> bool:
        """Restores the newest state. Returns whether the hooks have not been called yet for its last steps."""
        if self._states.restore() is None:
            return False
        log.info("%s: resumed at step %d", self.name, self.step)
        unfinished = json.loads(bytes(self._unfinished.numpy()) or b"{}")
        self._rows = unfinished.get("rows", [])
        reason, *plan = unfinished.get("stopping") or [None]
        self.stopping = reason if plan == self._plan() else None  # a longer schedule goes on
        self.extended = bool(plan) and self.schedule.steps > plan[0]
        return bool(self._rows)

    def _plan(self) -> list[int | None]:
        return [self.schedule.steps, self.schedule.patience]

    def save_best(self) -> None:
        """Saves the current weights by name in `best`."""
        values = {v.name.removesuffix(":0"): v.numpy() for v in self.trainer.architecture.model.variables}
        if self.trainer.replicas.worker.is_chief:  # the others take part in reading
            checkpoint.write(self.folder.best, values)
        self.trainer.replicas.gather(None)  # no worker reads it before it is whole

    def run(self) -> Spent:
        """Trains until the schedule ends or a hook stops it, and writes `last` and `best`.

        Returns {"steps", "seconds", "images_per_second"}. Raises Interrupted after a signal; the run can resume from
        `last`. Raises UserError if the loss is not finite; a run that resumes takes the same steps again.
        """
        try:
            return self._run()
        finally:
            gc.unfreeze()  # evaluations freeze (detect.environment.free_cycles)

    def _run(self) -> Spent:
        due = self._restore() and self._is_stop()
        self.logger.resume_at(self.step - 1 if due else self.step)
        with handled(self._stop_after_step, *STOPPING):
            for hook in self.hooks:
                hook.begin(self)
            # A stage that was stopped before a step, and then by a signal, still has steps to its next stop.
            while due or (self.step < self.schedule.steps and (self._rows or not self.stopping)):
                if not due:
                    self._train_until(self._next_stop())
                if self.interrupted or (not due and any(hook.long and self.due(hook.every) for hook in self.hooks)):
                    self.save()
                if self.interrupted:
                    self._interrupt()
                due, scalars = False, self._figures()
                for hook in self.hooks:
                    hook.after_steps(self, scalars)
                if self.interrupted:
                    self.save()
                    self._interrupt()
            if self.stopping:
                log.info("%s: stopped at step %d", self.stopping, self.step)
            for hook in self.hooks:
                hook.end(self)
        self.trainer.settle()
        if self.interrupted:
            self._interrupt()
        images = self.step * self.schedule.step_images
        return {"steps": self.step, "seconds": self.seconds, "images_per_second": images / max(self.seconds, 1e-9)}

    def _stop_after_step(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C, SIGTERM and SIGHUP let the current step end; a second signal stops at once (`Trainer.stop`)."""
        self.trainer.stop()
        log.warning("signal %s: saving as soon as the steps that have begun are done", signal.Signals(number).name)

    def _interrupt(self) -> NoReturn:
        run = RunFolder(self.folder.shared.parent)
        go_on = run.continuation(by_command=run.hydra.is_dir())
        log.warning("stopped at step %d, all is saved; continue with: %s", self.step, go_on)
        raise Interrupted

    def _before_step(self, step: int) -> None:
        for hook in self.hooks:
            hook.before_step(self, step)

    def _after_step(self, figures: Row) -> None:
        self._rows.append(figures)

    def _next_stop(self) -> int:
        """The next step at which a hook is due."""
        return min([self.schedule.steps, *((self.step // every + 1) * every for every in self._intervals())])

    def _is_stop(self) -> bool:
        """Whether a hook is due at the current step."""
        return any(self.due(every) for every in self._intervals())

    def _intervals(self) -> list[int]:
        return [hook.every for hook in self.hooks if hook.every]

    def _train_until(self, stop: int) -> None:
        try:
            self.trainer.train(stop - self.step)
        except Diverged as error:
            path = self.folder.diverged(error.step)
            indices = np.concatenate(self.trainer.replicas.gather(error.batch["index"]))
            names = [self.image_name(int(i)) for i in indices if i >= 0]
            np.savez_compressed(path, names=names, **error.batch)  # type: ignore[arg-type]  # its stub takes no dict
            key, clip = SCHEDULES.get(self.folder.name, "schedule"), self.schedule.clip_norm
            clipped = f"a lower {key}.clip_norm than {clip:g}" if clip else f"{key}.clip_norm=10, which is null now"
            saved = saved_states.steps(self.folder.last)
            state = f" The last state before it is in {self.folder.last}." if saved else ""
            raise UserError(
                f"{error}. The batch is in {path}; its images: {first_few(names, 16)}.{state} Look at these images "
                f"with `detect inspect`, or start a new run with a lower {key}.rate, or with {clipped}."
            ) from error

    def _figures(self) -> Mapping[str, float]:
        """The means of the training figures since the previous stop, and figures of the machine."""
        rows, self._rows = self._rows, []
        scalars = means(rows)
        seconds, waited = scalars.pop(SECONDS), scalars.pop(WAITED)
        self._seconds.assign_add(seconds * len(rows))
        scalars["rate"] = self.trainer.rate
        scalars["images_per_second"] = self.schedule.step_images / seconds
        scalars["data_wait_share"] = waited / seconds
        scalars["memory_mb"] = psutil.Process().memory_info().rss / 2**20
        return scalars
