"""Cures of a collapse that need no training: dead channels removed, and the ranges of kernels evened out."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from detect.quantization.layer_pairs import Side, largest, pairs, scaled, sides

layers = tf_keras.layers
DEAD = 1e-10  # moving variance of a channel that is constant; batch norm's epsilon is ten million times as large
SETTLED, MOST_SWEEPS = 1e-3, 100  # a sweep that changes no scale by more ends the equalisation
# The most that a channel's scale may differ from the median of its layer's. A larger one would leave the channel fewer
# than 4 of the 256 steps of the activations' range; that of a dead channel makes biases too large for int32.
WIDEST = 2.0**6


def dead_channels(model: tf_keras.Model, variance: float = DEAD) -> dict[str, np.ndarray]:
    """{layer: indices of its dead output channels}, for the kernels whose batch norm has any.

    Dead is a moving variance below `variance`: the channel had the same value in whatever image of the training. Batch
    norm multiplies it by gamma / sqrt(epsilon), some 30 gamma, and its kernel too where that is folded.
    Raises ConfigError for a model that is not flat or has layers that `fake_quant` does not know.
    """
    found = {}
    for side in sides(model):
        if side.norm is not None:
            dead = np.flatnonzero(side.norm.moving_variance.numpy() < variance)
            if len(dead):
                found[side.layer.name] = dead
    return found


def remove_dead_channels(model: tf_keras.Model, variance: float = DEAD) -> tf_keras.Model:
    """The model with a kernel of 0 for its `dead_channels`, which then give beta, as they did in training.

    Shapes and names stay, so that weights still travel. Raises as `dead_channels` does.
    """
    result = clone(model)
    for side in sides(result):
        if side.norm is not None:
            live = tf.cast(side.norm.moving_variance >= variance, tf.float32)
            side.multiply_kernel(live.numpy(), side.output_axes)
            own = side.layer.bias if side.layer.use_bias else 0.0
            side.norm.moving_mean.assign(side.norm.moving_mean * live + own * (1 - live))
    return result


def relu6_as_relu(model: tf_keras.Model) -> tf_keras.Model:
    """The model with ReLU in place of every ReLU6, as Nagel et al. 2019 (section 5.1) put it before they equalise.

    It is another function wherever an activation exceeds 6: compare the two in float. `equalise` does not need it.
    """

    def change(layer):
        config = layer.get_config()
        if type(layer) is layers.ReLU and layer.max_value == 6:
            config["max_value"] = None
        elif config.get("activation") == "relu6":
            config["activation"] = "relu"
        return type(layer).from_config(config)

    return clone(model, change)


def equalise(model: tf_keras.Model) -> tf_keras.Model:
    """The same function with the ranges of channels evened out between layers (Nagel et al. 2019, section 4.1).

    Where a layer with a kernel feeds just one other, through ReLU, pooling or nothing, output channel i of the first is
    divided by s_i and input channel i of the second multiplied by it: s_i = sqrt(r_i / q_i), with r_i and q_i the
    largest magnitudes of the channel in the two kernels, batch norm folded in, which then are equal. All pairs take
    turns until the scales settle. A pair around ReLU6 stays exact, too: `CappedReLU` takes its place.

    Variables keep names and shapes. The result is for post-training quantisation: `fake_quant` does not know
    CappedReLU. Scales stay within WIDEST of their layer's median; dead channels, whose scales are extreme, should be
    removed first. Separable layers, and those that are called twice, are left as they are.
    Raises ConfigError for a model that is not flat or has layers that `fake_quant` does not know.
    """
    result = clone(model)
    found = pairs(result)
    caps = {}
    for (first, second), scale in zip(found, _scales(found), strict=True):
        first.divide_output(scale)
        second.multiply_kernel(scale, second.input_axes)
        if first.relu6 is not None:
            caps[first.relu6.name] = (6 / scale).tolist()

    def change(layer):
        if layer.name in caps:
            return CappedReLU(caps[layer.name], name=layer.name)
        return type(layer).from_config(layer.get_config())

    return clone(result, change)


@tf_keras.utils.register_keras_serializable(package="detect")
class CappedReLU(tf_keras.layers.Layer):
    """ReLU up to a cap, at most 6, of each channel: what ReLU6 is behind a channel that was divided by a scale.

    It ships as ReLU6, which bounds the range of the integers, and a minimum.
    """

    def __init__(self, caps: Sequence[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.caps = tuple(map(float, caps))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "caps": list(self.caps)}

    def call(self, x):
        """x: float32 [..., C]."""
        return tf.minimum(tf.nn.relu6(x), tf.constant(self.caps, tf.float32))


def clone(model: tf_keras.Model, change: Callable[[Any], Any] | None = None) -> tf_keras.Model:
    """A copy of a model with its weights. change: makes what takes a layer's place, with variables like its own."""
    copied = tf_keras.models.clone_model(
        model, clone_function=change or (lambda layer: type(layer).from_config(layer.get_config()))
    )
    copied.set_weights(model.get_weights())
    return copied


def _scales(found: list[tuple[Side, Side]]) -> list[np.ndarray]:
    """What to divide the output channels of each pair's first layer by, [C] each, the least of them 1."""
    sizes = {side.layer: side.magnitudes() for pair in found for side in pair}
    totals = [np.ones(()) for _ in found]
    for _ in range(MOST_SWEEPS):
        furthest = 1.0
        for i, (first, second) in enumerate(found):
            out, into = first.output_axes, second.input_axes
            scale = _scale(largest(sizes[first.layer], out), largest(sizes[second.layer], into))
            sizes[first.layer] = scaled(sizes[first.layer], 1 / scale, out)
            sizes[second.layer] = scaled(sizes[second.layer], scale, into)
            totals[i] = totals[i] * scale
            furthest = max(furthest, scale.max(), 1 / scale.min())
        if furthest <= 1 + SETTLED:
            break
    bounded = [np.clip(total, np.median(total) / WIDEST, np.median(total) * WIDEST) for total in totals]
    return [total / total.min() for total in bounded]


def _scale(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """sqrt(first / second); where one of them is 0, the least of all, 1 at most."""
    live = (first > 0) & (second > 0)
    scale = np.sqrt(np.where(live, first, 1) / np.where(live, second, 1))
    return np.where(live, scale, scale[live].min(initial=1.0))
