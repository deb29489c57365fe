"""Anchors fitted to boxes: shapes that one can check by eye, the map that each goes to, and what they cover."""

import warnings

import numpy as np
import pytest

from detect.data.statistics import coverage
from detect.geometry.anchor_fitting import fit_layout
from detect.geometry.anchors import SSDAnchors


def boxes_of(sides, count=50, seed=0, frame=160):
    """`count` boxes of each (height, width), at random places."""
    generator = np.random.default_rng(seed)
    sizes = np.repeat(np.array(sides, np.float64), count, axis=0) * generator.uniform(
        0.97, 1.03, (count * len(sides), 2)
    )
    corner = generator.uniform(0, 1, sizes.shape) * (frame - sizes)
    return np.concatenate([corner, corner + sizes], axis=1)


def test_three_kinds_of_boxes_give_three_anchors_on_the_maps_of_their_size():
    boxes = boxes_of([(12, 12), (40, 80), (100, 50)])
    layout = fit_layout(boxes, [(20, 20), (10, 10), (5, 5)], (160, 160), clusters=3)
    (small,), (wide, tall), (square,) = layout
    assert small == pytest.approx((12 / 160, 1.0), rel=0.05)
    assert wide == pytest.approx((np.sqrt(40 * 80) / 160, 2.0), rel=0.05)  # side 57: 3.5 strides of 16, not 3 of 32
    assert tall == pytest.approx((np.sqrt(100 * 50) / 160, 0.5), rel=0.05)
    assert square == (0.6, 1.0)  # nothing is for this map: one square of 3 strides of 32


def test_a_map_of_stride_8_has_only_small_anchors():
    """On a map of stride 16, an anchor has 3 strides; after one of stride 8, it has 2."""
    boxes = boxes_of([(20, 20), (36, 36), (100, 100)], frame=192)
    after_8 = fit_layout(boxes, [(24, 24), (12, 12), (6, 6)], (192, 192), clusters=3)
    assert [[round(scale * 192, -1) for scale, _ in anchors] for anchors in after_8] == [[20], [40], [100]]
    alone = fit_layout(boxes, [(12, 12), (6, 6)], (192, 192), clusters=3)
    assert [[round(scale * 192, -1) for scale, _ in anchors] for anchors in alone] == [[20, 40], [100]]


def test_boxes_that_stock_anchors_miss_are_covered():
    boxes = boxes_of([(16, 80), (72, 15), (30, 150)], count=100)  # five times as wide, or as tall
    shapes, size, classes = [(20, 20), (10, 10), (5, 5), (3, 3)], (160, 160), np.ones(300, int)
    missed = [
        coverage(boxes, classes, ["cell"], anchors(shapes, size)).unmatched
        for anchors in (SSDAnchors(), SSDAnchors(layout=fit_layout(boxes, shapes, size)))
    ]
    assert missed[0] >= 200 > 30 > missed[1]


@pytest.mark.parametrize(
    "boxes", [[[0, 0, 290, 0.6], [0, 0, 250, 1.2]], [[0, 0, 20, 10], [0, 0, 0.1, 0.1]]], ids=["cracks", "a speck"]
)
def test_thin_and_tiny_boxes_have_anchors_with_an_area(boxes):
    layout = fit_layout(boxes, [(19, 19), (10, 10)], (300, 300))
    assert all(scale > 0 and ratio > 0 for anchors in layout for scale, ratio in anchors)
    ratios = sorted(ratio for anchors in layout for _, ratio in anchors)
    wanted = sorted((x1 - x0) / (y1 - y0) for y0, x0, y1, x1 in boxes)
    assert ratios[: len(wanted)] == pytest.approx(wanted, rel=0.05)
    SSDAnchors(layout=layout)


def test_few_boxes_and_boxes_without_area():
    layout = fit_layout([[0, 0, 20, 10], [5, 5, 5, 9]], [(8, 8)], (64, 64))
    assert layout == [[(0.221, 0.5)]]
    with pytest.raises(ValueError, match="none of the 1 boxes has an area"):
        fit_layout([[5, 5, 5, 9]], [(8, 8)], (64, 64))


def test_a_frame_that_is_not_square_has_anchors_beyond_its_shorter_side():
    """A box of 280 x 800 px in a frame of 300 x 900 px has a side of 473 px, 1.57 times the shorter side."""
    ((anchor,),) = fit_layout([[10, 50, 290, 850]], [(2, 6)], (300, 900))
    assert anchor == (1.57, 2.86)


def test_a_cluster_that_loses_all_of_its_boxes_keeps_its_place():
    """With these boxes of few shapes, k-means empties a cluster on its way."""
    generator = np.random.default_rng(5458)
    shapes = generator.integers(8, 120, (int(generator.integers(15, 25)), 2)) * 2.0
    sides = np.repeat(shapes, generator.integers(1, 6, len(shapes)), axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layout = fit_layout(np.concatenate([np.zeros_like(sides), sides], 1), [(19, 19), (10, 10)], (300, 300))
    assert sum(map(len, layout)) == 14


def test_the_same_boxes_give_the_same_layout():
    boxes = boxes_of([(12, 12), (40, 80)], count=200)
    shapes = [(20, 20), (10, 10)]
    assert fit_layout(boxes, shapes, (160, 160)) == fit_layout(boxes, shapes, (160, 160))
