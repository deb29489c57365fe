"""Per-anchor losses. A classification loss also turns its logits into scores."""

from collections.abc import Callable
from typing import Annotated, Literal

import tensorflow as tf

from detect.config.legal_values import Share, demand, number
from detect.errors import ConfigError
from detect.modeling.interface import ClassificationLoss, LocalizationLoss, Tensor

Background = Literal["ignored", "zero", "one"]
Prior = Annotated[float, number(1e-6, 0.999999)]
EPSILON = 1e-7  # square pixels, added to areas (torchvision)
LEAST_WRONG = 1e-7  # of a focal loss with a root


def centred_scores(logits: Tensor) -> Tensor:
    """The geometric mean of the sigmoids of a class and of column 0, the centre-ness (torchvision; Tian 2019, 3.3, has
    the product, which gives the same order)."""
    return tf.sqrt(tf.sigmoid(logits[..., 1:]) * tf.sigmoid(logits[..., :1]))


SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda logits: tf.sigmoid(logits)[..., 1:],
    "softmax": lambda logits: tf.nn.softmax(logits)[..., 1:],
    "centred": centred_scores,
}
"""Functions from logits [B, A, C + 1], whose column 0 belongs to no class, to scores [B, A, C], by name in files."""


def check_scoring(loss: ClassificationLoss) -> str:
    """The name in SCORES of a loss's scores. Raises ConfigError for scores that are not in SCORES."""
    if (scoring := loss.scoring) not in SCORES:
        raise ConfigError(
            f"format=tflite: {type(loss).__name__}.scoring={scoring}: legal are {', '.join(SCORES)}; a file can't hold "
            "another rule for scores"
        )
    return scoring


def check_boxes(loss: LocalizationLoss, given: str) -> None:
    """Raises ConfigError for a loss that takes `boxes` where a detector gives `codes`, and the other way round."""
    if (takes := loss.takes) != given:
        raise ConfigError(
            f"detector.localization_loss: {type(loss).__name__} takes {takes}, and this detector gives {given}; legal "
            f"are losses that take {given}, such as {'SmoothL1' if given == 'codes' else 'GIoU'}"
        )


class _Scored:
    """A classification loss whose scores are one of SCORES."""

    scoring: str

    def scores(self, logits: Tensor) -> Tensor:
        """Scores of the C classes, without background: float32 [B, A, C]."""
        return SCORES[self.scoring](logits)


class SigmoidClassification(_Scored):
    """Independent logistic losses over background and classes, summed (the API's weighted_sigmoid)."""

    prior, scoring, background = None, "sigmoid", "one"

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """logits: float32 [B, A, C + 1], background first; classes: int32 [B, A]. Returns float32 [B, A]."""
        targets = tf.one_hot(classes, logits.shape[-1])
        return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), axis=-1)


class ZeroBackgroundSigmoid(SigmoidClassification):
    """The same with the target 0 in every column for background anchors (the API's encode_background_as_zeros)."""

    background = "zero"

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """logits: float32 [B, A, C + 1], background first; classes: int32 [B, A]. Returns float32 [B, A]."""
        targets = _targets(classes, logits.shape[-1], "zero")
        return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), axis=-1)


class SoftmaxClassification(_Scored):
    """Softmax cross-entropy over background and classes (Liu 2016, equation 3)."""

    prior, scoring, background = None, "softmax", "one"

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """logits: float32 [B, A, C + 1], background first; classes: int32 [B, A]. Returns float32 [B, A]."""
        return tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)


class FocalClassification(_Scored):
    """Sigmoid focal loss over the C classes (Lin 2017); it is used without a sampler.

    alpha: the weight of the positives (the background has 1 - alpha); None weights both by 1.
    gamma: how much easy anchors are down-weighted.
    prior: the initial probability of an object, which sets the predictor's class biases; None: they are 0.
    background: what column 0 learns. `ignored`: nothing. `zero`: that it is 0, as in the API with
        encode_background_as_zeros; `one`: to find the background, as in the API without it.
    """

    scoring = "sigmoid"

    def __init__(
        self,
        alpha: Share | None = 0.75,
        gamma: Annotated[float, number(0)] = 2.0,
        prior: Prior | None = 0.01,
        background: Background = "ignored",
    ):
        demand("classification_loss.background", background, Background)
        self.alpha, self.gamma, self.prior, self.background = alpha, gamma, prior, background

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """logits: float32 [B, A, C + 1] with column 0 for the background; classes: int32 [B, A]. Returns [B, A]."""
        targets = _targets(classes, logits.shape[-1], self.background)
        if self.background == "ignored":
            logits, targets = logits[..., 1:], targets[..., 1:]
        probabilities, positive = tf.sigmoid(logits), targets > 0
        wrong = 1.0 - tf.where(positive, probabilities, 1.0 - probabilities)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
        if 0 < self.gamma < 1:  # the gradient of a root at 0 is not finite
            wrong = tf.maximum(wrong, LEAST_WRONG)
        if self.gamma:  # nor is that of 0**0
            entropy = wrong**self.gamma * entropy
        if self.alpha is not None:
            entropy *= tf.where(positive, self.alpha, 1.0 - self.alpha)
        return tf.reduce_sum(entropy, axis=-1)


def _targets(classes: Tensor, columns: int, background: Background) -> Tensor:
    """One-hot targets float32 [B, A, columns] of classes int32 [B, A]; column 0 has a 1 only with `one`."""
    return tf.one_hot(classes if background == "one" else tf.where(classes > 0, classes, -1), columns)


class SmoothL1:
    """Smooth L1, summed over the four code values (Girshick 2015, equation 3). delta: error where it turns linear."""

    takes = "codes"

    def __init__(self, delta: Annotated[float, number(0, above=True)] = 1.0):
        self.delta = delta

    def __call__(self, codes: Tensor, targets: Tensor) -> Tensor:
        """codes, targets: float32 [B, A, 4]. Returns float32 [B, A]."""
        error = tf.abs(codes - targets)
        quadratic = tf.minimum(error, self.delta)
        return tf.reduce_sum(0.5 * quadratic**2 + self.delta * (error - quadratic), axis=-1)


def generalized_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalized IoU of pairs (Rezatofighi 2019). boxes, others: float32 [..., 4], pixels. Returns [...] in -1..1."""
    low, high = tf.maximum(boxes[..., :2], others[..., :2]), tf.minimum(boxes[..., 2:], others[..., 2:])
    shared = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    areas = [tf.reduce_prod(b[..., 2:] - b[..., :2], axis=-1) for b in (boxes, others)]
    union = areas[0] + areas[1] - shared
    low, high = tf.minimum(boxes[..., :2], others[..., :2]), tf.maximum(boxes[..., 2:], others[..., 2:])
    hull = tf.reduce_prod(high - low, axis=-1)
    return shared / (union + EPSILON) - (hull - union) / (hull + EPSILON)


class GIoU:
    """1 - generalized IoU of decoded boxes (Rezatofighi 2019; equal to torchvision's generalized_box_iou_loss)."""

    takes = "boxes"

    def __call__(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """boxes, targets: float32 [B, A, 4] in pixels, not reversed. Returns float32 [B, A] in 0..2."""
        return 1.0 - generalized_iou(boxes, targets)
