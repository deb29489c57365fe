"""Object-based checkpoints: names of the API's Keras networks, what is left out, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import WeightsError
from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.backbones.mobilenet_v2 import MobileNetV2
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
    assert sorted(found) == ["Conv2d_0/bias", "Conv2d_0/kernel", "other/bias", "other/kernel"]
    np.testing.assert_array_equal(found["Conv2d_0/kernel"], model.get_layer("conv1").kernel)


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
