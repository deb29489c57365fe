"""Per-anchor losses. A classification loss also says how its logits become scores."""

import tensorflow as tf
from official.vision.losses import focal_loss


class SigmoidClassification:
    """Independent logistic losses over background and classes, summed (the API's weighted_sigmoid)."""

    prior = None

    def __call__(self, logits, classes):
        """logits: float32 [B, A, C + 1], background first; classes: int32 [B, A]. Returns float32 [B, A]."""
        targets = tf.one_hot(classes, logits.shape[-1])
        return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), axis=-1)

    def scores(self, logits):
        """Scores of the C classes, without background: float32 [B, A, C]."""
        return tf.sigmoid(logits)[..., 1:]


class SoftmaxClassification:
    """Softmax cross-entropy over background and classes (Liu 2016, equation 3)."""

    prior = None

    def __call__(self, logits, classes):
        """logits: float32 [B, A, C + 1], background first; classes: int32 [B, A]. Returns float32 [B, A]."""
        return tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)

    def scores(self, logits):
        """Scores of the C classes, without background: float32 [B, A, C]."""
        return tf.nn.softmax(logits)[..., 1:]


class FocalClassification:
    """Sigmoid focal loss over the C classes (Lin 2017); to be used without a sampler.

    alpha: weight of the positives (the background has 1 - alpha). gamma: how much easy anchors are played down.
    prior: probability of an object that the predictor's biases start from.
    """

    def __init__(self, alpha: float = 0.75, gamma: float = 2.0, prior: float = 0.01):
        self.loss = focal_loss.FocalLoss(alpha, gamma, reduction="none")
        self.prior = prior

    def __call__(self, logits, classes):
        """logits: float32 [B, A, C + 1] (the background column is not used); classes: int32 [B, A]. Returns [B, A]."""
        targets = tf.one_hot(classes - 1, logits.shape[-1] - 1)
        return tf.reduce_sum(self.loss(targets, logits[..., 1:]), axis=-1)

    def scores(self, logits):
        """Scores of the C classes: float32 [B, A, C]."""
        return tf.sigmoid(logits)[..., 1:]


class SmoothL1:
    """Smooth L1 over the four code values, summed (Girshick 2015, equation 3). delta: where it turns linear."""

    def __init__(self, delta: float = 1.0):
        self.delta = delta

    def __call__(self, codes, targets):
        """codes, targets: float32 [B, A, 4]. Returns float32 [B, A]."""
        error = tf.abs(codes - targets)
        quadratic = tf.minimum(error, self.delta)
        return tf.reduce_sum(0.5 * quadratic**2 + self.delta * (error - quadratic), axis=-1)
