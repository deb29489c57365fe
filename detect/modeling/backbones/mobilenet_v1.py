"""MobileNet v1 (Howard et al. 2017), equal to slim's `mobilenet_v1_base` with SAME padding."""

from collections.abc import Iterator

from detect.config.legal_values import Count, Multiplier
from detect.modeling.backbones.layers import ConvScope, InputScaling, scale_input, scaled_depth

# Output channels and stride of Conv2d_1 .. Conv2d_13 (table 1 of the paper).
SEPARABLE_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class MobileNetV1:
    """Builds the network on an image tensor; it holds no variables itself.

    depth_multiplier: scales the channels of every layer (> 0).
    min_depth: the fewest channels that a layer keeps (slim: 8).
    reduced_tail: the last two blocks have 512 and 256 channels, as in the Object Detection API's FPNLite; ImageNet
        weights do not fit it.
    input_scaling: `signed` ([-1, 1], as in all networks of TF-slim), `unit`, `mean` or `none`.
    """

    slim_scope = "MobilenetV1"
    logits = "Logits/Conv2d_1c_1x1"  # slim's name of the classifier's last convolution
    ssd_maps = ("Conv2d_11_pointwise", "Conv2d_13_pointwise")
    ssd_extras = (512, 256, 256, 128)
    fpn_maps = ("Conv2d_5_pointwise", "Conv2d_11_pointwise", "Conv2d_13_pointwise")
    rpn_map = "Conv2d_11_pointwise"
    roi_crop = (14, 2)

    def __init__(
        self,
        depth_multiplier: Multiplier = 1.0,
        min_depth: Count = 8,
        reduced_tail: bool = False,
        input_scaling: InputScaling = "signed",
    ):
        self.depth_multiplier = depth_multiplier
        self.min_depth = min_depth
        self.reduced_tail = reduced_tail
        self.input_scaling = input_scaling

    def __call__(self, image) -> dict:
        """image: float32 [B, H, W, 3] in 0..255. Returns every end point by its slim name, in order."""
        return dict(self._walk(scale_input(image, self.input_scaling)))

    def box_head(self, crops):
        """The layers after `rpn_map` on crops [N, h, w, C] of it: Faster R-CNN's second stage."""
        return list(dict(self._walk(crops, first=12)).values())[-1]

    def keras_layers(self) -> dict[str, str]:
        """{name of a layer in tf_keras.applications.MobileNet: our name}."""
        names = {"conv1": "Conv2d_0"}
        for i in range(1, len(SEPARABLE_BLOCKS) + 1):
            names |= {f"conv_dw_{i}": f"Conv2d_{i}_depthwise", f"conv_pw_{i}": f"Conv2d_{i}_pointwise"}
        norms = {f"{keras}_bn": f"{ours}/BatchNorm" for keras, ours in names.items()}
        return names | norms | {"conv_preds": self.logits}

    @property
    def _scope(self) -> ConvScope:
        return ConvScope(stddev=0.09)

    def _depth(self, channels: int) -> int:
        return scaled_depth(channels, self.depth_multiplier, self.min_depth)

    def _walk(self, x, first: int = 0) -> Iterator[tuple]:
        """Yields the names and tensors of the end points, beginning with convolution `first`."""
        if first == 0:
            x = self._scope.conv(x, self._depth(32), 3, "Conv2d_0", stride=2)
            yield "Conv2d_0", x
        blocks = (*SEPARABLE_BLOCKS[:-2], (512, 2), (256, 1)) if self.reduced_tail else SEPARABLE_BLOCKS
        for i, (channels, stride) in enumerate(blocks, start=1):
            if i >= first:
                x = self._scope.depthwise(x, 3, f"Conv2d_{i}_depthwise", stride)
                yield f"Conv2d_{i}_depthwise", x
                x = self._scope.conv(x, self._depth(channels), 1, f"Conv2d_{i}_pointwise")
                yield f"Conv2d_{i}_pointwise", x
