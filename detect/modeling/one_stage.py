"""What one-stage detectors share: backbone, neck and head as one flat model, and its way to detections."""

from abc import abstractmethod

import tensorflow as tf
import tf_keras

from detect.geometry.box_coder import BoxCoder, DistanceCoder
from detect.modeling import cost
from detect.modeling.interface import AnchorGenerator, Backbone, Detector, Head, Neck, Part, Tensor
from detect.modeling.precision import computing_in


class OneStage(Detector):
    """A detector with a code and logits for every anchor. A subclass sets `size`, `resize`, `num_classes`,
    `postprocess` and `box_coder`, calls `_build`, and adds the loss and the rule for scores."""

    box_coder: BoxCoder | DistanceCoder

    def _build(self, backbone: Backbone, neck: Neck, head: Head, anchors: AnchorGenerator, prior: float | None) -> None:
        image = tf_keras.Input((*self.size, 3), name="image")
        end_points = backbone(image)
        self.backbone_layers = {layer.name for layer in tf_keras.Model(image, list(end_points.values())).layers}
        self.maps = neck(end_points, backbone)
        per_cell = anchors.per_cell(len(self.maps))
        with computing_in("float32"):
            codes, logits = head(list(self.maps.values()), per_cell, self.num_classes, prior)
        self.model = tf_keras.Model(image, {"codes": codes, "logits": logits}, name=type(self).__name__.lower())
        self.anchor_generator = anchors
        self.anchors = anchors([tuple(x.shape[1:3]) for x in self.maps.values()], self.size)
        sources = {n: "the backbone" if n in end_points else neck.source(n) for n in self.maps}
        sources |= {"backbone": type(backbone).__name__, "predictors": head.source}
        self._parts = cost.pyramid(self.model, self.maps, end_points, self.backbone_layers, per_cell, sources)

    @abstractmethod
    def scores(self, logits: Tensor) -> Tensor:
        """logits: [B, A, num_classes + 1]. Returns float32 [B, A, num_classes] in 0..1."""

    def parts(self) -> list[Part]:
        """The feature maps, largest first, and the layers that make the predictions (`cost.pyramid`)."""
        return self._parts

    def detect(self, image: Tensor) -> dict[str, Tensor]:
        """image: uint8 or float32 [B, H, W, 3] in 0..255. Returns detections in pixels of the frame (`postprocess`)."""
        outputs = self.model(tf.cast(image, tf.float32), training=False)
        return self.postprocess(self._decode(outputs["codes"]), self.scores(outputs["logits"]), self.size)

    def _decode(self, codes: Tensor) -> Tensor:
        return self.box_coder.decode(codes, tf.constant(self.anchors)[tf.newaxis])
