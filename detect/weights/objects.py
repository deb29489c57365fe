"""Object-based checkpoints of TensorFlow 2, as the TF 2 zoo of the Object Detection API has them.

Such a file keys a variable by its place in a program (`model/_feature_extractor/classification_backbone/
layer_with_weights-0/kernel`). Its object graph also has the name of each variable in that program, such as
`Conv1/kernel`; these names are translated here.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import trackable_object_graph_pb2

from detect.errors import WeightsError, printable
from detect.weights import keras_file, table
from detect.weights.interface import Network
from detect.weights.names import NORM_NAMES, SLIM_NAMES, Arrays

VALUE = "VARIABLE_VALUE"
OPTIMISER = re.compile(r"\.OPTIMIZER_SLOT|(^|/)optimizer/")
"""In the keys of an optimiser's variables, of tf_keras' legacy optimisers and of the current ones."""
RULES = (
    # The API's layers below its feature extractor and its predictor, and our names.
    (r"^(?:\w+/)?FeatureMaps/top_down/(projection|smoothing)_(\d+)", r"fpn/\1_\2"),
    (r"^\w+/(bottom_up_Conv2d_\d+)", r"fpn/\1"),
    (r"^(?:\w+/)?FeatureMaps/", ""),
    (r"^BoxPredictor/\w+?(?:Box|Class)Head_(\d+)/", r"BoxPredictor_\1/"),
    (r"^(WeightSharedConvolutionalBoxPredictor)/WeightSharedConvolutional(?:Box|Class)Head/", r"\1/"),
)
SUFFIXES = ((r"_batchnorm$", "/BatchNorm"), (r"^(fpn/\w+?)_depthwise_conv$", r"\1"), (r"_conv$", ""))
KINDS = (*SLIM_NAMES.values(), *NORM_NAMES)


def is_one(prefix: Path) -> bool:
    """Whether a checkpoint is object-based. Raises WeightsError for a damaged one."""
    if not prefix.with_name(f"{prefix.name}.index").is_file():
        return False
    table.check(prefix, objects=True)
    try:
        return bool(tf.train.load_checkpoint(str(prefix)).has_tensor(table.OBJECT_GRAPH))
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise WeightsError(f"{prefix} can't be read: it is damaged or not a checkpoint") from error


def read(prefix: Path, backbone: Network) -> Arrays:
    """The weights of a detector of the TF 2 zoo, or of a backbone of Keras, by our names.

    prefix: of the checkpoint. backbone: its `keras_layers()` gives our names of the layers of tf_keras.applications.
    Variables of an optimiser, and counters, are left out. Layers of Keras after the last of the backbone belong to a
    classifier, and get names below `Logits/`. Raises WeightsError for a file without names, and for one in
    which none of the names is a layer of the backbone.
    """
    keras_layers = backbone.keras_layers()
    held = {(name.rpartition("/")[0], name.rpartition("/")[2]): array for name, array in by_names(prefix).items()}
    found = keras_file.renumbered({key: array for key, array in held.items() if key[1] in KINDS}, keras_layers)
    named = {f"{layer}/{kind}".lstrip("/"): array for (layer, kind), array in found.items()}
    if not any(name.rpartition("/")[0] in keras_layers for name in named):
        raise WeightsError(
            f"{prefix} is an object-based checkpoint (tf.train.Checkpoint or save_weights of TF 2), and none of its "
            "names is of this backbone. Legal are those of the TF 2 Object Detection API with their own backbone, and "
            "checkpoints by variable names: those of TF-slim, of the TF 1 Object Detection API and of this program's "
            "runs."
        )
    top = {layer for layer in keras_file.classifier(found, keras_layers) if "/" not in layer}  # the API's have folders
    result: dict[str, np.ndarray] = {}
    for name, array in named.items():
        ours = f"Logits/{name}" if name.rpartition("/")[0] in top else our_name(name, keras_layers)
        if ours in result:
            raise WeightsError(f"{prefix} has two arrays for the variable {printable(ours)}")
        result[ours] = array
    arrays = Arrays(keras_file.rgb(result, backbone))
    if any(name.startswith("fpn/") for name in arrays):
        arrays.settings = {"detector.neck.carry": "smoothed"}
    return arrays


def by_names(prefix: Path) -> dict[str, np.ndarray]:
    """All arrays by the names that the writing program gave its variables, by layer. Raises WeightsError."""
    table.check(prefix, objects=True)
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(table.OBJECT_GRAPH))
        held = set(reader.get_variable_to_shape_map())
        result: dict[str, np.ndarray] = {}
        attributes = [attribute for node in graph.nodes for attribute in node.attributes]
        for attribute in sorted(attributes, key=lambda attribute: _by_number(attribute.checkpoint_key)):
            key, name = attribute.checkpoint_key, attribute.full_name
            if attribute.name != VALUE or OPTIMISER.search(key) or key not in held or not name:
                continue
            if name in result:
                raise WeightsError(f"{prefix} has two variables of the name {printable(name[:100])}")
            result[name] = reader.get_tensor(key)
        return result
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError, TypeError, DecodeError) as error:
        raise WeightsError(f"{prefix} can't be read: it is damaged or not a checkpoint") from error


def _by_number(key: str) -> list[str | int]:
    """Sorts `layer_with_weights-2/...` before `layer_with_weights-10/...`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", key, flags=re.ASCII)]


def our_name(name: str, keras_layers: Mapping[str, str]) -> str:
    """`bn_Conv1/gamma` -> `Conv/BatchNorm/gamma`; `BoxPredictor/ConvolutionalClassHead_0/ClassPredictor/bias` ->
    `BoxPredictor_0/ClassPredictor/bias`."""
    layer, _, kind = name.rpartition("/")
    if layer in keras_layers:
        return f"{keras_layers[layer]}/{kind}"
    for pattern, ours in RULES:
        if re.search(pattern, layer):
            layer = re.sub(pattern, ours, layer)
            break
    for pattern, ours in SUFFIXES:
        layer = re.sub(pattern, ours, layer)
    return f"{layer}/{kind}"
