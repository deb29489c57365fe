"""VGG16 (Simonyan and Zisserman 2015, column D), equal to slim's `vgg_16` up to pool5 with padding `valid`."""

from collections.abc import Iterator
from typing import Annotated

import tf_keras

from detect.config.legal_values import Count, Multiplier, demand, number
from detect.modeling.backbones.layers import ConvScope, InputScaling, Padding, scale_input, scaled_depth

layers = tf_keras.layers
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions and their channels; a pooling ends a block


class VGG16:
    """Builds the network on an image tensor; it holds no variables itself.

    depth_multiplier: scales the channels of every layer (> 0).
    min_depth: the fewest channels that a layer keeps.
    input_scaling: `mean` (subtracts the ImageNet means; slim's and Keras' weights need it), `signed`, `unit` or `none`.
    padding: the padding of the poolings. `same` rounds map sizes up, as SSD300 needs it (300 px: conv4_3 has 38);
        `valid` rounds down, as slim does (37). Raises ConfigError for another value.
    dropout: the share of the box head's features that is dropped in training, after each dense layer.
    """

    slim_scope = "vgg_16"
    logits = "fc8"
    ssd_maps = ("conv4/conv4_3", "conv5/conv5_3")
    ssd_extras = (512, 256, 256, 128)
    fpn_maps = ("conv4/conv4_3", "conv5/conv5_3", "pool5")
    rpn_map = "conv5/conv5_3"
    roi_crop = (14, 2)
    # Keras' file is for B, G, R: its reader reverses the input channels of the first kernel.
    keras_bgr = True

    def __init__(
        self,
        depth_multiplier: Multiplier = 1.0,
        min_depth: Count = 16,
        input_scaling: InputScaling = "mean",
        padding: Padding = "same",
        dropout: Annotated[float, number(0, 0.999)] = 0.0,
    ):
        demand("backbone.padding", padding, Padding)
        self.depth_multiplier, self.min_depth = depth_multiplier, min_depth
        self.input_scaling, self.padding, self.dropout = input_scaling, padding, dropout

    def __call__(self, image) -> dict:
        """image: float32 [B, H, W, 3] in 0..255. Returns every end point by its slim name, in order."""
        return dict(self._walk(scale_input(image, self.input_scaling)))

    def box_head(self, crops):
        """Two dense layers on crops [N, h, w, C] of `rpn_map`, which are pooled to 7 x 7: [N, 1, 1, 4096].

        As in slim they are convolutions; `fc6` covers the whole crop. They are not part of the base (`__call__`).
        """
        x = crops
        for name, kernel in (("fc6", tuple(crops.shape[1:3])), ("fc7", 1)):
            x = ConvScope("valid", "relu", normalise=False).conv(x, self._depth(4096), kernel, name)
            if self.dropout:
                x = layers.Dropout(self.dropout, name=f"{name}/Dropout")(x)
        return x

    def keras_layers(self) -> dict[str, str]:
        """{name of a layer in tf_keras.applications.VGG16: our name}, without the dense layers."""
        return {
            f"block{i}_conv{j}": f"conv{i}/conv{i}_{j}"
            for i, (convs, _) in enumerate(BLOCKS, start=1)
            for j in range(1, convs + 1)
        }

    def _walk(self, x) -> Iterator[tuple]:
        scope = ConvScope(activation="relu", normalise=False)
        for i, (convs, channels) in enumerate(BLOCKS, start=1):
            for name in (f"conv{i}/conv{i}_{j}" for j in range(1, convs + 1)):
                x = scope.conv(x, self._depth(channels), 3, name)
                yield name, x
            x = layers.MaxPooling2D(2, 2, self.padding, name=f"pool{i}")(x)
            yield f"pool{i}", x

    def _depth(self, channels: int) -> int:
        return scaled_depth(channels, self.depth_multiplier, self.min_depth)
