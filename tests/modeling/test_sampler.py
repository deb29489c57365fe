"""The hard-example miner and the balanced sampler on a few rows of anchors."""

import numpy as np

from detect.modeling.sampler import BalancedSampler, HardExampleMiner

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


def test_the_number_of_negatives_is_rounded_down():
    losses, matched = [1, 5, 2, 4, 3, 0.5], [1, 0, 0, 0, 0, 0]
    miner = HardExampleMiner(negatives_per_positive=2.5, min_negatives=0)
    assert mine(miner, losses, matched) == [0, 1, 3]  # 2.5 is 2
    assert mine(miner, losses, [1, 0, 0, 0, 0, 1]) == [0, 1, 2, 3, 4, 5]  # 5 is more than there are
    assert mine(HardExampleMiner(negatives_per_positive=0.9, min_negatives=0), losses, matched) == [0]
    assert mine(HardExampleMiner(negatives_per_positive=0.9, min_negatives=1), losses, matched) == [0, 1]


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


def flags(*rows):
    return np.array([[c == "x" for c in row] for row in rows])


def test_balanced_at_most_a_share_positive_and_filled_with_negatives():
    positive, negative = flags("xxxx......"), flags("....xxxxx.")
    drawn = BalancedSampler(4, 0.5)(positive, negative, np.array([3])).numpy()[0]
    assert drawn[:4].sum() == 2 and drawn[4:9].sum() == 2 and drawn[9] == 0
    drawn = BalancedSampler(8, 0.25)(positive, negative, np.array([3])).numpy()[0]
    assert drawn[:4].sum() == 2 and drawn[4:9].sum() == 5  # one short: only five negatives are there
    drawn = BalancedSampler(4, 0.5)(flags("x........."), negative, np.array([3])).numpy()[0]
    assert drawn.sum() == 4 and drawn[0] == 1
    assert not BalancedSampler(4, 0.5)(flags("...."), flags("...."), np.array([3])).numpy().any()


def test_balanced_draws_depend_on_an_images_seed_alone():
    positive, negative = np.ones((3, 500), bool), np.zeros((3, 500), bool)
    sampler = BalancedSampler(100, 0.5)
    together = sampler(positive, negative, np.array([7, 8, 7])).numpy()
    np.testing.assert_array_equal(together[0], together[2])
    assert (together[0] != together[1]).any()
    np.testing.assert_array_equal(sampler(positive[:1], negative[:1], np.array([8])).numpy()[0], together[1])
    np.testing.assert_array_equal(sampler(positive, negative, np.array([7, 8, 7])).numpy(), together)


def test_balanced_draws_are_uniform():
    """Of 20 examples, 5 at a time: each is drawn in a quarter of 400 images, to 5 standard deviations."""
    sampler = BalancedSampler(5, 1.0)
    drawn = sampler(np.ones((400, 20), bool), np.zeros((400, 20), bool), np.arange(400, dtype=np.int32)).numpy()
    assert (drawn.sum(axis=1) == 5).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 0.25, atol=5 * np.sqrt(0.25 * 0.75 / 400))


def test_balanced_indices_are_of_what_was_drawn_and_then_padding():
    positive, negative = flags("x.....", "......"), flags("..x..x", "..xxxx")
    places, drawn = (t.numpy() for t in BalancedSampler(4, 0.5).indices(positive, negative, np.array([1, 2])))
    assert places[0, :3].tolist() == [0, 2, 5] and drawn[0].tolist() == [1, 1, 1, 0]
    assert places[1].tolist() == [2, 3, 4, 5] and drawn[1].all()
