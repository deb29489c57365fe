"""Names: TF-slim's and the Object Detection API's in ours, and what network a list of names belongs to."""

import numpy as np
import pytest

from detect.errors import WeightsError
from detect.weights.names import looks_like, our_arrays, our_name


@pytest.mark.parametrize(
    ("name", "scope", "expected"),
    [
        ("MobilenetV1/Conv2d_0/weights", "MobilenetV1", "Conv2d_0/kernel"),
        ("MobilenetV1/Conv2d_0/BatchNorm/gamma", "MobilenetV1", "Conv2d_0/BatchNorm/gamma"),
        ("InceptionV2/Conv2d_1a_7x7/pointwise_weights", "InceptionV2", "Conv2d_1a_7x7/pointwise_kernel"),
        ("Conv2d_0/kernel", "MobilenetV1", "Conv2d_0/kernel"),
        ("InceptionV2/Conv2d_0/weights", "MobilenetV1", "InceptionV2/Conv2d_0/kernel"),
        ("vgg_16/conv1/conv1_1/biases", "vgg_16", "conv1/conv1_1/bias"),
        ("FeatureExtractor/MobilenetV2/Conv/weights", "MobilenetV2", "Conv/kernel"),
        (
            "FeatureExtractor/MobilenetV2/layer_19_2_Conv2d_2_3x3_s2_512_depthwise/depthwise_weights",
            "MobilenetV2",
            "layer_19_2_Conv2d_2_3x3_s2_512_depthwise/depthwise_kernel",
        ),
        ("FeatureExtractor/InceptionV2/InceptionV2/Mixed_3b/x/weights", "InceptionV2", "Mixed_3b/x/kernel"),
        ("SecondStageFeatureExtractor/InceptionV2/Mixed_5a/x/weights", "InceptionV2", "Mixed_5a/x/kernel"),
        ("BoxPredictor_0/ClassPredictor/biases", "MobilenetV1", "BoxPredictor_0/ClassPredictor/bias"),
    ],
)
def test_names(name, scope, expected):
    assert our_name(name, scope) == expected


def arrays(*names):
    return {name: np.zeros(1, np.float32) for name in names}


def test_the_apis_bare_rpn_convolution_gets_a_scope():
    file = arrays("Conv/weights", "FirstStageFeatureExtractor/MobilenetV2/Conv/weights")
    found = our_arrays(file, "MobilenetV2")
    assert set(found) == {"FirstStageBoxPredictor/Conv/kernel", "Conv/kernel"} and not found.ours


def test_files_of_this_program_are_told_by_their_names():
    assert our_arrays(arrays("Conv/kernel", "Conv/BatchNorm/beta"), "MobilenetV2").ours
    assert set(our_arrays(arrays("Conv/kernel"), "MobilenetV2")) == {"Conv/kernel"}


def test_two_arrays_of_one_name_are_refused():
    with pytest.raises(WeightsError, match=r"two arrays .* Mixed_5a/x/kernel"):
        our_arrays(
            arrays(
                "FirstStageFeatureExtractor/V/Mixed_5a/x/weights", "SecondStageFeatureExtractor/V/Mixed_5a/x/weights"
            ),
            "V",
        )


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("MobilenetV2/Conv/weights", "MobilenetV2"),
        ("FeatureExtractor/InceptionV2/Conv2d_1a_7x7/weights", "InceptionV2"),
        ("InceptionResnetV2/Conv2d_1a_3x3/weights", "InceptionResnetV2"),
        ("FirstStageFeatureExtractor/resnet_v1_101/conv1/weights", "resnet_v1_101"),
        ("vgg_16/conv1/conv1_1/weights", "vgg_16"),
        ("Conv2d_1_depthwise/depthwise_kernel", "MobilenetV1"),
        ("expanded_conv_3/squeeze_excite/Conv/kernel", "MobilenetV3"),
        ("expanded_conv_3/expand/kernel", "MobilenetV2"),
        ("Mixed_7a/Branch_0/Conv2d_0a_1x1/kernel", "InceptionV3"),
        ("conv_dw_1/depthwise_kernel", "MobilenetV1"),
        ("block_1_expand/kernel", "MobilenetV2"),
        ("block5_conv3/kernel", "vgg_16"),
        ("conv5_block3_2_conv/kernel", "ResNet"),
        ("block1a_dwconv/depthwise_kernel", "EfficientNet"),
        ("dense/kernel", None),
    ],
)
def test_networks(name, network):
    assert looks_like(["a/kernel", name]) == network
