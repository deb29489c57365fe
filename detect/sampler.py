"""Which anchors of an image the loss counts."""

import tensorflow as tf


class HardExampleMiner:
    """Keeps the matched anchors and the hardest negatives of each image (Liu 2016, 2.2; the API's HardExampleMiner).

    candidates: at most so many anchors of highest loss an image are considered.
    nms_iou: candidates that overlap a harder one by more are passed over; None skips that step (and its time).
    negatives_per_positive: negatives kept for each matched anchor.
    min_negatives: negatives kept at least; with 0, as in the zoo, an image without boxes teaches nothing.
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
        wanted = tf.maximum(positives * self.negatives_per_positive, float(self.min_negatives))
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


def _rank(values):
    """The place of each value in its row, highest first: int32 [B, A]."""
    return tf.argsort(tf.argsort(values, axis=1, direction="DESCENDING", stable=True), axis=1, stable=True)
