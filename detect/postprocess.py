"""From decoded boxes and scores to detections."""

import tensorflow as tf


class NonMaxSuppression:
    """Per-class greedy suppression, then the best of all classes (the API's batch_multiclass_non_max_suppression).

    iou: a box that overlaps a better one of its class by more is dropped.
    score: boxes below this score are dropped first.
    per_class, total: the most boxes kept of a class, and in all.
    """

    def __init__(self, iou: float = 0.6, score: float = 1e-8, per_class: int = 100, total: int = 100):
        self.iou, self.score, self.per_class, self.total = iou, score, per_class, total

    def __call__(self, boxes, scores, size: tuple[int, int]):
        """boxes: float32 [B, A, 4] in pixels of a frame of `size`; scores: float32 [B, A, C], without background.

        Returns {"boxes": float32 [B, total, 4], clipped to the frame; "scores": float32 [B, total], falling;
        "classes": int32 [B, total] from 1; "count": int32 [B]}; beyond count, scores and classes are 0.
        """
        frame = tf.constant([size[0], size[1], size[0], size[1]], tf.float32)
        kept = tf.image.combined_non_max_suppression(
            tf.clip_by_value(boxes, 0.0, frame)[:, :, tf.newaxis],
            scores,
            self.per_class,
            self.total,
            iou_threshold=self.iou,
            score_threshold=self.score,
            clip_boxes=False,
        )
        real = tf.sequence_mask(kept.valid_detections, self.total)
        return {
            "boxes": kept.nmsed_boxes,
            "scores": kept.nmsed_scores,
            "classes": tf.where(real, tf.cast(kept.nmsed_classes, tf.int32) + 1, 0),
            "count": kept.valid_detections,
        }
