"""The layers that can be quantised, and the range that the output of each is rounded to."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from detect.quantization.activations import Ties
from detect.quantization.graph import Op, is_keras_tensor, number_first, numbers, operator

layers = tf_keras.layers
# The range that the output of a unit is rounded to. OWN: its own range. SAME: the range of its input; the output is on
# that grid already. ROUND: the range of its input; the output must be rounded. FIXED: a range that the operation
# prescribes. JOIN: the common range of all inputs. FLOAT: none.
OWN, SAME, ROUND, FIXED, JOIN, FLOAT = "own", "same", "round", "fixed", "join", "float"

KERNELS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Dense)
ARITHMETIC = (layers.Add, layers.Subtract, layers.Multiply, layers.Rescaling)
OPERATORS = ("add", "sub", "mul", "subtract", "multiply", "radd", "rsub", "rmul")  # TFOpLambda: x + 3, x * y
VANISH = (layers.Dropout, layers.SpatialDropout2D)
AFTER = {
    **dict.fromkeys((layers.MaxPooling2D, layers.GlobalMaxPooling2D, layers.Reshape, layers.Flatten), SAME),
    **dict.fromkeys((layers.Permute, layers.Cropping2D, layers.ZeroPadding2D), SAME),
    **dict.fromkeys(VANISH, SAME),
    **dict.fromkeys((layers.GlobalAveragePooling2D, layers.LeakyReLU), OWN),
    **dict.fromkeys((layers.Softmax, layers.UnitNormalization), FIXED),
    **dict.fromkeys((layers.AveragePooling2D, layers.ReLU), ROUND),
    layers.Concatenate: JOIN,
}
AFTER_ACTIVATION = {
    **dict.fromkeys(("relu", "relu6"), ROUND),
    **dict.fromkeys(("swish", "silu"), OWN),
    **dict.fromkeys(("softmax", "sigmoid", "tanh"), FIXED),
    "linear": SAME,
}
SWISHES = ("swish", "silu")
RELUS = ("relu", "relu6")  # an integer convolution or addition includes them, so nothing is rounded before them
LEGAL = (
    "Conv2D, DepthwiseConv2D, SeparableConv2D and Dense, with BatchNormalization after them or without; ReLU, "
    "LeakyReLU, Softmax and Activation (relu, relu6, swish, softmax, sigmoid, tanh); Add, Subtract, Multiply, "
    "Concatenate, pooling, Rescaling, UnitNormalization, Reshape, Flatten, Permute, UpSampling2D, Cropping2D, "
    "ZeroPadding2D, Dropout; + - * of tensors"
)


def is_relu(op: Op) -> bool:
    """Whether the operation is a ReLU, with any cap or without one."""
    layer = op.layer
    if type(layer) is layers.ReLU:
        return not layer.negative_slope and not layer.threshold
    return type(layer) is layers.Activation and activation(layer) in RELUS


def cap(op: Op) -> float | None:
    """The cap of a ReLU that TFLite does not know: another one than 6. None for any other layer."""
    layer = op.layer
    return float(layer.max_value) if type(layer) is layers.ReLU and layer.max_value not in (None, 6) else None


def activation(layer) -> str:
    """The name of a layer's activation."""
    function = layer.activation
    return getattr(function, "__name__", type(function).__name__)


def changes_nothing(op: Op) -> bool:
    """Whether a file leaves it out: Dropout, Activation("linear"), `x + 0.0`, `x * 1.0` and such a Rescaling."""
    layer, name, given = op.layer, operator(op.layer).removeprefix("r"), numbers(op.args, op.kwargs)
    if type(layer) is layers.Activation:
        return activation(layer) == "linear"
    if type(layer) is layers.Rescaling:
        return _all(layer.scale, 1, op) and _all(layer.offset, 0, op)
    if given is None or not is_operator(op):
        return type(layer) in VANISH
    changes = name.startswith("sub") and (number_first(op) or name != operator(layer))
    return not changes and _all(given, float(name.startswith("mul")), op)


def _all(given: Any, value: float, op: Op) -> bool:
    """Whether the numbers all have a value, and leave the shape of the tensor as it is."""
    channels = next(x.shape[-1] for x in tf.nest.flatten([op.args, op.kwargs]) if is_keras_tensor(x))
    return bool(np.all(np.equal(given, value))) and np.ndim(given) <= 1 and np.size(given) in (1, channels)


def ties(op: Op) -> Ties | None:
    """How TFLite rounds values of this layer that are halfway between two integers, if not to even."""
    return {layers.AveragePooling2D: "away", layers.UpSampling2D: "up"}.get(type(op.layer))  # type: ignore[return-value]


def is_operator(op: Op) -> bool:
    """Whether it is a sum, difference or product in Python, of two tensors or of a tensor and a number."""
    return operator(op.layer) in OPERATORS


def after(op: Op) -> str | None:
    """The kind of range for the output of a layer that is copied; None: the layer can't be quantised."""
    layer, kind = op.layer, type(op.layer)
    if kind is layers.Activation:
        return AFTER_ACTIVATION.get(activation(layer))
    if kind is layers.ReLU:
        return None if layer.negative_slope or layer.threshold else ROUND
    if kind is layers.UpSampling2D:
        return {"nearest": SAME, "bilinear": ROUND}.get(layer.interpolation)
    return AFTER.get(kind)


def norm_problem(norm, rank: int | None = None) -> str | None:
    """The reason why a batch norm can't be folded, or None. rank: the rank that its input must have."""
    dimensions = norm.input_spec.ndim
    if list(norm.axis) != [dimensions - 1]:
        return f"axis={list(norm.axis)}: legal is the last one"
    if getattr(norm, "renorm", False) or getattr(norm, "virtual_batch_size", None):
        return "renorm and virtual_batch_size are not supported"
    if rank is not None and dimensions != rank:
        return "a batch norm of vectors must follow its dense layer directly, before the activation"
    return None


def why_not(op: Op) -> str:
    """The reason why a layer can't be quantised."""
    layer, kind = op.layer, type(op.layer).__name__
    if isinstance(layer, layers.BatchNormalization):
        return norm_problem(layer, rank=4) or kind
    if kind in ("FakeQuant", "Folded"):
        return "the model is fake-quantised already"
    if kind == "Activation":
        return f"activation={activation(layer)}; legal are {', '.join(AFTER_ACTIVATION)}"
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        return f"{kind} of {getattr(layer, 'symbol', 'a slice')}"
    if kind == "ReLU":
        return f"ReLU with negative_slope={layer.negative_slope}, threshold={layer.threshold}; legal is 0 for both"
    if kind == "UpSampling2D":
        return f"UpSampling2D with interpolation={layer.interpolation}; legal are nearest and bilinear"
    return f"{kind} is not among the legal layers"
