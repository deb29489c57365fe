"""Tiles cover a picture, and what is found in them is joined once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect.detector import Detector
from detect.errors import ConfigError
from detect.geometry import tiles


@given(st.integers(1, 900), st.integers(1, 900), st.integers(20, 300))
def test_tiles_cover_every_object_that_is_smaller_than_the_overlap(height, width, side):
    windows = tiles.places(height, width, (side, side))
    rng = np.random.default_rng(height * width + side)
    small = max(1, int(side * tiles.OVERLAP) - 1)
    for _ in range(5):
        top, left = rng.integers(0, max(1, height - small + 1)), rng.integers(0, max(1, width - small + 1))
        bottom, right = min(top + small, height), min(left + small, width)
        assert any(t <= top and x <= left and b >= bottom and r >= right for t, x, b, r in windows)
    assert all(b - t <= side and r - x <= side for t, x, b, r in windows)


def test_places_by_hand():
    assert tiles.places(100, 180, (100, 100)) == [(0, 0, 100, 100), (0, 80, 100, 180)]
    assert tiles.places(50, 50, (100, 100)) == [(0, 0, 50, 50)]


def test_the_size():
    assert tiles.size_of(None, (4000, 3000), (300, 300)) is None
    assert tiles.size_of("auto", (600, 600), (300, 300)) is None
    assert tiles.size_of("auto", (1200, 900), (300, 300)) == (300, 300)
    assert tiles.size_of("auto", (4000, 3000), (300, 300)) == (500, 500)
    assert tiles.size_of(400, (300, 400), (300, 300)) is None
    assert tiles.size_of(400, (300, 401), (300, 300)) == (400, 400)


def test_a_tile_has_the_proportions_of_the_frame():
    """Square ones would be shrunk or stretched."""
    assert tiles.size_of("auto", (2000, 3000), (320, 640)) == (320, 640)
    assert tiles.size_of(1000, (2000, 3000), (640, 320)) == (1000, 500)
    assert tiles.places(320, 1000, (320, 640)) == [(0, 0, 320, 640), (0, 360, 320, 1000)]


def test_large_images_are_read_one_by_one(monkeypatch):
    """Eight photographs at once may need gigabytes, and tiles of each are found by themselves."""
    sizes = []
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    detector = Detector(lambda images: [nothing for _ in images], ["a"], (64, 64), "planted")
    found = detector._found
    monkeypatch.setattr(detector, "_found", lambda images, tile: sizes.append(len(images)) or found(images, tile))
    images = [np.zeros((200, 200, 3), np.uint8)] * 3
    assert len(detector(images, tile="auto")) == len(detector(images)) == 3
    assert sizes == [1, 1, 1, 3]


@pytest.mark.parametrize("tile", ["some", 0, 31, True, 99.5])
def test_what_is_no_tile(tile):
    tiles.check(np.int64(64))  # what arithmetic with shapes gives
    with pytest.raises(ConfigError, match=f"tile={tile}: legal are null, auto, or"):
        tiles.check(tile)


def test_parts_of_an_object_are_joined():
    whole = (np.array([[10, 10, 30, 30]], np.float32), np.array([0.9]), np.array([1]))
    cut = (np.array([[0, 0, 10, 10], [0, 0, 10, 10]], np.float32), np.array([0.8, 0.7]), np.array([1, 2]))
    boxes, scores, classes = tiles.joined([whole, cut], [(0, 0, 50, 50), (20, 20, 50, 50)])
    assert boxes.tolist() == [[10, 10, 30, 30], [20, 20, 30, 30]]  # the second is of another class
    assert (scores.tolist(), classes.tolist()) == ([0.9, 0.7], [1, 2])
    empty = (np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0, np.int32))
    assert len(tiles.joined([empty], [(0, 0, 5, 5)])[1]) == 0


def test_a_part_with_a_better_score_does_not_replace_the_whole():
    """The whole object ends at the edge of the picture, which cuts nothing. A much better part stays."""
    windows = [(0, 0, 50, 50), (0, 0, 30, 30), (20, 20, 50, 50)]
    whole, part = np.array([[10, 10, 50, 50]], np.float32), np.array([[0, 0, 30, 30]], np.float32)
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0, int))
    for score, wanted in ((0.8, whole), (0.3, part + 20)):
        parts = [(whole, np.array([score]), np.array([1])), nothing, (part, np.array([0.85]), np.array([1]))]
        np.testing.assert_array_equal(tiles.joined(parts, windows)[0], wanted)


@given(st.integers(0, 40), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_each_box_is_compared_with_the_better_ones_of_its_class(count, classes, seed):
    rng, windows = np.random.default_rng(seed), tiles.places(60, 90, (50, 50))
    parts = []
    for _ in windows:
        corners = np.sort(rng.uniform(0, 50, (count, 2, 2)).astype(np.float32), axis=1).reshape(count, 4)
        scores = rng.choice([0.1, 0.5, 0.9, rng.random()], count).astype(np.float32)
        parts.append((corners, scores, rng.integers(1, classes + 1, count)))
    boxes, scores, kinds = tiles.joined(parts, windows)
    moved = np.concatenate(
        [p[0] + np.array([t, x, t, x], np.float32) for p, (t, x, *_) in zip(parts, windows, strict=True)]
    )
    every, labels = (np.concatenate([p[i] for p in parts]) for i in (1, 2))
    kept: list[int] = []
    frames = np.repeat(windows, count, axis=0)
    inner_first = (moved[:, :2] <= frames[:, :2] + tiles.EDGE) & (frames[:, :2] > 0)
    inner_last = (moved[:, 2:] >= frames[:, 2:] - tiles.EDGE) & (frames[:, 2:] < [60, 90])
    ranked = every * np.where((inner_first | inner_last).any(axis=1), tiles.CUT, 1)
    for i in np.argsort(-ranked, kind="stable"):
        lowest, highest = np.maximum(moved[i, :2], moved[kept, :2]), np.minimum(moved[i, 2:], moved[kept, 2:])
        inner = np.prod(np.maximum(highest - lowest, 0), axis=1)
        areas = np.prod(moved[:, 2:] - moved[:, :2], axis=1)
        covered = inner >= tiles.COVERED * np.maximum(np.minimum(areas[i], areas[kept]), 1e-9)
        if not (covered & (labels[kept] == labels[i])).any():
            kept.append(int(i))
    kept = [kept[k] for k in np.argsort(-every[kept], kind="stable")]
    np.testing.assert_array_equal(boxes, moved[kept])
    assert scores.tolist() == every[kept].tolist() and kinds.tolist() == labels[kept].tolist()


def test_a_detector_that_shrinks_finds_small_objects_in_tiles():
    """It sees frames of 64 pixels, and only white squares that have at least 4 pixels of a side there."""

    def find(images):
        found = []
        for image in images:
            scale = max(image.shape[:2]) / 64
            ys, xs = np.nonzero(image[..., 0])
            boxes = np.array([[ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]] if len(ys) else [], np.float32)
            boxes = boxes.reshape(-1, 4)
            boxes = boxes[(boxes[:, 2] - boxes[:, 0]) / scale >= 4]
            found.append((boxes, np.full(len(boxes), 0.9, np.float32), np.ones(len(boxes), np.int32)))
        return found

    image = np.zeros((640, 512, 3), np.uint8)
    image[300:310, 400:410] = 255  # 1.6% of the side: 1 pixel of the frame
    detector = Detector(find, ["square"], (64, 64), "planted")
    assert len(detector(image)[0].scores) == 0
    (found,) = detector(image, tile="auto")
    np.testing.assert_array_equal(found.boxes, [[300, 400, 310, 410]])


@pytest.mark.parametrize("together, kinds", [(False, [2, 1]), (True, [2])])
def test_an_object_gets_one_class_if_all_classes_compete(together, kinds):
    """The whole picture gives it class 1, and its first tile class 2."""
    box, nothing = np.array([[0, 0, 10, 10]], np.float32), np.zeros((0, 4), np.float32)
    parts = [(box, np.array([0.5]), np.array([1])), (box, np.array([0.8]), np.array([2]))]
    windows = [(0, 0, 64, 64), *tiles.places(64, 64, (32, 32))]
    parts += [(nothing, np.zeros(0), np.zeros(0, int))] * (len(windows) - 2)
    assert list(tiles.joined(parts, windows, together)[2]) == kinds
    left = iter(parts)
    detector = Detector(lambda images: [next(left) for _ in images], "ab", (32, 32), "x", class_agnostic=together)
    assert list(detector(np.zeros((64, 64, 3), np.uint8), tile=32)[0].classes) == kinds
