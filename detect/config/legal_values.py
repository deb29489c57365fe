"""Legal values: how annotations express them, and the legal values of keys that are not arguments of a `_target_`.

The legal values of an argument are its annotation in the signature, and nowhere else: `Literal["same", "valid"]`,
`Annotated[int, whole(1)]`, `bool`, with `| None` if null is legal; `Sequence`, `tuple` and `Mapping` of these.
`detect.config.signatures` reads the annotation from source text, before TensorFlow is imported. A constructor that
checks its values itself calls `demand` with the same annotation. Other annotations are not checked here.
"""

import inspect
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from detect.errors import ConfigError


@dataclass(frozen=True)
class Legal:
    """The legal values of one key. `above` makes `low` illegal, `null` allows null, `choices` replaces the bounds.

    words: texts that are legal besides numbers. kind object: all but null. typed: the short form that the user types
    for the key, if there is one.
    """

    kind: type = float
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    choices: tuple[Any, ...] = ()
    null: bool = False
    words: tuple[str, ...] = ()
    typed: str = ""

    def admits(self, value: object) -> bool:
        if value is None:
            return self.null
        if isinstance(value, str) and value in self.words:
            return True
        if self.choices:
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        if self.kind in (bool, str, object):
            return isinstance(value, self.kind)
        if isinstance(value, bool) or not isinstance(value, int if self.kind is int else (int, float)):
            return False
        return math.isfinite(value) and (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        if self.choices:
            text = "one of " + ", ".join(map(str, self.choices))
        elif self.kind in (bool, str, object):
            text = {bool: "true or false", str: "text", object: "a class with its arguments"}[self.kind]
        else:
            text = "a whole number" if self.kind is int else "a number"
            text += f" above {self.low}" if self.above else f" from {self.low}" if self.low > -math.inf else ""
            text += f" to {self.high}" if self.high < math.inf else ""
        return " or ".join([text, *self.words, *(["null"] if self.null else [])])

    def refusal(self, key: str, value: object) -> str:
        """The message for a value that is not legal."""
        return f"{self.typed or key}={'null' if value is None else value} is not legal: expected {self}"


def whole(low: float = -math.inf, high: float = math.inf, null: bool = False) -> Legal:
    """Whole numbers from `low` to `high`. null: null is legal, too."""
    return Legal(int, low, high, null=null)


def number(
    low: float = -math.inf, high: float = math.inf, above: bool = False, null: bool = False, words: Sequence[str] = ()
) -> Legal:
    """Numbers from `low` to `high`. above: `low` is not legal. null, words: null and these words are legal, too."""
    return Legal(float, low, high, above, null=null, words=tuple(words))


def one_of(*names: str, null: bool = False, typed: str = "") -> Legal:
    return Legal(str, choices=names, null=null, typed=typed)


SWITCH = Legal(bool)
TEXT = Legal(str, null=True)
PLAIN: dict[object, Legal] = {bool: SWITCH, int: whole(), float: number()}
"""The legal values of plain annotations. `str` is left out: YAML reads a folder called 2007 as a number."""


@dataclass(frozen=True)
class Values:
    """Of a list: it has one value for each of these names. `Annotated[Sequence[int], Values("height", "width")]`."""

    names: tuple[str, ...]

    def __init__(self, *names: str):
        object.__setattr__(self, "names", names)


Share = Annotated[float, number(0, 1)]
Count = Annotated[int, whole(1)]
NotNegative = Annotated[float, number(0)]
Multiplier = Annotated[float, number(0, 16, above=True)]
HeldOut = Annotated[float, number(0, 0.9)]
Seed = Annotated[int, whole(0, 2**31 - 1)]
Epsilon = Annotated[float, number(0, 1, above=True)]
"""Annotations of arguments: a fraction; a count from 1; a number that is not below 0, as a weight or a deviation; a
multiplier of channels; a share of images held out; a seed; the epsilon of batch norm."""


def legal_of(hint: object) -> Legal | None:
    """The legal values of an annotation for a single value; None if it does not tell them."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        return next((each for each in arguments if isinstance(each, Legal)), legal_of(arguments[0]))
    if typing.get_origin(hint) is typing.Literal:
        return Legal(str, choices=tuple(a for a in arguments if a is not None), null=None in arguments)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        others = [argument for argument in arguments if argument is not types.NoneType]
        legal = legal_of(others[0]) if len(others) == 1 else None
        return legal and replace(legal, null=legal.null or len(others) < len(arguments))
    return PLAIN.get(hint)


def refusals(key: str, value: object, hint: object, default: object = ...) -> list[str]:
    """Messages for values that an argument's annotation does not allow, also for items of lists (`size.0`).

    default: the default of the argument; a value that equals it is always legal.
    """
    if value == "???" or (value is default or (value == default and type(value) is type(default))):
        return []
    members = _members(hint)
    containers = [member for member in members if _container(member) is not None]
    if not containers:
        legal = legal_of(hint)
        return [] if legal is None or legal.admits(value) else [legal.refusal(key, value)]
    if value is None and types.NoneType in members:
        return []
    alike = [member for member in containers if isinstance(value, _container(member) or ())]
    if alike:
        return min((_in_container(key, value, member) for member in alike), key=len)
    others = [member for member in members if member not in containers and member is not types.NoneType]
    if others and not isinstance(value, list | dict):
        found = [refusals(key, value, member) for member in others]
        return min(found, key=len)
    if others and any(legal_of(member) is None for member in others):
        return []
    told = [*map(_told, containers), *(str(legal_of(member)) for member in others)]
    null = " or null" if types.NoneType in members else ""
    return [f"{key}={'null' if value is None else value} is not legal: expected {' or '.join(told)}{null}"]


def _members(hint: object) -> list[Any]:
    """The members of a union; any other annotation is the only one."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return [each for member in typing.get_args(hint) for each in _members(member)] if union else [hint]


def _container(hint: object) -> type | None:
    """What YAML has for an annotation of several values: list, dict; None for that of a single value."""
    if typing.get_origin(hint) is Annotated:
        return _container(typing.get_args(hint)[0])
    origin = typing.get_origin(hint) or hint
    if origin in (Sequence, list, tuple):
        return list
    return dict if origin in (Mapping, dict) else None


def _in_container(key: str, value: Any, hint: object) -> list[str]:
    """Messages for the items of a list or of a mapping."""
    if isinstance(value, list) and _length(hint) not in (None, len(value)):
        return [f"{key}={value} is not legal: expected {_told(hint)}"]
    return [message for name, each, kind in _items(value, hint) for message in refusals(f"{key}.{name}", each, kind)]


def _items(value: Any, hint: object) -> list[tuple[Any, Any, object]]:
    """Name, value and annotation of each item of a list or of a mapping; empty if the annotation does not tell it."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        hint, arguments = arguments[0], typing.get_args(arguments[0])
    if isinstance(value, dict):
        return [(name, each, arguments[1]) for name, each in value.items()] if len(arguments) == 2 else []
    if typing.get_origin(hint) is tuple and _length(hint) is not None:
        return [(i, each, kind) for i, (each, kind) in enumerate(zip(value, arguments, strict=True))]
    return [(i, each, kind) for i, each in enumerate(value) for kind in arguments[:1]]


def _length(hint: object) -> int | None:
    """The number of values that an annotation asks for; None if it is free."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        return next((len(each.names) for each in arguments if isinstance(each, Values)), _length(arguments[0]))
    return len(arguments) if typing.get_origin(hint) is tuple and ... not in arguments else None


def _told(hint: object) -> str:
    """What a container must be, as text."""
    if _container(hint) is dict:
        return "keys with values, as {KEY:VALUE}"
    names = next((", ".join(each.names) for each in typing.get_args(hint) if isinstance(each, Values)), None)
    if names:
        return f"[{names}]"
    number = _length(hint)
    return "a list, as [A,B]" if number is None else f"a list of {number} values"


def with_floats(value: object, hint: object, default: object = None) -> object:
    """The value with floats in place of whole numbers where the annotation, or without one the default, has floats.

    `rate=1` becomes 1.0: TensorFlow makes an integer tensor of 1, and computes no cosine of it. A list or a mapping
    that the annotation does not allow stays as it is.
    """
    if isinstance(value, list | dict):
        alike = (member for member in _members(hint) if _container(member) is type(value))
        suited = next((member for member in alike if not _in_container("", value, member)), None)
        found = {name: with_floats(each, kind) for name, each, kind in _items(value, suited)}
        return value if not found else found if isinstance(value, dict) else list(found.values())
    if type(value) is not int:
        return value
    kinds = {legal.kind for member in _members(hint) if (legal := legal_of(member)) and not legal.choices}
    told = kinds == {float} or (hint is inspect.Parameter.empty and isinstance(default, float))
    return float(value) if told else value


def demand(key: str, value: object, hint: object) -> None:
    """For constructors: raises ConfigError, naming key, value and legal values, unless the annotation allows it."""
    if found := refusals(key, value, hint):
        raise ConfigError(found[0])


RUN_KEYS: dict[str, Legal] = {
    "minutes": number(0, above=True, null=True),
    "epochs": number(0, above=True, null=True),
    "seed": whole(0, 2**31 - 1),
    "resume": TEXT,
    "threads": whole(1, 1024, null=True),
    "max_boxes": whole(1, 10_000, null=True),
    "repeat_threshold": number(0, 1, above=True, null=True),
    "deterministic": SWITCH,
    "jit_compile": SWITCH,
    "precision": one_of("float32", "bfloat16", "float16"),
    "distribute.kind": one_of("none", "mirrored", "multi_worker", "tpu"),
    "distribute.devices": whole(1, 1024, null=True),
    "distribute.sync_batch_norm": SWITCH,
    "histograms": SWITCH,
    "validation_loss": whole(0, 100_000),
    "graph": SWITCH,
    "study": TEXT,
    "arm.start": one_of("generic", "random"),
    "arm.crops": Legal(bool, null=True),
    "arm.extra": SWITCH,
    "rates.*.*": number(0, 100, above=True, null=True),
    "limit.fraction": number(0, 1, above=True, null=True),
    "limit.steps": whole(1, null=True),
    "limit.train": whole(1, null=True),
    "limit.val": whole(1, null=True),
    "limit.test": whole(1, null=True),
    "limit.overfit": SWITCH,
    "classify.enabled": SWITCH,
    "classify.balanced": SWITCH,
    "quantize.enabled": SWITCH,
    "quantize.calibrate": whole(0),
    "quantize.float_stage": SWITCH,
    "split": one_of("train", "val", "test"),
    "stage": one_of("detector", "quantized", null=True),
    "score": number(0, 1, words=("auto", "per_class")),
    "calibrated": SWITCH,
    "class_agnostic": Legal(bool, null=True),
    "only": one_of("network", "data", "quantize", null=True),
    "propose": one_of("experiment", "rate"),
    "decode": SWITCH,
    "devices": SWITCH,
    "overwrite": SWITCH,
    "format": one_of("saved_model", "tflite", "onnx", "openvino"),
    "target": one_of("mediapipe", "edge_tpu", null=True),
    "to": one_of("voc", "coco", "yolo", "tfrecord", "arrayrecord"),
    "quantization": one_of("none", "float16", "dynamic", "ptq", "qat", typed="quantize"),
    "weights": one_of("per_channel", "per_tensor"),
    "nms": one_of("none", "in_graph", "tflite_op", null=True),
    "input": one_of("uint8", "float32", "int8", null=True),
    "heads": one_of("float32", "int8", null=True),
    "representative": whole(1, 100_000),
    "compared": whole(1, 10_000),
    "timings": whole(1, 100_000),
    "timed_steps": whole(1, 100_000),
    "scored": whole(0),
    "every": whole(1),
    "batch": whole(1, 1, null=True),
    "strict": SWITCH,
}
"""Legal values by dotted key or glob of keys. A key that a verb's configuration lacks is ignored."""
