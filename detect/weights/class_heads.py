"""Class heads: the predictors with outputs for each class. Heads of a run of this program move by the class's name."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from detect.errors import counted, first_few
from detect.weights.ledger import Ledger

# Faster R-CNN's second stage has a box for each class.
CLASS_HEADS = ("*/ClassPredictor/*", "SecondStageBoxPredictor/Box*")
NOT_CLASS_HEADS = ("FirstStageBoxPredictor/*",)
WITHOUT_BACKGROUND = ("FCOS/*",)  # its centre-ness has a layer of its own


def is_class_head(name: str) -> bool:
    """Whether a variable's shape depends on the number of classes."""
    matches = [any(fnmatchcase(name, glob) for glob in globs) for globs in (CLASS_HEADS, NOT_CLASS_HEADS)]
    return matches == [True, False]


def by_name(
    arrays: Mapping[str, np.ndarray], variables: Mapping[str, Any], before: Sequence[str], now: Sequence[str]
) -> dict[str, np.ndarray]:
    """The arrays, in which the class heads have the classes of the model, in its order.

    before, now: the class names of the file and of the model. The outputs of a class that only the model has keep the
    values of `variables`. Heads whose shape does not fit `before` stay as they are.
    """
    result = dict(arrays)
    for name, array in arrays.items():
        if is_class_head(name) and name in variables and tuple(before) != tuple(now):
            old, new = _outputs(name, array, len(before)), _outputs(name, variables[name].numpy(), len(now))
            if old is None or new is None or (old.shape[:-2], old.shape[-1]) != (new.shape[:-2], new.shape[-1]):
                continue
            background = new.shape[-2] - len(now)
            new[..., :background, :] = old[..., :background, :]
            for place, label in enumerate(now, background):
                if label in before:
                    new[..., place, :] = old[..., before.index(label) + background, :]
            result[name] = new.reshape(variables[name].shape)
    return result


def _outputs(name: str, array: np.ndarray, classes: int) -> np.ndarray | None:
    """The head [..., anchors, classes, numbers of a class]; background, if there is one, is the first class."""
    background, numbers = (1, 1) if "ClassPredictor" in name else (0, 4)
    if any(fnmatchcase(name, glob) for glob in WITHOUT_BACKGROUND):
        background = 0
    parts = (classes + background) * numbers
    if array.shape[-1] % parts:
        return None
    return array.reshape(*array.shape[:-1], array.shape[-1] // parts, classes + background, numbers).copy()


def account(ledger: Ledger, scope: str, before: Sequence[str] | None = None, now: Sequence[str] = ()) -> list[str]:
    """A line for the console about the class heads, if a whole detector was loaded.

    before: the class names of the file; None if it has none. now: those of the model.
    """
    heads = [name for name in (*ledger.loaded, *ledger.skipped) if is_class_head(name)]
    if scope != "detector" or not heads:
        return []
    random = [name for name in ledger.skipped if is_class_head(name)]
    if random:
        return [f"class heads: random, as the file has another number of classes ({len(random)} variables skipped)"]
    if before is None:
        return ["class heads: loaded, so the file must have the classes of the data set in the same order"]
    kept, new = [n for n in now if n in before], [n for n in now if n not in before]
    parts = [f"loaded by name for {counted(len(kept), 'class')} ({first_few(kept)})"] if kept else []
    parts += [f"random for {len(new)} that are new ({first_few(new)})"] if new else []
    return [f"class heads: {'; '.join(parts)}"]
