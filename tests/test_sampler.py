"""The hard-example miner on one or two rows of anchors."""

import numpy as np

from detect.sampler import HardExampleMiner

APART = np.array([[i * 20, 0, i * 20 + 10, 10] for i in range(6)], np.float32)


def mine(miner, losses, matched, weights=None, boxes=APART):
    losses = np.array([losses], np.float32)
    weights = np.ones_like(losses) if weights is None else np.array([weights], np.float32)
    counted = miner(losses, np.array([matched], np.float32), weights, boxes[np.newaxis])
    return np.flatnonzero(counted.numpy()[0]).tolist()


def test_positives_and_their_hardest_negatives():
    losses, matched = [1, 5, 2, 4, 3, 0.5], [1, 0, 0, 0, 0, 0]
    assert mine(HardExampleMiner(negatives_per_positive=2, min_negatives=0), losses, matched) == [0, 1, 3]
    assert mine(HardExampleMiner(negatives_per_positive=3), losses, matched) == [0, 1, 3, 4]
    assert mine(HardExampleMiner(negatives_per_positive=0, min_negatives=0), losses, matched) == [0]


def test_background_images_need_min_negatives():
    losses, matched = [1, 5, 2, 4, 3, 0.5], [0] * 6
    assert mine(HardExampleMiner(min_negatives=0), losses, matched) == []
    assert mine(HardExampleMiner(min_negatives=3), losses, matched) == [1, 3, 4]
    assert mine(HardExampleMiner(min_negatives=3, nms_iou=None), losses, matched) == [1, 3, 4]


def test_ignored_anchors_never_count():
    losses, matched = [1, 5, 2, 4, 3, 0.5], [0] * 6
    assert mine(HardExampleMiner(), losses, matched, weights=[1, 0, 1, 1, 1, 1]) == [2, 3, 4]


def test_only_the_hardest_are_candidates():
    losses, matched = [1, 5, 2, 4, 3, 0.5], [1, 0, 1, 0, 0, 0]
    for nms_iou in (None, 0.99):
        miner = HardExampleMiner(candidates=4, nms_iou=nms_iou)  # anchors 1, 3, 4, 2: positive 0 is too easy
        assert mine(miner, losses, matched) == [1, 2, 3, 4]


def test_doubles_of_a_harder_candidate_are_passed_over():
    losses, matched = [1, 5, 2, 4, 3, 0.5], [1, 0, 0, 0, 0, 0]
    boxes = APART.copy()
    boxes[3] = boxes[1]  # the same box with a smaller loss
    boxes[4] = boxes[2] + [0, 0, 0.05, 0]  # IoU .995 with anchor 2, and harder
    assert mine(HardExampleMiner(negatives_per_positive=2), losses, matched, boxes=boxes) == [0, 1, 4, 5]
    assert mine(HardExampleMiner(nms_iou=None, negatives_per_positive=2), losses, matched, boxes=boxes) == [0, 1, 3, 4]
    # A loose threshold passes over overlapping boxes, too, and over a positive as the API does.
    boxes[0] = boxes[1] + [2, 0, 2, 0]  # IoU 8/12
    assert mine(HardExampleMiner(nms_iou=0.5, min_negatives=1), losses, matched, boxes=boxes) == [1]


def test_images_of_a_batch_are_independent():
    random = np.random.default_rng(0)
    losses = random.uniform(0, 5, (3, 6)).astype(np.float32)
    matched = np.array([[1, 0, 0, 0, 0, 0], [0] * 6, [1, 1, 1, 1, 1, 1]], np.float32)
    boxes = np.stack([APART] * 3)
    for miner in (HardExampleMiner(), HardExampleMiner(nms_iou=None, negatives_per_positive=1, min_negatives=1)):
        together = miner(losses, matched, np.ones_like(losses), boxes).numpy()
        for i in range(3):
            rows = slice(i, i + 1)
            alone = miner(losses[rows], matched[rows], np.ones_like(losses[rows]), boxes[rows]).numpy()
            np.testing.assert_array_equal(together[rows], alone)
        assert together[2].all()
