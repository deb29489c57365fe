"""The hard-example miner and the balanced sampler on a few rows of anchors."""

import resource
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

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


def mined_among_all(miner, losses, matched, weights, boxes):
    """The result for one image, with the suppression among all anchors and the ranks by numpy."""
    kept = tf.image.non_max_suppression(boxes, losses, min(miner.candidates, len(losses)), miner.nms_iou).numpy()
    considered = np.isin(np.arange(len(losses)), kept) & (weights > 0)
    positive, negative = considered & (matched > 0), considered & (matched == 0)
    wanted = max(int(np.float32(positive.sum()) * np.float32(miner.negatives_per_positive)), miner.min_negatives)
    order = np.argsort(-losses, kind="stable")
    hardest = [i for i in order if negative[i]][:wanted]
    return np.flatnonzero(positive).tolist(), sorted(hardest)


@st.composite
def images(draw):
    """Anchors in clusters of equal, nearly equal and empty boxes, with few different losses."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    anchors = draw(st.sampled_from([5, 60, 300]))
    centres = random.uniform(0, 300, (anchors, 2)).round(draw(st.sampled_from([-2, -1, 4])))
    sides = random.choice([10.0, 11.0, 100.0, 1e-12, 0.0, -20.0], (anchors, 2), p=[0.5, 0.1, 0.3, 0.04, 0.04, 0.02])
    moved = random.choice([0.0, 0.02, 0.05, 0.5], (anchors, 4), p=[0.7, 0.1, 0.1, 0.1])
    boxes = (np.concatenate([centres, centres + sides], axis=1) + moved).astype(np.float32)
    losses = random.uniform(0, 5, anchors).round(draw(st.sampled_from([0, 1, 5]))).astype(np.float32)
    matched = (random.uniform(size=anchors) < draw(st.sampled_from([0.0, 0.01, 0.05, 0.5]))).astype(np.float32)
    losses = np.where(matched > 0, losses * draw(st.sampled_from([0.0, 0.5, 1.0])), losses).astype(np.float32)
    weights = (random.uniform(size=anchors) > draw(st.sampled_from([0.0, 0.3, 1.0]))).astype(np.float32)
    return losses, matched, weights, boxes


@settings(max_examples=150)
@given(
    image=images(),
    candidates=st.sampled_from([3, 50, 100, 3000]),
    nms_iou=st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]),
    negatives=st.sampled_from([0.0, 0.9, 3.0]),
    least=st.sampled_from([0, 3]),
)
def test_the_result_is_that_of_a_suppression_among_all_anchors(image, candidates, nms_iou, negatives, least):
    losses, matched, weights, boxes = image
    miner = HardExampleMiner(candidates, nms_iou, negatives, least)
    positives, hardest = mined_among_all(miner, losses, matched, weights, boxes)
    assert mine(miner, losses, matched, weights, boxes) == sorted(positives + hardest)


def suppressed_numbers(monkeypatch, losses, matched, boxes):
    """How many boxes each suppression of an image has; the result is that of a suppression among all."""
    seen, suppress = [], tf.image.non_max_suppression

    def watched(boxes, *others, **named):
        seen.append(len(boxes))
        return suppress(boxes, *others, **named)

    with monkeypatch.context() as patch:
        patch.setattr(tf.image, "non_max_suppression", watched)
        found = mine(HardExampleMiner(), losses, matched, boxes=boxes)
    positives, hardest = mined_among_all(HardExampleMiner(), losses, matched, np.ones_like(losses), boxes)
    assert found == sorted(positives + hardest)
    return seen


def test_only_boxes_that_nearly_equal_another_one_are_suppressed(monkeypatch):
    anchors = 600
    boxes = np.array([[i * 20, 0, i * 20 + 10, 10] for i in range(anchors)], np.float32)
    losses = np.linspace(6, 0.1, anchors).astype(np.float32)
    matched = np.zeros(anchors, np.float32)
    matched[[0, 500]] = 1
    assert suppressed_numbers(monkeypatch, losses, matched, boxes) == [0]
    boxes[400] = boxes[500]  # a harder double of a positive
    assert suppressed_numbers(monkeypatch, losses, matched, boxes) == [2]
    assert 500 not in mine(HardExampleMiner(), losses, matched, boxes=boxes)
    boxes[1:60] = boxes[1]
    boxes[70] = boxes[71] + np.float32([0, 0, 0.05, 0.05])  # an IoU of .9900
    assert suppressed_numbers(monkeypatch, losses, matched, boxes) == [2 + 59 + 2]
    boxes[:, :] = [0, 0, 50, 50]  # so many pairs that all take part
    assert suppressed_numbers(monkeypatch, losses, matched, boxes) == [600]


def test_a_giant_box_takes_no_memory():
    """A detector that has learned nothing may decode boxes of any size. One that reaches over all others is not
    compared with each of them, and nothing has the size of all pairs."""
    random = np.random.default_rng(0)
    low = random.uniform(0, 1e4, (60_000, 2))
    boxes = np.concatenate([low, low + random.uniform(10, 200, (60_000, 2))], axis=1).astype(np.float32)
    boxes[7], boxes[8] = [-1, -1, 1e9, 1e9], [0, 0, np.inf, np.inf]
    losses = np.linspace(6, 0.1, 60_000).astype(np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert mine(HardExampleMiner(), losses, losses * 0, boxes=boxes) == [0, 1, 2]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000 * (1 if sys.platform == "linux" else 1000)  # kilobytes, or bytes on macOS


def test_boxes_that_are_no_numbers_are_left_to_the_check_of_the_loss():
    boxes = np.repeat(APART, 3, axis=0)
    boxes[::2] = np.nan
    assert mine(HardExampleMiner(), [1.0] * 18, [0] * 18, boxes=boxes)


def test_more_anchors_than_candidates(monkeypatch):
    """A positive that is well learned comes after 3000 of 5000 anchors. The number of anchors before it that are kept
    decides whether it counts."""
    random = np.random.default_rng(0)
    low = random.uniform(0, 1e6, (5000, 2))
    boxes = np.concatenate([low, low + random.uniform(10, 200, (5000, 2))], axis=1).astype(np.float32)
    losses = np.linspace(6, 0.1, 5000).astype(np.float32)
    matched = np.zeros(5000, np.float32)
    matched[[5, 3001]] = 1
    assert suppressed_numbers(monkeypatch, losses, matched, boxes) == [0]  # positive 3001 is the 3002nd
    assert 3001 not in mine(HardExampleMiner(), losses, matched, boxes=boxes)
    boxes[[10, 20]] = boxes[100]
    assert suppressed_numbers(monkeypatch, losses, matched, boxes) == [3]
    assert 3001 in mine(HardExampleMiner(), losses, matched, boxes=boxes)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("nms_iou", [None, 0.9])
def test_a_graph_gives_the_same(nms_iou, compiled):
    random = np.random.default_rng(1)
    losses = random.uniform(0, 5, (4, 200)).round(1).astype(np.float32)
    matched = (random.uniform(size=losses.shape) < [[0.0], [0.02], [0.2], [0.02]]).astype(np.float32)
    low = random.uniform(0, 60, (4, 200, 2)).round()
    boxes = np.concatenate([low, low + 30], axis=-1).astype(np.float32)
    miner = HardExampleMiner(nms_iou=nms_iou)
    graph = tf.function(miner, jit_compile=compiled)(losses, matched, np.ones_like(losses), boxes)
    np.testing.assert_array_equal(graph, miner(losses, matched, np.ones_like(losses), boxes))


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


def test_balanced_indices_of_fewer_candidates_than_the_sample_has_places():
    places, drawn = (t.numpy() for t in BalancedSampler(4, 0.5).indices(flags("x."), flags(".x"), np.array([1])))
    assert places.tolist() == [[0, 1, 0, 0]] and drawn.tolist() == [[1, 1, 0, 0]]
