"""Anchor boxes of SSD and Faster R-CNN, as numpy constants [ymin, xmin, ymax, xmax] in pixels of the frame."""

import copy
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from detect.config.legal_values import Values, demand, number, whole
from detect.errors import ConfigError
from detect.geometry.anchor_fitting import fit_layout
from detect.geometry.boxes import area

Place = Literal["last", "second"]
Spacing = Literal["even", "exact"]


def grid_anchors(
    sizes: ArrayLike, map_shape: tuple[int, int], stride: Sequence[float], offset: Sequence[float]
) -> np.ndarray:
    """The boxes of every (height, width) in `sizes` [K, 2], centred on every cell of a feature map.

    map_shape, stride, offset: (y, x); `offset` is the first cell's centre. Returns [rows * columns * K, 4], cells in
    row-major order with the K boxes of a cell together: the order of a predictor's reshaped output.
    """
    sizes = np.asarray(sizes, np.float64)
    rows = np.arange(map_shape[0]) * stride[0] + offset[0]
    columns = np.arange(map_shape[1]) * stride[1] + offset[1]
    centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 1, 2)
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=-1)
    return boxes.reshape(-1, 4).astype(np.float32)


def nominal_stride(side: int, cells: int) -> float:
    """The stride of a map of stride 16 with `cells` cells along `side` pixels, a power of two.

    From 96 px on, side / cells is 13.9 to 16 where maps are padded, and up to 26.5 where they are not (Inception v3).
    """
    return float(2.0 ** math.floor(math.log2(side / cells) + 0.25))


def anchor_sizes(scales: ArrayLike, aspect_ratios: ArrayLike, base: float) -> np.ndarray:
    """(height, width) of anchors of area (scale * base)^2 and ratio width / height; [K, 2]."""
    scales, roots = np.asarray(scales, np.float64), np.sqrt(np.asarray(aspect_ratios, np.float64))
    return np.stack([scales / roots, scales * roots], axis=-1) * base


def _positive(given: Any) -> bool:
    """Whether all numbers of nested lists are above 0, and no list is empty."""
    if isinstance(given, Sequence):
        return len(given) > 0 and all(map(_positive, given))
    return bool(given > 0)


class SSDAnchors:
    """Anchors of SSD equal to those of the TF Object Detection API's `ssd_anchor_generator` (REFERENCE: Liu 2016, 2.2).

    min_scale, max_scale: scales of the first and the last map, with even steps between, as fractions of the image's
        shorter side.
    aspect_ratios: width / height of each anchor of a cell, or a list of them for each map. The zoo writes .3333
        for 1/3, so its weights need this value.
    interpolated_scale_ratio: ratio of one more anchor at the geometric mean of this map's scale and the next one's;
        None or 0 leaves it out.
    interpolated: its place in a cell: `last`, or `second`, after the first ratio, as in the API's SSDs of 2017. Heads
        of one order load into a detector of the other, and detect nonsense.
    reduce_lowest: the first map has only (.1, ratio 1), (its scale, 2), (its scale, 1/2).
    lowest_scale: the value .1 in reduce_lowest.
    scales: one scale per map, in place of min_scale and max_scale. One more scale replaces 1 in the last interpolation.
    layout: (scale, ratio) of each anchor, a list for each map, in place of all arguments above.
    """

    def __init__(
        self,
        min_scale: float = 0.2,
        max_scale: float = 0.95,
        aspect_ratios: Sequence[float] | Sequence[Sequence[float]] = (1.0, 2.0, 0.5, 3.0, 0.3333),
        interpolated_scale_ratio: Annotated[float, number(0)] | None = 1.0,
        reduce_lowest: bool = True,
        lowest_scale: float = 0.1,
        scales: Sequence[float] | None = None,
        layout: Sequence[Sequence[tuple[float, float]]] | None = None,
        interpolated: Place = "last",
    ):
        demand("anchors.interpolated", interpolated, Place)
        if scales is None and not 0 < min_scale <= max_scale:
            raise ConfigError(f"anchors: min_scale={min_scale} and max_scale={max_scale} must satisfy 0 < min <= max")
        by_map = len({isinstance(ratios, Sequence) for ratios in aspect_ratios}) == 1
        if not (by_map and _positive(aspect_ratios)):
            raise ConfigError(
                f"anchors.aspect_ratios={list(aspect_ratios)}: give at least one, or a list for each map, all above 0"
            )
        for name, given in (("lowest_scale", lowest_scale), ("scales", scales), ("layout", layout)):
            if given is not None and not _positive(given):
                raise ConfigError(f"anchors.{name}={given}: all numbers must be above 0, and no list may be empty")
        self.min_scale, self.max_scale = min_scale, max_scale
        self.aspect_ratios: list[Any] = list(aspect_ratios)
        self.ratios_by_map = isinstance(self.aspect_ratios[0], Sequence)
        self.interpolated_scale_ratio = interpolated_scale_ratio
        self.reduce_lowest, self.lowest_scale = reduce_lowest, lowest_scale
        self.scales, self.layout, self.interpolated = scales, layout, interpolated

    def specification(self, maps: int) -> list[list[tuple[float, float]]]:
        """(scale, aspect ratio) of each anchor of a cell, for each of the `maps` feature maps."""
        by_map: list[tuple[str, Any, int]] = [("layout", self.layout, 0), ("scales", self.scales, 1)]
        by_map += [("aspect_ratios", self.aspect_ratios, 0)] if self.ratios_by_map else []
        for name, given, more in by_map:
            if given is not None and not maps <= len(given) <= maps + more:
                raise ConfigError(
                    f"anchors.{name}={list(given)} has {len(given)} entries for {maps} maps; "
                    f"legal: {maps}{f' or {maps + more}' if more else ''}"
                )
        if self.layout is not None:
            return [[(scale, ratio) for scale, ratio in anchors] for anchors in self.layout]
        scales = [*(self.scales or np.linspace(self.min_scale, self.max_scale, maps)), 1.0][: maps + 1]
        ratios_of = self.aspect_ratios if self.ratios_by_map else [self.aspect_ratios] * maps
        result = []
        for k, (scale, following, ratios) in enumerate(zip(scales[:-1], scales[1:], ratios_of, strict=True)):
            if k == 0 and self.reduce_lowest:
                result.append([(self.lowest_scale, 1.0), (scale, 2.0), (scale, 0.5)])
                continue
            anchors = [(scale, ratio) for ratio in ratios]
            if self.interpolated_scale_ratio:
                place = len(anchors) if self.interpolated == "last" else 1
                anchors.insert(place, (float(np.sqrt(scale * following)), self.interpolated_scale_ratio))
            result.append(anchors)
        return result

    def in_the_other_order(self) -> "SSDAnchors":
        """The same anchors with the interpolated one in the other place."""
        other = copy.copy(self)
        other.interpolated = "second" if self.interpolated == "last" else "last"
        return other

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

    def fitted(
        self, boxes: np.ndarray, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]
    ) -> "tuple[dict[str, Any], SSDAnchors]":
        """A `layout` that suits boxes [n, 4] in pixels of the frame (`fit_layout`), and the anchors of it."""
        layout = fit_layout(boxes, map_shapes, size)
        return {"layout": [[list(anchor) for anchor in of_map] for of_map in layout]}, SSDAnchors(layout=layout)


class GridAnchors:
    """Anchors of Faster R-CNN's map, equal to those of the TF Object Detection API's `grid_anchor_generator`.

    scales: the square root of an anchor's area is scale * base pixels, for every size of the frame.
    aspect_ratios: width / height. In a cell the scales of the first ratio come first (the API's order).
    base: side in pixels of an anchor of scale 1.
    offset: (y, x) of the first cell's centre in pixels; the API's Faster R-CNN uses 0, not half a stride.
    stride: stride of the map in pixels; None takes `nominal_stride`.
    """

    def __init__(
        self,
        scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        base: Annotated[float, number(0, above=True)] = 256.0,
        offset: Annotated[Sequence[float], Values("y", "x")] = (0.0, 0.0),
        stride: Annotated[float, number(0, above=True)] | None = None,
    ):
        for name, given in (("scales", scales), ("aspect_ratios", aspect_ratios)):
            if not given or min(given) <= 0:
                raise ConfigError(f"anchors.{name}={list(given)}: give at least one, all above 0")
        self.scales, self.aspect_ratios = list(scales), list(aspect_ratios)
        self.base, self.offset, self.stride = base, (float(offset[0]), float(offset[1])), stride

    def per_cell(self, maps: int) -> list[int]:
        """The number of anchors of a cell, for each of `maps` feature maps."""
        return [len(self.scales) * len(self.aspect_ratios)] * maps

    def __call__(self, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]) -> np.ndarray:
        """The anchors of all maps, one after the other: float32 [A, 4] in pixels of a frame of (height, width)."""
        ratios, scales = np.meshgrid(self.aspect_ratios, self.scales, indexing="ij")
        sizes = anchor_sizes(scales.ravel(), ratios.ravel(), self.base)
        boxes = []
        for cells in map_shapes:
            nominal = [nominal_stride(side, count) for side, count in zip(size, cells, strict=True)]
            boxes.append(grid_anchors(sizes, cells, [self.stride] * 2 if self.stride else nominal, self.offset))
        return np.concatenate(boxes)

    def fitted(
        self, boxes: np.ndarray, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]
    ) -> "tuple[dict[str, Any], GridAnchors]":
        """The `base` that puts the middle of the scales on the middle of the sides of boxes [n, 4], and its anchors.

        The middle is the geometric one, of the scales' ends and of the sides' 5% and 95% quantiles.
        """
        ends = np.quantile(np.sqrt(area(boxes)), [0.05, 0.95])
        base = max(round(float(np.sqrt(ends.prod() / (min(self.scales) * max(self.scales)))), 1), 0.1)
        return {"base": base}, GridAnchors(self.scales, self.aspect_ratios, base, self.offset, self.stride)


class MultiscaleAnchors:
    """Anchors of a feature pyramid (Lin 2018), after the TF Object Detection API's `multiscale_anchor_generator`.

    anchor_scale: side of a level's smallest anchor, in strides of the level.
    scales_per_octave: anchors of one shape on a level; their sides form a geometric series below twice the smallest.
    aspect_ratios: width / height. In a cell the scales of the first ratio come first (the API's order).
    min_level: the first map has stride 2 ** min_level.
    spacing: of the cells, if a side of the frame is no multiple of a level's stride. `even` divides the frame evenly,
        as SSDAnchors does; `exact` keeps the stride and puts the first centre at 0, as the API does.
    """

    def __init__(
        self,
        anchor_scale: float = 4.0,
        scales_per_octave: int = 2,
        aspect_ratios: Sequence[float] = (1.0, 2.0, 0.5),
        min_level: Annotated[int, whole(0)] = 3,
        spacing: Spacing = "even",
    ):
        demand("anchors.spacing", spacing, Spacing)
        if anchor_scale <= 0 or scales_per_octave < 1:
            raise ConfigError(f"anchors: {anchor_scale=} and {scales_per_octave=} must be above 0")
        if not aspect_ratios or min(aspect_ratios) <= 0:
            raise ConfigError(f"anchors.aspect_ratios={list(aspect_ratios)}: give at least one, all above 0")
        self.anchor_scale, self.min_level, self.spacing = anchor_scale, min_level, spacing
        self.octave = [2.0 ** (i / scales_per_octave) for i in range(scales_per_octave)]
        self.aspect_ratios = list(aspect_ratios)

    def per_cell(self, maps: int) -> list[int]:
        """The number of anchors of a cell, for each of `maps` feature maps."""
        return [len(self.octave) * len(self.aspect_ratios)] * maps

    def __call__(self, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]) -> np.ndarray:
        """The anchors of all maps, one after the other: float32 [A, 4] in pixels of a frame of (height, width)."""
        first = round(math.log2(max(side / count for side, count in zip(size, map_shapes[0], strict=True))))
        if first != self.min_level:
            raise ConfigError(
                f"anchors.min_level={self.min_level}: the first map has stride {2**first}; legal here is {first}. Else "
                f"anchors have {2 ** (self.min_level - first):g} times their size"
            )
        ratios, scales = np.meshgrid(self.aspect_ratios, self.octave, indexing="ij")
        boxes = []
        for level, (rows, columns) in enumerate(map_shapes, start=self.min_level):
            stride, offset = [size[0] / rows, size[1] / columns], [size[0] / rows / 2, size[1] / columns / 2]
            for side in range(2):
                if self.spacing == "exact" and size[side] % 2**level:
                    stride[side], offset[side] = float(2**level), 0.0
            sizes = anchor_sizes(scales.ravel(), ratios.ravel(), self.anchor_scale * 2**level)
            boxes.append(grid_anchors(sizes, (rows, columns), stride, offset))
        return np.concatenate(boxes)

    def fitted(self, boxes: np.ndarray, map_shapes: Sequence[tuple[int, int]], size: tuple[int, int]) -> None:
        """None: they follow from the strides."""
        return None
