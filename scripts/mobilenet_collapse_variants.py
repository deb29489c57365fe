"""Variants of post-training quantisation of a float network, and the agreement of each with the float network.

Used by scripts/mobilenet_collapse.py. A variant is a TFLite file, run by ai-edge-litert, if it can be. TFLite's
int8 kernels have no zero point, so asymmetric kernels are simulated: float arithmetic, kernels rounded by numpy, and
fake-quantised activations.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from detect.evaluation.matching import greedy_match
from detect.geometry.boxes import iou
from detect.quantization.calibrate import calibrate
from detect.quantization.equalise import clone, equalise, remove_dead_channels
from detect.quantization.folded import Folded
from detect.quantization.rewrite import fake_quant
from detect.quantization.rounding import round_kernel
from detect.quantization.spec import Spec
from detect.tflite import flatbuffer, operators
from detect.tflite.convert import convert
from detect.tflite.runner import Runner
from detect.tflite.weight_only import quantised

layers = tf_keras.layers
BATCH = 10
Outputs = dict[str, np.ndarray]
Predict = Callable[[Sequence[np.ndarray]], Outputs]
Boxes = tuple[np.ndarray, np.ndarray]  # [n, 4] and their scores [n]


def relu6_as_relu(model: tf_keras.Model) -> tf_keras.Model:
    """The model with ReLU in place of every ReLU6. Nagel et al. 2019 (section 5.1) do this before they equalise.

    The function changes where an activation exceeds 6: compare both models in float. `equalise` does not need this.
    """

    def change(layer):
        config = layer.get_config()
        if type(layer) is layers.ReLU and layer.max_value == 6:
            config["max_value"] = None
        elif config.get("activation") == "relu6":
            config["activation"] = "relu"
        return type(layer).from_config(config)

    return clone(model, change)


CURES: dict[str, Callable[[tf_keras.Model], tf_keras.Model]] = {
    "dead channels removed": remove_dead_channels,
    "equalised": equalise,
    "ReLU6 as ReLU": relu6_as_relu,
}


@dataclass(frozen=True)
class Variant:
    """The variant of a table's row. kernels, activations: their rounding, as text for the table; cures: names of
    CURES, in order; file: (quantize, weights) of `detect.tflite.convert`, None: simulated with `rounding`."""

    kernels: str
    activations: str
    cures: tuple[str, ...] = ()
    file: tuple[str, str] | None = None
    rounding: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the table that name it."""
        return {
            "kernels": self.kernels,
            "activations": self.activations,
            "cure": ", ".join(self.cures) or "none",
            "arithmetic": "simulated" if self.file is None else "TFLite file",
        }


def per_channel_asymmetric(kernel: np.ndarray) -> np.ndarray:
    """A kernel [..., C] in 8 bits with a step and a zero point for each output channel."""
    channels = kernel.reshape(-1, kernel.shape[-1]).T
    return np.stack([per_tensor_asymmetric(np.ascontiguousarray(c)) for c in channels], axis=-1).reshape(kernel.shape)


def per_tensor_asymmetric(kernel: np.ndarray) -> np.ndarray:
    """A kernel in 8 bits with one step and one zero point."""
    levels, step, zero = quantised(kernel.ravel())
    return ((levels.astype(np.float32) - zero) * np.float32(step)).reshape(kernel.shape)


def per_channel_symmetric(kernel: np.ndarray) -> np.ndarray:
    """A kernel [..., C] rounded as in TFLite's int8."""
    return round_kernel(tf.constant(kernel), 8, per_channel=True).numpy()


WEIGHT_ONLY, PER_TENSOR, PER_CHANNEL = ("dynamic", "per_tensor"), ("ptq", "per_tensor"), ("ptq", "per_channel")
DEAD, EQUALISED, UNBOUNDED = CURES
STANDARD = (
    Variant("float32", "float32", file=("none", "per_channel")),
    Variant("per tensor, asymmetric", "float32", file=WEIGHT_ONLY),
    Variant("per tensor, symmetric", "int8", file=PER_TENSOR),
    Variant("per tensor, asymmetric", "8 bits", rounding=per_tensor_asymmetric),
    Variant("per channel, symmetric", "int8", file=PER_CHANNEL),
    Variant("per channel, symmetric", "8 bits", rounding=per_channel_symmetric),
    Variant("per channel, asymmetric", "8 bits", rounding=per_channel_asymmetric),
    Variant("float32", "8 bits", rounding=lambda kernel: kernel),
)
CURED = (
    Variant("per tensor, symmetric", "int8", (DEAD,), PER_TENSOR),
    Variant("per tensor, symmetric", "int8", (EQUALISED,), PER_TENSOR),
    Variant("per tensor, symmetric", "int8", (DEAD, EQUALISED), PER_TENSOR),
    Variant("per tensor, asymmetric", "float32", (DEAD,), WEIGHT_ONLY),
    Variant("per tensor, asymmetric", "float32", (DEAD, EQUALISED), WEIGHT_ONLY),
    Variant("float32", "float32", (UNBOUNDED,), ("none", "per_channel")),
    Variant("per tensor, symmetric", "int8", (DEAD, UNBOUNDED, EQUALISED), PER_TENSOR),
)


def build(model: tf_keras.Model, variant: Variant, frames: Sequence[np.ndarray], threads: int) -> tuple[Predict, Any]:
    """The function that runs the variant on frames, and the size of its file in bytes (None if it is simulated).

    model: float, for one image, with named outputs. frames: uint8 [H, W, 3], for the ranges.
    """
    for cure in variant.cures:
        model = CURES[cure](model)
    if variant.file is None:
        return in_batches(simulated(model, variant.rounding, frames)), None
    graph = convert(model, *variant.file, frames=frames)
    if variant.activations == "int8":
        operators.refuse_float_convolutions(graph)
    content = flatbuffer.write(graph)
    runner = Runner(content, threads)
    return lambda images: _stacked([runner(image) for image in images]), len(content)


def simulated(model: tf_keras.Model, rounding: Any, frames: Sequence[np.ndarray]) -> tf_keras.Model:
    """The network with folded batch norm, kernels rounded by `rounding`, and 8-bit activations with ranges from the
    frames."""
    twin = fake_quant(model, Spec(ranges="calibrated"))
    calibrate(twin, _batches(frames))
    folded = {layer.name: layer for layer in twin.layers if isinstance(layer, Folded)}
    result = tf_keras.models.clone_model(
        twin, clone_function=lambda layer: _plain(layer) if layer.name in folded else layer
    )
    for name, layer in folded.items():
        kernel = layer.folded_kernel().numpy()
        flat = (
            kernel.reshape(*kernel.shape[:2], -1) if isinstance(layer.convolution, layers.DepthwiseConv2D) else kernel
        )
        bias = layer.folded_bias()
        kernels = [rounding(flat).reshape(kernel.shape)]
        result.get_layer(name).set_weights(kernels if bias is None else [*kernels, np.asarray(bias)])
    return result


def in_batches(model: tf_keras.Model) -> Predict:
    """The network on any number of frames."""
    run = tf.function(lambda batch: model(batch, training=False))
    return lambda images: _stacked([{n: v.numpy() for n, v in run(batch).items()} for batch in _batches(images)])


def agreement(reference: np.ndarray, found: np.ndarray) -> float:
    """The share of rows [N, C] whose largest value is in the same column. A row with a NaN does not agree."""
    same = reference.argmax(axis=1) == found.argmax(axis=1)
    return float(np.mean(same & np.isfinite(found).all(axis=1)))


def box_agreement(reference: Sequence[Boxes], found: Sequence[Boxes], score: float) -> dict[str, Any]:
    """Compares boxes with those of a reference, photograph by photograph. Boxes are sorted by score, best first.

    Boxes of at least `score` count, and may match a box of the other side of at least half of that, at IoU .5.
    Returns `boxes` of the reference, `matched` (share of them), `score_change` (mean over the matched, found minus
    reference; None without any) and `unmatched`: how many found boxes match none of the reference's.
    """
    total, changes, new = 0, [np.zeros(0)], 0
    for (boxes, scores), (others, their_scores) in zip(reference, found, strict=True):
        counted, shown = scores >= score, their_scores >= score
        match = greedy_match(iou(boxes, others) * (their_scores >= score / 2), 0.5)
        back = greedy_match(iou(others, boxes) * (scores >= score / 2), 0.5)
        total += int(counted.sum())
        new += int(np.sum(shown & (back < 0)))
        pairs = counted & (match >= 0)
        changes.append(their_scores[match[pairs]].astype(np.float64) - scores[pairs])
    change = np.concatenate(changes)
    return {
        "boxes": total,
        "matched": len(change) / total if total else None,
        "score_change": float(change.mean()) if len(change) else None,
        "unmatched": new,
    }


def _plain(folded: Folded) -> tf_keras.layers.Layer:
    """The folded layer as a Keras layer, with a bias if it had a batch norm or a bias."""
    config = folded.convolution.get_config()
    return type(folded.convolution).from_config(config | {"use_bias": folded.folded_bias() is not None})


def _batches(frames: Sequence[np.ndarray]) -> list[tf.Tensor]:
    return [tf.cast(np.stack(frames[i : i + BATCH]), tf.float32) for i in range(0, len(frames), BATCH)]


def _stacked(parts: Sequence[Mapping[str, np.ndarray]]) -> Outputs:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
