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
        boxes, scores, classes, real = suppress(
            boxes, scores, size, self.iou, self.score, per_class=self.per_class, total=self.total
        )
        return {
            "boxes": tf.where(real[..., tf.newaxis], boxes, 0.0),
            "scores": tf.where(real, scores, 0.0),
            "classes": tf.where(real, tf.cast(classes, tf.int32) + 1, 0),
            "count": tf.reduce_sum(tf.cast(real, tf.int32), axis=1),
        }


def suppress(
    boxes: Tensor,
    scores: Tensor,
    size: tuple[int, int],
    iou: float,
    score: float,
    *,
    per_class: int,
    total: int,
    min_size: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The API's order: suppresses each class, clips to the frame, drops empty boxes, keeps the best of all classes.

    boxes, scores, size, iou, score, per_class, total: as in `NonMaxSuppression`. min_size: pixels; a box with a shorter
    side within the frame is dropped, too.
    Returns boxes float32 [B, total, 4], scores float32 [B, total], classes float32 [B, total] from 0, and bool
    [B, total]: False where there is no box.
    """
    frame = tf.constant([size[0], size[1], size[0], size[1]], tf.float32)
    most = max(total, per_class * scores.shape[-1])  # those of all classes
    kept = tf.image.combined_non_max_suppression(
        boxes if len(boxes.shape) == 4 else boxes[:, :, tf.newaxis],
        scores,
        per_class,
        most,
        iou_threshold=iou,
        score_threshold=score,
        clip_boxes=False,
    )
    clipped = tf.clip_by_value(kept.nmsed_boxes, 0.0, frame)
    sides = tf.reduce_min(clipped[..., 2:] - clipped[..., :2], axis=-1)
    real = tf.sequence_mask(kept.valid_detections, most) & (sides > 0) & (sides >= min_size)
    keys = tf.where(real, most, 0) - tf.range(most)  # no two are equal: OpenVINO's sort is not stable
    first = tf.argsort(keys, axis=1, direction="DESCENDING")[:, :total]
    found = (clipped, kept.nmsed_scores, kept.nmsed_classes, real)
    boxes, scores, classes, real = (tf.gather(x, first, batch_dims=1) for x in found)
    return boxes, scores, classes, real
