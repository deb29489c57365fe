"""Matches each anchor to a ground-truth box."""

import tensorflow as tf

from detect.errors import ConfigError

UNMATCHED = -1
IGNORED = -2


class ArgMaxMatcher:
    """Matches each anchor to its best box if the IoU is high enough; a box may also force a match with its best anchor.

    positive: an anchor is matched at IoU >= positive.
    negative: an anchor is background at IoU < negative, and ignored between the two.
    force_match: the best anchor of every box is matched to it at any IoU. As in the Object Detection API, the first box
        gets an anchor that is the best of two, and of anchors with equal IoU the first is the best; so a box that
        touches no anchor claims anchor 0.

    tf-models-official's BoxMatcher is not used, because its padding columns force a match with anchor 0.
    """

    def __init__(self, positive: float = 0.5, negative: float = 0.5, force_match: bool = True):
        if not 0 <= negative <= positive <= 1:
            raise ConfigError(f"matcher: 0 <= negative={negative} <= positive={positive} <= 1 does not hold")
        self.positive, self.negative, self.force_match = positive, negative, force_match

    def __call__(self, similarity):
        """similarity: float32 [B, A, N], anchors in rows, boxes in columns, -1 in the columns of padding.

        Returns int32 [B, A]: the matched column, UNMATCHED or IGNORED.
        """
        best = tf.reduce_max(similarity, axis=2)
        columns = tf.argmax(similarity, axis=2, output_type=tf.int32)
        matches = tf.where(best >= self.positive, columns, IGNORED)
        matches = tf.where(best < self.negative, UNMATCHED, matches)
        if not self.force_match:
            return matches
        anchors = tf.shape(similarity)[1]
        claimed = tf.argmax(similarity, axis=1, output_type=tf.int32)  # [B, N]
        real = tf.reduce_max(similarity, axis=1) >= 0
        claims = tf.one_hot(tf.where(real, claimed, -1), anchors, axis=1)  # [B, A, N]; one_hot of -1 is all zero
        forced = tf.argmax(claims, axis=2, output_type=tf.int32)
        return tf.where(tf.reduce_max(claims, axis=2) > 0, forced, matches)
