"""A detector's network as a TFLite file: float, half precision, 8-bit kernels, or int8 throughout."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert_phase import ConverterError

from detect.errors import ConfigError, DataError
from detect.tflite import flatbuffer, weight_only
from detect.tflite.quiet import quiet

QUANTIZE = ("none", "float16", "dynamic", "ptq", "qat")
INT8 = ("ptq", "qat")
TYPES = {"float32": tf.float32, "int8": tf.int8, "uint8": tf.uint8}


def convert(
    model: Any,
    quantize: str = "none",
    weights: str = "per_channel",
    takes: str = "uint8",
    gives: str = "float32",
    frames: Sequence[np.ndarray] = (),
) -> Any:
    """The `schema.ModelT` of a network: `image` [1, H, W, 3], levels 0..255 -> `codes` and `logits`.

    model: a tf_keras model of one image with the outputs {"codes", "logits"}; for `qat` the evaluation graph with
        its fake quantisation.
    quantize: `none`; `float16` kernels; `dynamic`: int8 kernels in a float file; `ptq`: int8 throughout, ranges from
        `frames`; `qat`: int8 throughout, ranges from the model.
    weights: one scale for each output channel of a kernel, or `per_tensor` one for the whole kernel. With `dynamic`,
        per_channel is the converter's (activations are quantised on the way as well, in the hybrid kernels), per_tensor
        is `weight_only.per_tensor` (arithmetic in float).
    takes, gives: types of image and heads; float files give float32. An int8 file's image step is 1: uint8 are the
        pixels themselves, int8 those minus 128.
    frames: [H, W, 3] each, what `ptq` takes its ranges from; at least one.
    Raises ConfigError for a network that TFLite has no (int8) operations for.
    """
    module = tf.Module()
    module.state = model.variables  # and not the model: its layers would be traced one by one
    whole = quantize in INT8  # the converter then changes the input's type itself
    kind = tf.float32 if whole else TYPES[takes]
    if not whole and (takes == "int8" or gives != "float32"):
        raise ConfigError(
            f"quantize={quantize} takes uint8 or float32 and gives float32; input={takes} heads={gives} are of int8 "
            "files (quantize=ptq or qat)"
        )

    @tf.function(input_signature=[tf.TensorSpec([1, *model.input_shape[1:]], kind, name="image")])
    def heads(image):
        outputs = model(tf.cast(image, tf.float32), training=False)
        return {name: outputs[name] for name in ("codes", "logits")}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([heads.get_concrete_function()], module)
    if quantize != "none" and not (quantize == "dynamic" and weights == "per_tensor"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if whole:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type, converter.inference_output_type = TYPES[takes], TYPES[gives]
    if quantize == "ptq":
        converter.representative_dataset = representative(frames)
        converter._experimental_disable_per_channel = weights == "per_tensor"
    try:
        with quiet():
            content = converter.convert()
    except (ConverterError, RuntimeError, ValueError) as error:
        raise ConfigError(f"quantize={quantize}: the converter refuses this network: {_reason(error)}") from error
    result = flatbuffer.read(content)
    if quantize == "dynamic" and weights == "per_tensor":
        weight_only.per_tensor(result)
    return result


def _reason(error: Exception) -> str:
    """The line of the converter's pages that says what is missing, else the first one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    telling = [line for line in lines if line.startswith(("TF Select ops:", "Custom ops:"))]
    return (telling or lines)[0][:300]


def representative(frames: Sequence[np.ndarray]) -> Any:
    """What the converter asks for its ranges: the frames, one at a time.

    Two pixels in a corner of the first are black and white, so that the image's range is 0..255 whatever the frames
    hold, and an int8 file's step is one level.
    """
    if not len(frames):
        raise DataError("quantize=ptq: the representative set is empty; it needs at least one training image")

    def draw():
        for number, frame in enumerate(frames):
            image = np.array(frame, np.float32)
            if number == 0:
                image[0, 0], image[0, 1] = 0.0, 255.0
            yield [image[np.newaxis]]

    return draw
