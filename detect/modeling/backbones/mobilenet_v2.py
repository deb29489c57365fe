"""MobileNet v2 (Sandler et al. 2018), equal to slim's `mobilenet_v2.mobilenet_base` with SAME padding."""

from detect.config.legal_values import Count, Multiplier
from detect.modeling.backbones.inverted_residuals import Block, Chain
from detect.modeling.backbones.layers import InputScaling, make_divisible, scale_input

# Expansion, channels, repetitions and first stride of the blocks (table 2 of the paper).
STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
RPN_LAYER = 15


class MobileNetV2:
    """Builds the network on an image tensor; it holds no variables itself.

    depth_multiplier: scales the channels of every layer (> 0); they are then rounded to multiples of 8.
    min_depth: the fewest channels that a layer keeps (slim: 8).
    scale_last: whether a depth multiplier below 1 also scales the last convolution. Slim does so by default, and the
        Object Detection API always. False keeps its 1280 channels, as in the paper, in Keras and in slim's
        `finegrain_classification_mode`; the published ImageNet weights for multipliers below 1.0 have this mode.
    reduced_tail: the last convolution has 256 channels, as in the Object Detection API's FPNLite of TensorFlow 1;
        ImageNet weights do not fit it.
    input_scaling: `signed` ([-1, 1], as in all networks of TF-slim), `unit`, `mean` or `none`.
    """

    slim_scope = "MobilenetV2"
    logits = "Logits/Conv2d_1c_1x1"  # slim's name of the classifier's last convolution
    ssd_maps = (f"layer_{RPN_LAYER}/expansion_output", "layer_19")
    ssd_extras = (512, 256, 256, 128)
    fpn_maps = ("layer_7", "layer_14", "layer_19")
    rpn_map = f"layer_{RPN_LAYER}/expansion_output"
    roi_crop = (14, 2)

    def __init__(
        self,
        depth_multiplier: Multiplier = 1.0,
        min_depth: Count = 8,
        scale_last: bool = True,
        reduced_tail: bool = False,
        input_scaling: InputScaling = "signed",
    ):
        self.depth_multiplier = depth_multiplier
        self.min_depth = min_depth
        self.scale_last = scale_last
        self.reduced_tail = reduced_tail
        self.input_scaling = input_scaling

    def __call__(self, image) -> dict:
        """image: float32 [B, H, W, 3] in 0..255. Returns every end point by its slim name, in order."""
        return dict(self._chain.walk(scale_input(image, self.input_scaling)))

    def box_head(self, crops):
        """The layers after `rpn_map` on crops [N, h, w, C] of it: Faster R-CNN's second stage."""
        return list(dict(self._chain.walk(crops, expanded=RPN_LAYER)).values())[-1]

    def keras_layers(self) -> dict[str, str]:
        """{name of a layer in tf_keras.applications.MobileNetV2: our name}, without the classifier."""
        ends = {"Conv1": "Conv", "bn_Conv1": "Conv/BatchNorm", "Conv_1": "Conv_1", "Conv_1_bn": "Conv_1/BatchNorm"}
        blocks: dict[str, str] = {}
        for ours in self._chain.convolutions()[1:-1]:
            keras = ours.replace("expanded_conv_", "block_").replace("/", "_")
            blocks |= {keras: ours, f"{keras}_BN": f"{ours}/BatchNorm"}
        return ends | blocks

    @property
    def _chain(self) -> Chain:
        blocks = [
            Block(self._depth(channels), stride if i == 0 else 1, expansion)
            for expansion, channels, count, stride in STAGES
            for i in range(count)
        ]
        channels = 256 if self.reduced_tail else 1280
        last = self._depth(channels) if self.scale_last or self.depth_multiplier > 1 else channels
        return Chain(self._depth(32), tuple(blocks), last, "relu6")

    def _depth(self, channels: int) -> int:
        return make_divisible(channels * self.depth_multiplier, min_depth=self.min_depth)
