"""Object-based checkpoints: names of the API's Keras networks, what is left out, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import WeightsError
from detect.modeling.backbones.inception_v3 import InceptionV3
from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.backbones.mobilenet_v2 import MobileNetV2
from detect.modeling.backbones.vgg16 import VGG16
from detect.weights import formats, objects


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Conv1/kernel", "Conv/kernel"),
        ("bn_Conv1/gamma", "Conv/BatchNorm/gamma"),
        ("block_3_expand_BN/beta", "expanded_conv_3/expand/BatchNorm/beta"),
        ("a_fpn_keras/FeatureMaps/top_down/projection_3/bias", "fpn/projection_3/bias"),
        ("FeatureMaps/top_down/smoothing_2_conv/kernel", "fpn/smoothing_2/kernel"),
        ("x/FeatureMaps/top_down/smoothing_1_depthwise_conv/pointwise_kernel", "fpn/smoothing_1/pointwise_kernel"),
        ("x/FeatureMaps/top_down/smoothing_1_batchnorm/gamma", "fpn/smoothing_1/BatchNorm/gamma"),
        ("x/bottom_up_Conv2d_20_depthwise_conv/depthwise_kernel", "fpn/bottom_up_Conv2d_20/depthwise_kernel"),
        ("x/bottom_up_Conv2d_20_batchnorm/beta", "fpn/bottom_up_Conv2d_20/BatchNorm/beta"),
        ("x/FeatureMaps/layer_19_1_Conv2d_2_1x1_256_conv/kernel", "layer_19_1_Conv2d_2_1x1_256/kernel"),
        ("x/FeatureMaps/l_2_Conv2d_2_3x3_s2_512_depthwise_conv/depthwise_kernel",
         "l_2_Conv2d_2_3x3_s2_512_depthwise/depthwise_kernel"),
        ("x/FeatureMaps/l_2_Conv2d_2_3x3_s2_512_depthwise_batchnorm/beta",
         "l_2_Conv2d_2_3x3_s2_512_depthwise/BatchNorm/beta"),
        ("BoxPredictor/ConvolutionalClassHead_0/ClassPredictor/bias", "BoxPredictor_0/ClassPredictor/bias"),
        ("WeightSharedConvolutionalBoxPredictor/WeightSharedConvolutionalBoxHead/BoxPredictor/bias",
         "WeightSharedConvolutionalBoxPredictor/BoxPredictor/bias"),
        ("WeightSharedConvolutionalBoxPredictor/PredictionTower/conv2d_0/BatchNorm/feature_3/gamma",) * 2,
    ],
)  # fmt: skip
def test_names(theirs, ours):
    assert objects.our_name(theirs, MobileNetV2().keras_layers()) == ours


@pytest.fixture
def written(tmp_path):
    """A checkpoint of two layers with the names of Keras' MobileNet, and of an optimiser: its prefix."""
    model = tf_keras.Sequential(
        [tf_keras.layers.Conv2D(4, 3, name="conv1", input_shape=(8, 8, 3)), tf_keras.layers.Conv2D(2, 1, name="other")]
    )
    optimizer = tf_keras.optimizers.legacy.Adam()
    optimizer.apply_gradients([(tf.ones_like(v), v) for v in model.trainable_variables])
    step = tf.Variable(3, dtype=tf.int64)
    return model, tf.train.Checkpoint(model=model, optimizer=optimizer, step=step).write(str(tmp_path / "ckpt-1"))


def test_weights_without_the_optimiser(written):
    model, prefix = written
    found = formats.read(*formats.locate(objects.Path(prefix)), MobileNetV1())
    assert sorted(found) == ["Conv2d_0/bias", "Conv2d_0/kernel", "Logits/other/bias", "Logits/other/kernel"]
    np.testing.assert_array_equal(found["Conv2d_0/kernel"], model.get_layer("conv1").kernel)


def test_a_classifier_on_top_of_a_network_in_a_model(tmp_path):
    """In the file, the variables of a layer come before those of layers within the layer before it."""
    image = x = tf_keras.Input((8, 8, 3))
    for name in ("odd", "conv1"):
        x = tf_keras.layers.Conv2D(4, 3, name=name, use_bias=False)(x)
    x = tf_keras.layers.Flatten()(tf_keras.Model(image, x)(image))
    model = tf_keras.Model(image, tf_keras.layers.Dense(2, name="dense", use_bias=False)(x))
    model.save_weights(tmp_path / "weights")
    found = formats.read(*formats.locate(tmp_path / "weights"), MobileNetV1())
    assert list(found) == ["odd/kernel", "Conv2d_0/kernel", "Logits/dense/kernel"]  # `odd` is of another network


def test_a_checkpoint_of_another_program_is_refused(written):
    with pytest.raises(WeightsError, match=r"is an object-based checkpoint .* none of its names is of this backbone"):
        formats.read(*formats.locate(objects.Path(written[1])), MobileNetV2())


def test_damaged_files(written):
    place = objects.Path(written[1])
    refused = 0
    for file in (place.with_name("ckpt-1.index"), place.with_name("ckpt-1.data-00000-of-00001")):
        content = file.read_bytes()
        for at in range(0, len(content), len(content) // 20):
            file.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
            try:
                formats.read(*formats.locate(place), MobileNetV1())
            except WeightsError:
                refused += 1
        file.write_bytes(content)
    assert refused > 10  # what is damaged in the optimiser's numbers is not read


def test_weights_without_the_current_optimiser(tmp_path):
    """Its variables lie below `optimizer/_variables`, and bear the names of the layers."""
    model = tf_keras.Sequential([tf_keras.layers.Conv2D(4, 3, name="conv1", input_shape=(8, 8, 3))])
    model.compile(tf_keras.optimizers.Adam(), "mse")
    model.train_on_batch(np.ones((1, 8, 8, 3)), np.ones((1, 6, 6, 4)))
    model.save_weights(str(tmp_path / "w"))
    found = formats.read(*formats.locate(tmp_path / "w"), MobileNetV1())
    assert sorted(found) == ["Conv2d_0/bias", "Conv2d_0/kernel"]
    np.testing.assert_array_equal(found["Conv2d_0/kernel"], model.get_layer("conv1").kernel)


@pytest.mark.parametrize(
    ("theirs", "backbone"),
    [
        (tf_keras.applications.VGG16, VGG16()),
        pytest.param(tf_keras.applications.InceptionV3, InceptionV3(), marks=pytest.mark.slow),
    ],
    ids=["colours", "numbers"],
)
def test_a_checkpoint_is_read_as_the_h5_file_of_the_same_network(tmp_path, theirs, backbone):
    """Keras gives VGG16 blue first. It names the layers of Inception v3 conv2d, conv2d_1, ..., from any number on."""
    model = theirs(include_top=False, weights=None, input_shape=(96, 96, 3))
    model.save_weights(str(tmp_path / "w"))
    model.save_weights(str(tmp_path / "w.h5"))
    found, wanted = (formats.read(*formats.locate(tmp_path / name), backbone) for name in ("w", "w.h5"))
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
