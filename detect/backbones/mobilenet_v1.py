"""MobileNet v1 (Howard et al. 2017), equal to slim's `mobilenet_v1_base` with SAME padding."""

from detect.backbones.layers import ConvScope, scale_input, scaled_depth

# Output channels and stride of Conv2d_1 .. Conv2d_13 (table 1 of the paper).
SEPARABLE_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class MobileNetV1:
    """Builds the network onto an image tensor; holds no variables itself.

    depth_multiplier: scales the channels of every layer (> 0).
    min_depth: the fewest channels that a layer keeps (slim: 8).
    input_scaling: `signed` ([-1, 1], as all TF-slim nets), `unit` or `none`.
    """

    slim_scope = "MobilenetV1"
    logits = "Logits/Conv2d_1c_1x1"  # slim's name of the classifier's last convolution
    ssd_maps = ("Conv2d_11_pointwise", "Conv2d_13_pointwise")

    def __init__(self, depth_multiplier: float = 1.0, min_depth: int = 8, input_scaling: str = "signed"):
        self.depth_multiplier = depth_multiplier
        self.min_depth = min_depth
        self.input_scaling = input_scaling

    def __call__(self, image) -> dict:
        """image: float32 [B, H, W, 3] in 0..255. Returns every end point by its slim name, in order."""
        scope = ConvScope(stddev=0.09)
        end_points = {}

        def depth(channels):
            return scaled_depth(channels, self.depth_multiplier, self.min_depth)

        x = scope.conv(scale_input(image, self.input_scaling), depth(32), 3, "Conv2d_0", stride=2)
        end_points["Conv2d_0"] = x
        for i, (channels, stride) in enumerate(SEPARABLE_BLOCKS, start=1):
            x = end_points[f"Conv2d_{i}_depthwise"] = scope.depthwise(x, 3, f"Conv2d_{i}_depthwise", stride)
            x = end_points[f"Conv2d_{i}_pointwise"] = scope.conv(x, depth(channels), 1, f"Conv2d_{i}_pointwise")
        return end_points
