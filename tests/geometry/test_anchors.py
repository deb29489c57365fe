"""Anchors by hand, by property, and against the Object Detection API."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.config.check import CONFIG_DIR
from detect.errors import ConfigError
from detect.geometry.anchors import (
    GridAnchors,
    MultiscaleAnchors,
    SSDAnchors,
    anchor_sizes,
    grid_anchors,
    nominal_stride,
)

MAPS_300 = [(n, n) for n in (19, 10, 5, 3, 2, 1)]


def test_grid_anchor_of_the_api():
    sizes = anchor_sizes([0.5], [0.25], base=256)  # 128 / sqrt(1/4) high, 128 * sqrt(1/4) wide
    assert sizes.tolist() == [[256, 64]]
    assert grid_anchors(sizes, (1, 1), (16, 16), (7, -3)).tolist() == [[-121, -35, 135, 29]]


def test_cells_are_row_major_with_their_boxes_together():
    boxes = grid_anchors([[2, 2], [4, 2]], map_shape=(2, 2), stride=(10, 20), offset=(5, 10))
    assert boxes.tolist() == [
        [4, 9, 6, 11], [3, 9, 7, 11], [4, 29, 6, 31], [3, 29, 7, 31],
        [14, 9, 16, 11], [13, 9, 17, 11], [14, 29, 16, 31], [13, 29, 17, 31],
    ]  # fmt: skip


def test_300_pixels_give_1917_anchors():
    anchors = SSDAnchors()
    assert anchors.per_cell(6) == [3, 6, 6, 6, 6, 6]
    boxes = anchors(MAPS_300, (300, 300))
    assert boxes.shape == (1917, 4) and boxes.dtype == np.float32
    # The first cell of the first map: centre 300 / 19 / 2, sides 30; then scale .2 with ratios 2 and 1/2.
    centre = 300 / 19 / 2
    np.testing.assert_allclose(boxes[0], [centre - 15, centre - 15, centre + 15, centre + 15], atol=1e-4)
    high, wide = 60 / np.sqrt(2), 60 * np.sqrt(2)
    np.testing.assert_allclose(boxes[1, 2:] - boxes[1, :2], [high, wide], atol=1e-4)
    np.testing.assert_allclose(boxes[2, 2:] - boxes[2, :2], [wide, high], atol=1e-4)
    # The last cell: scale .95 of all ratios, and one at sqrt(.95 * 1).
    half = 150 * np.sqrt(0.95)
    np.testing.assert_allclose(boxes[-1], [150 - half, 150 - half, 150 + half, 150 + half], rtol=1e-5)


@pytest.mark.parametrize(("reduced", "count"), [(True, 7308), (False, 11640)])
def test_counts_on_the_maps_of_ssd300(reduced, count):
    maps = [(n, n) for n in (38, 19, 10, 5, 3, 1)]
    assert len(SSDAnchors(reduce_lowest=reduced)(maps, (300, 300))) == count


def test_anchors_of_the_api_graph_are_equal():
    with np.load(Path(__file__).parents[1] / "fixtures" / "ssdlite_pedestrian.npz") as kept:
        np.testing.assert_allclose(SSDAnchors()(MAPS_300, (300, 300)) / 300, kept["anchors"], rtol=0, atol=1e-6)


def test_the_interpolated_anchor_may_stand_second():
    """As in the API's SSDs of 2017: the same anchors, in another order in each cell."""
    last, second = SSDAnchors(), SSDAnchors(interpolated="second")
    between = np.sqrt(0.35 * 0.5)
    expected = [(0.35, 1), (between, 1), (0.35, 2), (0.35, 0.5), (0.35, 3), (0.35, 0.3333)]
    np.testing.assert_allclose(second.specification(6)[1], expected)
    assert second.specification(6)[0] == last.specification(6)[0]  # the reduced map has none
    before, after = (kind(MAPS_300, (300, 300))[19 * 19 * 3 :].reshape(-1, 6, 4) for kind in (last, second))
    np.testing.assert_array_equal(after, before[:, [0, 5, 1, 2, 3, 4]])
    assert second.in_the_other_order().specification(6) == last.specification(6)
    with pytest.raises(ConfigError, match=r"anchors.interpolated=first is not legal: expected one of last, second"):
        SSDAnchors(interpolated="first")


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("padded", [(1, 2)] * 4),  # all networks: a stride of 2 halves a side, rounded up
        ("vgg16 valid", [(2, 2)] * 4),
        ("inception_v3 valid", [(3, 2), (3, 1), (3, 2), (3, 1), (3, 2), (3, 2)]),  # kernels and strides
    ],
)
def test_the_map_of_proposals_has_stride_16_in_every_frame(name, layers):
    """Inception v3 without padding makes 4 cells of 106 px, which are 26.5 px each."""
    for side in range(96, 2049):
        cells = side
        for kernel, stride in layers:
            cells = (cells - kernel) // stride + 1
        assert nominal_stride(side, cells) == 16, side


def test_counts_of_every_reference_size(shared):
    reference = json.loads((shared / "reference" / "ssd_reference_shapes.json").read_text())
    assert len(reference) == 4 * 7
    for name, entry in reference.items():
        size = int(name.split("@")[1])
        anchors = SSDAnchors()
        assert anchors.per_cell(len(entry["maps"])) == entry["anchors_per_loc"]
        assert len(anchors([shape[:2] for shape in entry["maps"]], (size, size))) == entry["anchors"], name


def test_ssd300_of_the_paper_has_8732_anchors():
    """Liu 2016, 2.2 with COCO's scales: 4, 6, 6, 6, 4, 4 boxes of a cell, the last one between .87 and 1.05."""
    with (CONFIG_DIR / "detector" / "anchors" / "ssd300.yaml").open() as file:
        values = yaml.safe_load(file)
    anchors = SSDAnchors(**{key: value for key, value in values.items() if key != "defaults"})
    assert anchors.per_cell(6) == [4, 6, 6, 6, 4, 4]
    assert anchors.specification(6)[0] == [
        (0.07, 1.0),
        (0.07, 2.0),
        (0.07, 0.5),
        (pytest.approx(np.sqrt(0.07 * 0.15)), 1.0),
    ]
    assert anchors.specification(6)[-1][-1] == (pytest.approx(np.sqrt(0.87 * 1.05)), 1.0)
    boxes = anchors([(n, n) for n in (38, 19, 10, 5, 3, 1)], (300, 300))
    assert len(boxes) == 8732
    np.testing.assert_allclose(boxes[0], np.array([-1, -1, 1, 1]) * 10.5 + 300 / 76, atol=1e-4)


def test_grid_anchors_run_over_cells_then_ratios_then_scales():
    anchors = GridAnchors(scales=[0.5, 1.0, 2.0], aspect_ratios=[1.0], base=10, stride=19)
    boxes = anchors([(2, 2)], (32, 32))
    assert anchors.per_cell(1) == [3]
    assert boxes.tolist() == [
        [-2.5, -2.5, 2.5, 2.5], [-5, -5, 5, 5], [-10, -10, 10, 10],
        [-2.5, 16.5, 2.5, 21.5], [-5, 14, 5, 24], [-10, 9, 10, 29],
        [16.5, -2.5, 21.5, 2.5], [14, -5, 24, 5], [9, -10, 29, 10],
        [16.5, 16.5, 21.5, 21.5], [14, 14, 24, 24], [9, 9, 29, 29],
    ]  # fmt: skip
    cell = GridAnchors(scales=[0.5, 1.0, 2.0], aspect_ratios=[0.25, 1.0, 4.0], offset=(7, -3))([(1, 1)], (16, 16))
    assert cell.tolist() == [
        [-121, -35, 135, 29], [-249, -67, 263, 61], [-505, -131, 519, 125],
        [-57, -67, 71, 61], [-121, -131, 135, 125], [-249, -259, 263, 253],
        [-25, -131, 39, 125], [-57, -259, 71, 253], [-121, -515, 135, 509],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "cells"), [((600, 1000), (38, 63)), ((300, 300), (17, 17)), ((97, 641), (7, 41)), ((1024, 96), (64, 6))]
)
def test_the_stride_of_faster_rcnn_is_16_whatever_the_padding(size, cells):
    boxes = GridAnchors()([cells], size)
    assert len(boxes) == 12 * cells[0] * cells[1]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    np.testing.assert_allclose(centres[0], [0, 0], atol=1e-4)
    np.testing.assert_allclose(centres[-1], [16 * (cells[0] - 1), 16 * (cells[1] - 1)], atol=1e-3)


def test_anchors_of_a_pyramid():
    anchors = MultiscaleAnchors()
    assert anchors.per_cell(5) == [6] * 5
    maps = [(n, n) for n in (40, 20, 10, 5, 3)]
    boxes = anchors(maps, (320, 320))
    assert len(boxes) == 6 * (1600 + 400 + 100 + 25 + 9)
    # First cell of stride 8: centre 4; side 32 and 32 * sqrt 2 of ratio 1, then of ratio 2 (twice as wide as high).
    np.testing.assert_allclose(boxes[0], [-12, -12, 20, 20], atol=1e-5)
    np.testing.assert_allclose(boxes[1], 4 + np.sqrt(2) * np.array([-16, -16, 16, 16]), atol=1e-5)
    np.testing.assert_allclose(boxes[3], [-12, -28, 20, 36], atol=1e-5)
    np.testing.assert_allclose(boxes[5], [-28, -12, 36, 20], atol=1e-5)
    # Last map: three cells on 320 px, sides from 4 * 128 on.
    np.testing.assert_allclose(boxes[-54], np.array([-256, -256, 256, 256]) + 320 / 6, atol=1e-4)


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(96, 640), st.integers(96, 640)),
    maps=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=2, max_size=4),
)
def test_any_frame_is_covered_evenly_by_anchors_of_the_asked_area(size, maps):
    anchors = SSDAnchors()
    boxes = anchors(maps, size).astype(np.float64)
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    assert (centres > 0).all() and (centres < size).all()
    first = 0
    for (rows, columns), specification in zip(maps, anchors.specification(len(maps)), strict=True):
        of_map = slice(first, first + rows * columns * len(specification))
        np.testing.assert_allclose(centres[of_map].mean(axis=0), np.array(size) / 2, atol=1e-2)
        scales, ratios = np.tile(np.array(specification), (rows * columns, 1)).T
        np.testing.assert_allclose(np.prod(sides[of_map], axis=1), (scales * min(size)) ** 2, rtol=1e-3)
        np.testing.assert_allclose(sides[of_map][:, 1] / sides[of_map][:, 0], ratios, rtol=1e-3)
        first = of_map.stop
    assert first == len(boxes)


def test_own_scales_layouts_and_no_interpolated_anchor():
    anchors = SSDAnchors(scales=[0.1, 0.3], aspect_ratios=[1.0], interpolated_scale_ratio=None, reduce_lowest=False)
    assert anchors.specification(2) == [[(0.1, 1.0)], [(0.3, 1.0)]]
    between = SSDAnchors(scales=[0.1, 0.4], aspect_ratios=[1.0], reduce_lowest=False).specification(2)
    assert between[0] == [(0.1, 1.0), (pytest.approx(0.2), 1.0)]
    more = SSDAnchors(scales=[0.1, 0.4, 0.9], aspect_ratios=[[1.0], [2.0, 0.5]], reduce_lowest=False).specification(2)
    assert more[1] == [(0.4, 2.0), (0.4, 0.5), (pytest.approx(0.6), 1.0)]
    layout = [[(0.1, 1.0)], [(0.2, 2.0), (0.3, 0.5)]]
    assert SSDAnchors(layout=layout).per_cell(2) == [1, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SSDAnchors(min_scale=0.9, max_scale=0.2), r"min_scale=0.9 and max_scale=0.2 must satisfy 0 < min"),
        (lambda: SSDAnchors(aspect_ratios=[1.0, -2.0]), r"anchors.aspect_ratios=\[1.0, -2.0\]: .* above 0"),
        (lambda: SSDAnchors(aspect_ratios=[]), r"anchors.aspect_ratios=\[\]: give at least one"),
        (lambda: SSDAnchors(scales=[0.1, 0.2]).per_cell(6), r"anchors.scales=.* has 2 entries for 6 maps"),
        (lambda: SSDAnchors(scales=[0.1] * 8).per_cell(6), r"anchors.scales=.* has 8 entries for 6 maps"),
        (lambda: SSDAnchors(aspect_ratios=[[1.0], [2.0]]).per_cell(3), r"aspect_ratios=.* has 2 entries for 3 maps"),
        (lambda: SSDAnchors(aspect_ratios=[[1.0], [2.0, 0]]), r"anchors.aspect_ratios=.* above 0"),
        (lambda: SSDAnchors(aspect_ratios=[[], [1.0]]), r"anchors.aspect_ratios=.* above 0"),
        (lambda: SSDAnchors(aspect_ratios=[1.0, [2.0]]), r"anchors.aspect_ratios=.* a list for each map"),
        (lambda: SSDAnchors(scales=[-0.1, 0.2]), r"anchors.scales=.* above 0"),
        (lambda: SSDAnchors(lowest_scale=0), r"anchors.lowest_scale=0: .* above 0"),
        (lambda: SSDAnchors(layout=[[(0.1, -1.0)]]), r"anchors.layout=.* above 0"),
        (
            lambda: MultiscaleAnchors()([(19, 19), (10, 10)], (300, 300)),
            r"first map has stride 16; legal here is 4",
        ),
        (
            lambda: MultiscaleAnchors()([(80, 48), (40, 24)], (320, 192)),
            r"first map has stride 4; legal here is 2",
        ),
        (lambda: GridAnchors(scales=[]), r"anchors.scales=\[\]: give at least one"),
        (lambda: GridAnchors(aspect_ratios=[0.5, 0.0]), r"anchors.aspect_ratios=\[0.5, 0.0\]: .* above 0"),
        (lambda: MultiscaleAnchors(scales_per_octave=0), r"scales_per_octave=0 must be above 0"),
        (lambda: MultiscaleAnchors(aspect_ratios=[]), r"anchors.aspect_ratios=\[\]: give at least one"),
        (lambda: SSDAnchors(layout=[[(0.1, 1.0)]]).per_cell(6), r"anchors.layout=.* has 1 entries for 6 maps"),
    ],
)
def test_settings_that_make_no_anchors_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_exact_strides_of_a_pyramid_as_in_the_api():
    """320 px at level 7: cells of 128 px from 0. Level 6 divides the frame, so that both forms are equal there."""
    even, exact = (
        MultiscaleAnchors(2.0, 1, (1.0,), 6, spacing)([(5, 5), (3, 3)], (320, 320)) for spacing in ("even", "exact")
    )
    np.testing.assert_array_equal(even[:25], exact[:25])
    centres = (exact[25:, :2] + exact[25:, 2:]) / 2
    np.testing.assert_array_equal(centres, [[128 * row, 128 * column] for row in range(3) for column in range(3)])
