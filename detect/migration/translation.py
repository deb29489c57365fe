"""What a pipeline.config becomes: the options and values of an experiment, and the account of what differs."""

from dataclasses import dataclass, field
from typing import Any

from detect.migration.message import Message

EPSILON = 0.001
"""Of batch norm, if the file gives none."""


@dataclass
class Translation:
    """An experiment in the making.

    choices: options of groups. values: of keys, as a tree. differs: what is computed in another way here, a sentence
    each. left_out: fields of the file that have no counterpart.
    """

    choices: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    differs: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def put(self, key: str, value: object) -> None:
        """Sets a dotted key."""
        *nodes, last = key.split(".")
        tree = self.values
        for node in nodes:
            tree = tree.setdefault(node, {})
        tree[last] = value

    def differ(self, sentence: str) -> None:
        """Adds a difference, once."""
        if sentence not in self.differs:
            self.differs.append(sentence)


def initializer(hyperparams: Message, what: str, into: Translation, fixed: bool = False) -> float | None:
    """The standard deviation of a truncated normal initialiser; None for another one, which is told.

    fixed: this program has one initialiser for the part. Every other one is told.
    """
    given = hyperparams.message("initializer")
    if name := given.text("keras_initializer_by_name"):
        into.differ(f"initial values of {what}: those of this program, not {name} of Keras")
        return None
    found = given.one(("truncated_normal_initializer", "random_normal_initializer", "variance_scaling_initializer"))
    if found is None:
        return None
    kind, message = found
    stddev = message.number("stddev", 1.0)
    message.ignore("mean", "factor", "uniform", "mode")
    if kind == "truncated_normal_initializer" and not fixed:
        return stddev
    if kind == "random_normal_initializer" and not fixed:
        into.differ(f"initial values of {what}: a truncated normal of stddev {stddev:g}, not a normal one")
        return stddev
    into.differ(f"initial values of {what}: those of this program, not {kind}")
    return None


def activation(hyperparams: Message, legal: dict[str, str], part: str) -> str:
    """Our name of the activation; NoCounterpart for one that is not in `legal`."""
    name = hyperparams.word("activation", "RELU")
    if name not in legal:
        raise hyperparams.missing("activation", f"activation {name} of the {part}")
    return legal[name]


def batch_norm(hyperparams: Message, part: str, epsilon: float | None = EPSILON) -> Message | None:
    """The batch norm of a part, None if there is none; NoCounterpart for one that does not exist here.

    epsilon: the only legal one; None: every one is.
    """
    if hyperparams.has("group_norm"):
        raise hyperparams.missing("group_norm", f"group norm of the {part}")
    if hyperparams.flag("force_use_bias", False):
        raise hyperparams.missing("force_use_bias", f"biases beside batch norm of the {part}")
    name = "sync_batch_norm" if hyperparams.has("sync_batch_norm") else "batch_norm"
    norm = hyperparams.message(name)
    if not norm.given:
        return None
    found = norm.number("epsilon", EPSILON)
    if epsilon is not None and abs(found - epsilon) > 1e-9:
        raise norm.missing("epsilon", f"batch norm of the {part} with an epsilon of {found:g}")
    if not norm.flag("center", True):
        raise norm.missing("center", f"batch norm of the {part} without beta")
    return norm
