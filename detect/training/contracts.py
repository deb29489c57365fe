"""Parts of a user's own: what they lack of their contracts (`detect.modeling.interface`) is told in one message."""

import contextlib
from collections.abc import Iterator
from typing import Any

from hydra.errors import InstantiationException

from detect.errors import ConfigError
from detect.modeling.interface import (
    AnchorGenerator,
    Backbone,
    BoxHead,
    ClassificationLoss,
    Detector,
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
    return [name for name in (*contract.__annotations__, *vars(contract)) if not name.startswith("_")]


PROMISED = {name for contract in CONTRACTS for name in members(contract)}


def refuse_nameless(backbone: Backbone, classifies: bool) -> None:
    """Raises ConfigError for a backbone without the names that its weights are stored under.

    classifies: the backbone also gets the head of a classifier.
    """
    _refuse_lacking(backbone, ["slim_scope", *(["logits"] if classifies else [])])


def refuse_incomplete(detector: Detector) -> None:
    """Raises ConfigError for a part of a built detector that lacks what its contract promises."""
    for attribute, contract in ASKED_LATER.items():
        part = getattr(detector, attribute, None)  # a detector of the user's own may have no such part
        if part is not None:
            _refuse_lacking(part, members(contract))


@contextlib.contextmanager
def promised() -> Iterator[None]:
    """Raises ConfigError where a part is asked for something that its contract promises, and does not have it."""
    try:
        yield
    except (AttributeError, InstantiationException) as error:
        cause = error if isinstance(error, AttributeError) else error.__cause__
        if isinstance(cause, AttributeError) and cause.obj is not None and cause.name in PROMISED:
            _refuse_lacking(cause.obj, [cause.name])
        raise


def _refuse_lacking(part: Any, names: list[str]) -> None:
    if lacking := [name for name in names if not hasattr(part, name)]:
        told = f"{type(part).__module__}.{type(part).__qualname__} has no {' and no '.join(lacking)}"
        raise ConfigError(f"{told}; docs/extend and detect/modeling/interface.py tell what a part needs")
