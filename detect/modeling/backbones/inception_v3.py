"""Inception v3 (Szegedy et al. 2016). With padding `valid` it equals slim's `inception_v3_base`; names are slim's."""

from detect.config.legal_values import Count, Epsilon, Multiplier, demand
from detect.modeling.backbones.inception import Builder, Conv, Fork, Module, Pool, after, conv_names
from detect.modeling.backbones.layers import ConvScope, InputScaling, Padding, Rectifier, scale_input


def pool_branch(channels: int):
    """The branch that averages 3x3 cells and has a 1x1 convolution of so many channels."""
    return (Pool("AvgPool_0a_3x3"), Conv("Conv2d_0b_1x1", channels))


def module_5(name: str, pooled: int, five: tuple[str, str] = ("Conv2d_0a_1x1", "Conv2d_0b_5x5")):
    """Figure 5 of the paper. pooled: channels of the pooling branch. five: slim's names in the 5x5 branch."""
    return Module(
        name,
        (
            (Conv("Conv2d_0a_1x1", 64),),
            (Conv(five[0], 48), Conv(five[1], 64)),
            (Conv("Conv2d_0a_1x1", 64), Conv("Conv2d_0b_3x3", 96), Conv("Conv2d_0c_3x3", 96)),
            pool_branch(pooled),
        ),
    )


def module_6(name: str, narrow: int):
    """Figure 6 of the paper: 7x7 is split into 1x7 and 7x1. narrow: the channels between them."""
    return Module(
        name,
        (
            (Conv("Conv2d_0a_1x1", 192),),
            (Conv("Conv2d_0a_1x1", narrow), Conv("Conv2d_0b_1x7", narrow), Conv("Conv2d_0c_7x1", 192)),
            (
                Conv("Conv2d_0a_1x1", narrow),
                Conv("Conv2d_0b_7x1", narrow),
                Conv("Conv2d_0c_1x7", narrow),
                Conv("Conv2d_0d_7x1", narrow),
                Conv("Conv2d_0e_1x7", 192),
            ),
            pool_branch(192),
        ),
    )


def module_7(name: str, vertical: str):
    """Figure 7 of the paper: branches that end in a parallel 1x3 and 3x1. vertical: slim's name of the first 3x1."""
    return Module(
        name,
        (
            (Conv("Conv2d_0a_1x1", 320),),
            (Conv("Conv2d_0a_1x1", 384), Fork((Conv("Conv2d_0b_1x3", 384), Conv(vertical, 384)))),
            (
                Conv("Conv2d_0a_1x1", 448),
                Conv("Conv2d_0b_3x3", 384),
                Fork((Conv("Conv2d_0c_1x3", 384), Conv("Conv2d_0d_3x1", 384))),
            ),
            pool_branch(192),
        ),
    )


HALVED = Pool("MaxPool_1a_3x3", stride=2, valid=True)
PARTS = (
    Conv("Conv2d_1a_3x3", 32, stride=2, valid=True),
    Conv("Conv2d_2a_3x3", 32, valid=True),
    Conv("Conv2d_2b_3x3", 64),
    Pool("MaxPool_3a_3x3", stride=2, valid=True),
    Conv("Conv2d_3b_1x1", 80, valid=True),
    Conv("Conv2d_4a_3x3", 192, valid=True),
    Pool("MaxPool_5a_3x3", stride=2, valid=True),
    module_5("Mixed_5b", 32),
    module_5("Mixed_5c", 64, ("Conv2d_0b_1x1", "Conv_1_0c_5x5")),
    module_5("Mixed_5d", 64),
    Module(
        "Mixed_6a",
        (
            (Conv("Conv2d_1a_1x1", 384, stride=2, kernel=(3, 3), valid=True),),
            (
                Conv("Conv2d_0a_1x1", 64),
                Conv("Conv2d_0b_3x3", 96),
                Conv("Conv2d_1a_1x1", 96, stride=2, kernel=(3, 3), valid=True),
            ),
            (HALVED,),
        ),
    ),
    module_6("Mixed_6b", 128),
    module_6("Mixed_6c", 160),
    module_6("Mixed_6d", 160),
    module_6("Mixed_6e", 192),
    Module(
        "Mixed_7a",
        (
            (Conv("Conv2d_0a_1x1", 192), Conv("Conv2d_1a_3x3", 320, stride=2, valid=True)),
            (
                Conv("Conv2d_0a_1x1", 192),
                Conv("Conv2d_0b_1x7", 192),
                Conv("Conv2d_0c_7x1", 192),
                Conv("Conv2d_1a_3x3", 192, stride=2, valid=True),
            ),
            (HALVED,),
        ),
    ),
    module_7("Mixed_7b", "Conv2d_0b_3x1"),
    module_7("Mixed_7c", "Conv2d_0c_3x1"),
)


class InceptionV3:
    """Builds the network on an image tensor; it holds no variables itself.

    depth_multiplier: scales the channels of every layer (> 0).
    min_depth: the fewest channels that a layer keeps (slim: 16).
    input_scaling: `signed` ([-1, 1], as in all networks of TF-slim), `unit`, `mean` or `none`.
    padding: `same` keeps the strides exact (300 px: maps of 38, 19, 10); `valid` is the padding of slim and Keras
        (35, 17, 8). Both take the same weights. Raises ConfigError for another value.
    scale: whether batch norm has gamma. Slim's and Keras' classifiers have no gamma, the API's SSD has it.
    activation: `relu`, or `relu6` as in the SSD of the Object Detection API.
    epsilon: of batch norm; 0.01 in one of the API's SSDs on Inception v3.
    """

    slim_scope = "InceptionV3"
    logits = "Logits/Conv2d_1c_1x1"  # slim's name of the classifier's last convolution
    ssd_maps = ("Mixed_5d", "Mixed_6e", "Mixed_7c")
    ssd_extras = (512, 256, 128)
    fpn_maps = ("Mixed_5d", "Mixed_6e", "Mixed_7c")
    rpn_map = "Mixed_6e"
    roi_crop = (17, 1)

    def __init__(
        self,
        depth_multiplier: Multiplier = 1.0,
        min_depth: Count = 16,
        input_scaling: InputScaling = "signed",
        padding: Padding = "same",
        scale: bool = False,
        activation: Rectifier = "relu",
        epsilon: Epsilon = 0.001,
    ):
        demand("backbone.padding", padding, Padding)
        self.depth_multiplier, self.min_depth, self.input_scaling = depth_multiplier, min_depth, input_scaling
        self.padding, self.scale, self.activation, self.epsilon = padding, scale, activation, epsilon

    def __call__(self, image) -> dict:
        """image: float32 [B, H, W, 3] in 0..255. Returns every end point by its slim name, in order."""
        return dict(self._builder.walk(scale_input(image, self.input_scaling), PARTS))

    def box_head(self, crops):
        """The layers after `rpn_map` on crops [N, h, w, C] of it: Faster R-CNN's second stage."""
        return dict(self._builder.walk(crops, after(PARTS, self.rpn_map)))["Mixed_7c"]

    def keras_layers(self) -> dict[str, str]:
        """{name of a layer in tf_keras.applications.InceptionV3: our name}.

        Keras numbers the layers of a whole session, so the numbers in a file may begin anywhere. Here they begin with
        1, in the order of PARTS, in which the layers are made.
        """
        names: dict[str, str] = {}
        for i, name in enumerate(conv_names(PARTS), start=1):
            names |= {f"conv2d_{i}": name, f"batch_normalization_{i}": f"{name}/BatchNorm"}
        return names

    @property
    def _builder(self) -> Builder:
        scope = ConvScope(scale=self.scale, activation=self.activation, epsilon=self.epsilon)
        return Builder(scope, self.padding, self.depth_multiplier, self.min_depth)
