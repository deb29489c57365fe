"""Tables of inception modules: kernels from names, order of building, and what VALID applies to."""

import pytest
import tf_keras

from detect.modeling.backbones.inception import Builder, Conv, Fork, Module, Pool, after, conv_names
from detect.modeling.backbones.layers import ConvScope

PARTS = (
    Conv("Conv2d_1a_3x3", 32, stride=2, valid=True),
    Module(
        "Mixed_a",
        (
            (Conv("Conv2d_0a_1x1", 8),),
            (Conv("Conv2d_0a_1x1", 4), Fork((Conv("Conv2d_0b_1x3", 6), Conv("Conv2d_0c_3x1", 6)))),
            (Pool("AvgPool_0a_3x3"), Conv("Conv2d_0b_1x1", 2)),
        ),
    ),
    Pool("MaxPool_2a_3x3", stride=2, valid=True),
)


@pytest.mark.parametrize(
    ("conv", "size"),
    [
        (Conv("Conv2d_0b_1x7", 1), (1, 7)),
        (Conv("Conv_1_0c_5x5", 1), (5, 5)),
        (Conv("Conv2d_1a_1x1", 1, kernel=(3, 3)), (3, 3)),
    ],
)
def test_kernel_is_what_the_name_says_unless_given(conv, size):
    assert conv.size() == size


def test_a_name_without_kernel_is_refused():
    with pytest.raises(ValueError, match="Conv2d_0 does not end in a kernel size like _3x3: give kernel"):
        Conv("Conv2d_0", 8).size()


@pytest.mark.parametrize(("valid", "sides"), [("same", [16, 16, 8]), ("valid", [15, 15, 7])])
def test_only_what_slim_pads_valid_changes_with_the_padding(valid, sides):
    end_points = dict(Builder(ConvScope(), valid, 1.0, 1).walk(tf_keras.Input((32, 32, 3)), PARTS))
    assert list(end_points) == ["Conv2d_1a_3x3", "Mixed_a", "MaxPool_2a_3x3"]
    assert [x.shape[1] for x in end_points.values()] == sides
    assert end_points["Mixed_a"].shape[-1] == 8 + 6 + 6 + 2


def test_convolutions_are_named_in_the_order_of_building():
    names = list(conv_names(PARTS))
    assert names == [
        "Conv2d_1a_3x3",
        "Mixed_a/Branch_0/Conv2d_0a_1x1",
        "Mixed_a/Branch_1/Conv2d_0a_1x1",
        "Mixed_a/Branch_1/Conv2d_0b_1x3",
        "Mixed_a/Branch_1/Conv2d_0c_3x1",
        "Mixed_a/Branch_2/Conv2d_0b_1x1",
    ]
    image = tf_keras.Input((32, 32, 3))
    last = dict(Builder(ConvScope(), "same", 1.0, 1).walk(image, PARTS))["MaxPool_2a_3x3"]
    built = {layer.name for layer in tf_keras.Model(image, last).layers if isinstance(layer, tf_keras.layers.Conv2D)}
    assert built == set(names)


def test_parts_after_a_part():
    assert [part.name for part in after(PARTS, "Conv2d_1a_3x3")] == ["Mixed_a", "MaxPool_2a_3x3"]
    assert not after(PARTS, "MaxPool_2a_3x3")
