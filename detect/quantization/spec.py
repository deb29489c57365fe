"""What is quantised, and how: the specification that `fake_quant` follows, and its presets."""

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
"""Globs of the variables that only the fake-quantised model has: what `transfer` is to skip, in either direction."""


@dataclass(frozen=True)
class Spec:
    """How a model is fake-quantised. The defaults are TFLite's int8 specification.

    weight_bits: of the folded kernels, 4 to 8; symmetric about 0 and narrow: [-127, 127] of 8 bits.
    activation_bits: 4 to 8. TFLite files hold 8; fewer are for studies.
    per_channel: a scale for each output channel of a kernel (depthwise ones too), or one for the whole kernel.
    ranges: of activations. `moving_average` follows the batches' minima and maxima, unbiased from the first one on;
        `calibrated` takes the extremes that `calibrate` saw, and keeps them; `learned` starts
        there too (or at the first batch's) and trains both ends (PACT: Choi 2018).
    decay: of the moving average, in [0, 1). It looks back over about 1 / (1 - decay) steps: .999 wants thousands.
    symmetric: activations have their zero in the middle, [-1, 127/128]; otherwise zero is on the grid, anywhere.
    delay: training steps before rounding begins; folding and the collection of ranges run from the first step on.
    freeze_bn: the step from which batch norm stands still and normalises with its moving statistics; None: never.
    freeze_ranges: the step from which moving averages of ranges stand still; None: never.
        These three may be shares of the training, above 0 and below 1: `over(steps)` turns them into steps.
    first_last_float: leaves the first and the last layers with kernels float.
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
            raise ConfigError(f"quantize.spec.decay={self.decay}: legal are 0 up to, not including, 1")
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
        """The specification of a training of so many steps: shares become steps."""
        values = {name: getattr(self, name) for name in STEPS}
        return dataclasses.replace(self, **{n: round(v * steps) if _is_share(v) else v for n, v in values.items()})

    @property
    def shares(self) -> tuple[str, ...]:
        """The fields that are shares of a training whose length is not known yet."""
        return tuple(name for name in STEPS if _is_share(getattr(self, name)))

    def to_config(self) -> dict[str, Any]:
        """The fields as JSON holds them."""
        return {**dataclasses.asdict(self), "keep_float": list(self.keep_float)}


def _is_share(value: Any) -> bool:
    return type(value) is float and 0 < value < 1


PRESETS: dict[str, Spec | None] = {
    "none": None,
    "int8": Spec(),
    # As tf.contrib.quantize.create_training_graph: one scale for a kernel, moving averages with decay .999, batch norm
    # by correction. Its kernels had a zero point of their own; TFLite's int8 kernels have none, so neither have these.
    "contrib_2017": Spec(per_channel=False),
}


def preset(name: str, **changes: Any) -> Spec | None:
    """The specification of that name, with fields changed (`preset("contrib_2017", delay=48000)`); `none` is None.

    Raises ConfigError for an unknown name, a value that is not legal, or a change to `none`.
    """
    if name not in PRESETS:
        raise ConfigError(f"quantize={name}: legal are {', '.join(PRESETS)}")
    spec = PRESETS[name]
    unknown = sorted(set(changes) - {field.name for field in dataclasses.fields(Spec)})
    if unknown or (spec is None and changes):
        raise ConfigError(f"quantize={name} has no {', '.join(unknown or changes)}")
    return spec if spec is None else dataclasses.replace(spec, **changes)
