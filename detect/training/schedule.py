"""The schedule of a stage: steps, learning rate, optimiser, and frozen layers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tf_keras
from official.modeling.optimization import lr_schedule

from detect.config.legal_values import Count, Share, demand, number, whole
from detect.errors import ConfigError
from detect.modeling.interface import Architecture

Decay = Literal["cosine", "step", "constant"]
Average = Annotated[float, number(0, 0.999999)]
Natural = Annotated[int, whole(0)]
schedules = tf_keras.optimizers.schedules


@dataclass(frozen=True)
class Schedule:
    """The training settings of one stage; `configs/schedule/*.yaml` comments each of them.

    steps, warmup, evaluate_every, checkpoint_every, log_every: in optimiser steps.
    rate: the peak learning rate; decay: `cosine` (to 0), `step` (x `step_factor` at each of `step_at`, as fractions of
    `steps`) or `constant`.
    optimizer: called with learning_rate, weight_decay, global_clipnorm, use_ema, ema_momentum.
    clip_norm: the limit of the global gradient norm; None does not clip.
    weight_decay: decoupled (rate * weight_decay * kernel per step); biases and norms have no decay.
    ema_decay, batch_norm_decay: None takes min(.9997, 1 - 10 / steps); ema_decay 0 turns the average off.
    batch_norm: `trainable`, or `frozen` with the statistics, gamma and beta of the initial weights.
    freeze_until: the name of a layer; this layer and all layers that it depends on are frozen.
    patience: the stage ends early after so many evaluations without a new best; None never ends it early.
    """

    steps: Count
    batch_size: Annotated[int, whole(1, 4096)]
    optimizer: Callable[..., tf_keras.optimizers.Optimizer]
    rate: Annotated[float, number(0, 100, above=True)]
    warmup: Natural = 0
    decay: Decay = "cosine"
    step_at: Sequence[float] = (0.6, 0.85)
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
    patience: Count | None = None

    @property
    def average_decay(self) -> float:
        """The decay that averages over about a tenth of the stage: min(.9997, 1 - 10 / steps)."""
        return max(0.0, min(0.9997, 1 - 10 / self.steps))

    def learning_rate(self) -> tf_keras.optimizers.schedules.LearningRateSchedule:
        """Linear warm-up to `rate`, then the decay."""
        demand("schedule.decay", self.decay, Decay)
        if self.decay == "cosine":
            rate = schedules.CosineDecay(self.rate, self.steps)
        elif self.decay == "step":
            rate = schedules.PiecewiseConstantDecay(
                [int(self.steps * at) for at in self.step_at],
                [self.rate * self.step_factor**i for i in range(len(self.step_at) + 1)],
            )
        else:
            rate = schedules.PiecewiseConstantDecay([self.steps], [self.rate, self.rate])
        if self.warmup:
            return lr_schedule.LinearWarmup(rate, self.warmup, warmup_learning_rate=0.0)
        return rate

    def build_optimizer(self) -> tf_keras.optimizers.Optimizer:
        """The optimiser with its schedule, clipping, weight decay and weight average."""
        decay = self.average_decay if self.ema_decay is None else self.ema_decay
        optimizer = self.optimizer(
            learning_rate=self.learning_rate(),
            weight_decay=self.weight_decay,
            global_clipnorm=self.clip_norm,
            use_ema=decay > 0,
            ema_momentum=decay,
            jit_compile=False,
        )
        if self.weight_decay:
            optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "range_"])
        return optimizer

    def prepare(self, architecture: Architecture) -> None:
        """Sets batch norm's decay and freezes layers, on a network that has its initial weights."""
        model, frozen = architecture.model, set[str]()
        if self.freeze_until:
            names = [layer.name for layer in model.layers]
            if self.freeze_until not in names:
                raise ConfigError(
                    f"schedule.freeze_until={self.freeze_until} is no layer; the first layers are {names[:8]}"
                )
            frozen = _needed(architecture, self.freeze_until)
        for layer in model.layers:
            normalises = isinstance(layer, tf_keras.layers.BatchNormalization)
            if normalises:
                layer.momentum = self.batch_norm_decay or self.average_decay
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
