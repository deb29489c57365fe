"""Builds the detector of a pipeline.config with the TF Object Detection API's own `model_builder`, with random weights,
and writes its checkpoint, its anchors, and what it makes of random images: outputs, losses, detections.

Usage: python scripts/api_detector.py PIPELINE.config FOLDER [CLASSES]      (scripts/migrate_table.py calls it)
It needs an environment of its own, with Python 3.11 and PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python:
    pip install tensorflow-cpu==2.15.* tf_keras==2.15.* tf-slim "numpy<2" matplotlib pandas lxml scipy pillow
    pip install --no-deps tf-models-research-object-detection==2.8.0.post1
Feature extractors whose name ends in `_keras` are built by TensorFlow 2 and give an object-based checkpoint, as those
of the TF 2 zoo are; all others are a graph of TensorFlow 1 and give a checkpoint by names. CLASSES replaces the
number of classes. In Faster R-CNN every sampler takes all that it may take, so that nothing is drawn at random.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import zlib
from pathlib import Path
from unittest import mock

import numpy as np

IMAGES, BOXES = 2, 4  # of each image
ABSENT = ("official", "lvis", "tensorflow_io", "pycocotools")  # parts of the API that no detector here uses import them


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives an empty module for each package of ABSENT."""

    def find_spec(self, name, path=None, target=None):
        known = name.split(".")[0] in ABSENT or name.startswith("tensorflow.contrib")
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec):
        return mock.MagicMock(name=spec.name, __path__=[], __spec__=spec)

    def exec_module(self, module):
        pass


def prepare(keras: bool):
    """Makes the API importable, for TensorFlow 2 or 1; returns TensorFlow."""
    sys.meta_path.append(Absent())
    np.int, np.bool, np.float = int, bool, float  # the API is older than NumPy 1.24, which dropped the aliases
    import tensorflow as tf

    for name in ("", ".base", ".convolutional", ".core", ".normalization", ".pooling"):  # TensorFlow 2.15 looks there
        module = importlib.import_module(f"tf_keras.src.legacy_tf_layers{name}")
        sys.modules[f"tf_keras.legacy_tf_layers{name}"] = module
    import object_detection
    from tensorflow.python.framework import ops

    ops.Tensor = tf.Tensor  # tf-slim looks there
    sys.path.append(str(Path(object_detection.__path__[0])))  # slim's networks are imported as `nets`
    if not keras:
        tf.compat.v1.disable_v2_behavior()
    return tf


def random_value(name: str, shape: list[int]) -> np.ndarray:
    """Random numbers that follow from the name of a variable alone; they keep the signal at the size of 1.

    They have the 8 bits of a bfloat16, so that a checkpoint of them compresses well.
    """
    return (drawn(name, shape).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def drawn(name: str, shape: list[int]) -> np.ndarray:
    """The same before rounding."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    kind = name.rpartition("/")[2]
    if len(shape) in (2, 4):
        fan = np.prod(shape[:2]) if "depthwise" in kind else np.prod(shape[:-1])
        smaller = 4 if "ClassPredictor" in name else 1  # scores of 1.0 would tie, and come in any order
        return random.normal(0, np.sqrt(2 / fan) / smaller, shape)
    return random.uniform(0.5, 1.5, shape) if kind in ("gamma", "moving_variance") else random.normal(0, 0.3, shape)


def inputs(size: tuple[int, int], classes: int) -> dict[str, np.ndarray]:
    """Random images of the frame's size, and boxes in shares of the frame with classes from 1.

    The boxes are nearly square in pixels, so that each has an anchor with an IoU of .5: a box without one is matched to
    its best anchor, and rounding decides between several anchors that contain it.
    """
    random = np.random.default_rng(0)
    sides = random.uniform(0.15, 0.6, (IMAGES, BOXES, 1)) * random.uniform(0.85, 1.0, (IMAGES, BOXES, 2))
    sides *= min(size) / np.array(size)
    low = random.uniform(0, 1, (IMAGES, BOXES, 2)) * (1 - sides)
    return {
        "images": random.integers(0, 256, (IMAGES, *size, 3), np.uint8),
        "boxes": np.concatenate([low, low + sides], axis=2).astype(np.float32),
        "classes": random.integers(1, classes + 1, (IMAGES, BOXES)).astype(np.int32),
    }


def sampling_all(model) -> None:
    """Changes the settings of a Faster R-CNN: both samplers take all that they may take."""
    if model.WhichOneof("model") == "faster_rcnn":
        model.faster_rcnn.first_stage_minibatch_size = 1 << 20
        model.faster_rcnn.second_stage_batch_size = model.faster_rcnn.first_stage_max_proposals


def frame_of(model) -> tuple[int, int]:
    """The size of images that the resizer leaves as they are."""
    resizer = getattr(model, model.WhichOneof("model")).image_resizer
    if resizer.WhichOneof("image_resizer_oneof") == "fixed_shape_resizer":
        return resizer.fixed_shape_resizer.height, resizer.fixed_shape_resizer.width
    return resizer.keep_aspect_ratio_resizer.min_dimension, resizer.keep_aspect_ratio_resizer.max_dimension


def answers(tf, network, given: dict[str, np.ndarray], classes: int, losses: bool, detections: bool) -> dict:
    """The outputs, the losses and the detections, as tensors."""
    prepared, shapes = network.preprocess(tf.constant(given["images"].astype(np.float32)))
    boxes = [tf.constant(each) for each in given["boxes"]]
    network.provide_groundtruth(boxes, [tf.one_hot(each - 1, classes) for each in given["classes"]])
    outputs = network.predict(prepared, shapes)
    found = {}
    if losses:
        found |= {f"loss/{name}": value for name, value in network.loss(outputs, shapes).items()}
    if detections:
        for name in ("box_encodings", "class_predictions_with_background", "anchors", "refined_box_encodings"):
            value = outputs.get(name)
            found[name] = value.get() if hasattr(value, "get") else value
        found |= {f"found/{name}": value for name, value in network.postprocess(outputs, shapes).items()}
    return {name: value for name, value in found.items() if value is not None}


def by_graph(tf, build, model, given, classes, folder: Path) -> dict[str, np.ndarray]:
    """TensorFlow 1: the values are of a session, the checkpoint is by names.

    The losses of Faster R-CNN need a network in training; its batch norm is frozen there, too.
    """
    tf1, result = tf.compat.v1, {}
    two_stages = model.WhichOneof("model") == "faster_rcnn"
    for training in (False, True) if two_stages else (False,):
        with tf1.Graph().as_default(), tf1.Session() as session:
            network = build(model, is_training=training)
            found = answers(tf1, network, given, classes, losses=training or not two_stages, detections=not training)
            session.run(tf1.global_variables_initializer())
            for each in tf1.global_variables():
                if each.dtype.base_dtype == tf.float32:
                    each.load(random_value(each.op.name, each.shape.as_list()), session)
            result |= session.run(found)
            if not training:
                tf1.train.Saver(tf1.global_variables()).save(
                    session, str(folder / "model.ckpt"), write_meta_graph=False
                )
    return result


def by_objects(tf, build, model, given, classes, folder: Path) -> dict[str, np.ndarray]:
    """TensorFlow 2: eager values, an object-based checkpoint."""
    network = build(model, is_training=False)
    answers(tf, network, given, classes, losses=False, detections=False)  # makes the variables
    for each in {id(v): v for v in network.trainable_variables + list(moving(network))}.values():
        each.assign(random_value(each.name.split(":")[0], each.shape.as_list()))
    result = answers(tf, network, given, classes, losses=True, detections=True)
    tf.train.Checkpoint(model=network).save(str(folder / "ckpt"))
    return {name: value.numpy() for name, value in result.items()}


def moving(network):
    """The statistics of batch norm, which are no trainable variables."""
    for module in network.submodules:
        if hasattr(module, "moving_variance"):
            yield from module.variables


def main() -> None:
    """Builds, asks, writes."""
    config, folder = Path(sys.argv[1]), Path(sys.argv[2])
    tf = prepare(keras="_keras" in config.read_text())
    from object_detection.builders import model_builder
    from object_detection.utils import config_util

    model = config_util.get_configs_from_pipeline_file(str(config))["model"]
    part = getattr(model, model.WhichOneof("model"))
    part.num_classes = int(sys.argv[3]) if len(sys.argv) > 3 else part.num_classes
    sampling_all(model)
    given = inputs(frame_of(model), part.num_classes)
    folder.mkdir(parents=True, exist_ok=True)
    work = by_objects if "_keras" in part.feature_extractor.type else by_graph
    result = work(tf, model_builder.build, model, given, part.num_classes, folder)
    np.savez_compressed(folder / "answers.npz", **given, **{n.replace("/", "."): v for n, v in result.items()})
    print({name: getattr(value, "shape", value) for name, value in result.items()})


if __name__ == "__main__":
    main()
