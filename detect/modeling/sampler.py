"""Chooses the anchors or proposals of an image that the loss counts."""

from typing import Annotated

import tensorflow as tf

from detect.config.legal_values import Share, whole


class HardExampleMiner:
    """Keeps the matched anchors and the hardest negatives of each image (Liu 2016, 2.2; the API's HardExampleMiner).

    candidates: the number of anchors of highest loss in an image that are considered at most.
    nms_iou: a candidate whose IoU with a harder one is higher is left out; None skips that step (and its time).
    negatives_per_positive: the negatives kept for each matched anchor; the product with their number is rounded down.
    min_negatives: the least number of negatives kept; with 0, as in the zoo, an image without boxes has no loss.
    """

    def __init__(
        self,
        candidates: int = 3000,
        nms_iou: float | None = 0.99,
        negatives_per_positive: float = 3.0,
        min_negatives: int = 3,
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
        positives = tf.reduce_sum(tf.cast(positive, tf.float32), axis=1, keepdims=True)
        wanted = tf.maximum(tf.floor(positives * self.negatives_per_positive), float(self.min_negatives))
        rank = _rank(tf.where(negative, losses, -1.0))
        hardest = negative & (tf.cast(rank, tf.float32) < wanted)
        return tf.cast(positive | hardest, tf.float32)

    def _candidates(self, losses, boxes):
        anchors = losses.shape[1]
        if self.nms_iou is None:
            return _rank(losses) < self.candidates

        def suppress(image):
            image_losses, image_boxes = image
            kept = tf.image.non_max_suppression(
                image_boxes, image_losses, min(self.candidates, anchors), iou_threshold=self.nms_iou
            )
            return tf.scatter_nd(kept[:, tf.newaxis], tf.ones_like(kept), [anchors]) > 0

        return tf.map_fn(suppress, (losses, boxes), fn_output_signature=tf.bool, parallel_iterations=8)


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

        If fewer than `size` can be drawn, other indices pad the row, with 0 in the second result. A is at least `size`.
        """
        return tf.math.top_k(self(positive, negative, seed), self.size)[::-1]


def _rank(values):
    """The rank of each value in its row, 0 for the highest: int32 [B, A]."""
    return tf.argsort(tf.argsort(values, axis=1, direction="DESCENDING", stable=True), axis=1, stable=True)
