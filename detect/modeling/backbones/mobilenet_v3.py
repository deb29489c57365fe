"""MobileNet v3 (Howard et al. 2019), large and small, equal to slim's `mobilenet_v3` without its classifier."""

from dataclasses import dataclass, replace
from typing import Literal

from detect.config.legal_values import Count, Multiplier, demand
from detect.modeling.backbones.inverted_residuals import Block, Chain
from detect.modeling.backbones.layers import InputScaling, make_divisible, scale_input

RE, HS = "relu", "hard_swish"


@dataclass(frozen=True)
class Variant:
    """A size of the network.

    last: channels of the last convolution.
    tail: the number of the first layer of the last stage; its expansion is the last map of stride 16.
    fpn_maps: the last end points of stride 8, 16 and 32.
    """

    blocks: tuple[Block, ...]
    last: int
    tail: int
    fpn_maps: tuple[str, str, str]


Name = Literal["large", "small"]
VARIANTS: dict[Name, Variant] = {
    "large": Variant(
        (
            Block(16, 1, 1, 3, False, RE), Block(24, 2, 4, 3, False, RE), Block(24, 1, 3, 3, False, RE),
            Block(40, 2, 3, 5, True, RE), Block(40, 1, 3, 5, True, RE), Block(40, 1, 3, 5, True, RE),
            Block(80, 2, 6, 3, False, HS), Block(80, 1, 2.5, 3, False, HS),
            Block(80, 1, 2.3, 3, False, HS), Block(80, 1, 2.3, 3, False, HS),
            Block(112, 1, 6, 3, True, HS), Block(112, 1, 6, 3, True, HS),
            Block(160, 2, 6, 5, True, HS), Block(160, 1, 6, 5, True, HS), Block(160, 1, 6, 5, True, HS),
        ),
        last=960,
        tail=14,
        fpn_maps=("layer_7", "layer_13", "layer_17"),
    ),
    "small": Variant(
        (
            Block(16, 2, 1, 3, True, RE), Block(24, 2, 72 / 16, 3, False, RE), Block(24, 1, 88 / 24, 3, False, RE),
            Block(40, 2, 4, 5, True, HS), Block(40, 1, 6, 5, True, HS), Block(40, 1, 6, 5, True, HS),
            Block(48, 1, 3, 5, True, HS), Block(48, 1, 3, 5, True, HS),
            Block(96, 2, 6, 5, True, HS), Block(96, 1, 6, 5, True, HS), Block(96, 1, 6, 5, True, HS),
        ),
        last=576,
        tail=10,
        fpn_maps=("layer_4", "layer_9", "layer_13"),
    ),
}  # fmt: skip
"""Tables 1 and 2 of the paper; a block: channels, stride, expansion, kernel, squeeze-and-excite, activation."""


class MobileNetV3:
    """Builds the network on an image tensor; it holds no variables itself.

    variant: `large` or `small`.
    depth_multiplier: scales the channels of every layer (> 0); they are then rounded to multiples of 8, as in slim.
        Keras keeps 16 channels in the first convolution; this differs below .75, where no weights are published.
    min_depth: the fewest channels that a layer keeps (slim: 8).
    minimalistic: only 3x3 kernels and ReLU, and no squeeze-and-excite, for hardware that lacks the others.
    reduced_tail: halves the channels of the last stage, as in the Object Detection API (`V3_LARGE_DETECTION`) and in
        torchvision's ssdlite320; ImageNet weights do not fit it.
    input_scaling: `signed` ([-1, 1], as in all networks of TF-slim), `unit`, `mean` or `none`.

    Raises ConfigError for an unknown variant.
    """

    slim_scope = "MobilenetV3"
    logits = "Logits/Conv2d_1c_1x1"  # slim's name of the classifier's last convolution
    ssd_extras = (512, 256, 256, 128)
    roi_crop = (14, 2)

    def __init__(
        self,
        variant: Name = "large",
        depth_multiplier: Multiplier = 1.0,
        min_depth: Count = 8,
        minimalistic: bool = False,
        reduced_tail: bool = False,
        input_scaling: InputScaling = "signed",
    ):
        demand("backbone.variant", variant, Name)
        self.variant = variant
        self.depth_multiplier = depth_multiplier
        self.min_depth = min_depth
        self.minimalistic = minimalistic
        self.reduced_tail = reduced_tail
        self.input_scaling = input_scaling
        self.fpn_maps = VARIANTS[variant].fpn_maps
        self.rpn_map = f"layer_{VARIANTS[variant].tail}/expansion_output"
        self.ssd_maps = (self.rpn_map, self.fpn_maps[-1])

    def __call__(self, image) -> dict:
        """image: float32 [B, H, W, 3] in 0..255. Returns every end point by its slim name, in order."""
        return dict(self._chain.walk(scale_input(image, self.input_scaling)))

    def box_head(self, crops):
        """The layers after `rpn_map` on crops [N, h, w, C] of it: Faster R-CNN's second stage."""
        return list(dict(self._chain.walk(crops, expanded=self._table.tail)).values())[-1]

    def keras_layers(self) -> dict[str, str]:
        """{name of a layer in tf_keras.applications.MobileNetV3Large and -Small: our name}; the names are equal.

        The classifier is left out: `Conv_2`, which follows the pooling, and `Logits`.
        """
        convolutions = self._chain.convolutions()
        names = [*convolutions, *(f"{name}/BatchNorm" for name in convolutions), *self._chain.squeezes()]
        return {name: name for name in names}

    @property
    def _table(self) -> Variant:
        return VARIANTS[self.variant]

    @property
    def _chain(self) -> Chain:
        blocks = tuple(self._block(number, block) for number, block in enumerate(self._table.blocks, start=2))
        last = self._depth(self._table.last // 2 if self.reduced_tail else self._table.last)
        return Chain(self._depth(16), blocks, last, RE if self.minimalistic else HS)

    def _block(self, number: int, block: Block) -> Block:
        """Layer `number` with the options of this network applied."""
        channels = block.channels // 2 if self.reduced_tail and number >= self._table.tail else block.channels
        block = replace(block, channels=self._depth(channels))
        return replace(block, kernel=3, squeeze=False, activation=RE) if self.minimalistic else block

    def _depth(self, channels: int) -> int:
        return make_divisible(channels * self.depth_multiplier, min_depth=self.min_depth)
