"""Suppression of a few hand-placed boxes, and against the Object Detection API."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from detect.modeling.nms import NonMaxSuppression


def run(boxes, scores, size=(100, 200), **settings):
    found = NonMaxSuppression(**settings)(np.array([boxes], np.float32), np.array([scores], np.float32), size)
    return {name: value.numpy()[0] for name, value in found.items()}


BOX, NEAR, FAR = [10, 10, 50, 50], [12, 10, 52, 50], [10, 100, 50, 140]


def test_doubles_of_a_class_are_dropped():
    found = run([BOX, NEAR, FAR], [[0.8], [0.9], [0.7]], total=5)
    assert found["count"] == 2
    np.testing.assert_array_equal(found["boxes"], [NEAR, FAR, [0] * 4, [0] * 4, [0] * 4])
    np.testing.assert_allclose(found["scores"], [0.9, 0.7, 0, 0, 0])
    assert found["classes"].tolist() == [1, 1, 0, 0, 0] and found["classes"].dtype == np.int32


def test_classes_do_not_suppress_each_other():
    found = run([BOX, NEAR], [[0.8, 0.1], [0.2, 0.9]], total=5, score=0.5)
    assert found["classes"].tolist() == [2, 1, 0, 0, 0]
    np.testing.assert_array_equal(found["boxes"][:2], [NEAR, BOX])


def test_the_threshold_is_a_bound_on_overlap():
    overlap = 38 / 42  # of BOX and NEAR
    assert run([BOX, NEAR], [[0.8], [0.9]], iou=overlap + 0.01)["count"] == 2
    assert run([BOX, NEAR], [[0.8], [0.9]], iou=overlap - 0.01)["count"] == 1


def test_a_limit_above_the_number_of_boxes_costs_no_memory(monkeypatch):
    """A user who wants all of them gives a large number."""
    asked, suppress = [], tf.image.combined_non_max_suppression
    monkeypatch.setattr(
        tf.image, "combined_non_max_suppression", lambda *a, **k: asked.append(a[2:4]) or suppress(*a, **k)
    )
    found = run([BOX, NEAR, FAR], [[0.8, 0.1], [0.9, 0.2], [0.7, 0.1]], per_class=65536, total=5, score=0.5)
    assert found["count"] == 2 and asked == [(3, 6)]


def test_low_scores_and_too_many():
    boxes, scores = [BOX, FAR, [60, 10, 90, 40]], [[0.8], [1e-9], [0.5]]
    assert run(boxes, scores)["count"] == 2
    assert run(boxes, scores, total=1)["scores"].tolist() == [np.float32(0.8)]
    assert run(boxes, [[0.8, 0.7]] * 3, per_class=1)["classes"].tolist()[:3] == [1, 2, 0]


def test_boxes_are_clipped_to_the_frame_and_dropped_outside():
    outside = [-50, 10, -10, 50]
    found = run([[-20, -20, 120, 220], outside, [10, 150, 20, 230]], [[0.5], [0.9], [0.7]], total=3)
    assert found["count"] == 2
    np.testing.assert_array_equal(found["boxes"], [[10, 150, 20, 200], [0, 0, 100, 200], [0] * 4])
    assert found["classes"].tolist() == [1, 1, 0]


def test_suppression_comes_before_clipping():
    # Alike within the frame, unlike outside: the API keeps both.
    assert run([[-100, 10, 20, 50], [0, 10, 21, 50]], [[0.9], [0.8]])["count"] == 2


def test_empty_boxes_take_no_place_among_the_best():
    outside, line = [-50, 10, -10, 50], [60, 10, 90, 10]
    boxes = [outside, [120, 10, 150, 50], line, BOX, FAR]
    found = run(boxes, [[0.9], [0.8], [0.7], [0.6], [0.5]], total=2)
    assert found["count"] == 2
    np.testing.assert_array_equal(found["boxes"], [BOX, FAR])
    # Among the best of a class they do: each class is cut before boxes are clipped.
    found = run(boxes, [[0.9, 0.1], [0.8, 0], [0.7, 0], [0.6, 0], [0.5, 0.2]], total=3, per_class=4)
    assert found["count"] == 2 and found["classes"].tolist() == [1, 2, 0]
    np.testing.assert_array_equal(found["boxes"][:2], [BOX, FAR])


def test_batch_and_single_image_agree():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 80, (3, 40, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 60, (3, 40, 2))], axis=-1).astype(np.float32)
    scores = random.uniform(0, 1, (3, 40, 4)).astype(np.float32)
    together = NonMaxSuppression()(boxes, scores, (100, 120))
    for i in range(3):
        alone = run(boxes[i], scores[i], (100, 120))
        for name, value in alone.items():
            np.testing.assert_array_equal(together[name][i], value)


def test_each_class_may_have_boxes_of_its_own():
    boxes = [[BOX, FAR], [NEAR, FAR]]  # of two proposals, for two classes
    found = run(boxes, [[0.8, 0.1], [0.9, 0.7]], total=4)
    assert found["count"] == 2 and found["classes"].tolist() == [1, 2, 0, 0]
    np.testing.assert_array_equal(found["boxes"][:2], [NEAR, FAR])
    same = run([[box] * 2 for box in (BOX, FAR)], [[0.8, 0.1], [0.2, 0.7]], total=4)
    for name, value in run([BOX, FAR], [[0.8, 0.1], [0.2, 0.7]], total=4).items():
        np.testing.assert_array_equal(value, same[name])


def test_detections_equal_the_api_graph():
    with np.load(Path(__file__).parents[1] / "fixtures" / "ssdlite_pedestrian.npz") as kept:
        scores = tf.sigmoid(kept["logits"])[tf.newaxis, :, tf.newaxis]
        found = NonMaxSuppression()(kept["decoded"][np.newaxis] * np.float32(300), scores, (300, 300))
        np.testing.assert_allclose(found["scores"], kept["detection_scores"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(found["boxes"][0] / 300, kept["detection_boxes"], rtol=0, atol=1e-5)


def test_one_object_gets_one_class_if_classes_compete():
    both = [[0.8, 0.1], [0.2, 0.9]]
    found = run([BOX, NEAR], both, total=5, score=0.5, class_agnostic=True)
    assert found["classes"].tolist() == [2, 0, 0, 0, 0] and found["count"] == 1
    np.testing.assert_array_equal(found["boxes"][0], NEAR)
    assert run([BOX, NEAR], both, total=5, score=0.05)["count"] == 2  # each class keeps its best box
    assert run([BOX, NEAR], both, total=5, score=0.05, class_agnostic=True)["count"] == 1


def together(boxes, scores, iou, score, total):
    """Greedy suppression of all pairs of a box [A, C, 4] and a class, one by one, in Python."""
    pairs = sorted(((-s, a, c) for (a, c), s in np.ndenumerate(scores) if s > score))
    kept = []
    for negative, a, c in pairs:
        if all(one_iou(boxes[a, c], boxes[i, k]) <= iou for _, i, k in kept):
            kept.append((-negative, a, c))
    return kept[:total]


def one_iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(sides, 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


@pytest.mark.parametrize("own_boxes", [False, True])
def test_classes_that_compete_equal_a_loop_over_all_pairs(own_boxes):
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 60, (2, 40, 3 if own_boxes else 1, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(15, 40, corners.shape)], axis=-1).astype(np.float32)
    scores = rng.uniform(0, 1, (2, 40, 3)).astype(np.float32)
    suppress = NonMaxSuppression(0.4, 0.2, 100, 25, class_agnostic=True)
    found = suppress(boxes if own_boxes else boxes[:, :, 0], scores, (100, 100))
    for i in range(2):
        wanted = together(np.broadcast_to(boxes[i], (40, 3, 4)), scores[i], 0.4, 0.2, 25)
        count = int(found["count"][i])
        assert count == len(wanted) > 5
        assert found["classes"].numpy()[i, :count].tolist() == [c + 1 for _, _, c in wanted]
        np.testing.assert_allclose(found["scores"].numpy()[i, :count], [s for s, _, _ in wanted], rtol=1e-6)
        wanted_boxes = [np.clip(np.broadcast_to(boxes[i], (40, 3, 4))[a, c], 0, 100) for _, a, c in wanted]
        np.testing.assert_allclose(found["boxes"].numpy()[i, :count], wanted_boxes)
