"""The classifier of stage 1: a backbone, global average pooling and a linear layer."""

from collections.abc import Sequence
from typing import Annotated

import tensorflow as tf
import tf_keras

from detect.config.legal_values import Count, Values, number, whole
from detect.modeling import interface
from detect.modeling.interface import Backbone, Losses, Part, Tensor
from detect.modeling.precision import computing_in

layers = tf_keras.layers


class Classifier(interface.Classifier):
    """Backbone and head as one flat model.

    backbone: builds the end points from an image tensor (`detect.modeling.backbones`).
    num_classes: the classes of the data set, with background if it has one.
    size: (height, width) of the network's input frame in pixels.
    hidden: the units of dense ReLU layers between pooling and logits.
    dropout: the share of the pooled features that is dropped in training.
    label_smoothing: the share of a label that is spread over all classes (Szegedy 2016, section 7).

    model: float32 image [B, H, W, 3] in 0..255 -> logits [B, num_classes].
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        size: Annotated[Sequence[Annotated[int, whole(32, 4096)]], Values("height", "width")],
        hidden: Sequence[Count] = (),
        dropout: Annotated[float, number(0, 0.999)] = 0.0,
        label_smoothing: Annotated[float, number(0, 0.999)] = 0.0,
    ):
        self.size = (int(size[0]), int(size[1]))
        self.num_classes, self.label_smoothing = num_classes, label_smoothing
        image = tf_keras.Input((*self.size, 3), name="image")
        end_points = backbone(image)
        features = list(end_points.values())[-1]
        self.backbone_layers = {layer.name for layer in tf_keras.Model(image, features).layers}
        x = layers.GlobalAveragePooling2D(keepdims=True, name="Logits/AvgPool")(features)
        if dropout:
            x = layers.Dropout(dropout, name="Logits/Dropout")(x)
        for i, units in enumerate(hidden, start=1):
            x = layers.Conv2D(units, 1, activation="relu", name=f"Logits/Hidden_{i}")(x)
        with computing_in("float32"):
            x = layers.Flatten(name="logits")(layers.Conv2D(num_classes, 1, name=backbone.logits)(x))
        self.model = tf_keras.Model(image, x, name="classifier")

    def parts(self) -> list[Part]:
        """A single part: the whole network."""
        return [Part("classifier", "all of it", frozenset(layer.name for layer in self.model.layers), ())]

    def losses(self, batch: dict[str, Tensor], training: bool = True) -> Losses:
        """batch: image [B, H, W, 3] in 0..255 and label int32 [B]. Returns the parts of the loss, scalars to log, and
        the number of images."""
        logits = self.model(tf.cast(batch["image"], tf.float32), training=training)
        targets = tf.one_hot(batch["label"], self.num_classes)
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
        right = tf.argmax(logits, axis=1, output_type=tf.int32) == batch["label"]
        scalars = {"top1/batch": tf.reduce_mean(tf.cast(right, tf.float32))}
        return Losses({"classification": loss}, scalars, tf.cast(tf.shape(logits)[0], tf.float32))

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """image: uint8 or float32 [B, H, W, 3] in 0..255. Returns {"probabilities": float32 [B, num_classes]}."""
        return {"probabilities": tf.nn.softmax(self.model(tf.cast(image, tf.float32), training=False))}
