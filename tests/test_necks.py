"""Extra feature maps: shapes, names, settings."""

import json

import pytest
import tf_keras

from detect.backbones.mobilenet_v1 import MobileNetV1
from detect.errors import ConfigError
from detect.necks import ExtraFeatureMaps


@pytest.fixture(scope="module")
def end_points():
    return MobileNetV1(0.25)(tf_keras.Input((96, 128, 3)))


def test_maps_are_named_and_sized_as_in_the_api(end_points):
    maps = ExtraFeatureMaps()(end_points, MobileNetV1.ssd_maps)
    assert {name: tuple(x.shape[1:]) for name, x in maps.items()} == {
        "Conv2d_11_pointwise": (6, 8, 128),
        "Conv2d_13_pointwise": (3, 4, 256),
        "Conv2d_13_pointwise_2_Conv2d_2_3x3_s2_512": (2, 2, 512),
        "Conv2d_13_pointwise_2_Conv2d_3_3x3_s2_256": (1, 1, 256),
        "Conv2d_13_pointwise_2_Conv2d_4_3x3_s2_256": (1, 1, 256),
        "Conv2d_13_pointwise_2_Conv2d_5_3x3_s2_128": (1, 1, 128),
    }


def test_maps_of_every_reference_size(shared):
    image = tf_keras.Input((None, None, 3))
    model = tf_keras.Model(image, list(ExtraFeatureMaps()(MobileNetV1()(image), MobileNetV1.ssd_maps).values()))
    reference = json.loads((shared / "reference" / "ssd_reference_shapes.json").read_text())
    sizes = {name: entry for name, entry in reference.items() if name.startswith("ssd_mobilenet_v1@")}
    assert len(sizes) == 7
    for name, entry in sizes.items():
        size = int(name.split("@")[1])
        assert [list(s[1:]) for s in model.compute_output_shape((1, size, size, 3))] == entry["maps"], name


def test_own_maps_and_channels(end_points):
    neck = ExtraFeatureMaps(maps=["Conv2d_5_pointwise", "Conv2d_11_pointwise"], channels=[64, 16], depth_multiplier=0.5)
    maps = neck(end_points, MobileNetV1.ssd_maps)
    assert [tuple(x.shape[1:]) for x in maps.values()] == [(12, 16, 64), (6, 8, 128), (3, 4, 32), (2, 2, 16)]
    assert list(maps)[-1] == "Conv2d_11_pointwise_2_Conv2d_3_3x3_s2_16"


def test_an_unknown_end_point_is_refused_with_the_known_ones(end_points):
    with pytest.raises(ConfigError, match=r"neck.maps: \['Conv2d_14'\] are no end points of the backbone: Conv2d_0, "):
        ExtraFeatureMaps(maps=["Conv2d_14"])(end_points, MobileNetV1.ssd_maps)
