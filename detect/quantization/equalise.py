"""Repairs a model that collapses at 8 bits, without training: removes dead channels, equalises ranges of kernels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from detect.quantization.layer_pairs import Side, largest, pairs, scaled, sides

layers = tf_keras.layers
DEAD = 1e-10  # moving variance of a channel that is constant; batch norm's epsilon is ten million times as large
SETTLED, MOST_SWEEPS = 1e-3, 100  # equalisation ends when no scale changes by a larger share
# The largest ratio of a channel's scale to the median scale of its layer, in either direction. With a larger one, the
# channel would use fewer than 4 of the 256 steps of the range; a dead channel's scale makes biases too large for int32.
WIDEST = 2.0**6


def dead_channels(model: tf_keras.Model, variance: float = DEAD) -> dict[str, np.ndarray]:
    """{layer: indices of its dead output channels}, for the kernels whose batch norm has dead channels.

    A channel is dead if its moving variance is below `variance`: it had the same value in every training image. Batch
    norm multiplies the channel, and its folded kernel, by gamma / sqrt(epsilon), which is about 30 gamma.
    Raises ConfigError for a model that is not flat or has layers that `fake_quant` does not support.
    """
    found = {}
    for side in sides(model):
        if side.norm is not None:
            dead = np.flatnonzero(side.norm.moving_variance.numpy() < variance)
            if len(dead):
                found[side.layer.name] = dead
    return found


def remove_dead_channels(model: tf_keras.Model, variance: float = DEAD) -> tf_keras.Model:
    """The model with kernels of 0 for its `dead_channels`. Their output is then beta, as it was in training.

    Shapes and names do not change, so weights can still be transferred. Raises the errors of `dead_channels`.
    """
    result = clone(model)
    for side in sides(result):
        if side.norm is not None:
            live = tf.cast(side.norm.moving_variance >= variance, tf.float32)
            side.multiply_kernel(live.numpy(), side.output_axes)
            own = side.layer.bias if side.layer.use_bias else 0.0
            side.norm.moving_mean.assign(side.norm.moving_mean * live + own * (1 - live))
    return result


def equalise(model: tf_keras.Model) -> tf_keras.Model:
    """The same function with equalised ranges of channels: cross-layer equalisation (Nagel et al. 2019, section 4.1).

    It applies to pairs of layers: a layer with a kernel feeds exactly one other, directly or through ReLU or pooling.
    Output channel i of the first layer is divided by s_i, and input channel i of the second is multiplied by s_i:
    s_i = sqrt(r_i / q_i), where r_i and q_i are the largest magnitudes of the channel in the two folded kernels. Both
    magnitudes are then equal. All pairs are processed in turn until the scales converge. A pair around ReLU6 stays
    exact, too: `CappedReLU` replaces the ReLU6.

    Variables keep names and shapes. The result is for post-training quantisation: `fake_quant` does not support
    CappedReLU. Scales are limited to WIDEST times the median of their layer. Remove dead channels first, as their
    scales are extreme. Separable layers, and layers that are called twice, do not change.
    Raises ConfigError for a model that is not flat or has layers that `fake_quant` does not support.
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
    """ReLU with a cap for each channel, at most 6. It replaces ReLU6 after channels that are divided by a scale.

    A TFLite file holds it as ReLU6, which bounds the range of the integers, and a minimum.
    """

    def __init__(self, caps: Sequence[float], **kwargs: object):
        super().__init__(**kwargs)
        self.caps = tuple(map(float, caps))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "caps": list(self.caps)}

    def call(self, x):
        """x: float32 [..., C]."""
        return tf.minimum(tf.nn.relu6(x), tf.constant(self.caps, tf.float32))


def clone(model: tf_keras.Model, change: Callable[[Any], Any] | None = None) -> tf_keras.Model:
    """A copy of a model with its weights. change: makes the new layer, with the same variables, from each layer."""
    copied = tf_keras.models.clone_model(
        model, clone_function=change or (lambda layer: type(layer).from_config(layer.get_config()))
    )
    copied.set_weights(model.get_weights())
    return copied


def _scales(found: list[tuple[Side, Side]]) -> list[np.ndarray]:
    """The divisors of the output channels of each pair's first layer, [C] each; the smallest is 1."""
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
    """sqrt(first / second). Where one of them is 0: the smallest of the other scales, at most 1."""
    live = (first > 0) & (second > 0)
    scale = np.sqrt(np.where(live, first, 1) / np.where(live, second, 1))
    return np.where(live, scale, scale[live].min(initial=1.0))
