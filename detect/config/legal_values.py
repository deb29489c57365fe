"""Legal values of the run-level keys, checked before TensorFlow is imported.

Constructors check their own arguments; what stands here costs a run when it is found late.
"""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Legal:
    """What one key may hold. `above` makes `low` itself illegal, `null` allows null, `choices` replaces the bounds."""

    kind: type = float
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    choices: tuple[Any, ...] = ()
    null: bool = False

    def admits(self, value: Any) -> bool:
        if value is None:
            return self.null
        if self.choices:
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        if self.kind is bool or self.kind is str:
            return isinstance(value, self.kind)
        numbers = (int,) if self.kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, numbers) or not math.isfinite(value):
            return False
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        if self.choices:
            text = "one of " + ", ".join(map(str, self.choices))
        elif self.kind in (bool, str):
            text = {bool: "true or false", str: "text"}[self.kind]
        else:
            text = "a whole number" if self.kind is int else "a number"
            text += f" above {self.low}" if self.above else f" from {self.low}" if self.low > -math.inf else ""
            text += f" to {self.high}" if self.high < math.inf else ""
        return text + (" or null" if self.null else "")


def whole(low: float = -math.inf, high: float = math.inf, null: bool = False) -> Legal:
    return Legal(int, low, high, null=null)


def number(low: float = -math.inf, high: float = math.inf, above: bool = False, null: bool = False) -> Legal:
    return Legal(float, low, high, above, null=null)


SHARE = number(0, 1)
SWITCH = Legal(bool)


def one_of(*names: str) -> Legal:
    return Legal(str, choices=names)


RANGES: dict[str, Legal] = {
    "seed": whole(0, 2**31 - 1),
    "resume": Legal(str, null=True),
    "threads": whole(1, 1024, null=True),
    "max_boxes": whole(1, 10_000, null=True),
    "deterministic": SWITCH,
    "histograms": SWITCH,
    "study": Legal(str, null=True),
    "arm.start": one_of("generic", "random"),
    "arm.extra": SWITCH,
    "rates.*.*": number(0, 100, above=True, null=True),
    "limit.fraction": number(0, 1, above=True, null=True),
    "limit.train": whole(1, null=True),
    "limit.val": whole(1, null=True),
    "limit.test": whole(1, null=True),
    "limit.overfit": SWITCH,
    "*.enabled": SWITCH,
    "*schedule.steps": whole(1),
    "*schedule.batch_size": whole(1, 4096),
    "*schedule.rate": number(0, 100, above=True),
    "*schedule.warmup": whole(0),
    "*schedule.decay": one_of("cosine", "step", "constant"),
    "*schedule.step_factor": number(0, 1, above=True),
    "*schedule.clip_norm": number(0, above=True, null=True),
    "*schedule.weight_decay": number(0, 1),
    "*schedule.ema_decay": number(0, 0.999999, null=True),
    "*schedule.batch_norm": one_of("trainable", "frozen"),
    "*schedule.batch_norm_decay": number(0, 0.999999, null=True),
    "*schedule.reestimate_batch_norm": whole(0),
    "*schedule.evaluate_every": whole(1),
    "*schedule.checkpoint_every": whole(1),
    "*schedule.log_every": whole(1),
    "*schedule.patience": whole(1, null=True),
    "init.scope": one_of("backbone", "detector"),
    "backbone.depth_multiplier": number(0, 16, above=True),
    "backbone.min_depth": whole(1),
    "backbone.input_scaling": one_of("signed", "unit", "mean", "none"),
    "backbone.padding": one_of("same", "valid"),
    "backbone.activation": one_of("relu", "relu6"),
    "backbone.scale": SWITCH,
    "backbone.variant": one_of("large", "small"),
    "backbone.minimalistic": SWITCH,
    "backbone.reduced_tail": SWITCH,
    "backbone.scale_last": SWITCH,
    "detector.size.*": whole(96, 4096),
    "detector.resize": one_of("stretch", "keep_aspect", "zoo"),
    "detector.border_anchors": one_of("drop", "keep"),
    "detector.proposals.count": whole(1, 10_000),
    "detector.proposals.nms_iou": SHARE,
    "detector.proposals.candidates": whole(1, null=True),
    "detector.proposals.min_size": number(0),
    "detector.roi.method": one_of("align", "crop_and_resize"),
    "detector.roi.crop": whole(1, 100, null=True),
    "detector.roi.pool": whole(1, 100, null=True),
    "detector.roi.samples": whole(1, 8, null=True),
    "detector.*_sampler.size": whole(1, 100_000),
    "detector.*_sampler.positive_fraction": SHARE,
    "classify.classifier.size.*": whole(32, 4096),
    "quantize.calibrate": whole(0),
    "quantize.float_stage": SWITCH,
    "split": one_of("train", "val", "test"),
    "stage": Legal(str, choices=("detector", "quantized"), null=True),
    "score": SHARE,
    "only": Legal(str, choices=("network", "data", "quantize"), null=True),
    "decode": SWITCH,
    "overwrite": SWITCH,
    "format": one_of("saved_model", "tflite"),
    "quantization": one_of("none", "float16", "dynamic", "ptq", "qat"),
    "weights": one_of("per_channel", "per_tensor"),
    "nms": Legal(str, choices=("none", "in_graph", "tflite_op"), null=True),
    "input": Legal(str, choices=("uint8", "float32", "int8"), null=True),
    "heads": Legal(str, choices=("float32", "int8"), null=True),
    "representative": whole(1, 100_000),
    "compared": whole(1, 10_000),
    "timings": whole(1, 100_000),
    "scored": whole(0),
    "batch": whole(1, 1, null=True),
    "strict": SWITCH,
    "dataset.*_fraction": number(0, 0.9),
    "*.postprocess.iou": SHARE,
    "*.postprocess.score": SHARE,
    "*.label_smoothing": number(0, 0.999),
    "*.dropout": number(0, 0.999),
}
"""Legal values of run-level keys. A key is dotted and may be a glob; one that a verb's config lacks is passed over."""
