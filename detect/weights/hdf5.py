"""The arrays of a Keras HDF5 file by names, read in a process of its own (`detect.apart`). Nothing is executed.

Links to other files, soft links, virtual data sets, external storage and arrays of objects are refused: a file gives
only what it holds.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from detect import apart as process
from detect.errors import WeightsError, first_few, printable
from detect.weights import claims

Found = dict[tuple[str, str], np.ndarray]  # by layer and kind, in the order of the file
KINDS = "fiu"  # floating-point and whole numbers
LAYOUTS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
MEMORY = 1 << 30  # bytes, beside the arrays
Dataset = tuple[tuple[str, str], h5py.Dataset]


def read(file: Path) -> Found:
    """float32 arrays by (layer, kind), in the order of the file. Raises WeightsError."""
    size = claims.size_of(file)
    limits = process.Limits(seconds=30 + (size >> 21), bytes=MEMORY + claims.SWELL * size)
    found: Found = {}
    with process.call(__name__, [str(file.absolute()), str(file)], str(file), limits) as output:
        for layer, kind, shape in json.loads(output.readline()):
            content = np.fromfile(output, np.float32, math.prod(shape))
            found[layer, kind] = content.reshape(shape)
    return found


def apart(arguments: Sequence[str], stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Writes a line of json with layer, kind and shape of each array, and then the arrays. arguments: path, name."""
    path, name = arguments
    try:
        with h5py.File(path, "r") as h5:
            arrays = _arrays(Path(path), name, h5)
            stdout.write(json.dumps([[*key, data.shape] for key, data in arrays.items()]).encode() + b"\n")
            for data in arrays.values():
                stdout.write(np.ascontiguousarray(data[()], np.float32).data)
    except (WeightsError, MemoryError):
        raise
    except Exception as error:  # h5py raises a dozen kinds for damaged files
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{name} can't be read: it is damaged or not a Keras file: {reason}") from error


def _arrays(file: Path, name: str, h5: h5py.File) -> dict[tuple[str, str], h5py.Dataset]:
    group = _member(h5, "model_weights", name) if "model_weights" in h5 else h5
    if "layer_names" not in group.attrs:
        numbered = "layers" in group or "_layer_checkpoint_dependencies" in group
        held = printable(first_few(group, 3))
        raise WeightsError(
            f"{name} looks like the .weights.h5 of Keras 3, whose arrays have numbers instead of names. Load it into "
            "its model and save the whole model: model.save('x.h5')."
            if numbered
            else f"{name} is an HDF5 file without layer_names, so not from Keras: it has {held}"
        )
    datasets: dict[tuple[str, str], h5py.Dataset] = {}
    for key, data in _datasets(group, name):
        if key in datasets:
            both = f"{datasets[key].name} and {data.name}"
            raise WeightsError(f"{name} has two arrays for the variable {printable('/'.join(key))}: {printable(both)}")
        datasets[key] = data
    claims.numbers(name, (data.shape for data in datasets.values()), file.stat().st_size)
    return datasets


def _datasets(group: h5py.Group, name: str) -> Iterator[Dataset]:
    for layer in _texts(group.attrs, "layer_names"):
        inner = _member(group, layer, name)
        for weight in _texts(inner.attrs, "weight_names"):
            path, _, kind = weight.partition(":")[0].rpartition("/")
            # If a model contains another model, `layer` is the inner model, and the path of the weight names the layer.
            own = layer if path.endswith(layer) else path.removeprefix(f"{layer}/")
            data = _member(inner, weight, name)
            _check(data, weight, name)
            yield (own or layer, kind), data


def _member(group: h5py.Group, path: str, name: str) -> Any:
    """The member of a group at a path of hard links, which can't leave the file."""
    if path.startswith("/"):
        raise WeightsError(f"{name}: the name {path} does not begin in its group: refused")
    for part in filter(None, path.split("/")):
        if not isinstance(group, h5py.Group) or not group.id.links.exists(part.encode()):
            raise WeightsError(f"{name} is damaged: it has no {path}")
        if group.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise WeightsError(f"{name}: {path} is a link that may lead to other data or files: refused")
        group = group[part]
    return group


def _check(data: Any, weight: str, name: str) -> None:
    """Raises WeightsError unless the numbers of an array are in the file itself."""
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in KINDS or data.shape is None:
        raise WeightsError(f"{name}: {printable(weight)} is not an array of numbers")
    made = data.id.get_create_plist()
    if made.get_layout() not in LAYOUTS or made.get_external_count():
        raise WeightsError(f"{name}: the numbers of {weight} are in another file: refused")
    filters = [made.get_filter(i)[0] for i in range(made.get_nfilters())]
    if not set(filters) <= set(FILTERS):
        raise WeightsError(f"{name}: {weight} is compressed by a filter of another program: refused; legal is gzip")


def _texts(attributes: h5py.AttributeManager, name: str) -> list[str]:
    """A list of names. Keras splits a long list into name0, name1, ..."""
    parts = [attributes[name]] if name in attributes else []
    while f"{name}{len(parts)}" in attributes:
        parts.append(attributes[f"{name}{len(parts)}"])
    return [text.decode() if isinstance(text, bytes) else str(text) for part in parts for text in part]
