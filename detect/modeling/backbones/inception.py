"""Common code of Inception v2 and v3: tables of steps and modules, and the builder that turns them into layers.

A network is a tuple of parts. A part is a convolution, a pooling or a module. A module has branches of steps from one
input; their outputs are concatenated along the channels. The output of every part is an end point under its name.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import tf_keras

from detect.modeling.backbones.layers import ConvScope, demand_room, scaled_depth

layers = tf_keras.layers


@dataclass(frozen=True)
class Conv:
    """A convolution with slim's scope name (`Conv2d_0b_1x7`), which ends in the kernel's height x width.

    kernel: (height, width) if slim's name has a wrong kernel.
    valid: whether slim pads it VALID (in Inception v3).
    """

    name: str
    channels: int
    stride: int = 1
    kernel: tuple[int, int] | None = None
    valid: bool = False

    def size(self) -> tuple[int, int]:
        """(height, width) of the kernel. Raises ValueError if neither `kernel` nor the name tells it."""
        found = re.search(r"_(\d)x(\d)$", self.name)
        if self.kernel is None and found is None:
            raise ValueError(f"{self.name} does not end in a kernel size like _3x3: give kernel")
        return self.kernel or (int(found[1]), int(found[2]))  # type: ignore[index]


@dataclass(frozen=True)
class Pool:
    """A 3x3 pooling; the name begins with MaxPool or AvgPool. valid: whether slim pads it VALID."""

    name: str
    stride: int = 1
    valid: bool = False


@dataclass(frozen=True)
class Fork:
    """Parallel convolutions of the same input, concatenated along the channels."""

    convs: tuple[Conv, ...]


Step = Conv | Pool | Fork


@dataclass(frozen=True)
class Module:
    """Branches (`NAME/Branch_0/...`) from one input, concatenated along the channels."""

    name: str
    branches: tuple[tuple[Step, ...], ...]


Part = Conv | Pool | Module


@dataclass(frozen=True)
class Builder:
    """Turns parts into layers.

    scope: the settings of all convolutions.
    valid: the padding, `valid` or `same`, of the layers that slim pads VALID.
    multiplier, min_depth: of the channels, see `scaled_depth`.
    """

    scope: ConvScope
    valid: str
    multiplier: float
    min_depth: int

    def walk(self, x, parts: Sequence[Part]) -> Iterator[tuple]:
        """Builds the parts one after another, from the tensor x; yields the name and the output of each part."""
        for part in parts:
            x = self._module(x, part) if isinstance(part, Module) else self._step(x, part, "")
            yield part.name, x

    def depth(self, channels: int) -> int:
        return scaled_depth(channels, self.multiplier, self.min_depth)

    def _module(self, x, module: Module):
        outputs = []
        for i, branch in enumerate(module.branches):
            y = x
            for step in branch:
                y = self._step(y, step, f"{module.name}/Branch_{i}/")
            outputs.append(y)
        return layers.Concatenate(name=f"{module.name}/concat")(outputs)

    def _step(self, x, step: Step, prefix: str):
        if isinstance(step, Fork):
            return layers.Concatenate(name=f"{prefix}concat")([self._step(x, conv, prefix) for conv in step.convs])
        padding = self.valid if step.valid else "same"
        if isinstance(step, Pool):
            kind = layers.MaxPooling2D if step.name.startswith("Max") else layers.AveragePooling2D
            demand_room(x, 3, padding, prefix + step.name)
            return kind(3, step.stride, padding, name=prefix + step.name)(x)
        scope = replace(self.scope, padding=padding)
        return scope.conv(x, self.depth(step.channels), step.size(), prefix + step.name, step.stride)


def after(parts: Sequence[Part], name: str) -> Sequence[Part]:
    """The parts after the part `name`."""
    return parts[[part.name for part in parts].index(name) + 1 :]


def conv_names(parts: Sequence[Part]) -> Iterator[str]:
    """The names of all convolutions in the order in which they are built."""
    for part in parts:
        branches = part.branches if isinstance(part, Module) else ((part,),)
        for i, branch in enumerate(branches):
            prefix = f"{part.name}/Branch_{i}/" if isinstance(part, Module) else ""
            for step in branch:
                convs = step.convs if isinstance(step, Fork) else (step,)
                yield from (prefix + conv.name for conv in convs if isinstance(conv, Conv))
