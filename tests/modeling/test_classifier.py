"""The classifier of stage 1: its head, its loss, and real photographs."""

import numpy as np
import pytest
import tensorflow as tf

from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.classifier import Classifier
from tests.closeness import assert_same_outputs


@pytest.fixture(scope="module")
def classifier():
    return Classifier(MobileNetV1(0.25), num_classes=4, size=(96, 128))


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    return {"image": random.integers(0, 256, (3, 96, 128, 3), np.uint8), "label": np.array([0, 1, 3], np.int32)}


def silence(classifier, bias):
    """Lets the logits be `bias` whatever the image."""
    layer = classifier.model.get_layer("Logits/Conv2d_1c_1x1")
    layer.set_weights([np.zeros_like(layer.kernel), np.array(bias, np.float32)])


def test_the_head_bears_slims_names(classifier):
    head = [layer for layer in classifier.model.layers if layer.name not in classifier.backbone_layers]
    assert [layer.name for layer in head] == ["Logits/AvgPool", "Logits/Conv2d_1c_1x1", "logits"]
    assert classifier.model.output_shape == (None, 4)
    assert classifier.model.get_layer("Logits/Conv2d_1c_1x1").kernel.shape == (1, 1, 256, 4)


def test_a_deeper_head():
    deeper = Classifier(MobileNetV1(0.25), num_classes=4, size=(96, 96), hidden=[32, 16], dropout=0.5)
    head = [layer.name for layer in deeper.model.layers if layer.name not in deeper.backbone_layers]
    assert head == [
        "Logits/AvgPool", "Logits/Dropout", "Logits/Hidden_1", "Logits/Hidden_2", "Logits/Conv2d_1c_1x1", "logits"
    ]  # fmt: skip
    image = np.full((1, 96, 96, 3), 90.0, np.float32)
    np.testing.assert_array_equal(deeper.model(image, training=False), deeper.model(image, training=False))


def test_loss_by_hand(batch):
    classifier = Classifier(MobileNetV1(0.25), num_classes=4, size=(96, 128))
    silence(classifier, [0, 0, 0, 0])
    parts, *_ = classifier.losses(batch)
    np.testing.assert_allclose(parts["classification"], np.log(4), rtol=1e-6)
    silence(classifier, np.log([4, 2, 1, 1]))
    parts, scalars, _ = classifier.losses(batch)  # the labels' probabilities are 1/2, 1/4 and 1/8
    np.testing.assert_allclose(parts["classification"], (1 + 2 + 3) * np.log(2) / 3, rtol=1e-5)
    np.testing.assert_allclose(scalars["top1/batch"], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(classifier.detect(batch["image"])["probabilities"], [[0.5, 0.25, 0.125, 0.125]] * 3)
    classifier.label_smoothing = 0.4  # a label keeps .7, the three others have .1 each
    parts, *_ = classifier.losses(only_first(batch))
    np.testing.assert_allclose(parts["classification"], (0.7 * 1 + 0.1 * 2 + 0.2 * 3) * np.log(2), rtol=1e-5)


def only_first(batch):
    return {name: values[:1] for name, values in batch.items()}


def test_gradients_reach_the_first_layer(classifier, batch):
    with tf.GradientTape() as tape:
        loss = classifier.losses(batch)[0]["classification"]
    found = tape.gradient(loss, classifier.model.trainable_variables)
    assert all(np.isfinite(g).all() for g in found)
    assert np.abs(found[0]).max() > 0


def test_batch_and_single_image_agree(classifier, batch):
    together = classifier.detect(batch["image"])["probabilities"]
    assert_same_outputs(together[1], classifier.detect(batch["image"][1:2])["probabilities"][0])
    np.testing.assert_allclose(np.sum(together, axis=1), 1, rtol=1e-5)


def test_imagenet_weights_know_a_cat_and_an_espresso(shared):
    from skimage import data
    from skimage.transform import resize

    from detect.weights.sources import FromFile
    from detect.weights.transfer import transfer

    classifier = Classifier(MobileNetV1(), num_classes=1001, size=(224, 224))
    source = FromFile(str(shared / "weights" / "mobilenet_v1_1.0_224" / "mobilenet_v1_1.0_224.ckpt"))
    ledger = transfer(classifier.model, source.read(MobileNetV1()), source=source.describe(), layers=None)
    assert ledger.totals()["loaded"] == (137, 4_254_889)
    photographs = [resize(image, (224, 224), anti_aliasing=True) for image in (data.chelsea(), data.coffee())]
    found = classifier.detect(np.stack(photographs) * 255)["probabilities"].numpy()
    assert found.argmax(axis=1).tolist() == [286, 968]  # a cat (Egyptian is 286 of 0..1000) and an espresso
    assert found.max(axis=1).min() > 0.5
