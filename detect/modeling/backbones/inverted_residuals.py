"""Common code of MobileNet v2 and v3: inverted residual blocks between two convolutions (slim's `mobilenet`)."""

from collections.abc import Iterator
from dataclasses import dataclass

import tf_keras

from detect.modeling.backbones.layers import ConvScope, make_divisible, squeeze_excite


@dataclass(frozen=True)
class Block:
    """Expansion 1x1, depthwise convolution, linear projection 1x1; the input is added if it has the output's shape.

    channels: those of the output.
    stride, kernel: those of the depthwise convolution.
    expansion: channels of the depthwise convolution for each input channel; their number is rounded to a multiple of 8.
    squeeze: whether a squeeze-and-excite block weights the channels of the depthwise convolution.
    activation: the activation after expansion and depthwise convolution.
    """

    channels: int
    stride: int = 1
    expansion: float = 6
    kernel: int = 3
    squeeze: bool = False
    activation: str = "relu6"


@dataclass(frozen=True)
class Chain:
    """The whole network: a convolution (3x3, stride 2) as layer 1, then the blocks, then a convolution (1x1).

    first, last: channels of the first and the last convolution. activation: the one after these two.
    """

    first: int
    blocks: tuple[Block, ...]
    last: int
    activation: str

    def walk(self, x, expanded: int | None = None) -> Iterator[tuple]:
        """Builds the network lazily: yields the slim name and the tensor of every end point.

        x: the scaled image. With `expanded`, x is the `expansion_output` of that layer, which has stride 2, and the
        walk begins after it.
        """
        ends = ConvScope(activation=self.activation, stddev=0.09)
        if expanded is None:
            x = ends.conv(x, self.first, 3, "Conv", stride=2)
            yield "layer_1", x
        for i, block in enumerate(self.blocks):
            number = i + 2
            if expanded is None or number >= expanded:
                x = yield from _build(block, x, f"layer_{number}", self._scope(i), number == expanded)
        yield f"layer_{len(self.blocks) + 2}", ends.conv(x, self.last, 1, "Conv_1")

    def convolutions(self) -> list[str]:
        """The names of the convolutions with batch norm, in order."""
        parts = [("expand", "depthwise", "project") if i else ("depthwise", "project") for i in range(len(self.blocks))]
        return ["Conv", *(f"{self._scope(i)}/{part}" for i, names in enumerate(parts) for part in names), "Conv_1"]

    def squeezes(self) -> list[str]:
        """The names of the convolutions in squeeze-and-excite blocks."""
        scopes = [f"{self._scope(i)}/squeeze_excite" for i, block in enumerate(self.blocks) if block.squeeze]
        return [f"{scope}/{name}" for scope in scopes for name in ("Conv", "Conv_1")]

    def _scope(self, i: int) -> str:
        return f"expanded_conv_{i}" if i else "expanded_conv"


def _build(block: Block, x, layer: str, scope: str, expanded: bool):
    conv, entered = ConvScope(activation=block.activation, stddev=0.09), x
    if not expanded:
        inner = make_divisible(x.shape[-1] * block.expansion)
        if inner > x.shape[-1]:
            x = conv.conv(x, inner, 1, f"{scope}/expand")
            yield f"{layer}/expansion_output", x
    x = conv.depthwise(x, block.kernel, f"{scope}/depthwise", block.stride)
    yield f"{layer}/depthwise_output", x
    if block.squeeze:
        x = squeeze_excite(x, f"{scope}/squeeze_excite")
    x = ConvScope(activation=None, stddev=0.09).conv(x, block.channels, 1, f"{scope}/project")
    if block.stride == 1 and entered.shape[-1] == block.channels:
        x = tf_keras.layers.Add(name=f"{scope}/add")([x, entered])
    yield f"{layer}/output", x
    yield layer, x
    return x
