"""Multiply-accumulates counted by hand, and totals against published ones."""

import pytest
import tf_keras

from detect.errors import ConfigError
from detect.modeling import cost
from detect.modeling.cost import Part
from detect.training import build
from tests.verbs import composed

layers = tf_keras.layers


def chain(shape, *built):
    x = image = tf_keras.Input(shape, name="image")
    for layer in built:
        x = layer(x)
    return tf_keras.Model(image, x)


@pytest.mark.parametrize(
    ("shape", "layer", "macs", "numbers"),
    [
        ((8, 6, 3), layers.Conv2D(5, 3, padding="same"), 8 * 6 * 9 * 3 * 5, 9 * 3 * 5 + 5),
        ((8, 6, 3), layers.Conv2D(5, 3, 2, padding="same", use_bias=False), 4 * 3 * 9 * 3 * 5, 9 * 3 * 5),
        ((8, 6, 3), layers.Conv2D(5, 3), 6 * 4 * 9 * 3 * 5, 9 * 3 * 5 + 5),
        ((8, 6, 3), layers.Conv2D(5, (1, 7), padding="same"), 8 * 6 * 7 * 3 * 5, 7 * 3 * 5 + 5),
        ((9, 9, 2), layers.Conv2D(4, 3, dilation_rate=2), 5 * 5 * 9 * 2 * 4, 9 * 2 * 4 + 4),
        ((8, 6, 4), layers.Conv2D(6, 3, padding="same", groups=2), 8 * 6 * 9 * 2 * 6, 9 * 2 * 6 + 6),
        ((8, 6, 4), layers.DepthwiseConv2D(3, 2, "same"), 4 * 3 * 9 * 4, 9 * 4 + 4),
        ((8, 6, 4), layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), 8 * 6 * 9 * 8, 9 * 8 + 8),
        ((8, 6, 3), layers.SeparableConv2D(5, 3, 2, "same"), 4 * 3 * (9 * 3 + 3 * 5), 9 * 3 + 3 * 5 + 5),
        ((4, 3, 2), layers.Conv2DTranspose(5, 2, 2), 4 * 3 * 4 * 2 * 5, 4 * 2 * 5 + 5),
        ((7,), layers.Dense(5), 35, 40),
        ((4, 7), layers.Dense(5), 4 * 35, 40),
        ((8, 6, 3), layers.BatchNormalization(), 0, 12),
        ((8, 6, 3), layers.ReLU(6.0), 0, 0),
        ((8, 6, 3), layers.PReLU(shared_axes=[1, 2]), 0, 3),
    ],
)  # fmt: skip
def test_one_layer(shape, layer, macs, numbers):
    model = chain(shape, layer)
    assert cost.macs(model) == {"image": 0, layer.name: macs}
    assert cost.parameters(model) == {"image": 0, layer.name: numbers}


def test_a_layer_of_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match=r"the layer scan \(LSTM\) is not known: it has .*kernel.*legal .* Conv2D, "):
        cost.macs(chain((8, 3), layers.LSTM(2, name="scan")))


class Tiny:
    """Two parts; the second runs for each of 7 proposals, of 3 in training."""

    model = chain((4, 4, 1), layers.Conv2D(2, 1, name="a"), layers.Conv2D(3, 1, name="b"))
    anchors = [0] * 16

    def parts(self):
        first = Part("a", "1x1", frozenset({"image", "a"}), (4, 4, 2), anchors=1)
        return [first, Part("a_b", "all of it", frozenset({"b"}), (3,), times=7, training_times=3)]


def test_a_part_that_runs_several_times():
    assert cost.total_macs(Tiny()) == 16 * 2 + 7 * 16 * 6
    assert cost.total_macs(Tiny(), training=True) == 16 * 2 + 3 * 16 * 6


def test_the_table():
    assert cost.table(Tiny()) == [
        "part   from                size  depth  boxes  MACs  params",
        "a      1x1                  4x4      2      1    32       4",
        ".._b   all of it, 7 times            3          672       9",
        "total                                      16   704      13",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00k"),
        (12345, "12.3k"),
        (999499, "999k"),
        (999600, "1.00M"),
        (1.237e9, "1.24G"),
    ],
)
def test_three_digits(number, text):
    assert cost.count(int(number)) == text


def detector_of(*overrides):
    cfg = composed("train", *overrides)
    return build.detector(cfg, num_classes=90)


def trainable(detector) -> int:
    """What papers and torchvision call parameters: without batch norm's statistics."""
    return sum(int(v.shape.num_elements()) for v in detector.model.trainable_variables)


def test_ssd_mobilenet_v1_on_cocos_90_classes():
    detector = detector_of()
    assert round(cost.total_macs(detector) / 1e9, 3) == 1.237  # Huang 2017: 1.2
    lines = cost.table(detector)
    assert lines[1].split() == ["Conv2d_11_pointwise", "the", "backbone", "19x19", "512", "3", "897M", "1.63M"]
    assert lines[3].split() == [".._2_Conv2d_2_3x3_s2_512", "1x1,", "3x3", "/2", "5x5", "512", "6", "55.7M", "1.44M"]
    assert lines[-1].split() == ["total", "1917", "1.24G", "6.85M"]
    assert max(map(len, lines)) <= 78


@pytest.mark.slow
def test_ssd_inception_v3_on_cocos_90_classes():
    detector = detector_of("backbone=inception_v3", "backbone.padding=valid", "detector.head.kernel=3")
    assert round(cost.total_macs(detector) / 1e9, 2) == 8.53
    assert len(detector.anchors) == 5919


def test_ssd300_vgg16_equals_torchvisions():
    """torchvision.models.detection.ssd300_vgg16, 91 classes with background: 35,641,826 parameters, 34.858 GMACs."""
    detector = detector_of("backbone=vgg16", "detector=ssd300_vgg16")
    assert trainable(detector) == 35_641_826
    assert cost.total_macs(detector) / 1e9 == pytest.approx(34.858, abs=2e-3)  # theirs is without the scale of conv4_3
    assert len(detector.anchors) == 8732


@pytest.mark.slow
def test_ssdlite_mobilenet_v3_equals_torchvisions():
    """torchvision's ssdlite320_mobilenet_v3_large, 91 classes with background: 3,440,060 parameters, .583 GMACs."""
    detector = detector_of(
        "backbone=mobilenet_v3_large", "backbone.reduced_tail=true", "detector=ssdlite", "detector.size=[320,320]",
        "detector.anchors.reduce_lowest=false",
    )  # fmt: skip
    assert trainable(detector) == 3_440_060
    assert cost.total_macs(detector) / 1e9 == pytest.approx(0.583, abs=5e-4)
    assert len(detector.anchors) == 3234
