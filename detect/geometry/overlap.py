"""Box arithmetic in TensorFlow: float32 [ymin, xmin, ymax, xmax], pixels."""

import tensorflow as tf

EPSILON = 1e-8  # square pixels, added to the union, so that two empty boxes have an IoU of 0


def overlap(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """The IoU of every pair: boxes [B, N, 4], or [1, N, 4] for all images, and others [B, M, 4] give [B, N, M].

    It equals official.vision.ops.box_ops.bbox_overlap except for padding, which the caller masks. That module is not
    imported, because its package imports data sets and plots: 1.8 seconds of CPU time, and 70 MB.
    """
    ymin, xmin, ymax, xmax = (boxes[..., i : i + 1] for i in range(4))  # [B, N, 1]
    other_ymin, other_xmin, other_ymax, other_xmax = (others[:, tf.newaxis, :, i] for i in range(4))  # [B, 1, M]
    height = tf.maximum(tf.minimum(ymax, other_ymax) - tf.maximum(ymin, other_ymin), 0.0)
    width = tf.maximum(tf.minimum(xmax, other_xmax) - tf.maximum(xmin, other_xmin), 0.0)
    areas, other_areas = (ymax - ymin) * (xmax - xmin), (other_ymax - other_ymin) * (other_xmax - other_xmin)
    shared = height * width
    return shared / (areas + other_areas - shared + EPSILON)
