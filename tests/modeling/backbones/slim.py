"""TF-slim's own networks as oracle: random weights, written to a checkpoint, and what the network makes of images."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
import tf_keras.src.legacy_tf_layers as legacy
from tf_keras.src.legacy_tf_layers import base, convolutional, core, normalization, pooling

from detect.weights.sources import FromFile
from detect.weights.transfer import transfer

# tf_slim looks for these at the place that they had in earlier releases of tf_keras.
sys.modules["tf_keras.legacy_tf_layers"] = legacy
for _module in (base, convolutional, core, normalization, pooling):
    sys.modules[f"tf_keras.legacy_tf_layers.{_module.__name__.rpartition('.')[2]}"] = _module

import tf_slim  # noqa: E402
from tf_slim.nets import inception_v2, inception_v3, vgg  # noqa: E402

NETWORKS = {
    "InceptionV2": (inception_v2.inception_v2, inception_v2.inception_v2_arg_scope),
    "InceptionV3": (inception_v3.inception_v3, inception_v3.inception_v3_arg_scope),
    "vgg_16": (vgg.vgg_16, vgg.vgg_arg_scope),
}


def end_point_shapes(scope: str, size: int) -> dict[str, list[int]]:
    """[height, width, channels] of all that the network of this scope gives for images of `size` pixels."""
    with _graph():
        image = tf.compat.v1.placeholder(tf.float32, (1, size, size, 3))
        end_points = _build(scope, image, spatial_squeeze=False)
        return {name: tensor.shape.as_list()[1:] for name, tensor in end_points.items()}


def build(backbone, shape):
    """A model of the backbone alone. shape: (height, width, channels), or None for a side of any length."""
    image = tf_keras.Input(shape)
    return tf_keras.Model(image, backbone(image))


def features_of_both(backbone, images: np.ndarray, folder: Path, scaled: np.ndarray, **settings):
    """Random weights go from slim's network through a checkpoint into ours: the last end point of (ours, slim's).

    images: float32 [B, H, W, 3] in 0..255; scaled: the same, as slim's network takes them.
    settings: of `run`.
    """
    image = tf_keras.Input(images.shape[1:])
    end_points = backbone(image)
    model = tf_keras.Model(image, list(end_points.values())[-1])
    expected = run(backbone.slim_scope, scaled, list(end_points)[-1], folder / "slim.ckpt", **settings)
    arrays = FromFile(str(folder / "slim.ckpt")).read(backbone)
    ledger = transfer(model, arrays, source="slim", layers={layer.name for layer in model.layers})
    assert len(ledger.loaded) == len(model.variables)
    return model(images, training=False).numpy(), expected


def run(scope: str, images: np.ndarray, last: str, prefix: Path, keep: str = "", api: bool = False, **arguments):
    """Writes a checkpoint with random weights to `prefix`, and returns the end point `last` of `images`.

    images: float32 [B, H, W, 3] as the network takes them, scaled.
    keep: the beginning of the names of the variables that are needed, after the scope; the others have no value.
    api: with the settings of the Object Detection API's SSD in place of slim's classifier.
    arguments: of the network (`depth_multiplier`, ...).
    """
    with _graph(), tf.compat.v1.Session() as session:
        size = None if keep else images.shape[1]  # VGG's dense layers refuse small images, unless the size is open
        image = tf.compat.v1.placeholder(tf.float32, (None, size, size, 3))
        end_points = _build(scope, image, api, num_classes=5, **arguments)
        variables = tf_slim.get_model_variables(f"{scope}/{keep}")
        random = np.random.default_rng(0)
        values = {v.initializer.inputs[1]: _values(v.op.name, v.shape.as_list(), random) for v in variables}
        session.run([variable.initializer for variable in variables], values)
        tf.compat.v1.train.Saver(variables).save(session, str(prefix), write_meta_graph=False)
        return session.run(end_points.get(last, end_points.get(f"{scope}/{last}")), {image: images})


@contextlib.contextmanager
def _graph() -> Iterator[None]:
    try:
        with tf.Graph().as_default():
            yield
    finally:
        # A layer that is made in a graph turns its class into that of TF 1, which refuses the models that exist. One
        # that is made outside of it turns the class back.
        tf_keras.layers.BatchNormalization()


def _build(scope: str, image, api: bool = False, **arguments) -> dict:
    network, arg_scope = NETWORKS[scope]
    settings = {
        "activation_fn": tf.nn.relu6,
        "normalizer_fn": tf_slim.batch_norm,
        "normalizer_params": {"scale": True, "epsilon": 0.001},
    }
    kinds = [tf_slim.conv2d, tf_slim.separable_conv2d] if api else []
    with tf_slim.arg_scope(arg_scope()), tf_slim.arg_scope(kinds, **settings):
        return network(image, is_training=False, **arguments)[1]


def _values(name: str, shape: list[int], random: np.random.Generator) -> np.ndarray:
    """Values that keep the signal alive through many layers, batch norm's statistics far from 0 and 1."""
    if name.endswith("weights"):
        fan_in = shape[0] * shape[1] * (1 if name.endswith("depthwise_weights") else shape[2])
        return random.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
    low, high = (0.5, 1.5) if name.endswith(("moving_variance", "gamma")) else (-0.3, 0.3)
    return random.uniform(low, high, shape).astype(np.float32)
