"""Weights from a file into a model, by name and shape, with a ledger of what went where.

Nothing is assigned unless everything fits: a backbone that is loaded in part trains, and never learns.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from detect.errors import WeightsError

log = logging.getLogger("detect")

Shape = tuple[int, ...]
# What sits on a backbone, and is left behind when only the backbone is asked for: classifier heads, the API's box
# predictors, and its extra feature maps (`Conv2d_13_pointwise_1_Conv2d_2_1x1_256`).
HEADS = ("Logits/*", "AuxLogits/*", "BoxPredictor_*", "*_[12]_Conv2d_[0-9]_*")


@dataclass
class Ledger:
    """What became of every variable of the model (or of its backbone) and every array of the file, name -> shape.

    loaded: in both, and assigned. skipped: left out since the caller named it, or a head where the backbone alone was
    asked for. missing: in the model only. unexpected: in the file only. mismatched: name -> (file shape, model shape).
    """

    source: str
    loaded: dict[str, Shape] = field(default_factory=dict)
    skipped: dict[str, Shape] = field(default_factory=dict)
    missing: dict[str, Shape] = field(default_factory=dict)
    unexpected: dict[str, Shape] = field(default_factory=dict)
    mismatched: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, unexpected or mismatched."""
        return not (self.missing or self.unexpected or self.mismatched)

    def totals(self) -> dict[str, tuple[int, int]]:
        """(variables, parameters) of each of the five; of the mismatched ones, the model's parameters."""
        shapes: dict[str, list[Shape]] = {
            "loaded": list(self.loaded.values()),
            "skipped": list(self.skipped.values()),
            "missing": list(self.missing.values()),
            "unexpected": list(self.unexpected.values()),
            "mismatched": [model for _, model in self.mismatched.values()],
        }
        return {key: (len(items), sum(math.prod(shape) for shape in items)) for key, items in shapes.items()}

    def lines(self, width: int = 80) -> list[str]:
        """Five lines for the console: variables and parameters of each kind, and a name of each kind but loaded."""
        result = []
        for kind, (variables, parameters) in self.totals().items():
            line = f"{kind:<10} {variables:>4} variables {parameters:>11,} parameters"
            names = [] if kind == "loaded" else list(getattr(self, kind))
            if names:
                line += f"  {names[0]}" + (", ..." if len(names) > 1 else "")
            result.append(line if len(line) <= width else line[: width - 3] + "...")
        return result

    def save(self, path: str | Path) -> None:
        """Writes the whole ledger as json."""
        kinds = {kind: getattr(self, kind) for kind in self.totals()}
        totals = {kind: {"variables": n, "parameters": p} for kind, (n, p) in self.totals().items()}
        text = json.dumps({"source": self.source, "totals": totals, **kinds}, indent=1)
        new = Path(f"{path}.new")
        new.write_text(text + "\n")
        os.replace(new, path)


def named(variables: Iterable[Any]) -> dict[str, Any]:
    """Variables by name, without the `:0` (`Conv2d_0/BatchNorm/gamma`). Raises ValueError if two share a name."""
    result: dict[str, Any] = {}
    for variable in variables:
        name = variable.name.split(":")[0]
        if name in result:
            raise ValueError(f"two variables are named {name}")
        result[name] = variable
    return result


def transfer(
    model: Any,
    arrays: Mapping[str, np.ndarray],
    *,
    source: str,
    layers: set[str] | None,
    skip: Sequence[str] = (),
) -> Ledger:
    """Assigns `arrays` to the variables of the same name and shape; all of them or none.

    model: a tf_keras model.
    source: where the arrays come from, for messages.
    layers: names of the layers to fill, such as those of the backbone; heads in the file are then skipped. None: all
        of the model, and the file must hold nothing else.
    skip: globs (`Conv2d_0/*`) of names that are left as they are in the model, and of arrays that are not wanted.

    Raises WeightsError, before anything is assigned, if a variable is missing or of another shape, or if the file has
    arrays that the model does not.
    """
    chosen = [layer for layer in model.layers if layers is None or layer.name in layers]
    variables = named(variable for layer in chosen for variable in layer.weights)
    ledger = _compare(variables, arrays, source, HEADS if layers is not None else (), skip)
    for glob in skip:
        if not any(fnmatchcase(name, glob) for name in (*variables, *arrays)):
            log.warning("init.skip: %s matches no variable of %s or of the model", glob, source)
    if not ledger.complete:
        raise WeightsError(_complaint(ledger, variables, arrays))
    unfit = [name for name in ledger.loaded if not np.all(np.isfinite(arrays[name]))]
    if unfit:
        raise WeightsError(f"{source}: not all numbers are finite in {', '.join(unfit[:3])}: the file is of no use")
    for name in ledger.loaded:
        variables[name].assign(arrays[name])
    return ledger


def _compare(variables, arrays, source, heads, skip) -> Ledger:
    ledger = Ledger(source)
    for name, variable in variables.items():
        shape = tuple(variable.shape)
        if _matches(name, skip):
            ledger.skipped[name] = shape
        elif name not in arrays:
            ledger.missing[name] = shape
        elif np.shape(arrays[name]) != shape:
            ledger.mismatched[name] = (np.shape(arrays[name]), shape)
        else:
            ledger.loaded[name] = shape
    for name, array in arrays.items():
        if name not in variables:
            left = ledger.skipped if _matches(name, (*heads, *skip)) else ledger.unexpected
            left[name] = np.shape(array)
    return ledger


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _complaint(ledger: Ledger, variables: Mapping, arrays: Mapping) -> str:
    if not ledger.loaded and not ledger.mismatched:
        return (
            f"{ledger.source} is of another network: it holds none of the {len(variables)} variables wanted "
            f"({_some(variables)}), but {_some(arrays)} ({len(arrays)} in all). "
            "Choose the backbone that it was trained with, another file, or random weights with init=none."
        )
    shapes = {f"{name} {list(file)} for {list(model)}" for name, (file, model) in ledger.mismatched.items()}
    details = [
        f"{title}: {_some(sorted(names))}"
        for title, names in (
            ("missing in the file", ledger.missing),
            ("unknown to the model", ledger.unexpected),
            ("of another shape in the file", shapes),
        )
        if names
    ]
    hint = "Is depth_multiplier the one that the file was trained with? " if ledger.mismatched else ""
    offender = next(iter({**ledger.missing, **ledger.mismatched, **ledger.unexpected}))
    return "\n".join(
        [
            f"{ledger.source} does not fit the model, nothing was loaded:",
            *(f"  {line}" for line in ledger.lines(78)),
            *details,
            f"{hint}Choose the file of this very network, start from random weights with init=none, or name what to "
            f"leave out by globs: 'init.skip=[{offender}]'",
        ]
    )


def _some(names, most: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
