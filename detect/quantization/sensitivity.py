"""The damage that rounding does to each layer of a float model: ranges, noise, dead channels, the worst layers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from detect.data.subset import evenly_spread
from detect.errors import DataError
from detect.evaluation.sqnr import decibels, sqnr
from detect.quantization.calibrate import calibrate
from detect.quantization.equalise import DEAD
from detect.quantization.folded import Folded
from detect.quantization.noise import Energies, probe
from detect.quantization.rewrite import fake_quant
from detect.quantization.rounding import SMALLEST
from detect.quantization.spec import Spec

layers = tf_keras.layers
# At this SQNR, the noise has a thirtieth of the energy of the network's outputs. Measured with one scale for a kernel:
# in ImageNet's MobileNet v1, each layer below this value, rounded alone, changes at least an eighth of the answers. An
# SSD with this backbone has three such layers; they cost .092 of the .095 AP that all kernels cost together.
RUIN_DB = 15.0
MOST_CHANNELS = 8  # the most channels in `worst_channels`
KINDS = {
    layers.Conv2D: "conv",
    layers.DepthwiseConv2D: "depthwise",
    layers.SeparableConv2D: "separable",
    layers.Dense: "dense",
    type(None): "norm",
}


@dataclass(frozen=True)
class LayerDamage:
    """The damage that rounding does to one layer with a kernel, fused with its batch norm and its ReLU.

    name: of the layer. kind: conv, depthwise, separable, dense, or norm (a batch norm that follows no kernel). place:
        in the network's order, from 0.
    kernel_low, kernel_high: extremes of the folded kernel. output_low, output_high: extremes of the float output after
        the ReLU, on the frames.
    sqnr_db: the damage of this layer alone: signal-to-quantisation-noise ratio of the network's outputs (the lowest)
        when only this layer's kernel and output are rounded. For MobileNet v1 on ImageNet with one scale for a kernel,
        its order is nearly the order in which the layers change answers; the next two figures do not have this order.
    layer_sqnr_db: the same ratio for the layer's own output. The effect of later layers on the noise is not included.
    kernel_sqnr_db: ratio of the folded kernel to the error of the rounded one. If a few large channels widen the range,
        they also have most of the energy; the figure then hides that all others are rounded to almost 0.
    network_sqnr_db: ratio for the layer's output when all layers are rounded: the noise accumulated up to here.
    dead_share, dead_channels: output channels with a moving variance below 1e-10, or a folded kernel below 1e-6.
    imbalance: the largest range (magnitude) of an output channel of the folded kernel over the median of all channels
        that are not 0. Cross-layer equalisation (Nagel et al. 2019, section 4.1) aims at 1.
    worst_channels: output channels that set the range of the whole kernel: those with at least half of the largest
        magnitude, largest first, 8 at most.
    channel_ranges: float32 [C], largest magnitude of each output channel of the folded kernel.
    For a separable layer, the figures describe the kernel with the greater imbalance.
    """

    name: str
    kind: str
    place: int
    kernel_low: float
    kernel_high: float
    output_low: float
    output_high: float
    sqnr_db: float
    layer_sqnr_db: float
    kernel_sqnr_db: float
    network_sqnr_db: float
    dead_share: float
    imbalance: float
    worst_channels: tuple[int, ...]
    dead_channels: tuple[int, ...] = field(repr=False)
    channel_ranges: np.ndarray = field(repr=False, compare=False)


def layer_damage(
    model: tf_keras.Model, frames: np.ndarray | Sequence[Any], spec: Spec, probed: int = 8
) -> list[LayerDamage]:
    """The damage that rounding by `spec` does to each layer with a kernel, worst (lowest `sqnr_db`) first.

    model: a flat float tf_keras model. It does not change.
    frames: float32 or uint8 [N, H, W, 3], used one at a time, or a sequence of batches for the model (lists for
        several inputs). Ranges of activations are collected from all of them.
    probed: number of frames on which the noise is measured, evenly spread. On each frame, the cost for each layer is a
        run of the part of the network after it.
    Raises DataError without frames or for frames of a wrong shape, ConfigError for a model that `fake_quant` refuses.
    """
    batches = _batches(model, frames)
    twin = fake_quant(model, spec)
    calibrate(twin, batches)
    found = probe(twin, evenly_spread(batches, probed))
    rows = [_row(place, twin.get_layer(name), energies) for place, (name, energies) in enumerate(found.items())]
    return sorted(rows, key=lambda row: row.sqnr_db)


def culprits(damage: Sequence[LayerDamage]) -> list[LayerDamage]:
    """The layers that ruin a model: their `sqnr_db` is below RUIN_DB. Worst first."""
    return sorted((layer for layer in damage if layer.sqnr_db < RUIN_DB), key=lambda layer: layer.sqnr_db)


def _batches(model: tf_keras.Model, frames: np.ndarray | Sequence[Any]) -> list[Any]:
    """The frames as batches for the model, float32."""
    batches = [frame[np.newaxis] for frame in frames] if isinstance(frames, np.ndarray) else list(frames)
    if not batches:
        raise DataError(f"{model.name}: there are no frames; at least one is needed")
    wanted = [tf.TensorShape(tensor.shape) for tensor in model.inputs]
    for batch in batches:
        given = [tf.TensorShape(np.shape(part)) for part in tf.nest.flatten(batch)]
        if len(given) != len(wanted) or not all(g.is_compatible_with(w) for g, w in zip(given, wanted, strict=True)):
            told = [", ".join(str(tuple(shape)) for shape in shapes) for shapes in (wanted, given)]
            raise DataError(f"{model.name} takes batches of shape {told[0]}; a frame has shape {told[1]}")
    flat = ([tf.cast(part, tf.float32) for part in tf.nest.flatten(batch)] for batch in batches)
    return [tf.nest.pack_sequence_as(model.input, parts) for parts in flat]


def _row(place: int, layer: Folded, energies: Energies) -> LayerDamage:
    kernel, rounded, dead = max(_kernels(layer), key=lambda kernels: _imbalance(kernels[0]))
    ranges = np.abs(kernel).max(axis=0)
    order = np.argsort(-ranges, kind="stable")[:MOST_CHANNELS]
    return LayerDamage(
        name=layer.name,
        kind=KINDS[type(layer.convolution)],
        place=place,
        kernel_low=float(kernel.min()),
        kernel_high=float(kernel.max()),
        output_low=energies.low,
        output_high=energies.high,
        sqnr_db=min(decibels(signal, noise) for signal, noise in energies.outputs.tolist()),
        layer_sqnr_db=decibels(energies.own, energies.alone),
        kernel_sqnr_db=sqnr(kernel, rounded),
        network_sqnr_db=decibels(energies.own, energies.network),
        dead_share=float(dead.mean()),
        imbalance=_imbalance(kernel),
        worst_channels=tuple(int(channel) for channel in order if ranges[channel] >= ranges.max() / 2),
        dead_channels=tuple(np.flatnonzero(dead).tolist()),
        channel_ranges=ranges.astype(np.float32),
    )


def _kernels(layer: Folded) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(folded kernel, rounded kernel, dead channels): float64 [n, C] twice, bool [C]. A separable layer has two."""
    folded = [] if layer.between is None else [layer.convolution.depthwise_kernel]
    folded.append(layer.folded_kernel())
    depthwise = len(folded) == 2 or layer.convolution is None or isinstance(layer.convolution, layers.DepthwiseConv2D)
    result = []
    for number, pair in enumerate(zip(folded, layer.rounded_kernels(), strict=True)):
        *_, channels, outputs = folded[number].shape
        outputs *= channels if depthwise and number == 0 else 1  # each input channel has its own outputs
        before, after = (np.reshape(kernel, [-1, outputs]).astype(np.float64) for kernel in pair)
        dead = np.abs(before).max(axis=0) < SMALLEST
        if layer.norm is not None and number == len(folded) - 1:
            dead |= layer.norm.moving_variance.numpy() < DEAD
        result.append((before, after, dead))
    return result


def _imbalance(kernel: np.ndarray) -> float:
    """The largest range of a channel of a kernel [n, C] over the median of the ranges; 1 for a kernel of zeros."""
    ranges = np.abs(kernel).max(axis=0)
    return float(ranges.max() / np.median(ranges[ranges > 0])) if ranges.any() else 1.0
