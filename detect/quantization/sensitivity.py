"""What rounding does to each layer of a float model: ranges, noise, dead channels, and which layers ruin it."""

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
# Below it, the noise in the network's outputs is a thirtieth of their energy. Measured, per tensor: in ImageNet's
# MobileNet v1 each layer below it, rounded alone, changes an eighth of the answers or more; in an SSD around it there
# are three, which cost .092 of the .095 AP that all kernels cost.
RUIN_DB = 15.0
MOST_CHANNELS = 8  # that `worst_channels` names
KINDS = {
    layers.Conv2D: "conv",
    layers.DepthwiseConv2D: "depthwise",
    layers.SeparableConv2D: "separable",
    layers.Dense: "dense",
    type(None): "norm",
}


@dataclass(frozen=True)
class LayerDamage:
    """What rounding does to one layer with a kernel, with the batch norm and the ReLU that are one with it.

    name: of the layer. kind: conv, depthwise, separable, dense, or norm (a batch norm after no kernel). place: in the
        network's order, from 0.
    kernel_low, kernel_high: extremes of the folded kernel. output_low, output_high: of the float output on the frames,
        behind the ReLU.
    sqnr_db: the damage that the layer does alone: signal to quantisation noise of the network's outputs, the worst of
        them, when only this layer's kernel and output are rounded. Of MobileNet v1 on ImageNet, rounded per tensor, it
        puts the layers nearly into the order in which they cost answers; the next two figures do not.
    layer_sqnr_db: the same of the layer's own output: what the layers behind it make of the noise is not in it.
    kernel_sqnr_db: of the rounded kernel against the folded one. Where a few large channels stretch the range, they are
        most of the kernel's energy, too, and hide that all others are rounded to next to nothing.
    network_sqnr_db: of the layer's output when all layers are rounded: what has piled up by then.
    dead_share, dead_channels: output channels with a moving variance below 1e-10, or a folded kernel below 1e-6.
    imbalance: the largest range (magnitude) of an output channel of the folded kernel over their median, channels of 0
        left out: 1 is what cross-layer equalisation (Nagel et al. 2019, section 4.1) strives for.
    worst_channels: output channels that set the range of the whole kernel: those with at least half of the largest
        magnitude, largest first, 8 at most.
    channel_ranges: float32 [C], largest magnitude of each output channel of the folded kernel.
    Of the two kernels of a separable layer, the one with the greater imbalance is described.
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
    """What rounding by `spec` does to each layer with a kernel, worst first: by `sqnr_db`.

    model: a float tf_keras model, flat. It is not changed.
    frames: float32 or uint8 [N, H, W, 3], taken one at a time, or a sequence of batches as the model takes them (of
        several inputs: lists). Ranges of activations are collected from all of them.
    probed: how many of them the noise is measured on, evenly spread. On each, a layer costs a run of the network from
        there on.
    Raises DataError without frames or for frames of a wrong shape, ConfigError for a model that `fake_quant` refuses.
    """
    batches = _batches(model, frames)
    twin = fake_quant(model, spec)
    calibrate(twin, batches)
    found = probe(twin, evenly_spread(batches, probed))
    rows = [_row(place, twin.get_layer(name), energies) for place, (name, energies) in enumerate(found.items())]
    return sorted(rows, key=lambda row: row.sqnr_db)


def culprits(damage: Sequence[LayerDamage], below: float = RUIN_DB) -> list[LayerDamage]:
    """The layers that ruin a model: those whose `sqnr_db` is below so many dB, worst first."""
    return sorted((layer for layer in damage if layer.sqnr_db < below), key=lambda layer: layer.sqnr_db)


def _batches(model: tf_keras.Model, frames: Any) -> list[Any]:
    """The frames as the model takes them, float32."""
    batches = [frame[np.newaxis] for frame in frames] if isinstance(frames, np.ndarray) else list(frames)
    if not batches:
        raise DataError(f"{model.name}: there is not one frame to run it on")
    wanted = [tf.TensorShape(tensor.shape) for tensor in model.inputs]
    for batch in batches:
        given = [tf.TensorShape(np.shape(part)) for part in tf.nest.flatten(batch)]
        if len(given) != len(wanted) or not all(g.is_compatible_with(w) for g, w in zip(given, wanted, strict=True)):
            told = [", ".join(str(tuple(shape)) for shape in shapes) for shapes in (wanted, given)]
            raise DataError(f"{model.name} takes batches of {told[0]}; a frame comes as {told[1]}")
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
    """The kernel, folded and then rounded, float64 [n, C], and its dead channels [C]; a separable layer has two."""
    folded = [] if layer.between is None else [layer.convolution.depthwise_kernel]
    folded.append(layer.folded_kernel())
    depthwise = len(folded) == 2 or layer.convolution is None or isinstance(layer.convolution, layers.DepthwiseConv2D)
    result = []
    for number, pair in enumerate(zip(folded, layer.rounded_kernels(), strict=True)):
        *_, channels, outputs = folded[number].shape
        outputs *= channels if depthwise and number == 0 else 1  # each input channel has outputs of its own
        before, after = (np.reshape(kernel, [-1, outputs]).astype(np.float64) for kernel in pair)
        dead = np.abs(before).max(axis=0) < SMALLEST
        if layer.norm is not None and number == len(folded) - 1:
            dead |= layer.norm.moving_variance.numpy() < DEAD
        result.append((before, after, dead))
    return result


def _imbalance(kernel: np.ndarray) -> float:
    """The largest range of a channel over their median, of a kernel [n, C]; 1 where all is 0."""
    ranges = np.abs(kernel).max(axis=0)
    return float(ranges.max() / np.median(ranges[ranges > 0])) if ranges.any() else 1.0
