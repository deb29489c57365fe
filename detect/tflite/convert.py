"""Converts a network to a TFLite file: float, half precision, 8-bit kernels, or full int8."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras
from ai_edge_litert import schema_py_generated as schema
from tensorflow.lite.python.convert_phase import ConverterError

from detect.errors import ConfigError, DataError
from detect.quantization.activations import FakeQuant
from detect.quantization.calibrate import evaluation_graph
from detect.quantization.phases import stepped
from detect.quantization.supported_layers import KERNELS
from detect.tflite import flatbuffer, float_layers, input_pixels, weight_only
from detect.tflite.options import INT8
from detect.tflite.quiet import quiet

QUANTIZE = ("none", "float16", "dynamic", "ptq", "qat")
OUTPUT = "output"  # the name of the only output of a network without names
TYPES = {"float32": tf.float32, "int8": tf.int8, "uint8": tf.uint8}
Graph = Callable[[tf.Tensor], dict[str, tf.Tensor] | tf.Tensor]
"""An evaluation graph: images float32 [B, H, W, 3], levels 0..255 -> its outputs."""


def convert(
    model: tf_keras.Model,
    quantize: str = "none",
    weights: str = "per_channel",
    takes: str = "uint8",
    gives: str = "float32",
    frames: Sequence[np.ndarray] = (),
    batch: int | None = 1,
) -> schema.ModelT:
    """The `schema.ModelT` of a network: `image` [batch, H, W, 3], levels 0..255 -> its outputs by their names.

    model: a tf_keras model with one image as input; a single output is called `output`. For `qat` it is fake-quantised,
        and its evaluation graph is converted.
    quantize: `none`; `float16`: float16 kernels (`weight_only.float16`); `dynamic`: int8 kernels in a float file;
        `ptq`: full int8, with ranges from `frames`; `qat`: full int8 except for the layers that the model keeps float,
        with kernels and ranges from the model.
    weights: `per_channel` has one scale for each output channel of a kernel, `per_tensor` one for the whole kernel.
        With `dynamic`, per_channel is the converter's (its hybrid kernels also quantise activations), and per_tensor is
        `weight_only.per_tensor` (arithmetic in float).
    takes, gives: the types of image and outputs; float files give float32. The image step of an int8 file is 1: uint8
        values are the pixels, int8 values are the pixels minus 128.
    frames: [H, W, 3] each, the images that `ptq` measures its ranges on; at least one.
    batch: the number of images in a call; None allows any number, after a resize of the input (`Runner`).
    Raises ConfigError if TFLite has no (int8) operations for the network; for `qat` also if the network is not
    fake-quantised, has not trained beyond its delay, or has a range that saw no data or is not finite.
    """
    if quantize not in INT8 and (takes == "int8" or gives != "float32"):
        raise ConfigError(
            f"quantize={quantize} takes uint8 or float32 and gives float32; input={takes} heads={gives} need an int8 "
            "file (quantize=ptq or qat)"
        )
    check_network(model)
    if quantize == "qat":
        return _fake_quantised(model, takes, gives, batch)
    converter = converter_of(model, "float32" if quantize == "ptq" else takes, batch)
    if quantize == "ptq" or (quantize == "dynamic" and weights == "per_channel"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "ptq":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type, converter.inference_output_type = TYPES[takes], TYPES[gives]
        converter.representative_dataset = representative(frames)
        converter._experimental_disable_per_channel = weights == "per_tensor"
    result = _run(converter, quantize)
    if quantize == "float16":
        weight_only.float16(result)
    if quantize == "dynamic" and weights == "per_tensor":
        weight_only.per_tensor(result)
    return result


def _fake_quantised(model: tf_keras.Model, takes: str, gives: str, batch: int | None) -> schema.ModelT:
    """The int8 file of an evaluation graph. If the scaling of pixels must stay float, pixels are cast to float."""
    graph, layers = evaluation_graph(model, batch), float_kernels(model)
    bits = {layer.spec.activation_bits for layer in stepped(model)}
    if bits != {8}:
        raise ConfigError(f"quantize.spec.activation_bits={min(bits)}: a TFLite file holds 8; fewer are for studies")
    for image in dict.fromkeys(("float32", takes)):
        converter = converter_of(model, image, batch, graph)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_output_type = TYPES[gives]
        result = _run(converter, "qat")
        float_layers.restore(result, layers, functools.partial(_in_float, model, image, batch, graph))
        pixels = None if image == takes else rounded_pixels(model)
        if image == takes or (pixels is not None and input_pixels.take_pixels(result, takes, pixels)):
            break
    return result


def rounded_pixels(model: tf_keras.Model) -> np.ndarray | None:
    """The integers of all 256 levels in the evaluation graph: steps above 0, [256, C]. None: no range follows it."""
    layer = next((layer for layer in model.layers if isinstance(layer, FakeQuant)), None)  # they are in order
    if layer is None or tuple(layer.get_output_at(0).shape[1:]) != model.input_shape[1:]:  # the scaling is kept float
        return None
    height, width, channels = model.input_shape[1:]
    ramp = np.resize(np.arange(256, dtype=np.float32), (-(-256 // (height * width)), height, width, 1))
    values = tf_keras.Model(model.input, layer.get_output_at(0))(np.repeat(ramp, channels, -1), training=False)
    return np.rint(values / layer.step()).reshape(-1, channels)[:256]


def float_kernels(model: tf_keras.Model) -> dict[str, bool]:
    """All layers of a fake-quantised model by name, and whether they have a float kernel. Quantised kernels are inside
    a `Folded` layer."""
    return {layer.name: isinstance(layer, KERNELS) for layer in model.layers}


def _in_float(model: tf_keras.Model, takes: str, batch: int | None, graph: Graph) -> schema.ModelT:
    return _run(converter_of(model, takes, batch, graph), "qat")


def converter_of(
    model: tf_keras.Model, takes: str, batch: int | None, graph: Graph | None = None
) -> "tf.lite.TFLiteConverter":
    """TensorFlow's converter of a network, `image` [batch, H, W, 3] -> its outputs by their names, without options.

    graph: an evaluation graph of the model; if given, it is converted, not the model itself.
    """
    signature = [tf.TensorSpec([batch, *model.input_shape[1:]], TYPES[takes], name="image")]

    @tf.function(input_signature=signature, autograph=False)
    def network(image):
        levels = tf.cast(image, tf.float32)
        if takes == "int8":
            levels += 128.0
        outputs = model(levels, training=False) if graph is None else graph(levels)
        return dict(outputs) if isinstance(outputs, Mapping) else {OUTPUT: outputs}

    function, module = network.get_concrete_function(), tf.Module()
    module.state = list(function.variables)  # not the model itself: then each layer would be traced
    return tf.lite.TFLiteConverter.from_concrete_functions([function], module)


def check_network(model: tf_keras.Model) -> None:
    """Raises ConfigError unless the network takes one image and gives one tensor or named tensors."""
    outputs = list(model.output.values()) if isinstance(model.output, Mapping) else [model.output]
    if len(model.inputs) != 1 or any(isinstance(output, list | tuple | Mapping) for output in outputs):
        raise ConfigError(
            f"{model.name} takes {len(model.inputs)} inputs and gives a {type(model.output).__name__}; a file is made "
            "of a network that takes one image, and gives one tensor or a dict of tensors"
        )


def _run(converter: "tf.lite.TFLiteConverter", quantize: str) -> schema.ModelT:
    try:
        with quiet():
            content = converter.convert()
    except (ConverterError, RuntimeError, ValueError) as error:
        raise ConfigError(f"quantize={quantize}: the converter refuses this network: {_reason(error)}") from error
    return flatbuffer.read(content)


def _reason(error: Exception) -> str:
    """The line of the converter's long message that names the missing operations, or else the first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    telling = [line for line in lines if line.startswith(("TF Select ops:", "Custom ops:"))]
    return (telling or lines)[0][:300]


def representative(frames: Sequence[np.ndarray]) -> Callable[[], Iterator[list[np.ndarray]]]:
    """The representative data set of the converter: the frames, one at a time.

    Two pixels in a corner of the first frame are set to black and white. So the range of the image is always 0..255,
    and the step of an int8 file is one level.
    """
    if not len(frames):
        raise DataError("quantize=ptq: the representative set is empty; it needs at least one training image")

    def draw() -> Iterator[list[np.ndarray]]:
        for number, frame in enumerate(frames):
            image = np.array(frame, np.float32)
            if number == 0:
                image[0, 0], image[0, 1] = 0.0, 255.0
            yield [image[np.newaxis]]

    return draw
