"""The cost of a network: multiply-accumulates and parameters of each part."""

import itertools
import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import tf_keras

from detect.errors import ConfigError
from detect.modeling.interface import Architecture, Detector, Maps, Network, Part

layers = tf_keras.layers
KERNELS = (layers.Conv2D, layers.Conv2DTranspose, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Dense)
WIDTH = 78
HEAD = ("part", "from", "size", "depth", "boxes", "MACs", "params")


def macs(model: Network) -> dict[str, int]:
    """Multiply-accumulates of one image by layer name: those of convolutions and dense layers; other layers have 0.

    The model's input has a fixed size. A layer that is called several times counts each time. Raises ConfigError for a
    layer with a kernel whose cost is not known here, so that no cost is left out silently.
    """
    counts = {layer.name: 0 for layer in model.layers}
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            counts[node.layer.name] += _macs(node)
    return counts


def _macs(node: Any) -> int:
    """Multiply-accumulates of one call of a layer."""
    layer = node.layer
    if isinstance(layer, layers.SeparableConv2D):
        return _cells(node.output_shapes) * (
            math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        )
    if isinstance(layer, layers.DepthwiseConv2D):
        return _cells(node.output_shapes) * math.prod(layer.depthwise_kernel.shape)
    if isinstance(layer, layers.Conv2DTranspose):
        return _cells(node.input_shapes) * math.prod(layer.kernel.shape)
    if isinstance(layer, layers.Conv2D | layers.Dense):
        return _cells(node.output_shapes) * math.prod(layer.kernel.shape)
    kernels = [v.name for v in layer.weights if len(v.shape) > 1]
    if kernels and not isinstance(layer, layers.PReLU):
        raise ConfigError(
            f"the cost of the layer {layer.name} ({type(layer).__name__}) is not known: it has {', '.join(kernels)}; "
            f"legal layers with a kernel are {', '.join(kind.__name__ for kind in KERNELS)}"
        )
    return 0


def _cells(shape: tuple[int, ...]) -> int:
    """The number of positions where the kernel is applied: the product of the shape without batch and channels."""
    return math.prod(shape[1:-1])


def parameters(model: Network) -> dict[str, int]:
    """The number of values in the variables by layer name, with batch norm's statistics."""
    return {layer.name: layer.count_params() for layer in model.layers}


def total_macs(architecture: Architecture, training: bool = False) -> int:
    """Multiply-accumulates of one image in all parts, forward only. training: count the runs of a part in training."""
    counts = macs(architecture.model)
    return sum(part.runs(training) * _sum(counts, part.layers) for part in architecture.parts())


def table(architecture: Detector) -> list[str]:
    """The parts and their sum as lines of at most 78 columns."""
    counts, numbers = macs(architecture.model), parameters(architecture.model)
    parts = architecture.parts()
    rows: list[tuple[str, ...]] = [HEAD]
    for i, part in enumerate(parts):
        rows.append(
            (
                _short(part.name, [p.name for p in parts[:i]]),
                part.source + (f", {part.times} times" if part.times > 1 else ""),
                "x".join(map(str, part.shape[:-1])),
                str(part.shape[-1]) if part.shape else "",
                "" if part.anchors is None else str(part.anchors),
                count(part.times * _sum(counts, part.layers)),
                count(_sum(numbers, part.layers)),
            )
        )
    whole = (count(total_macs(architecture)), count(sum(numbers.values())))
    rows.append(("total", "", "", "", str(len(architecture.anchors)), *whole))
    return _aligned(rows)


def pyramid(
    model: Network,
    maps: Maps,
    end_points: Iterable[str],
    backbone_layers: set[str],
    per_cell: Sequence[int],
    sources: dict[str, str],
) -> list[Part]:
    """The parts of a one-stage detector: its maps, largest first, each with the layers that no earlier part needs.

    end_points: names of the maps that are end points of the backbone. per_cell: anchors of a cell of each map.
    sources: the source of each map, of `backbone` and of `predictors`.
    If several maps share layers of the backbone, the first part has these layers. The last part has the predictors.
    """
    needed = {name: _layers(tf_keras.Model(model.input, tensor)) for name, tensor in maps.items()}
    common = frozenset[str]().union(*needed.values()) & backbone_layers
    direct = [name for name in needed if name in end_points]
    made = sorted(needed.keys() - set(direct), key=lambda name: len(needed[name]))
    own: dict[str, frozenset[str]] = {}
    taken = frozenset[str]()
    for name in [*direct, "backbone", *made]:
        own[name] = needed.get(name, common) - taken
        taken |= own[name]
    parts = [Part("backbone", sources["backbone"], own["backbone"], ())] if own["backbone"] else []
    for (name, tensor), anchors in zip(maps.items(), per_cell, strict=True):
        parts.append(Part(name, sources[name], own[name], tuple(tensor.shape[1:]), anchors))
    return [*parts, Part("predictors", sources["predictors"], _layers(model) - taken, ())]


def _layers(model: Network) -> frozenset[str]:
    return frozenset(layer.name for layer in model.layers)


def count(number: int) -> str:
    """Three digits and a unit: 948M, 1.24G, 512."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * 0.9995:
            value = number / size
            return f"{value:.{max(0, 2 - int(math.log10(value * 1.0005)))}f}{unit}"
    return str(number)


def _sum(counts: dict[str, int], names: Iterable[str]) -> int:
    return sum(counts[name] for name in names)


def _short(name: str, before: list[str]) -> str:
    """Two dots replace the name of an earlier map at the start of the name of a map that is made from it."""
    base = max((b for b in before if name.startswith(f"{b}_")), key=len, default="")
    return f"..{name[len(base) :]}" if base else name


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """The rows as lines: the first two columns are left-aligned and wrapped if too wide, figures are right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    room = WIDTH - sum(widths[2:]) - 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(room - widths[1], room * 2 // 3))
    widths[1] = min(widths[1], room - widths[0])
    lines = []
    for row in rows:
        left = [textwrap.wrap(text, width) or [""] for text, width in zip(row[:2], widths[:2], strict=True)]
        figures = [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
        for name, source in itertools.zip_longest(*left, fillvalue=""):
            lines.append("  ".join([name.ljust(widths[0]), source.ljust(widths[1]), *figures]).rstrip())
            figures = []
    return lines
