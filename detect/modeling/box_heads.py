"""The second stage of Faster R-CNN: from crops of the feature map to classes and box codes."""

import tf_keras

from detect.config.legal_values import Count
from detect.modeling.interface import Backbone, Tensor

layers = tf_keras.layers


class BackboneBoxHead:
    """The backbone's layers after the map of the proposals, then the mean over the crop (as in the API)."""

    def roi_crop(self, backbone: Backbone) -> tuple[int, int, int]:
        """The side of the crops, the max-pooling and the samples of a bin that fit this head."""
        return (*backbone.roi_crop, 1)

    def __call__(self, crops: Tensor, backbone: Backbone) -> Tensor:
        """crops: float32 [N, side, side, C]. Returns features [N, D]."""
        return layers.GlobalAveragePooling2D(name="SecondStageBoxPredictor/AvgPool")(backbone.box_head(crops))


class TwoFC:
    """Two dense layers with ReLU on crops of 7x7 (the head of VGG16 and of feature pyramids; Lin 2017, 4.2).

    They are much cheaper than the later layers of most backbones, and start from random weights.

    units: the units of each layer.
    """

    def __init__(self, units: Count = 1024):
        self.units = units

    def roi_crop(self, backbone: Backbone) -> tuple[int, int, int]:
        """The side of the crops, the max-pooling and the samples of a bin that fit this head."""
        return (7, 1, 2)

    def __call__(self, crops: Tensor, backbone: Backbone) -> Tensor:
        """crops: float32 [N, side, side, C]. Returns features [N, units]."""
        x = layers.Flatten(name="BoxHead/Flatten")(crops)
        for name in ("BoxHead/fc6", "BoxHead/fc7"):
            x = layers.Activation("relu", name=f"{name}/Relu")(layers.Dense(self.units, name=name)(x))
        return x


def predict_boxes(features, num_classes: int):
    """The box predictor on features [N, D] (the API's mask_rcnn_box_predictor).

    Returns logits float32 [N, num_classes + 1], background first, and codes float32 [N, num_classes, 4].
    """
    scope = "SecondStageBoxPredictor"
    codes = layers.Dense(num_classes * 4, name=f"{scope}/BoxEncodingPredictor")(features)
    logits = layers.Dense(num_classes + 1, name=f"{scope}/ClassPredictor")(features)
    return logits, layers.Reshape((num_classes, 4), name=f"{scope}/codes")(codes)
