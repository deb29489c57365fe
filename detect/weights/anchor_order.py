"""The anchors that the heads of a detector in a file were trained for, as far as the file tells them.

Weights do not tell them: heads load by name and shape in any order of a cell's anchors, and then detect nonsense.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework.graph_pb2 import GraphDef

from detect.geometry.anchors import SSDAnchors
from detect.weights.wire import Walk

STORED = (
    "anchors"  # a constant in the API's graphs for TFLite: [A, 4], centre y, x, height, width, in shares of the frame
)
MOST = 1 << 22  # numbers of a constant that is read
MOST_BYTES = 4 << 20  # of all nodes that are parsed
META_GRAPH, NODE, NAME = 2, 1, 1  # fields of MetaGraphDef, GraphDef, NodeDef

Generator = Callable[[Sequence[tuple[int, int]], tuple[int, int]], np.ndarray]
Told = list[list[tuple[float, float]]] | np.ndarray
"""(scale, ratio) of each anchor of a cell, for each map; or all anchors, as STORED."""


def told_by_graph(graph: GraphDef) -> Told | None:
    """The anchors that a GraphDef of the Object Detection API computes or stores; None if it tells none.

    Its MultipleGridAnchorGenerator divides the scales of a map's anchors by the square roots of their ratios: both are
    constants, and give a layout. A graph for TFLite has all anchors as one array (STORED).
    """
    nodes = {node.name: node for node in graph.node}
    layout = []
    for node in graph.node:
        if node.op in ("RealDiv", "Div") and "AnchorGenerator" in node.name and len(node.input) == 2:
            root = nodes.get(node.input[1])
            if root is not None and root.op == "Sqrt" and len(root.input) == 1:
                scales, ratios = (_constant(nodes, name) for name in (node.input[0], root.input[0]))
                if scales is not None and ratios is not None and scales.shape == ratios.shape == (scales.size or 1,):
                    layout.append(list(zip(scales.tolist(), ratios.tolist(), strict=True)))
    if layout:
        return layout
    stored = _constant(nodes, STORED)
    return stored if stored is not None and stored.ndim == 2 and stored.shape[1] == 4 else None


def told_by_file(file: Path) -> Told | None:
    """The same of a frozen graph. Only the nodes about anchors are parsed, and at most MOST_BYTES of them."""
    try:
        return _told(file, ())
    except (OSError, ValueError, DecodeError):
        return None


def told_by_checkpoint(prefix: Path) -> Told | None:
    """The same of a checkpoint, from the graph in PREFIX.meta; None if there is no such file, or if it is damaged."""
    try:
        return _told(prefix.parent / f"{prefix.name}.meta", (META_GRAPH,))
    except (OSError, ValueError, DecodeError):
        return None


def _told(file: Path, path: Sequence[int]) -> Told | None:
    """path: the fields that lead to the GraphDef in the file."""
    graph, walk, size = GraphDef(), Walk(), 0
    with file.open("rb") as stream:
        content = memoryview(stream.read())
    for field in path:
        content = walk.last(content, field)
    for field, node in walk.fields(content):
        if field == NODE and isinstance(node, memoryview):
            name = bytes(walk.last(node, NAME)[:200])
            if b"AnchorGenerator" in name or name == STORED.encode():
                size += len(node)
                if size > MOST_BYTES:
                    raise ValueError("more than a generator of anchors has")
                graph.node.add().MergeFromString(bytes(node))
    return told_by_graph(graph)


def complaint(
    generator: Generator, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int], told: Told | None, source: str
) -> str | None:
    """A warning if a detector has other anchors than its heads in the file; None if they agree, or if none are told.

    generator, map_shapes, size: the detector's generator of anchors, (rows, columns) of its maps, and (height, width)
    of its frame. A layout tells the anchors of SSDAnchors alone. source: of the weights, for the message.
    """
    if told is None or not (isinstance(generator, SSDAnchors) or isinstance(told, np.ndarray)):
        return None
    theirs = _boxes(told, map_shapes, size)
    if _same(generator(map_shapes, size), theirs):
        return None
    start = f"{source}: its heads were trained for other anchors than detector.anchors: they load, but detect nonsense"
    if not isinstance(generator, SSDAnchors):
        return start
    other = generator.in_the_other_order()
    if _same(other(map_shapes, size), theirs):
        return f"{start}. Set detector.anchors.interpolated={other.interpolated}"
    if isinstance(told, np.ndarray):
        return start
    layout = [[[round(value, 4) for value in anchor] for anchor in of_map] for of_map in told]
    return f"{start}. Set 'detector.anchors.layout={str(layout).replace(' ', '')}'"


def _boxes(told: Told, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]) -> np.ndarray | None:
    """The anchors [A, 4] in pixels of the frame; None if they are of another number of maps."""
    if isinstance(told, np.ndarray):
        centres, sides = np.split(told * np.array(size * 2, np.float32), 2, axis=1)
        return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    return SSDAnchors(layout=told)(map_shapes, size) if len(told) == len(map_shapes) else None


def _same(ours: np.ndarray, theirs: np.ndarray | None) -> bool:
    """Whether anchors are equal to a thousandth of their sides, as .3333 and 1/3 are."""
    if theirs is None or ours.shape != theirs.shape:
        return False
    sides = np.concatenate([ours[:, 2:] - ours[:, :2]] * 2, axis=1)
    return bool((np.abs(ours - theirs) <= 1e-3 * sides).all())


def _constant(nodes: dict[str, Any], name: str) -> np.ndarray | None:
    """The value of a constant, also behind an Identity; None if there is none, or if it is too large."""
    node = nodes.get(name)
    if node is not None and node.op == "Identity" and node.input:
        node = nodes.get(node.input[0])
    if node is None or node.op != "Const":
        return None
    tensor = node.attr["value"].tensor
    if math.prod(dimension.size for dimension in tensor.tensor_shape.dim) > MOST:
        return None
    try:
        value = tf.make_ndarray(tensor)
    except (ValueError, TypeError):
        return None
    return value if value.dtype.kind == "f" else None
