"""Inception v2 (Ioffe and Szegedy 2015), equal to slim's `inception_v2_base`: SAME padding, first kernel separable."""

from collections.abc import Iterator
from dataclasses import replace

from detect.config.legal_values import Count, Epsilon, Multiplier
from detect.modeling.backbones.inception import Builder, Conv, Module, Pool, after
from detect.modeling.backbones.layers import ConvScope, InputScaling, Rectifier, scale_input

FIRST = "Conv2d_1a_7x7"


def module(name: str, one: int, three: tuple[int, int], double: tuple[int, int], pooled: int, pool: str = "Avg"):
    """Four branches, with their channels: 1x1; 1x1 and 3x3; 1x1 and two 3x3; pooling and 1x1."""
    return Module(
        name,
        (
            (Conv("Conv2d_0a_1x1", one),),
            (Conv("Conv2d_0a_1x1", three[0]), Conv("Conv2d_0b_3x3", three[1])),
            (
                Conv("Conv2d_0a_1x1", double[0]),
                Conv("Conv2d_0b_3x3", double[1]),
                Conv("Conv2d_0c_3x3", double[1]),
            ),
            (Pool(f"{pool}Pool_0a_3x3"), Conv("Conv2d_0b_1x1", pooled)),
        ),
    )


def reduction(name: str, three: tuple[int, int], double: tuple[int, int]):
    """A module of stride 2 with three branches: 1x1 and 3x3; 1x1 and two 3x3; max pooling."""
    return Module(
        name,
        (
            (Conv("Conv2d_0a_1x1", three[0]), Conv("Conv2d_1a_3x3", three[1], stride=2)),
            (
                Conv("Conv2d_0a_1x1", double[0]),
                Conv("Conv2d_0b_3x3", double[1]),
                Conv("Conv2d_1a_3x3", double[1], stride=2),
            ),
            (Pool("MaxPool_1a_3x3", stride=2),),
        ),
    )


# All parts after the first convolution (figure 5 of the paper, with slim's channels).
PARTS = (
    Pool("MaxPool_2a_3x3", stride=2),
    Conv("Conv2d_2b_1x1", 64),
    Conv("Conv2d_2c_3x3", 192),
    Pool("MaxPool_3a_3x3", stride=2),
    module("Mixed_3b", 64, (64, 64), (64, 96), 32),
    module("Mixed_3c", 64, (64, 96), (64, 96), 64),
    reduction("Mixed_4a", (128, 160), (64, 96)),
    module("Mixed_4b", 224, (64, 96), (96, 128), 128),
    module("Mixed_4c", 192, (96, 128), (96, 128), 128),
    module("Mixed_4d", 160, (128, 160), (128, 160), 96),
    module("Mixed_4e", 96, (128, 192), (160, 192), 96),
    reduction("Mixed_5a", (128, 192), (192, 256)),
    module("Mixed_5b", 352, (192, 320), (160, 224), 128),
    module("Mixed_5c", 352, (192, 320), (192, 224), 128, pool="Max"),
)


class InceptionV2:
    """Builds the network on an image tensor; it holds no variables itself.

    depth_multiplier: scales the channels of every layer (> 0).
    min_depth: the fewest channels that a layer keeps (slim: 16).
    input_scaling: `signed` ([-1, 1], as in all networks of TF-slim), `unit`, `mean` or `none`.
    scale: whether batch norm has gamma. Slim's classifier has no gamma, the Object Detection API's detectors have it.
    stem_norm: whether the first convolution has batch norm, as in the API's detectors; slim's classifier has a bias.
    activation: `relu`, or `relu6` as in the API's SSD.
    epsilon: of batch norm.
    """

    slim_scope = "InceptionV2"
    logits = "Logits/Conv2d_1c_1x1"  # slim's name of the classifier's last convolution
    ssd_maps = ("Mixed_4c", "Mixed_5c")
    ssd_extras = (512, 256, 256, 128)
    fpn_maps = ("Mixed_3c", "Mixed_4e", "Mixed_5c")
    rpn_map = "Mixed_4e"
    roi_crop = (14, 2)

    def __init__(
        self,
        depth_multiplier: Multiplier = 1.0,
        min_depth: Count = 16,
        input_scaling: InputScaling = "signed",
        scale: bool = False,
        stem_norm: bool = False,
        activation: Rectifier = "relu",
        epsilon: Epsilon = 0.001,
    ):
        self.depth_multiplier, self.min_depth, self.input_scaling = depth_multiplier, min_depth, input_scaling
        self.scale, self.stem_norm, self.activation, self.epsilon = scale, stem_norm, activation, epsilon

    def __call__(self, image) -> dict:
        """image: float32 [B, H, W, 3] in 0..255. Returns every end point by its slim name, in order."""
        return dict(self._walk(scale_input(image, self.input_scaling)))

    def box_head(self, crops):
        """The layers after `rpn_map` on crops [N, h, w, C] of it: Faster R-CNN's second stage."""
        return dict(self._builder.walk(crops, after(PARTS, self.rpn_map)))["Mixed_5c"]

    def keras_layers(self) -> dict[str, str]:
        """An empty dict: tf_keras.applications has no Inception v2."""
        return {}

    @property
    def _builder(self) -> Builder:
        scope = ConvScope(scale=self.scale, activation=self.activation, epsilon=self.epsilon)
        return Builder(scope, "same", self.depth_multiplier, self.min_depth)

    def _walk(self, x) -> Iterator[tuple]:
        # Without a batch norm after it, small weights would make the image faint: slim's initial deviation is 1.
        scope = replace(self._builder.scope, normalise=self.stem_norm, stddev=1.0)
        channels = self._builder.depth(64)
        x = scope.separable(x, channels, 7, FIRST, stride=2, depth_multiplier=min(channels // 3, 8))
        yield FIRST, x
        yield from self._builder.walk(x, PARTS)
