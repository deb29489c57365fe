"""A hook for tests: `hooks=[{_target_: tests.training.poison.Poison}] trust=[tests]`."""

from detect.training.loop import Fit, Hook


class Poison(Hook):
    """Makes a weight of worker 1 not a number, before step 6."""

    def before_step(self, fit: Fit, step: int) -> None:
        if step == 6 and fit.trainer.replicas.worker.index == 1:
            kernel = fit.trainer.architecture.model.trainable_variables[0]
            kernel.assign(kernel.numpy() * float("nan"))
