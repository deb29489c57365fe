"""Transfers weights from a file into a model, by name and shape, and records the result in a ledger.

Nothing is assigned unless everything fits. A detector whose backbone is loaded in part trains without an error, but it
does not learn to detect.
"""

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from detect.errors import WeightsError, first_few
from detect.weights.class_heads import by_name, is_class_head
from detect.weights.ledger import Ledger
from detect.weights.mismatch import complaint

if TYPE_CHECKING:
    import tf_keras

log = logging.getLogger("detect")

# Variables that are skipped when only the backbone is wanted: TF-slim's classifier heads and its VGG's mean colour;
# the API's box predictors and its extra feature maps (`Conv2d_13_pointwise_1_Conv2d_2_1x1_256`).
HEADS = (
    *("Logits/*", "AuxLogits/*", "Predictions/*", "Conv_2/*", "fc[678]/*", "mean_rgb"),
    *("BoxPredictor_*", "WeightSharedConvolutionalBoxPredictor*", "*_[12]_Conv2d_[0-9]_*", "fpn/*"),
    *("FirstStageBoxPredictor/*", "SecondStageBoxPredictor/*"),
)


def is_head(name: str) -> bool:
    """Whether an array or a variable belongs to a head, and not to a backbone."""
    return _matches(name, HEADS) or is_class_head(name)


def named(variables: Iterable[Any]) -> dict[str, Any]:
    """Variables by name, without the `:0` (`Conv2d_0/BatchNorm/gamma`). One may come again, as layers that share a
    kernel give it; raises ValueError if two share a name."""
    result: dict[str, Any] = {}
    for variable in variables:
        name = variable.name.split(":")[0]
        if result.get(name, variable) is not variable:
            raise ValueError(f"two variables are named {name}")
        result[name] = variable
    return result


def transfer(
    model: "tf_keras.Model",
    arrays: Mapping[str, np.ndarray],
    *,
    source: str,
    layers: Collection[str] | None,
    scope: str = "backbone",
    skip: Sequence[str] = (),
    classes: Sequence[str] = (),
    assign: bool = True,
) -> Ledger:
    """Assigns `arrays` to the variables of the same name and shape: all of them or none.

    model: a tf_keras model.
    source: where the arrays come from, for messages.
    layers: names of all layers of the backbone. Arrays of layers that the model does not use are skipped.
        None: the file must hold exactly the variables of the model.
    scope: `backbone` fills these layers, and skips heads in the file; in a file of this program, every other array
        counts as a head. `detector` fills the whole model except class heads for another number of classes.
    skip: globs (`Conv2d_0/*`) of variables that do not change, and of arrays that are not used.
    classes: the class names of the model. If the arrays have the names of theirs, class heads move by name.
    assign: False only checks.

    Raises WeightsError, before anything is assigned, if a variable is missing or has another shape, or if the file has
    an array that the model does not have.
    """
    whole = layers is None or scope == "detector"
    variables = named(v for layer in model.layers if whole or layer.name in (layers or ()) for v in layer.weights)
    ours, use = getattr(arrays, "ours", False), getattr(arrays, "use", "")
    before = getattr(arrays, "classes", None)
    arrays = _as_wanted(arrays, variables)
    if before is not None and classes and whole:
        arrays = by_name(arrays, variables, before, classes)
    ledger = _compare(variables, arrays, source, skip, class_heads=layers is not None and scope == "detector")
    heads = () if whole else ("*",) if ours else HEADS
    used = {layer.name for layer in model.layers}
    for name in (name for name in arrays if name not in variables):
        layer = name.rpartition("/")[0]
        left = layer not in used if layer in (layers or ()) else _matches(name, heads)
        (ledger.skipped if left or _matches(name, skip) else ledger.unexpected)[name] = np.shape(arrays[name])
    for glob in skip:
        if assign and not any(fnmatchcase(name, glob) for name in (*variables, *arrays)):
            log.warning("init.skip: %s matches no variable of %s or of the model", glob, source)
    if not ledger.complete:
        raise WeightsError(complaint(ledger, variables, arrays, use))
    unfit = [name for name in ledger.loaded if not np.all(np.isfinite(arrays[name]))]
    if unfit:
        raise WeightsError(f"{source}: NaN or infinite values in {first_few(unfit)}; use another file")
    for name in ledger.loaded if assign else ():
        variables[name].assign(arrays[name])
    return ledger


def _as_wanted(arrays: Mapping[str, np.ndarray], variables: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
    """The arrays; dense kernels [h * w * c, n] and convolution kernels [h, w, c, n] get the shape of the model."""
    result = dict(arrays)
    for name, variable in variables.items():
        shape = tuple(variable.shape)
        array = arrays.get(name)
        if array is None or {len(shape), np.ndim(array)} != {2, 4}:
            continue
        if shape[-1] == array.shape[-1] and math.prod(shape) == array.size:
            result[name] = array.reshape(shape)
    return result


def _compare(variables, arrays, source, skip, class_heads: bool) -> Ledger:
    """The ledger of the model's variables. class_heads: skips class heads for another number of classes."""
    ledger = Ledger(source)
    for name, variable in variables.items():
        shape = tuple(variable.shape)
        if _matches(name, skip):
            ledger.skipped[name] = ledger.kept[name] = shape
        elif name not in arrays:
            ledger.missing[name] = shape
        elif np.shape(arrays[name]) == shape:
            ledger.loaded[name] = shape
        elif class_heads and is_class_head(name) and np.shape(arrays[name])[:-1] == shape[:-1]:
            ledger.skipped[name] = ledger.kept[name] = shape
        else:
            ledger.mismatched[name] = (np.shape(arrays[name]), shape)
    return ledger


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
