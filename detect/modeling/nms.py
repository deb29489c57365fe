"""From decoded boxes and scores to detections."""

import tensorflow as tf

from detect.config.legal_values import Share
from detect.modeling.interface import Tensor


class NonMaxSuppression:
    """Greedy suppression of each class, then the best of all classes (the API's batch_multiclass_non_max_suppression).

    Boxes are clipped to the frame after the suppression. Those without an area then are dropped, and take no place
    among the `total` best.

    iou: a box whose IoU with a better one of its class is higher is dropped.
    score: boxes below this score are dropped first.
    per_class, total: the most boxes kept of each class, and in all.
    """

    method = "greedy"

    def __init__(self, iou: Share = 0.6, score: Share = 1e-8, per_class: int = 100, total: int = 100):
        self.iou, self.score, self.per_class, self.total = iou, score, per_class, total

    def __call__(self, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """boxes: float32 [B, A, 4], or [B, A, C, 4] if each class has its own, in pixels of a frame of `size`;
        scores: float32 [B, A, C], without background.

        Returns {"boxes": float32 [B, total, 4], clipped to the frame; "scores": float32 [B, total], highest first;
        "classes": int32 [B, total] from 1; "count": int32 [B]}; after the first `count`, everything is 0.
        """
        frame = tf.constant([size[0], size[1], size[0], size[1]], tf.float32)
        most = max(self.total, self.per_class * scores.shape[-1])  # those of all classes
        kept = tf.image.combined_non_max_suppression(
            boxes if len(boxes.shape) == 4 else boxes[:, :, tf.newaxis],
            scores,
            self.per_class,
            most,
            iou_threshold=self.iou,
            score_threshold=self.score,
            clip_boxes=False,
        )
        # The API's order: suppress each class, clip, drop empty boxes, keep the best of all classes.
        clipped = tf.clip_by_value(kept.nmsed_boxes, 0.0, frame)
        real = tf.sequence_mask(kept.valid_detections, most)
        real &= tf.reduce_all(clipped[..., 2:] > clipped[..., :2], axis=-1)
        first = tf.argsort(tf.cast(real, tf.int32), axis=1, direction="DESCENDING", stable=True)[:, : self.total]
        boxes, scores, classes, real = (
            tf.gather(x, first, batch_dims=1) for x in (clipped, kept.nmsed_scores, kept.nmsed_classes, real)
        )
        return {
            "boxes": tf.where(real[..., tf.newaxis], boxes, 0.0),
            "scores": tf.where(real, scores, 0.0),
            "classes": tf.where(real, tf.cast(classes, tf.int32) + 1, 0),
            "count": tf.reduce_sum(tf.cast(real, tf.int32), axis=1),
        }
