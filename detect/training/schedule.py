"""The schedule of a stage: steps, learning rate, optimiser, and frozen layers."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tf_keras
from official.modeling.optimization import lr_schedule

from detect.config import schedules as rules
from detect.config.legal_values import Count, Share, demand, number, whole
from detect.config.tree import nearest
from detect.errors import ConfigError, one_line
from detect.modeling.interface import Architecture
from detect.training.fused import FUSED

Decay = Literal["cosine", "step", "constant"]
Average = Annotated[float, number(0, 0.999999)]
Natural = Annotated[int, whole(0)]
schedules = tf_keras.optimizers.schedules
STALE = 0.05
"""The most weight of the initial values in the average of weights at the end of a stage."""


@dataclass(frozen=True)
class Schedule:
    """The training settings of one stage; `configs/schedule/*.yaml` comments each of them.

    steps, warmup, evaluate_every, checkpoint_every, log_every: in optimiser steps.
    batch_size: the images that are computed at once, on all replicas together. accumulate: batches whose gradients one
    optimiser step adds up, as those of one batch; batch norm sees each of them by itself. evaluate_batch: the images
    that are scored at once; None takes `batch_size`.
    rate: the peak learning rate, at step `warmup` (the first step is step 0). Before, the rate rises in a line from 0;
    None takes a warm-up that suits `steps` (`default_warmup`).
    decay: of the steps after the warm-up. `cosine` falls to 0 at step `steps`. `step` multiplies the rate by
    `step_factor` at each of `step_at`, in fractions of `steps`; a drop inside the warm-up comes one step after it.
    `constant` keeps the rate.
    optimizer: called with learning_rate, weight_decay, global_clipnorm, use_ema, ema_momentum, jit_compile.
    clip_norm: the limit of the global gradient norm; None does not clip.
    weight_decay: decoupled (rate * weight_decay * kernel per step); biases and norms have no decay.
    ema_decay, batch_norm_decay: None takes min(.9997, 1 - 10 / steps); ema_decay 0 turns the average off.
    batch_norm: `trainable`, or `frozen` with the statistics, gamma and beta of the initial weights.
    freeze_until: the name of a layer; this layer and all layers that it depends on are frozen.
    patience: the stage ends early after so many evaluations without a new best; None never ends it early.

    Raises ConfigError for a warm-up that is not shorter than `steps`, and for a `step_at` that does not rise.
    """

    steps: Count
    batch_size: Annotated[int, whole(1, 4096)]
    optimizer: Callable[..., tf_keras.optimizers.Optimizer]
    rate: Annotated[float, number(0, 100, above=True)]
    warmup: Natural | None = 0
    decay: Decay = "cosine"
    step_at: Sequence[Share] = (0.6, 0.85)
    step_factor: Annotated[float, number(0, 1, above=True)] = 0.1
    clip_norm: Annotated[float, number(0, above=True)] | None = 10.0
    weight_decay: Share = 4e-5
    ema_decay: Average | None = None
    batch_norm: Literal["trainable", "frozen"] = "trainable"
    batch_norm_decay: Average | None = None
    reestimate_batch_norm: Natural = 0
    freeze_until: str | None = None
    evaluate_every: Count = 200
    checkpoint_every: Count = 200
    log_every: Count = 10
    accumulate: Annotated[int, whole(1, 1024)] = 1
    evaluate_batch: Annotated[int, whole(1, 4096)] | None = None
    patience: Count | None = None

    def __post_init__(self) -> None:
        for message in rules.contradictions("schedule", vars(self)):
            raise ConfigError(message)

    @property
    def average_decay(self) -> float:
        """The decay that averages over about a tenth of the stage: min(.9997, 1 - 10 / steps)."""
        return max(0.0, min(0.9997, 1 - 10 / self.steps))

    @property
    def warmup_steps(self) -> int:
        """The steps before the rate reaches its peak."""
        return rules.default_warmup(self.steps) if self.warmup is None else self.warmup

    @property
    def step_images(self) -> int:
        """The images of one optimiser step."""
        return self.batch_size * self.accumulate

    @property
    def scored_images(self) -> int:
        """The images that are scored at once."""
        return self.evaluate_batch or self.batch_size

    def used(self) -> dict[str, Any]:
        """All settings as plain values by their names, with the values that None stands for."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        kind, given = self._named_optimizer
        settings = {key: value if isinstance(value, str | int | float) else str(value) for key, value in given.items()}
        return values | {
            "warmup": self.warmup_steps,
            "evaluate_batch": self.scored_images,
            "step_at": list(self.step_at),
            "optimizer": {"name": getattr(kind, "__name__", str(kind)), **settings},
            "ema_decay": self._or_average(self.ema_decay),
            "batch_norm_decay": self._or_average(self.batch_norm_decay),
        }

    @property
    def _named_optimizer(self) -> tuple[Callable[..., tf_keras.optimizers.Optimizer], dict[str, Any]]:
        """The class, and the arguments that the configuration gives it: Hydra makes a functools.partial of both."""
        return getattr(self.optimizer, "func", self.optimizer), getattr(self.optimizer, "keywords", {})

    def _or_average(self, decay: float | None) -> float:
        return self.average_decay if decay is None else decay

    def warnings(self, key: str) -> list[str]:
        """What is legal but hardly wanted. key: that of the schedule, for the messages."""
        decay = self._or_average(self.ema_decay)
        stale = decay**self.steps
        if decay == 0 or stale <= STALE:
            return []
        told = (
            f"after {self.steps} steps, {stale:.0%} of the weights that are scored and kept are still the initial ones"
        )
        return [f"{key}.ema_decay={decay:g}: {told}; null suits {key}.steps"]

    def learning_rate(self) -> tf_keras.optimizers.schedules.LearningRateSchedule:
        """The rate of a step, counted from 0: linear warm-up from 0 to `rate`, then the decay over the other steps."""
        demand("schedule.decay", self.decay, Decay)
        warmup = self.warmup_steps
        if self.decay == "cosine":
            rate = lr_schedule.CosineDecayWithOffset(
                warmup, initial_learning_rate=self.rate, decay_steps=self.steps - warmup
            )
        else:
            drops = [max(round(self.steps * at), warmup + 1) for at in self.step_at] if self.decay == "step" else []
            rates = [self.rate * self.step_factor**k for k in range(len(drops) + 1)]
            # A boundary of Keras is the last step of the rate before it. Without a drop, both rates are the same.
            rate = schedules.PiecewiseConstantDecay([drop - 1 for drop in drops] or [0], rates if drops else rates * 2)
        return lr_schedule.LinearWarmup(rate, warmup, warmup_learning_rate=0.0) if warmup else rate

    def build_optimizer(self, key: str = "schedule") -> tf_keras.optimizers.Optimizer:
        """The optimiser with its schedule, clipping, weight decay and weight average.

        key: that of the schedule, for messages. Raises ConfigError for arguments that the optimiser refuses.
        """
        decay = self._or_average(self.ema_decay)
        kind, given = self._named_optimizer
        supplied = {
            "learning_rate": self.learning_rate(),
            "weight_decay": self.weight_decay,
            "global_clipnorm": self.clip_norm,
            "use_ema": self.ema_decay != 0,  # a run of few steps, whose decay is 0, can be extended
            "ema_momentum": decay,
            "jit_compile": False,
        }
        try:
            optimizer = FUSED.get(kind, kind)(**given, **supplied)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{key}.optimizer: {getattr(kind, '__name__', kind)}: {one_line(error)}") from error
        optimizer.ema_overwrite_frequency = None  # the weights go on; RMSprop would set them to the average at times
        if self.weight_decay:
            optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "range_"])
        return optimizer

    def prepare(self, architecture: Architecture, key: str = "schedule") -> None:
        """Sets batch norm's decay and freezes layers, on a network that has its initial weights.

        key: that of the schedule, for messages. Raises ConfigError for a `freeze_until` that is no layer.
        """
        model, frozen = architecture.model, set[str]()
        if self.freeze_until:
            names = [layer.name for layer in model.layers]
            if self.freeze_until not in names:
                raise ConfigError(
                    f"{key}.freeze_until={self.freeze_until} is no layer{nearest(self.freeze_until, names)}; "
                    f"the first layers are {', '.join(names[:8])}"
                )
            frozen = _needed(architecture, self.freeze_until)
        for layer in model.layers:
            normalises = isinstance(layer, tf_keras.layers.BatchNormalization)
            if normalises:
                layer.momentum = self._or_average(self.batch_norm_decay)
            layer.trainable = not (layer.name in frozen or (normalises and self.batch_norm == "frozen"))


def _needed(architecture: Architecture, name: str) -> set[str]:
    """Layer `name` and the layers that it depends on, also through inputs that are cut out of a layer's output."""
    model, sources = architecture.model, architecture.input_sources
    found, waiting = set[str](), [model.get_layer(name)]
    while waiting:
        layer = waiting.pop()
        if layer.name in found:
            continue
        found.add(layer.name)
        waiting += [parent.layer for node in layer.inbound_nodes for parent in node.parent_nodes]
        if layer.name in sources:
            waiting.append(model.get_layer(sources[layer.name]))
    return found
