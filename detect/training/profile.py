"""What TensorBoard shows of the computation itself, on request: the network's graph, and a profile of some steps."""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from detect.training.loop import Fit, Hook

log = logging.getLogger("detect")


class ShowGraph(Hook):
    """Shows the graph of the network, as it is evaluated, in TensorBoard."""

    def begin(self, fit: Fit) -> None:
        model = fit.trainer.architecture.model
        inputs = [tf.TensorSpec(x.shape, x.dtype, x.name) for x in model.inputs]
        traced = tf.function(lambda *given: model(list(given), training=False), autograph=False)
        graph = traced.get_concrete_function(*inputs).graph.as_graph_def()
        fit.logger.graph(graph.SerializeToString())


class Profile(Hook):
    """Records what processor and device do in the steps `first` to `last` of a stage, for TensorBoard's PROFILE page.

    first, last: steps counted from 1, both included. A stage with fewer steps has no profile, or a shorter one.
    """

    def __init__(self, first: int, last: int):
        self.first, self.last = first, last
        self._step = contextlib.ExitStack()
        self._running = False

    def before_step(self, fit: Fit, step: int) -> None:
        self._step.close()
        if step == self.last:
            self._stop(fit)
        if step == self.first - 1:
            self._start(fit.logger.board("train"))
        if self._running:
            self._step.enter_context(tf.profiler.experimental.Trace("train", step_num=step + 1, _r=1))

    def after_steps(self, fit: Fit, scalars: Mapping[str, float]) -> None:
        if fit.step >= min(self.last, fit.schedule.steps) or fit.stopping:
            self._stop(fit)

    def end(self, fit: Fit) -> None:
        self._stop(fit)

    def _start(self, folder: Path) -> None:
        with contextlib.suppress(tf.errors.UnavailableError):  # of a stage that a signal ended in between
            tf.profiler.experimental.stop(save=False)
        tf.profiler.experimental.start(str(folder))
        self._running = True

    def _stop(self, fit: Fit) -> None:
        if not self._running:
            return
        fit.trainer.optimizer.iterations.numpy()  # waits until the device has taken the step
        self._step.close()
        tf.profiler.experimental.stop()
        self._running = False
        log.info("%s: the profile of steps %d to %d is in TensorBoard", fit.name, self.first, min(self.last, fit.step))
