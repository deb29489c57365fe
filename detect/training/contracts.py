"""Parts of a user's own: what they lack of their contracts (`detect.modeling.interface`) is told in one message."""

import contextlib
from collections.abc import Iterator
from typing import Any

from hydra.errors import InstantiationException

from detect.errors import ConfigError
from detect.modeling.interface import (
    AnchorGenerator,
    Architecture,
    Backbone,
    BoxHead,
    ClassificationLoss,
    Head,
    LocalizationLoss,
    Neck,
    RegionHead,
    Suppression,
)

ASKED_LATER = {
    "postprocess": Suppression,
    "classification_loss": ClassificationLoss,
    "localization_loss": LocalizationLoss,
}
"""Parts of a detector that are still asked after it is built, by its attributes."""
CONTRACTS = (Backbone, Neck, Head, BoxHead, RegionHead, AnchorGenerator, *ASKED_LATER.values())


def members(contract: type) -> list[str]:
    """The names that a contract promises."""
    kinds = [vars(kind) for kind in contract.__mro__]
    names = (name for kind in kinds for name in (*kind.get("__annotations__", ()), *kind))
    return list(dict.fromkeys(name for name in names if not name.startswith("_")))


PROMISED = {name for contract in CONTRACTS for name in members(contract)}
TOLD = "docs/extend and detect/modeling/interface.py tell what a part needs"


def refuse_nameless(backbone: Backbone, classifies: bool) -> None:
    """Raises ConfigError for a backbone without the names that its weights are stored under.

    classifies: the backbone also gets the head of a classifier.
    """
    _refuse_lacking(backbone, ["slim_scope", *(["logits"] if classifies else [])])


def refuse_incomplete(architecture: Architecture, contract: type) -> None:
    """Raises ConfigError for a built network, or a part of it, that lacks what its contract promises."""
    _refuse_lacking(architecture, members(contract))
    for attribute, contract in ASKED_LATER.items():
        part = getattr(architecture, attribute, None)  # not each network has such a part
        if part is not None:
            _refuse_lacking(part, members(contract))


@contextlib.contextmanager
def promised() -> Iterator[None]:
    """Raises ConfigError where a part is asked for something that its contract promises, and does not have it; also for
    a class that lacks a method, which Python does not build."""
    try:
        yield
    except (AttributeError, InstantiationException) as error:
        cause = error if isinstance(error, AttributeError) else error.__cause__
        if isinstance(cause, AttributeError) and cause.obj is not None and cause.name in PROMISED:
            _refuse_lacking(cause.obj, [cause.name])
        if isinstance(cause, TypeError) and "abstract class" in str(cause):
            raise ConfigError(f"{cause}; {TOLD}") from error
        raise


def _refuse_lacking(part: Any, names: list[str]) -> None:
    if lacking := [name for name in names if not hasattr(part, name)]:
        told = f"{type(part).__module__}.{type(part).__qualname__} has no {' and no '.join(lacking)}"
        raise ConfigError(f"{told}; {TOLD}")
