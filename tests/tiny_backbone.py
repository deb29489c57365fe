"""A backbone of four convolutions, for tests of what surrounds a network: it is built and traced fast.

It is given as a user's own one: `backbone._target_=tests.tiny_backbone.Tiny trust=[tests]`.
"""

from detect.modeling.backbones.layers import ConvScope, scale_input


class Tiny:
    """Convolutions of stride 4, 4, 2 and 1, the third one depthwise, and two maps for SSD."""

    slim_scope = "Tiny"
    logits = "Logits/Conv2d_1c_1x1"
    ssd_maps = ("Conv2d_1", "Conv2d_3")
    ssd_extras = ()
    fpn_maps = ()
    rpn_map = "Conv2d_1"
    roi_crop = (14, 2)

    def __call__(self, image) -> dict:
        """image: float32 [B, H, W, 3] in 0..255. Returns the end points by name."""
        scope, ends = ConvScope(), {}
        x = scope.conv(scale_input(image, "signed"), 8, 5, "Conv2d_0", stride=4)
        x = ends["Conv2d_1"] = scope.conv(x, 16, 5, "Conv2d_1", stride=4)
        x = scope.depthwise(x, 3, "Conv2d_2", stride=2)
        ends["Conv2d_3"] = scope.conv(x, 24, 1, "Conv2d_3")
        return ends

    def box_head(self, crops):
        """The layers after `rpn_map` on crops [N, h, w, C] of it."""
        scope = ConvScope()
        return scope.conv(scope.depthwise(crops, 3, "Conv2d_2", stride=2), 24, 1, "Conv2d_3")

    def keras_layers(self) -> dict[str, str]:
        """No network of tf_keras.applications has these layers."""
        return {}
