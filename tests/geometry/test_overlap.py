"""IoU in TensorFlow: by hand, and equal to tf-models-official."""

import numpy as np

from detect.geometry.overlap import overlap


def test_by_hand():
    boxes = np.array([[[0, 0, 10, 10], [0, 10, 10, 20], [30, 30, 30, 30]]], np.float32)
    others = np.array([[[0, 0, 10, 10], [0, 5, 10, 15]], [[30, 30, 30, 30], [-1, -1, -1, -1]]], np.float32)
    np.testing.assert_allclose(overlap(boxes, others), [[[1, 1 / 3], [0, 1 / 3], [0, 0]], [[0, 0]] * 3], atol=1e-6)


def test_equals_tf_models_official_to_the_bit():
    from official.vision.ops import box_ops

    random = np.random.default_rng(0)
    low, others_low = random.uniform(-20, 100, (3, 40, 2)), random.uniform(0, 100, (3, 7, 2))
    boxes = np.concatenate([low, low + random.uniform(21, 90, low.shape)], axis=-1).astype(np.float32)
    others = np.concatenate([others_low, others_low + random.uniform(0, 90, others_low.shape)], -1).astype(np.float32)
    theirs = box_ops.bbox_overlap(boxes, others).numpy()
    np.testing.assert_array_equal(overlap(boxes, others), theirs)
    shared = overlap(boxes[:1], others).numpy()  # the same boxes for all images
    np.testing.assert_array_equal(shared, box_ops.bbox_overlap(np.tile(boxes[:1], (3, 1, 1)), others))
    assert (theirs > 0.3).any()
