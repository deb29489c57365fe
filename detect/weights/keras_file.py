"""Keras .h5 files by layer names (tf_keras.applications): only weights, or whole models. Nothing is executed."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from detect.weights import hdf5
from detect.weights.hdf5 import Found
from detect.weights.interface import Network
from detect.weights.names import Arrays

COUNTED = ("conv2d", "batch_normalization")  # Keras numbers layers with these names: conv2d, conv2d_1, ...


def read(file: Path, backbone: Network) -> Arrays:
    """All arrays by our names.

    backbone: its `keras_layers()` gives our names of the layers. Layers of the file after the last of them belong to a
    classifier, and get names below `Logits/`. Other layers keep their Keras names.
    Raises WeightsError.
    """
    known = backbone.keras_layers()
    found = renumbered(hdf5.read(file), known)
    top = classifier(found, known)
    result = {}
    for (layer, kind), array in found.items():
        name = known.get(layer) or (f"Logits/{layer}" if layer in top else layer)
        if kind == "kernel" and name.endswith("depthwise"):  # Keras 3 uses one name for both kinds of kernels
            kind = "depthwise_kernel"
        result[f"{name}/{kind}"] = array
    return Arrays(rgb(result, backbone))


def classifier(found: Found, known: Mapping[str, str]) -> set[str]:
    """The layers after the last known one. found: in the order of the layers."""
    layers = list(dict.fromkeys(layer for layer, _ in found))
    last = max((i for i, layer in enumerate(layers) if layer in known), default=len(layers))
    return set(layers[last + 1 :])


def renumbered(found: Found, known: Mapping[str, str]) -> Found:
    """Numbers the layers in COUNTED from 1. In a file, the first number depends on the session that wrote it.

    known: {name of a layer in tf_keras.applications: our name}.
    """
    new: dict[str, str] = {}
    for base in (base for base in COUNTED if f"{base}_1" in known):
        numbers = {layer: re.fullmatch(rf"{base}(?:_(\d+))?", layer) for layer, _ in found}
        counted = sorted((int(match[1] or 0), layer) for layer, match in numbers.items() if match)
        new |= {layer: f"{base}_{i}" for i, (_, layer) in enumerate(counted, start=1)}
    return {(new.get(layer, layer), kind): array for (layer, kind), array in found.items()}


def rgb(arrays: dict[str, np.ndarray], backbone: Network) -> dict[str, np.ndarray]:
    """Arrays of Keras by our names. If Keras gives this network B, G, R, the first kernel takes R, G, B afterwards."""
    if not getattr(backbone, "keras_bgr", False):
        return arrays
    first = f"{next(iter(backbone.keras_layers().values()))}/kernel"
    return arrays | ({first: np.ascontiguousarray(arrays[first][:, :, ::-1])} if first in arrays else {})
