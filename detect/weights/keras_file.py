"""Keras .h5 files by layer names (tf_keras.applications): only weights, or whole models. Nothing is executed."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from detect.errors import WeightsError
from detect.weights.names import Arrays

MOST = 1 << 29  # numbers in a file: networks have far fewer; a file with more has wrong shapes
COUNTED = ("conv2d", "batch_normalization")  # Keras numbers layers with these names: conv2d, conv2d_1, ...
Found = dict[tuple[str, str], np.ndarray]  # by layer and kind, in the order of the file


def read(file: Path, backbone: Any) -> Arrays:
    """All arrays by our names.

    backbone: its `keras_layers()` gives our names of the layers. Layers of the file after the last of them belong to a
    classifier, and get names below `Logits/`. Other layers keep their Keras names.
    Raises WeightsError.
    """
    try:
        with h5py.File(file, "r") as h5:
            found = _renumbered(_arrays(file, h5), backbone.keras_layers())
    except (OSError, KeyError, ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{file} can't be read: it is damaged or not a Keras file: {error}") from error
    known = backbone.keras_layers()
    layers = list(dict.fromkeys(layer for layer, _ in found))
    last = max((i for i, layer in enumerate(layers) if layer in known), default=len(layers))
    top = set(layers[last + 1 :])
    result = {}
    for (layer, kind), array in found.items():
        name = known.get(layer) or (f"Logits/{layer}" if layer in top else layer)
        if kind == "kernel" and name.endswith("depthwise"):  # Keras 3 uses one name for both kinds of kernels
            kind = "depthwise_kernel"
        result[f"{name}/{kind}"] = array
    return Arrays(_rgb(result, known) if getattr(backbone, "keras_bgr", False) else result)


def _arrays(file: Path, h5: h5py.File) -> Found:
    group = h5.get("model_weights", h5)
    if "layer_names" not in group.attrs:
        numbered = "layers" in group or "_layer_checkpoint_dependencies" in group
        raise WeightsError(
            f"{file} looks like the .weights.h5 of Keras 3, whose arrays have numbers instead of names. Load it into "
            "its model and save the whole model: model.save('x.h5')."
            if numbered
            else f"{file} is an HDF5 file without layer_names, so not from Keras: it has {', '.join(list(group)[:3])}"
        )
    datasets = dict(_datasets(group))
    if sum(math.prod(data.shape) for data in datasets.values()) > MOST:
        raise WeightsError(f"{file} claims to hold more than {MOST} numbers: refused")
    return {key: np.asarray(data, np.float32) for key, data in datasets.items()}


def _datasets(group: h5py.Group) -> Iterator[tuple[tuple[str, str], h5py.Dataset]]:
    for layer in _texts(group.attrs, "layer_names"):
        for weight in _texts(group[layer].attrs, "weight_names"):
            path, _, kind = weight.partition(":")[0].rpartition("/")
            # If a model contains another model, `layer` is the inner model, and the path of the weight names the layer.
            own = layer if path.endswith(layer) else path.removeprefix(f"{layer}/")
            yield (own or layer, kind), group[layer][weight]


def _texts(attributes: h5py.AttributeManager, name: str) -> list[str]:
    """A list of names. Keras splits a long list into name0, name1, ..."""
    parts = [attributes[name]] if name in attributes else []
    while f"{name}{len(parts)}" in attributes:
        parts.append(attributes[f"{name}{len(parts)}"])
    return [text.decode() if isinstance(text, bytes) else str(text) for part in parts for text in part]


def _renumbered(found: Found, known: dict[str, str]) -> Found:
    """Numbers the layers in COUNTED from 1. In a file, the first number depends on the session that wrote it."""
    new: dict[str, str] = {}
    for base in (base for base in COUNTED if f"{base}_1" in known):
        numbers = {layer: re.fullmatch(rf"{base}(?:_(\d+))?", layer) for layer, _ in found}
        counted = sorted((int(match[1] or 0), layer) for layer, match in numbers.items() if match)
        new |= {layer: f"{base}_{i}" for i, (_, layer) in enumerate(counted, start=1)}
    return {(new.get(layer, layer), kind): array for (layer, kind), array in found.items()}


def _rgb(arrays: dict[str, np.ndarray], known: dict[str, str]) -> dict[str, np.ndarray]:
    """Reverses the input channels of the first kernel: from B, G, R to R, G, B."""
    first = f"{next(iter(known.values()))}/kernel"
    return arrays | ({first: np.ascontiguousarray(arrays[first][:, :, ::-1])} if first in arrays else {})
