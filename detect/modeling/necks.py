"""From a backbone's end points to the feature maps of a detector.

A neck is called with the end points and the backbone, and returns the maps by name, largest first. Its `source(name)`
names, in a few words, the layers that make a map that is not an end point.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

import tf_keras

from detect.config.legal_values import Count, Epsilon, Multiplier, demand, whole
from detect.errors import ConfigError
from detect.modeling.backbones.layers import ConvScope, scaled_depth
from detect.modeling.interface import Backbone, Maps

layers = tf_keras.layers
Carry = Literal["sum", "smoothed"]


class ExtraFeatureMaps:
    """The backbone's maps, then smaller ones (the API's `multi_resolution_feature_maps`).

    Each extra map is a 1x1 convolution with half its channels, then a 3x3 of stride 2, both with batch norm and ReLU6.
    Names are those of the API (`Conv2d_13_pointwise_2_Conv2d_2_3x3_s2_512`).

    maps: the names of the backbone's end points; None takes the backbone's default.
    channels: the channels of each extra map; None takes the backbone's default.
    depth_multiplier, min_depth: scale `channels` (the zoo: 1.0 and 16).
    separable: the 3x3 is depthwise, with batch norm and ReLU6, and a 1x1 follows (SSDLite: Sandler 2018, 6.2).
    epsilon: of batch norm.
    """

    def __init__(
        self,
        maps: Sequence[str] | None = None,
        channels: Sequence[Count] | None = None,
        depth_multiplier: Multiplier = 1.0,
        min_depth: Count = 16,
        separable: bool = False,
        epsilon: Epsilon = 0.001,
    ):
        self.maps, self.channels = maps, channels
        self.depth_multiplier, self.min_depth = depth_multiplier, min_depth
        self.separable, self.epsilon = separable, epsilon

    def source(self, name: str) -> str:
        """What the map `name` is made from."""
        return "separable 3x3 /2" if self.separable else "1x1, 3x3 /2"

    def __call__(self, end_points: Maps, backbone: Backbone) -> Maps:
        """end_points: the backbone's tensors by name. Raises ConfigError for maps that are not among them, or not in
        their order."""
        maps = chosen(end_points, self.maps or backbone.ssd_maps)
        base = list(maps)[-1]
        x = maps[base]
        channels = backbone.ssd_extras if self.channels is None else self.channels
        for i, wanted in enumerate(channels, start=len(maps)):
            name, x = self._extra(x, base, i, wanted)
            maps[name] = x
        return maps

    def _extra(self, x, base: str, i: int, channels: int):
        """The name and the tensor of the next map after x."""
        scope = ConvScope(stddev=0.03, epsilon=self.epsilon)
        depth, half = self._depth(channels), self._depth(channels / 2)
        x = scope.conv(x, half, 1, f"{base}_1_Conv2d_{i}_1x1_{half}")
        name = f"{base}_2_Conv2d_{i}_3x3_s2_{depth}"
        if self.separable:
            x = scope.depthwise(x, 3, f"{name}_depthwise", stride=2)
            return name, scope.conv(x, depth, 1, name)
        return name, scope.conv(x, depth, 3, name, stride=2)

    def _depth(self, channels: float) -> int:
        return scaled_depth(channels, self.depth_multiplier, self.min_depth)


class InceptionBlockFeatureMaps(ExtraFeatureMaps):
    """Extra maps by Inception blocks with a shortcut, in the style of I-SSD (Ning 2017; its widths are unpublished).

    Branches: 1x1 (a quarter of the channels); 1x1 (1/4) and 3x3 (1/2); 1x1 (1/8) and two 3x3 (1/8); max-pooling and 1x1
    (1/8). The last convolution of each branch has stride 2. The branches are concatenated and added to a 1x1 projection
    of the block's input; ReLU6 follows. All convolutions have batch norm. The arguments are those of ExtraFeatureMaps;
    with a `min_depth` of 8 or more, each branch has a channel.
    """

    def __init__(
        self,
        maps: Sequence[str] | None = None,
        channels: Sequence[Count] | None = None,
        depth_multiplier: Multiplier = 1.0,
        min_depth: Annotated[int, whole(8)] = 16,
    ):
        super().__init__(maps, channels, depth_multiplier, min_depth)

    def source(self, name: str) -> str:
        """What the map `name` is made from."""
        return "Inception block"

    def _extra(self, x, base: str, i: int, channels: int):
        scope, linear = ConvScope(stddev=0.03), ConvScope(stddev=0.03, activation=None)
        depth, name = self._depth(channels), f"{base}_Mixed_{i}"
        quarter, half, eighth = depth // 4, depth // 2, depth // 8
        branches = [
            scope.conv(x, quarter, 1, f"{name}/Branch_0/Conv2d_0a_1x1", stride=2),
            scope.conv(x, quarter, 1, f"{name}/Branch_1/Conv2d_0a_1x1"),
            scope.conv(x, eighth, 1, f"{name}/Branch_2/Conv2d_0a_1x1"),
            layers.MaxPooling2D(3, 1, "same", name=f"{name}/Branch_3/MaxPool_0a_3x3")(x),
        ]
        branches[1] = scope.conv(branches[1], half, 3, f"{name}/Branch_1/Conv2d_0b_3x3", stride=2)
        branches[2] = scope.conv(branches[2], eighth, 3, f"{name}/Branch_2/Conv2d_0b_3x3")
        branches[2] = scope.conv(branches[2], eighth, 3, f"{name}/Branch_2/Conv2d_0c_3x3", stride=2)
        rest = depth - quarter - half - eighth
        branches[3] = scope.conv(branches[3], rest, 1, f"{name}/Branch_3/Conv2d_0b_1x1", stride=2)
        joined = layers.Concatenate(name=f"{name}/concat")(branches)
        shortcut = linear.conv(x, depth, 1, f"{name}/Shortcut", stride=2)
        return name, layers.ReLU(6.0, name=f"{name}/Relu6")(layers.Add(name=f"{name}/Add")([joined, shortcut]))


class FPN:
    """The feature pyramid (Lin 2017) of the zoo's FPNLite; names and order of layers are the API's, below `fpn/`.

    A linear 1x1 convolution of the last of three end points makes the map of stride 32. It is upsampled by nearest
    neighbour and added to the 1x1 of the end point before, twice: a separable 3x3 of each sum makes the maps of stride
    16 and 8. Separable 3x3 convolutions of stride 2 make the coarser maps. Every 3x3 has batch norm and ReLU6.

    maps: three end points, each of twice the stride of the one before; None takes the backbone's default.
    levels: the number of maps, 3 or more, and at least that of the end points; 5 maps end at stride 128.
    channels: the channels of every map. depth_multiplier, min_depth: scale them.
    separable: False makes the 3x3 convolutions full ones (as in RetinaNet).
    carry: what is upsampled after the first time: the `sum` (the paper, and the API in TensorFlow 1), or the `smoothed`
        sum, after its 3x3 (the API in TensorFlow 2).
    """

    def __init__(
        self,
        maps: Sequence[str] | None = None,
        levels: int = 5,
        channels: Count = 128,
        depth_multiplier: Multiplier = 1.0,
        min_depth: Count = 16,
        separable: bool = True,
        carry: Carry = "sum",
    ):
        demand("neck.carry", carry, Carry)
        if levels < 3:
            raise ConfigError(f"neck.levels={levels}: legal are whole numbers from 3, the maps of a pyramid")
        self.maps, self.levels, self.channels = maps, levels, channels
        self.depth_multiplier, self.min_depth = depth_multiplier, min_depth
        self.separable, self.carry = separable, carry

    def source(self, name: str) -> str:
        """What the map `name` is made from."""
        kinds = {"smoothing": "top-down, 3x3", "projection": "1x1", "bottom": "3x3 /2"}
        return kinds[name.removeprefix("fpn/").partition("_")[0]]

    def __call__(self, end_points: Maps, backbone: Backbone) -> Maps:
        """end_points: the backbone's tensors by name, of fixed sizes. Raises ConfigError for maps that do not halve,
        and for more of them than `levels`."""
        names = self.maps or backbone.fpn_maps
        fine_to_coarse = list(chosen(end_points, names).values())
        depth = scaled_depth(self.channels, self.depth_multiplier, self.min_depth)
        scope, linear = ConvScope(stddev=0.03), ConvScope(stddev=0.03, normalise=False, activation=None)
        conv = scope.separable if self.separable else scope.conv
        last = len(fine_to_coarse)
        if self.levels < last:
            told = f"legal are whole numbers from {last}, the number of neck.maps"
            raise ConfigError(f"neck.levels={self.levels}: {told}")
        top = linear.conv(fine_to_coarse[-1], depth, 1, f"fpn/projection_{last}")
        maps = {f"fpn/projection_{last}": top}
        x = top
        for level in range(last - 1, 0, -1):
            lateral = linear.conv(fine_to_coarse[level - 1], depth, 1, f"fpn/projection_{level}")
            x = layers.Add(name=f"fpn/top_down_{level}")([_upsampled(x, lateral, level), lateral])
            smoothed = maps[f"fpn/smoothing_{level}"] = conv(x, depth, 3, f"fpn/smoothing_{level}")
            x = smoothed if self.carry == "smoothed" else x
        maps = dict(reversed(maps.items()))
        number = int(["0", *re.findall(r"\d+", names[-1])][-1])  # layer_19 is followed by bottom_up_Conv2d_20
        x = top
        for i in range(1, self.levels - last + 1):
            name = f"fpn/bottom_up_Conv2d_{number + i}"
            x = maps[name] = conv(x, depth, 3, name, stride=2)
        return maps


def _upsampled(x, like, level: int):
    """x with twice the rows and columns; the last one is cropped if `like` has an odd number."""
    extra = [2 * coarse - fine for coarse, fine in zip(x.shape[1:3], like.shape[1:3], strict=True)]
    if not set(extra) <= {0, 1}:
        raise ConfigError(
            f"neck.maps: a map of {x.shape[1]}x{x.shape[2]} cells follows one of {like.shape[1]}x{like.shape[2]}; it "
            "must have half the size: a feature pyramid needs strides 8, 16, 32 (backbone.padding=same)"
        )
    x = layers.UpSampling2D(2, interpolation="nearest", name=f"fpn/upsampling_{level}")(x)
    return layers.Cropping2D(((0, extra[0]), (0, extra[1])), name=f"fpn/cropping_{level}")(x) if any(extra) else x


class VGGFeatureMaps:
    """The maps of SSD300 (Liu 2016, figure 2 and 3.1) on VGG16, all with ReLU and without batch norm.

    The first map is conv4_3; the values of a cell are normalised, then multiplied by a learned factor for each channel,
    20 at the start. After conv5_3 come a 3x3 pooling of stride 1, fc6 (3x3, dilation 6) and fc7 (1x1), the second map.
    Then extra maps of stride 2 follow; the last ones are VALID and have stride 1.
    300 px: 38, 19, 10, 5, 3, 1. In a small frame where a VALID 3x3 does not fit, stride 2 replaces it.

    fc: the channels of fc6 and fc7. channels: those of the extra maps; valid: how many of the last ones are VALID.
    depth_multiplier, min_depth: scale all these channels.
    """

    def __init__(
        self,
        fc: Count = 1024,
        channels: Sequence[Count] = (512, 256, 256, 256),
        valid: Annotated[int, whole(0)] = 2,
        depth_multiplier: Multiplier = 1.0,
        min_depth: Count = 16,
    ):
        self.fc, self.channels, self.valid = fc, channels, valid
        self.depth_multiplier, self.min_depth = depth_multiplier, min_depth

    def source(self, name: str) -> str:
        """What the map `name` is made from."""
        if name == "ssd/conv4_3":
            return "conv4_3, normalised"
        return "pool5, 3x3 dilated, 1x1" if name == "ssd/fc7" else "1x1, 3x3"

    def __call__(self, end_points: Maps, backbone: Backbone) -> Maps:
        """end_points: VGG16's tensors by name. Raises ConfigError for tensors of another backbone."""
        if not {"conv4/conv4_3", "conv5/conv5_3"} <= set(end_points):
            raise ConfigError("detector/neck=vgg16 needs backbone=vgg16: this backbone has no conv4/conv4_3")
        # In half precision the squares would overflow, and the whole cell would become 0.
        x = layers.UnitNormalization(name="ssd/conv4_3/norm", dtype="float32")(end_points["conv4/conv4_3"])
        factor = tf_keras.initializers.Constant(20.0)
        x = layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer=factor, name="ssd/conv4_3")(x)
        maps = {"ssd/conv4_3": x}
        scope, fc = ConvScope(normalise=False, activation="relu"), self._depth(self.fc)
        x = layers.MaxPooling2D(3, 1, "same", name="ssd/pool5")(end_points["conv5/conv5_3"])
        x = scope.conv(x, fc, 3, "ssd/fc6", dilation=6)
        x = maps["ssd/fc7"] = scope.conv(x, fc, 1, "ssd/fc7")
        unpadded = ConvScope(normalise=False, activation="relu", padding="valid")
        for i, channels in enumerate(self.channels):
            x = scope.conv(x, self._depth(channels / 2), 1, f"ssd/conv{8 + i}_1")
            name, fits = f"ssd/conv{8 + i}_2", min(x.shape[1:3]) >= 3
            if i >= len(self.channels) - self.valid and fits:
                x = unpadded.conv(x, self._depth(channels), 3, name)
            else:
                x = scope.conv(x, self._depth(channels), 3, name, stride=2)
            maps[name] = x
        return maps

    def _depth(self, channels: float) -> int:
        return scaled_depth(channels, self.depth_multiplier, self.min_depth)


def chosen(end_points: Maps, names: Sequence[str]) -> Maps:
    """The end points of these names. Raises ConfigError, with what is legal, for unknown names, and for names that are
    not in the order of the network: with it, maps begin with the largest."""
    unknown = [name for name in names if name not in end_points]
    if unknown:
        raise ConfigError(f"neck.maps: {unknown} are no end points of the backbone; legal are {', '.join(end_points)}")
    if list(names) != (ordered := [name for name in end_points if name in names]):
        raise ConfigError(
            f"neck.maps={list(names)}: this is not the order of the network, in which the largest map comes first and "
            f"each comes once; legal is {ordered}"
        )
    return {name: end_points[name] for name in names}
