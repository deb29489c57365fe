"""The specification of fake-quantisation that `fake_quant` follows."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from detect.config.legal_values import demand, whole
from detect.errors import ConfigError

Ranges = Literal["moving_average", "calibrated", "learned"]
Bits = Annotated[int, whole(4, 8)]
STEPS = ("delay", "freeze_bn", "freeze_ranges")
RANGE_VARIABLES = ("*/range_*",)
"""Globs of the variables that only the fake-quantised model has. `transfer` skips them in both directions."""


@dataclass(frozen=True)
class Spec:
    """How a model is fake-quantised. The defaults are TFLite's int8 specification.

    weight_bits: bits of the folded kernels, 4 to 8; symmetric about 0 and narrow: [-127, 127] for 8 bits.
    activation_bits: 4 to 8. TFLite files have 8; fewer are for studies.
    per_channel: a scale for each output channel of a kernel (also depthwise), or one for the whole kernel.
    ranges: of activations. `moving_average` follows the batches' minima and maxima, unbiased from the first batch on;
        `calibrated` keeps the extremes that `calibrate` saw; `learned` starts from these extremes (or from those of the
        first batch) and trains both ends (PACT: Choi 2018).
    decay: of the moving average, in [0, 1). It averages over about 1 / (1 - decay) steps: .999 needs thousands.
    symmetric: zero is in the middle of the activations' range, [-1, 127/128]; otherwise zero is any step of the grid.
    delay: training steps before rounding begins. Folding and the collection of ranges begin with the first step.
    freeze_bn: step from which batch norm is frozen and normalises with its moving statistics; None: never.
    freeze_ranges: step from which moving averages of ranges are frozen; None: never.
        These three may be shares of the training, above 0 and below 1: `over(steps)` turns them into steps.
    first_last_float: keeps the first and the last layers with kernels float.
    keep_float: globs of names of layers that stay float.

    Raises ConfigError for a value that is not legal.
    """

    weight_bits: Bits = 8
    activation_bits: Bits = 8
    per_channel: bool = True
    ranges: Ranges = "moving_average"
    decay: float = 0.999
    symmetric: bool = False
    delay: int | float = 0
    freeze_bn: int | float | None = None
    freeze_ranges: int | float | None = None
    first_last_float: bool = False
    keep_float: Sequence[str] = ()

    def __post_init__(self):
        for name in ("weight_bits", "activation_bits"):
            demand(f"quantize.spec.{name}", getattr(self, name), Bits)
        demand("quantize.spec.ranges", self.ranges, Ranges)
        if not 0 <= self.decay < 1:
            raise ConfigError(f"quantize.spec.decay={self.decay}: legal are numbers from 0 to below 1")
        for name in STEPS:
            step = getattr(self, name)
            legal = (type(step) is int and step >= 0) or _is_share(step) or (step is None and name != "delay")
            if not legal:
                null = "" if name == "delay" else ", or null"
                raise ConfigError(
                    f"quantize.spec.{name}={step}: must be a step, 0 or more, a share of the steps below 1{null}"
                )
        if isinstance(self.keep_float, str):
            raise ConfigError(f"quantize.spec.keep_float={self.keep_float}: must be a list: [{self.keep_float}]")
        object.__setattr__(self, "keep_float", tuple(self.keep_float))

    def over(self, steps: int) -> "Spec":
        """The specification for a training of `steps` steps: shares become steps. With a share as delay, the last step
        rounds at least."""
        values = {name: getattr(self, name) for name in STEPS}
        found = {name: round(value * steps) if _is_share(value) else value for name, value in values.items()}
        if _is_share(self.delay):
            found["delay"] = min(found["delay"], steps - 1)
        return dataclasses.replace(self, **found)

    @property
    def shares(self) -> tuple[str, ...]:
        """The names of the fields that are shares of the training."""
        return tuple(name for name in STEPS if _is_share(getattr(self, name)))

    @property
    def phases(self) -> list[int]:
        """The steps at which a phase begins, the first one at 0. Shares must have become steps."""
        return sorted({0, *(int(step) for name in STEPS if (step := getattr(self, name)) is not None)})

    def warnings(self, steps: int) -> list[str]:
        """What is legal but has no effect in a training of `steps` steps."""
        found = []
        for name in STEPS:
            step = getattr(self, name)
            if type(step) is int and step >= steps:
                found.append(f"quantize.spec.{name}={step} has no effect: quantize.schedule.steps is {steps}")
        for name in ("decay", "freeze_ranges") if self.ranges != "moving_average" else ():
            value, kind = getattr(self, name), f"quantize.spec.ranges={self.ranges}"
            if value not in (getattr(INT8, name), None):
                found.append(f"quantize.spec.{name}={value} has no effect with {kind}: it is of moving averages")
        return found

    def to_config(self) -> dict[str, Any]:
        """The fields as values for JSON."""
        return {**dataclasses.asdict(self), "keep_float": list(self.keep_float)}


def _is_share(value: object) -> bool:
    return type(value) is float and 0 < value < 1


INT8 = Spec(freeze_bn=0.67, freeze_ranges=0.9)
"""The specification of `quantize=int8`."""
