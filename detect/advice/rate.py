"""A learning-rate range test (Smith 2017): the rate rises from step to step, and the loss tells where it helps most."""

import logging
import tempfile
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import tf_keras
from omegaconf import DictConfig

from detect.advice.choice import composed, fit_anchors, propose, started
from detect.data.dataset import DetectionDataset
from detect.errors import DataError
from detect.files import write_csv
from detect.reporting.figures import new_figure, render
from detect.reporting.pictures import save
from detect.runs.folder import RunFolder
from detect.runs.start import Run
from detect.runs.summary import network
from detect.training import build
from detect.training.schedule import Schedule
from detect.training.trainer import Diverged, Trainer

log = logging.getLogger("detect")
LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
MEMORY = 0.9
"""Of the running mean of the loss, corrected for its start."""
SPAN = round(1 / (1 - MEMORY))
"""The steps that the running mean remembers. Before, it is as noisy as single batches: these steps decide nothing."""
DIVERGED = 4.0
"""The test ends where the running mean is so many times its lowest value after SPAN steps."""


@dataclass(frozen=True)
class Rising(Schedule):
    """A schedule whose rate rises exponentially from LOWEST to HIGHEST over its steps."""

    def learning_rate(self) -> tf_keras.optimizers.schedules.LearningRateSchedule:
        return tf_keras.optimizers.schedules.ExponentialDecay(LOWEST, self.steps - 1, HIGHEST / LOWEST)


@dataclass(frozen=True)
class RangeTest:
    """Rates [n], and the running mean of the loss at each [n]."""

    rates: np.ndarray
    losses: np.ndarray

    @property
    def suggested(self) -> float:
        """The rate at which the loss falls fastest, over the logarithm of the rate: from SPAN steps before to SPAN
        steps after it.

        Raises DataError if it falls at no rate.
        """
        changes = self.losses[3 * SPAN :] - self.losses[SPAN : -2 * SPAN]
        if changes.min(initial=0) >= 0:
            raise DataError("the loss falls at no rate: look at the data (detect inspect) and at the start (init)")
        return float(self.rates[2 * SPAN + int(np.argmin(changes))])


def running_mean(values: list[float]) -> np.ndarray:
    """The exponential running mean [n] of values, corrected for its start at 0."""
    mean, found = 0.0, []
    for step, value in enumerate(values, 1):
        mean = MEMORY * mean + (1 - MEMORY) * value
        found.append(mean / (1 - MEMORY**step))
    return np.array(found)


def diverged(means: np.ndarray) -> bool:
    """Whether the last of the running means [n] is DIVERGED times the lowest one."""
    return bool(means[-1] > DIVERGED * means[SPAN:].min(initial=np.inf))


def range_test(
    cfg: DictConfig, dataset: DetectionDataset, choices: dict[str, str], fixed: dict, own: Path | None = None
) -> RangeTest:
    """Trains the detector of `detect advise` from its start for STEPS steps with a rising rate.

    choices, fixed, own: as in `choose`. Raises WeightsError if the weights of `init` can't be had or do not fit.
    """
    proposed = replace(propose(cfg, dataset, None, choices, fixed), own=own)
    train = composed(cfg, proposed)
    build.set_up(train)
    fit_anchors(cfg, dataset, proposed, build.detector(train, dataset.num_classes))
    train = composed(cfg, proposed)
    detector = started(train, dataset, published=True)
    log.info("range test of %s, frame %dx%d", network(train), *detector.size)
    stock = build.instantiate(train.schedule)
    settings = {field.name: getattr(stock, field.name) for field in fields(stock)}
    schedule = Rising(**settings | {"steps": STEPS, "warmup": 0, "ema_decay": 0.0})
    schedule.prepare(detector)
    stream = build.training_stream(Run(RunFolder(Path(tempfile.gettempdir())), train, dataset, {}), detector, schedule)
    trainer, losses = Trainer(detector, schedule, stream), list[float]()
    for _ in range(STEPS):
        try:
            losses.append(trainer.train(1)["loss/total"])
        except Diverged:
            break
        if diverged(running_mean(losses)):
            break
    return RangeTest(np.geomspace(LOWEST, HIGHEST, STEPS)[: len(losses)], running_mean(losses))


def write(found: RangeTest, folder: Path) -> list[Path]:
    """Writes rate.csv and rate.png into a folder. Returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table, picture = folder / "rate.csv", folder / "rate.png"
    write_csv(table, ["rate", "loss"], zip(found.rates.tolist(), found.losses.tolist(), strict=True))
    figure, axis = new_figure(1, 1, 6.4, 4.0)
    axis.semilogx(found.rates, found.losses)
    axis.axvline(found.suggested, color="0.5", linestyle="--")
    axis.set_xlabel("learning rate")
    axis.set_ylabel("loss, running mean")
    axis.set_title(f"The loss falls fastest at {text(found.suggested)}", fontsize=10)
    save(picture, render(figure))
    return [table, picture]


def text(rate: float) -> str:
    """A rate with two digits, as it is typed: 0.0012, 1e-05."""
    return f"{rate:.2g}"
