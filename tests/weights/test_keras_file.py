"""Keras .h5 files: every network of tf_keras.applications that there is a backbone for, and files of other origins."""

import h5py
import numpy as np
import pytest
import tf_keras

from detect.errors import WeightsError
from detect.modeling.backbones.inception_v3 import InceptionV3
from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.backbones.mobilenet_v2 import MobileNetV2
from detect.modeling.backbones.mobilenet_v3 import MobileNetV3
from detect.modeling.backbones.vgg16 import VGG16
from detect.weights import keras_file
from detect.weights.transfer import named, transfer
from tests.closeness import assert_same_outputs

layers, applications = tf_keras.layers, tf_keras.applications
NETWORKS = {
    "MobileNet": (MobileNetV1(0.25), {"alpha": 0.25}),
    "MobileNetV2": (MobileNetV2(0.35, scale_last=False), {"alpha": 0.35}),
    "MobileNetV3Large": (MobileNetV3("large", minimalistic=True), {"minimalistic": True}),
    "MobileNetV3Small": (MobileNetV3("small"), {}),
    "VGG16": (VGG16(), {}),
    "InceptionV3": (InceptionV3(), {}),
}


def build(backbone, size=75):
    image = tf_keras.Input((size, size, 3))
    return tf_keras.Model(image, list(backbone(image).values()))


def fill(model, file, backbone):
    return transfer(model, keras_file.read(file, backbone), source=file.name, layers={x.name for x in model.layers})


SLOW = ("InceptionV3", "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small", "VGG16")


@pytest.mark.parametrize("network", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in NETWORKS])
def test_every_network_of_keras_fills_ours(network, tmp_path):
    backbone, arguments = NETWORKS[network]
    keras = getattr(applications, network)(weights=None, include_top=False, input_shape=(75, 75, 3), **arguments)
    keras.save_weights(tmp_path / "x.h5")
    ours = build(backbone)
    ledger = fill(ours, tmp_path / "x.h5", backbone)
    assert len(ledger.loaded) == len(ours.weights) == len(keras.weights) and not ledger.skipped
    sums = [sorted((w.shape.rank, w.numpy().sum(dtype=np.float64)) for w in model.weights) for model in (ours, keras)]
    np.testing.assert_allclose(*sums, rtol=1e-6, atol=1e-6)


def test_whole_models_with_a_classifier_on_top(tmp_path):
    keras = applications.MobileNet(weights=None, alpha=0.25, classes=7, input_shape=(32, 32, 3))
    keras.save(tmp_path / "whole.h5")
    ours = build(MobileNetV1(0.25))
    ledger = fill(ours, tmp_path / "whole.h5", MobileNetV1(0.25))
    assert len(ledger.loaded) == 135
    assert set(ledger.skipped) == {"Logits/Conv2d_1c_1x1/kernel", "Logits/Conv2d_1c_1x1/bias"}
    np.testing.assert_array_equal(
        named(ours.weights)["Conv2d_13_pointwise/kernel"], keras.get_layer("conv_pw_13").kernel
    )


def test_a_network_within_a_users_own_model(tmp_path):
    base = applications.MobileNet(weights=None, alpha=0.25, include_top=False, input_shape=(32, 32, 3))
    model = tf_keras.Sequential([base, layers.GlobalAveragePooling2D(), layers.Dense(2), layers.Dense(3, name="last")])
    model.save_weights(tmp_path / "x.h5")
    ledger = fill(build(MobileNetV1(0.25)), tmp_path / "x.h5", MobileNetV1(0.25))
    assert len(ledger.loaded) == 135 and len(ledger.skipped) == 4 and "Logits/last/kernel" in ledger.skipped


def test_counted_names_may_begin_anywhere(tmp_path):
    """The second InceptionV3 of a session begins with conv2d_94; the order of the groups is that of the alphabet."""
    shapes = {"conv2d": (1, 1, 3, 2), "conv2d_9": (1, 1, 2, 4), "conv2d_10": (1, 1, 4, 5)}

    class Three:
        def keras_layers(self):
            return {f"conv2d_{i}": name for i, name in enumerate("abc", start=1)}

    with h5py.File(tmp_path / "x.h5", "w") as h5:
        h5.attrs["layer_names"] = [name.encode() for name in reversed(shapes)]
        for name, shape in shapes.items():
            h5.create_group(name).attrs["weight_names"] = [f"{name}/kernel:0".encode()]
            h5[name][f"{name}/kernel:0"] = np.ones(shape, np.float32)
    found = keras_file.read(tmp_path / "x.h5", Three())
    assert {name: array.shape[-1] for name, array in found.items()} == {"a/kernel": 2, "b/kernel": 4, "c/kernel": 5}


def test_vggs_first_kernel_is_turned_from_bgr_to_rgb(tmp_path):
    image = tf_keras.Input((8, 8, 3))
    model = tf_keras.Model(image, layers.Conv2D(2, 3, name="block1_conv1")(image))
    model.save_weights(tmp_path / "x.h5")
    found = keras_file.read(tmp_path / "x.h5", VGG16())
    np.testing.assert_array_equal(found["conv1/conv1_1/kernel"], model.get_weights()[0][:, :, ::-1])


def test_a_layer_in_between_is_no_head(tmp_path):
    """VGG19 holds all of VGG16's names, and more."""
    x = image = tf_keras.Input((8, 8, 3))
    for name in ("block1_conv1", "block1_conv9", "block1_conv2", "predictions"):
        x = layers.Conv2D(2, 1, name=name)(x)
    tf_keras.Model(image, x).save_weights(tmp_path / "x.h5")
    found = keras_file.read(tmp_path / "x.h5", VGG16())
    assert {name.rpartition("/")[0] for name in found} == {
        "conv1/conv1_1", "block1_conv9", "conv1/conv1_2", "Logits/predictions"
    }  # fmt: skip


def test_keras_3s_depthwise_kernels(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as h5:
        group = h5.create_group("model_weights")
        group.attrs["layer_names"] = ["conv_dw_1"]
        group.create_group("conv_dw_1").attrs["weight_names"] = ["conv_dw_1/kernel"]
        group["conv_dw_1"]["conv_dw_1/kernel"] = np.ones((3, 3, 8, 1), np.float32)
    assert set(keras_file.read(tmp_path / "x.h5", MobileNetV1())) == {"Conv2d_1_depthwise/depthwise_kernel"}


def refusal(file):
    with pytest.raises(WeightsError) as caught:
        keras_file.read(file, MobileNetV1())
    return str(caught.value)


def test_files_that_are_not_of_this_kind(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as h5:
        h5["data"] = np.ones(3)
    assert "without layer_names, so not from Keras: it has data" in refusal(tmp_path / "other.h5")
    image = tf_keras.Input((8, 8, 3))
    tf_keras.Model(image, layers.Conv2D(2, 3)(image)).save_weights(tmp_path / "x.weights.h5")
    assert "looks like the .weights.h5 of Keras 3" in refusal(tmp_path / "x.weights.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "other.h5").read_bytes()[:600])
    assert "can't be read: it is damaged or not a Keras file" in refusal(tmp_path / "cut.h5")


def test_claims_of_shapes_that_nothing_fills(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as h5:
        h5.attrs["layer_names"] = ["conv1"]
        h5.create_group("conv1").attrs["weight_names"] = ["conv1/kernel:0"]
        h5["conv1"].create_dataset("conv1/kernel:0", (1 << 20, 1 << 20), np.float32, chunks=(1024, 1024))
    assert "claims to hold more than" in refusal(tmp_path / "x.h5")


def test_another_network_is_named(tmp_path):
    keras = applications.MobileNetV2(weights=None, alpha=0.35, include_top=False, input_shape=(32, 32, 3))
    keras.save_weights(tmp_path / "x.h5")
    with pytest.raises(WeightsError, match="another network, it looks like MobilenetV2"):
        fill(build(MobileNetV1(0.25)), tmp_path / "x.h5", MobileNetV1(0.25))


@pytest.mark.slow
def test_the_generic_inception_gives_what_keras_gives(shared):
    """This file wants [0, 1]: the backbone scales with 1/255 where Keras is given x/255."""
    from skimage import data
    from skimage.transform import resize

    file = shared / "weights" / "inception_v3_notop.h5"
    backbone = InceptionV3(padding="valid", input_scaling="unit")
    ours = build(backbone, size=139)
    ledger = fill(ours, file, backbone)
    assert ledger.totals()["loaded"] == (376, 21_802_784) and not ledger.skipped
    keras = applications.InceptionV3(weights=str(file), include_top=False, input_shape=(139, 139, 3))
    image = resize(data.astronaut(), (139, 139), anti_aliasing=True)[np.newaxis].astype(np.float32)
    found, expected = ours(image * 255)[-1].numpy(), keras(image).numpy()
    assert found.shape == (1, 3, 3, 2048) and expected.max() > 1
    assert_same_outputs(found, expected)
