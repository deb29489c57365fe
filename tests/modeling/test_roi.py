"""ROI align against loops in numpy and the aligner of tf-models-official; what the API's crops have to do with it."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.modeling.layers.roi_aligner import MultilevelROIAligner

from detect.errors import ConfigError
from detect.modeling.roi import RoiCrop

SIZE = (96, 128)
MAP = (6, 8)
FRAME = np.array([*SIZE, *SIZE], np.float32)


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(2, *MAP, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def boxes():
    random = np.random.default_rng(1)
    corners = random.uniform(0, 70, (2, 5, 2))
    inner = np.concatenate([corners, corners + random.uniform(4, 60, (2, 5, 2))], axis=-1)
    whole = np.broadcast_to(FRAME, (2, 1, 4)) * [0, 0, 1, 1]
    return np.concatenate([np.minimum(inner, FRAME), whole], axis=1).astype(np.float32)


def bilinear(cells, y, x):
    """A value between the centres of cells [h, w, C], outer ones repeated; row i has its centre at i."""
    y, x = np.clip(y, 0, cells.shape[0] - 1), np.clip(x, 0, cells.shape[1] - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, cells.shape[0] - 1), min(left + 1, cells.shape[1] - 1)
    above = cells[top, left] * (1 - x + left) + cells[top, right] * (x - left)
    below = cells[bottom, left] * (1 - x + left) + cells[bottom, right] * (x - left)
    return above * (1 - y + top) + below * (y - top)


def roi_align(cells, box, crop, samples, stride):
    """He 2017: the mean of samples x samples points of each bin; pixel p lies at cell p / stride - 1/2."""
    out = np.zeros((crop, crop, cells.shape[-1]))
    height, width = (box[2] - box[0]) / crop, (box[3] - box[1]) / crop
    for row in range(crop):
        for column in range(crop):
            for i in range(samples):
                for j in range(samples):
                    y = box[0] + height * (row + (i + 0.5) / samples)
                    x = box[1] + width * (column + (j + 0.5) / samples)
                    out[row, column] += bilinear(cells, y / stride - 0.5, x / stride - 0.5) / samples**2
    return out


@pytest.mark.parametrize(("crop", "samples"), [(4, 1), (3, 2), (1, 1)])
def test_align_equals_roi_align_in_loops(features, boxes, crop, samples):
    crops = RoiCrop(crop=crop, pool=1, samples=samples)(features, boxes, SIZE).numpy().reshape(2, 6, crop, crop, 3)
    for image in range(2):
        for k in range(6):
            expected = roi_align(features[image], boxes[image, k], crop, samples, 16)
            np.testing.assert_allclose(crops[image, k], expected, atol=1e-4)


def test_align_of_a_frame_that_the_stride_does_not_divide():
    """100 px give 7 cells of stride 16, the last of which lies half beyond the frame."""
    cells = np.random.default_rng(2).normal(size=(1, 7, 7, 2)).astype(np.float32)
    box = np.array([[[3, 10, 100, 90]]], np.float32)
    crop = RoiCrop(crop=5, pool=1, samples=1)(cells, box, (100, 100))
    np.testing.assert_allclose(crop[0], roi_align(cells[0], box[0, 0], 5, 1, 16), atol=1e-4)


def test_align_of_a_map_that_ends_before_the_frame():
    """Inception v3 without padding has 17 x 4 cells of stride 16 in 300 x 106 px: the outer ones go on to its end."""
    cells = np.random.default_rng(2).normal(size=(1, 17, 4, 2)).astype(np.float32)
    boxes = np.array([[[250, 20, 300, 106], [290, 100, 300, 106]]], np.float32)
    crops = RoiCrop(crop=5, pool=1, samples=1)(cells, boxes, (300, 106))
    for crop, box in zip(crops, boxes[0], strict=True):
        np.testing.assert_allclose(crop, roi_align(cells[0], box, 5, 1, 16), atol=1e-4)


def test_align_equals_the_garden_shifted_by_half_a_cell(features):
    """Its aligner has cell 0's centre at pixel 0; away from the border it agrees on boxes moved by 8 pixels."""
    inside = np.array([[[20, 30, 70, 90], [10, 9, 40, 100]]] * 2, np.float32)
    garden = MultilevelROIAligner(crop_size=5)({"4": tf.constant(features)}, tf.constant(inside - 8))
    ours = RoiCrop(crop=5, pool=1, samples=1)(features, inside, SIZE)
    np.testing.assert_allclose(ours, tf.reshape(garden, [-1, 5, 5, 3]), atol=1e-4)


def test_crop_and_resize_runs_from_corner_to_corner_and_is_another_thing(features, boxes):
    crops = RoiCrop("crop_and_resize", crop=3, pool=1, samples=1)(features, boxes, SIZE).numpy()
    whole = crops[5]  # of the first image's whole frame: the points are the outer cells' centres and the middle
    np.testing.assert_allclose(whole[::2, ::2], features[0][[[0], [5]], [0, 7]], atol=1e-5)
    np.testing.assert_allclose(whole[1, 1], bilinear(features[0], 2.5, 3.5), atol=1e-5)
    aligned = RoiCrop(crop=3, pool=1, samples=1)(features, boxes, SIZE).numpy()
    assert (np.abs(aligned - crops).max(axis=(1, 2, 3)) > 0.1).all()


def test_pooling_takes_the_maximum(features, boxes):
    fine = RoiCrop(crop=4, pool=1, samples=1)(features, boxes, SIZE).numpy()
    pooled = RoiCrop(crop=4, pool=2, samples=1)
    assert pooled.side == 2
    expected = fine.reshape(-1, 2, 2, 2, 2, 3).max(axis=(2, 4))
    np.testing.assert_allclose(pooled(features, boxes, SIZE), expected, rtol=1e-6)


def test_gradients_reach_the_map_and_not_the_boxes(features, boxes):
    for method in ("align", "crop_and_resize"):
        maps, regions = tf.Variable(features), tf.Variable(boxes)
        with tf.GradientTape() as tape:
            crops = RoiCrop(method, crop=4, pool=2, samples=1)(maps, regions, SIZE)
            loss = tf.reduce_sum(crops**2)
        to_map, to_boxes = tape.gradient(loss, [maps, regions])
        assert to_boxes is None and np.isfinite(to_map).all() and np.count_nonzero(to_map) > 100


def test_defaults_fill_what_is_none():
    assert RoiCrop().with_defaults(14, 2, 1) == RoiCrop("align", 14, 2, 1)
    assert RoiCrop(crop=7).with_defaults(14, 2, 1) == RoiCrop("align", 7, 2, 1)
    with pytest.raises(ConfigError, match=r"roi.method=pool is not legal: expected one of align, crop_and_resize"):
        RoiCrop("pool")


def test_a_pooling_that_leaves_nothing_of_a_crop_is_refused():
    with pytest.raises(ConfigError, match=r"roi\.crop=1: legal are values from roi\.pool=2"):
        RoiCrop(crop=1).with_defaults(14, 2, 2)
    assert RoiCrop(crop=2).with_defaults(14, 2, 2).side == 1
