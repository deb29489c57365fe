"""Chooses the anchors or proposals of an image that the loss counts."""

from typing import Annotated

import numpy as np
import tensorflow as tf

from detect.config.legal_values import Count, Share, number, whole


class HardExampleMiner:
    """Keeps the matched anchors and the hardest negatives of each image (Liu 2016, 2.2; the API's HardExampleMiner).

    candidates: the number of anchors of highest loss in an image that are considered at most.
    nms_iou: a candidate whose IoU with a harder one is higher is left out; None skips that step (and its time).
    negatives_per_positive: the negatives kept for each matched anchor; the product with their number is rounded down.
    min_negatives: the least number of negatives kept; with 0, as in the zoo, an image without boxes has no loss.
    """

    def __init__(
        self,
        candidates: Count = 3000,
        nms_iou: Share | None = 0.99,
        negatives_per_positive: Annotated[float, number(0)] = 3.0,
        min_negatives: Annotated[int, whole(0)] = 3,
    ):
        self.candidates, self.nms_iou = candidates, nms_iou
        self.negatives_per_positive, self.min_negatives = negatives_per_positive, min_negatives

    def __call__(self, losses, matched, weights, boxes):
        """losses, matched, weights: float32 [B, A], without gradient; boxes: float32 [B, A, 4], decoded.

        Returns float32 [B, A]: 1 where the anchor counts.
        """
        considered = self._candidates(losses, boxes) & (weights > 0)
        positive = considered & (matched > 0)
        negative = considered & (matched == 0)
        positives = tf.math.count_nonzero(positive, axis=1, keepdims=True, dtype=tf.float32)
        wanted = tf.cast(tf.floor(positives * self.negatives_per_positive), tf.int32)
        wanted = tf.maximum(wanted, self.min_negatives)
        hardest = negative & (_rank(tf.where(negative, losses, -1.0)) < wanted)
        return tf.cast(positive | hardest, tf.float32)

    def _candidates(self, losses, boxes):
        kept = tf.ones_like(losses, tf.bool)
        if self.nms_iou is not None:
            kept = tf.map_fn(lambda image: self._survivors(*image), (losses, boxes), fn_output_signature=tf.bool)
        if losses.shape[1] <= self.candidates:
            return kept
        return kept & (_rank(tf.where(kept, losses, -1.0)) < self.candidates)

    def _survivors(self, losses, boxes):
        """bool [A]: what a suppression of the boxes [A, 4] of an image keeps, but for some that more than `candidates`
        harder ones come before. Only those with a double take part in it, as all others are kept."""
        doubles = _with_double(boxes, self.nms_iou - MARGIN)
        indices = tf.where(doubles)[:, 0]  # in order: of equal losses, the first one wins
        most = min(self.candidates, losses.shape[0])
        kept = tf.image.non_max_suppression(
            tf.gather(boxes, indices), tf.gather(losses, indices), most, iou_threshold=self.nms_iou
        )
        return ~doubles | _flags(tf.gather(indices, kept), doubles)


MARGIN, ROUNDING = 1e-4, 1e-6
"""Of an IoU, and of a coordinate: much more than the rounding of two ways to compute it."""

NEIGHBOURS = 256
"""Boxes that each box is compared with at most. The value changes the time, and not the result."""

MIX = 0.618
"""No simple ratio, so that few cells of a grid of anchors have the same sum."""


def _with_double(boxes, iou: float):
    """bool [A]: True for a box whose IoU with another one may be `iou` or more; it may be True for others, too.

    Two boxes with such an IoU have tops that differ by at most (1 - iou) / iou of the lower height. The same is true of
    their left sides and the smaller width. So in the order of top + MIX * left, each box is compared with those that
    follow it within this distance. A box with more than NEIGHBOURS of them counts, and so do all boxes of its size or
    larger, among which is its double.
    """
    if iou <= 0:
        return tf.ones_like(boxes[:, 0], tf.bool)
    corners, sides = tf.minimum(boxes[:, :2], boxes[:, 2:]), tf.abs(boxes[:, 2:] - boxes[:, :2])
    values, sizes = (side[:, 0] + MIX * side[:, 1] for side in (corners, sides))
    order = tf.argsort(values)
    values, sizes, boxes = (tf.gather(x, order) for x in (values, sizes, boxes))
    reach = values + sizes * ((1 - iou) / iou) + ROUNDING * tf.abs(values)
    following = tf.searchsorted(values, reach, side="right") - tf.range(tf.size(values)) - 1
    pairs = tf.where(tf.range(NEIGHBOURS) < following[:, tf.newaxis])
    first, second = pairs[:, 0], pairs[:, 0] + 1 + pairs[:, 1]
    near = _nearly_overlap(tf.gather(boxes, first), tf.gather(boxes, second), iou)
    large = sizes >= iou * tf.reduce_min(tf.where(following > NEIGHBOURS, sizes, np.inf))
    found = tf.concat([first[near], second[near], tf.where(large)[:, 0]], 0)
    return _flags(tf.gather(order, found), large)


def _nearly_overlap(boxes, others, iou: float):
    """bool [...]: whether the IoU of boxes [..., 4] and [..., 4] is at least `iou`, or both boxes are empty."""
    shared, area, other_area = 1.0, 1.0, 1.0
    for start, end in ((0, 2), (1, 3)):
        low, high = tf.minimum(boxes[..., start], boxes[..., end]), tf.maximum(boxes[..., start], boxes[..., end])
        other_low = tf.minimum(others[..., start], others[..., end])
        other_high = tf.maximum(others[..., start], others[..., end])
        shared *= tf.maximum(tf.minimum(high, other_high) - tf.maximum(low, other_low), 0.0)
        area, other_area = area * (high - low), other_area * (other_high - other_low)
    return shared >= iou * (area + other_area - shared)


class BalancedSampler:
    """Draws `size` examples of an image at random. At most `positive_fraction` of them are positive; the others are
    negative (Faster R-CNN, 3.1.3; the API's BalancedPositiveNegativeSampler).

    tf-models-official's BoxSampler is not used, because its draws are not stateless: a resumed run would differ.
    """

    def __init__(self, size: Annotated[int, whole(1, 100_000)], positive_fraction: Share):
        self.size, self.positive_fraction = size, positive_fraction

    def __call__(self, positive, negative, seed):
        """positive, negative: bool [B, A], the examples that may be drawn; seed: int32 [B], one for each image.

        Returns float32 [B, A]: 1 where the example counts. An image's draw depends only on its own seed.
        """
        keys = tf.map_fn(
            lambda s: tf.random.stateless_uniform(tf.shape(positive)[1:], tf.stack([s, self.size])),
            seed,
            fn_output_signature=tf.float32,
        )
        most = int(self.size * self.positive_fraction)
        drawn = positive & (_rank(tf.where(positive, keys, -1.0)) < most)
        rest = self.size - tf.reduce_sum(tf.cast(drawn, tf.int32), axis=1, keepdims=True)
        drawn |= negative & (_rank(tf.where(negative, keys, -1.0)) < rest)
        return tf.cast(drawn, tf.float32)

    def indices(self, positive, negative, seed):
        """The same draw as int32 [B, size] indices, drawn ones first, and float32 [B, size]: 1 for drawn ones.

        If fewer than `size` can be drawn, other indices pad the row, with 0 in the second result.
        """
        most = tf.minimum(self.size, tf.shape(positive)[1])
        drawn, indices = tf.math.top_k(self(positive, negative, seed), most)
        missing = [[0, 0], [0, self.size - most]]
        return tuple(tf.ensure_shape(tf.pad(part, missing), [None, self.size]) for part in (indices, drawn))


def _flags(indices, like):
    """bool, in the shape of `like` [A]: True at the indices."""
    return tf.scatter_nd(indices[:, tf.newaxis], tf.ones_like(indices, tf.bool), tf.shape(like, indices.dtype))


def _rank(values):
    """The rank of each value of [B, A] in its row, 0 for the highest; of equal values, the first has the lower rank."""
    order = tf.argsort(values, axis=1, direction="DESCENDING", stable=True)
    shape = tf.shape(values)
    rows = tf.range(shape[0])[:, tf.newaxis] * shape[1]
    return tf.reshape(tf.math.invert_permutation(tf.reshape(order + rows, [-1])), shape) - rows
