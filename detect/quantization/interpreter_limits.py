"""The ratios of steps that the kernels of TFLite and XNNPACK compute. Others are refused, or come out wrong.

A layer is beyond them if its inputs are far too large for the range of its output, such as an image that is not scaled
before a relu6. Its output then jumps over its whole range while an input changes by one step.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError
from detect.quantization.folded import Folded
from detect.quantization.graph import numbers, operator
from detect.quantization.grids import calls
from detect.quantization.hard_swish import shifted_relu6

layers = tf_keras.layers

LIMIT = 256
"""XNNPACK runs a convolution, sum or product only below it. TFLite's own sums and products wrap around above it."""


def check(model: tf_keras.Model) -> None:
    """Raises ConfigError, which names the layer, if a ratio of a fake-quantised model is not below its limit."""
    with tf.init_scope():  # leaves the graph that is being traced, in which variables have no values
        for layer in model._flatten_layers():
            ratio = max((float(tf.reduce_max(ratio)) for ratio in _ratios(layer)), default=0.0)
            if ratio >= LIMIT:
                raise ConfigError(
                    f"{layer.name}: a step before it is {ratio:.0f} steps of its output; TFLite computes less than "
                    f"{LIMIT}. Its inputs are far too large for the range of its output: scale the image (Rescaling), "
                    "train on, or calibrate on images of the real kind"
                )


def _ratios(layer: tf_keras.layers.Layer) -> Iterator[Any]:
    """How many steps of its output a step before a layer is, in each call. A difference has no limit."""
    if isinstance(layer, Folded):
        yield from layer.ratios()
        return
    name = operator(layer).removeprefix("r")
    shifts = isinstance(layer, layers.Activation) and layer.activation is shifted_relu6
    shifts |= isinstance(layer, layers.Rescaling) and bool(np.any(layer.offset))
    sums = shifts or isinstance(layer, layers.Add) or name.startswith("add")
    if sums or isinstance(layer, layers.Multiply | layers.Rescaling) or name.startswith("mul"):
        for node, before, after in calls(layer):
            steps = [*(step() for step in before), *_constant_step(layer, node)]
            yield (max(steps) if sums else math.prod(steps)) / after()


def _constant_step(layer: tf_keras.layers.Layer, node: Any) -> list[float]:
    """The step to which the converter rounds the numbers that a call adds or multiplies, if there are any."""
    if isinstance(layer, layers.Rescaling):
        given = layer.offset if np.any(layer.offset) else layer.scale
    else:
        given = numbers(node.call_args, node.call_kwargs) if operator(layer) else None
    return [] if given is None else [(np.max(given, initial=0) - np.min(given, initial=0)) / 255]
