"""From decoded boxes and scores to detections."""

from typing import Annotated

import tensorflow as tf

from detect.config.legal_values import Share, whole
from detect.modeling.interface import Tensor

MOST = 1 << 16
"""Detections of an image."""
Limit = Annotated[int, whole(1, MOST)]


class NonMaxSuppression:
    """Greedy suppression of each class, then the best of all classes (the API's batch_multiclass_non_max_suppression).
    With `class_agnostic`, all classes are suppressed together, so that one object does not get two classes.

    Boxes are clipped to the frame after the suppression. Those without an area then are dropped, and take no place
    among the `total` best.

    iou: a box whose IoU with a better one (of its class, unless `class_agnostic`) is higher is dropped.
    score: boxes below this score are dropped first.
    per_class, total: the most boxes kept of each class, and in all. `per_class` does not count with `class_agnostic`.
    """

    method = "greedy"

    def __init__(
        self,
        iou: Share = 0.6,
        score: Share = 1e-8,
        per_class: Limit = 100,
        total: Limit = 100,
        class_agnostic: bool = False,
    ):
        self.iou, self.score, self.per_class, self.total = iou, score, per_class, total
        self.class_agnostic = class_agnostic

    def __call__(self, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """boxes: float32 [B, A, 4], or [B, A, C, 4] if each class has its own, in pixels of a frame of `size`;
        scores: float32 [B, A, C], without background.

        Returns {"boxes": float32 [B, total, 4], clipped to the frame; "scores": float32 [B, total], highest first;
        "classes": int32 [B, total] from 1; "count": int32 [B]}; after the first `count`, everything is 0.
        """
        if self.class_agnostic:
            found = suppress_together(boxes, scores, size, self.iou, self.score, total=self.total)
        else:
            limits = {"per_class": self.per_class, "total": self.total}
            found = suppress(boxes, scores, size, self.iou, self.score, **limits)
        boxes, scores, classes, real = found
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
    per_class = min(per_class, boxes.shape[1] or per_class)
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
    real = tf.sequence_mask(kept.valid_detections, most)
    return _within(kept.nmsed_boxes, kept.nmsed_scores, kept.nmsed_classes, real, frame, total, min_size)


def suppress_together(
    boxes: Tensor, scores: Tensor, size: tuple[int, int], iou: float, score: float, *, total: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `suppress`, but a box competes with those of all classes.

    If the classes share a box, its best class alone competes: the others are at the same place, so that this one or
    what suppresses it suppresses them, too.
    """
    if len(boxes.shape) == 4:
        kinds = tf.zeros_like(scores) + tf.range(scores.shape[2], dtype=tf.float32)
        number = tf.shape(scores)[1] * scores.shape[2]
        boxes = tf.reshape(boxes, [-1, number, 4])
        scores, kinds = (tf.reshape(x, [-1, number]) for x in (scores, kinds))
    else:
        kinds, scores = tf.cast(tf.argmax(scores, axis=2), tf.float32), tf.reduce_max(scores, axis=2)
    most = 2 * total  # some of them may lie outside the frame

    def of_image(each: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        picked, count = tf.raw_ops.NonMaxSuppressionV4(
            boxes=each[0],
            scores=each[1],
            max_output_size=most,
            iou_threshold=iou,
            score_threshold=score,
            pad_to_max_output_size=True,
        )
        return *(tf.gather(part, picked) for part in each), tf.range(most) < count

    signature = (tf.float32, tf.float32, tf.float32, tf.bool)
    kept = tf.map_fn(of_image, (boxes, scores, kinds), fn_output_signature=signature)
    boxes, scores, kinds, real = (
        tf.ensure_shape(part, [None, most, *rest]) for part, rest in zip(kept, ([4], [], [], []), strict=True)
    )
    frame = tf.constant([size[0], size[1], size[0], size[1]], tf.float32)
    return _within(boxes, scores, kinds, real, frame, total)


def _within(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    real: Tensor,
    frame: Tensor,
    total: int,
    min_size: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clips boxes [B, N, 4] to the frame, drops those with too short a side, and keeps the first `total`, padded."""
    boxes = tf.clip_by_value(boxes, 0.0, frame)
    sides = tf.reduce_min(boxes[..., 2:] - boxes[..., :2], axis=-1)
    real &= (sides > 0) & (sides >= min_size)
    most = boxes.shape[1]
    keys = tf.where(real, most, 0) - tf.range(most)  # no two are equal: OpenVINO's sort is not stable
    first = tf.argsort(keys, axis=1, direction="DESCENDING")[:, :total]
    boxes, scores, classes, real = (tf.gather(x, first, batch_dims=1) for x in (boxes, scores, classes, real))
    return boxes, scores, classes, real
