"""An int8 file beside the evaluation graph that it is made of."""

from collections import Counter
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from detect.quantization.calibrate import evaluation_graph
from detect.tflite import flatbuffer
from detect.tflite.parity import MOST, NEAR
from detect.tflite.quiet import quiet
from detect.tflite.runner import Runner

SCALING = ("MUL", "ADD", "SUB")  # of a float image, before its range


def runner(twin: tf_keras.Model) -> Runner:
    """The evaluation graph, converted as the documentation says."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([evaluation_graph(twin)])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    with quiet():
        return Runner(converter.convert())


def float_operations(file: Runner) -> Counter[str]:
    """All operations of a file that do not compute in integers, by kind.

    Left out are the scaling of the float image and its QUANTIZE, and the DEQUANTIZE of outputs.
    """
    graph, found = file.model.subgraphs[0], Counter[str]()
    image = {int(index) for index in graph.inputs}
    for operator in graph.operators:
        name = flatbuffer.operator_name(file.model, operator)
        source, result = int(operator.inputs[0]), int(operator.outputs[0])
        types = {flatbuffer.dtype_name(graph.tensors[index]) for index in (source, result)}
        if name in SCALING and source in image:
            image.add(result)
        elif types != {"int8"} and not (name == "QUANTIZE" and source in image):
            found[name] += name != "DEQUANTIZE" or result not in graph.outputs
    return +found


def steps_off(twin: tf_keras.Model, file: Runner, images: np.ndarray) -> dict[str, np.ndarray]:
    """{output: how many steps each value of the file is off}. The twin's output is a dict; values of one step."""
    wanted = twin(images, training=False)
    found = [file(image) for image in images]
    names = match({name: value.shape[1:] for name, value in wanted.items()}, wanted, found)
    result = {}
    for name, value in wanted.items():
        scale = file.scale(names[name])
        assert scale is not None, f"{name} is float in the file"
        result[name] = np.rint(np.abs(np.concatenate([one[names[name]] for one in found]) - value) / scale[0])
    return result


def match(shapes: dict, wanted: dict, found: list[dict[str, np.ndarray]]) -> dict[str, str]:
    """{output of the model: output of the file}: the converter gives them other names, so the nearest values count."""
    names = {}
    for name, shape in shapes.items():
        fits = [other for other, value in found[0].items() if value.shape[1:] == shape]
        names[name] = min(fits, key=lambda o: np.abs(np.concatenate([x[o] for x in found]) - wanted[name]).mean())
    return names


def assert_agrees(twin: tf_keras.Model, file: Runner, images: np.ndarray, near: float = NEAR, most: float = MOST):
    """The limits of an export: 99% of each output within a step of the evaluation graph, and none more than 3 off."""
    for name, off in steps_off(twin, file, images).items():
        assert (off <= 1).mean() >= near and off.max() <= most, (name, Counter(off.ravel().tolist()))


def assert_copies_agree(twin: tf_keras.Model, images: np.ndarray, folder: Path, kinds=("keras", "clone")) -> None:
    """A copy of the model gives the same bits: saved (`keras`, `h5`, `tf`) and loaded, or cloned."""
    wanted = twin(images, training=False)
    for kind in kinds:
        if kind == "clone":
            copy = tf_keras.models.clone_model(twin)
            copy.set_weights(twin.get_weights())
        else:
            path = str(folder / ("twin" + {"tf": ""}.get(kind, f".{kind}")))
            twin.save(path)
            copy = tf_keras.models.load_model(path)
        for name, value in copy(images, training=False).items():
            np.testing.assert_array_equal(value, wanted[name], err_msg=f"{kind}: {name}")
