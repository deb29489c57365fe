"""From a backbone's end points to the feature maps of a detector."""

from collections.abc import Sequence

from detect.backbones.layers import ConvScope
from detect.errors import ConfigError


class ExtraFeatureMaps:
    """The backbone's maps and smaller ones after them (the API's `multi_resolution_feature_maps`).

    Each extra map: a 1x1 convolution of half its channels, then a 3x3 of stride 2, both with batch norm and ReLU6,
    named as in the API (`Conv2d_13_pointwise_2_Conv2d_2_3x3_s2_512`).

    maps: names of the backbone's end points; None takes the backbone's own choice.
    channels: of each extra map.
    depth_multiplier, min_depth: scale `channels` (the zoo: 1.0 and 16).
    """

    def __init__(
        self,
        maps: Sequence[str] | None = None,
        channels: Sequence[int] = (512, 256, 256, 128),
        depth_multiplier: float = 1.0,
        min_depth: int = 16,
    ):
        self.maps, self.channels = maps, channels
        self.depth_multiplier, self.min_depth = depth_multiplier, min_depth

    def __call__(self, end_points: dict, default_maps: Sequence[str]) -> dict:
        """end_points: the backbone's tensors by name. Returns the feature maps by name, largest first."""
        names = list(self.maps or default_maps)
        unknown = [name for name in names if name not in end_points]
        if unknown:
            raise ConfigError(f"neck.maps: {unknown} are no end points of the backbone: {', '.join(end_points)}")
        maps = {name: end_points[name] for name in names}
        scope = ConvScope(stddev=0.03)
        x, base = maps[names[-1]], names[-1]
        for i, channels in enumerate(self.channels, start=2):
            depth = max(int(channels * self.depth_multiplier), self.min_depth)
            x = scope.conv(x, depth // 2, 1, f"{base}_1_Conv2d_{i}_1x1_{depth // 2}")
            name = f"{base}_2_Conv2d_{i}_3x3_s2_{depth}"
            x = maps[name] = scope.conv(x, depth, 3, name, stride=2)
        return maps
