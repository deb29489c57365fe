"""Anchor boxes of SSD, as constants in numpy: [ymin, xmin, ymax, xmax] in pixels of the network's input frame."""

from collections.abc import Sequence

import numpy as np

from detect.errors import ConfigError


def grid_anchors(sizes, map_shape, stride, offset) -> np.ndarray:
    """The boxes of every (height, width) in `sizes` [K, 2], centred on every cell of a feature map.

    map_shape, stride, offset: (y, x); `offset` is the first cell's centre. Returns [rows * columns * K, 4], cells in
    row-major order with the K boxes of a cell together: the order of a predictor's output, reshaped.
    """
    sizes = np.asarray(sizes, np.float64)
    rows = np.arange(map_shape[0]) * stride[0] + offset[0]
    columns = np.arange(map_shape[1]) * stride[1] + offset[1]
    centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 1, 2)
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=-1)
    return boxes.reshape(-1, 4).astype(np.float32)


def anchor_sizes(scales, aspect_ratios, base: float) -> np.ndarray:
    """(height, width) of anchors of area (scale * base)^2 and ratio width / height; [K, 2]."""
    scales, roots = np.asarray(scales, np.float64), np.sqrt(np.asarray(aspect_ratios, np.float64))
    return np.stack([scales / roots, scales * roots], axis=-1) * base


class SSDAnchors:
    """Anchors of SSD as the TF Object Detection API's `ssd_anchor_generator` makes them (REFERENCE: Liu 2016, 2.2).

    min_scale, max_scale: of the first and last map, evenly spaced between; a fraction of the shorter image side.
    aspect_ratios: width / height of each anchor of a cell; the zoo writes .3333 for 1/3, so that its weights expect it.
    interpolated_scale_ratio: ratio of one more anchor at the geometric mean of this map's scale and the next one's;
        None or 0 leaves it out.
    reduce_lowest: the first map has only (.1, ratio 1), (its scale, 2), (its scale, 1/2).
    lowest_scale: the .1 above.
    scales: one scale a map, in place of min_scale and max_scale.
    layout: (scale, ratio) of each anchor, a list for each map, in place of all of the above.
    """

    def __init__(
        self,
        min_scale: float = 0.2,
        max_scale: float = 0.95,
        aspect_ratios: Sequence[float] = (1.0, 2.0, 0.5, 3.0, 0.3333),
        interpolated_scale_ratio: float | None = 1.0,
        reduce_lowest: bool = True,
        lowest_scale: float = 0.1,
        scales: Sequence[float] | None = None,
        layout: Sequence[Sequence[tuple[float, float]]] | None = None,
    ):
        if scales is None and not 0 < min_scale <= max_scale:
            raise ConfigError(f"anchors: min_scale={min_scale} and max_scale={max_scale} must satisfy 0 < min <= max")
        if not aspect_ratios or min(aspect_ratios) <= 0:
            raise ConfigError(f"anchors.aspect_ratios={list(aspect_ratios)}: give at least one, all above 0")
        self.min_scale, self.max_scale = min_scale, max_scale
        self.aspect_ratios = list(aspect_ratios)
        self.interpolated_scale_ratio = interpolated_scale_ratio
        self.reduce_lowest, self.lowest_scale = reduce_lowest, lowest_scale
        self.scales, self.layout = scales, layout

    def specification(self, maps: int) -> list[list[tuple[float, float]]]:
        """(scale, aspect ratio) of each anchor of a cell, for each of the `maps` feature maps."""
        for name, given in (("scales", self.scales), ("layout", self.layout)):
            if given is not None and len(given) != maps:
                raise ConfigError(f"anchors.{name}={list(given)} has {len(given)} entries for {maps} maps")
        if self.layout is not None:
            return [[(scale, ratio) for scale, ratio in anchors] for anchors in self.layout]
        scales = list(self.scales or np.linspace(self.min_scale, self.max_scale, maps))
        result = []
        for k, (scale, following) in enumerate(zip(scales, [*scales[1:], 1.0], strict=True)):
            if k == 0 and self.reduce_lowest:
                result.append([(self.lowest_scale, 1.0), (scale, 2.0), (scale, 0.5)])
                continue
            anchors = [(scale, ratio) for ratio in self.aspect_ratios]
            if self.interpolated_scale_ratio:
                anchors.append((float(np.sqrt(scale * following)), self.interpolated_scale_ratio))
            result.append(anchors)
        return result

    def per_cell(self, maps: int) -> list[int]:
        """The number of anchors of a cell, for each map."""
        return [len(anchors) for anchors in self.specification(maps)]

    def __call__(self, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]) -> np.ndarray:
        """The anchors of all maps, one after the other: float32 [A, 4] in pixels of a frame of (height, width)."""
        height, width = size
        boxes = []
        for (rows, columns), anchors in zip(map_shapes, self.specification(len(map_shapes)), strict=True):
            stride = (height / rows, width / columns)
            scales, ratios = zip(*anchors, strict=True)
            sizes = anchor_sizes(scales, ratios, min(height, width))
            boxes.append(grid_anchors(sizes, (rows, columns), stride, (stride[0] / 2, stride[1] / 2)))
        return np.concatenate(boxes)
