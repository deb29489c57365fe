"""SSD on a small net: what the loss counts, what stays finite, what a batch has to do with its images."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError
from detect.geometry.anchors import MultiscaleAnchors, SSDAnchors
from detect.geometry.box_coder import BoxCoder
from detect.modeling import cost
from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.backbones.vgg16 import VGG16
from detect.modeling.heads import ConvPredictor, SeparablePredictor
from detect.modeling.losses import FocalClassification, SigmoidClassification, SmoothL1, SoftmaxClassification
from detect.modeling.matcher import ArgMaxMatcher
from detect.modeling.necks import FPN, ExtraFeatureMaps, InceptionBlockFeatureMaps, VGGFeatureMaps
from detect.modeling.nms import NonMaxSuppression
from detect.modeling.sampler import HardExampleMiner
from detect.modeling.ssd import SSD
from detect.modeling.target_assigner import TargetAssigner
from tests.closeness import assert_same_detections, assert_same_outputs, counted

SIZE = (96, 128)
SLOTS = 100


def build(size=SIZE, backbone=None, **parts):
    settings = {
        "neck": ExtraFeatureMaps(channels=(64, 32)),
        "head": ConvPredictor(),
        "anchors": SSDAnchors(),
        "target_assigner": TargetAssigner(ArgMaxMatcher(), BoxCoder()),
        "sampler": HardExampleMiner(),
        "classification_loss": SigmoidClassification(),
        "localization_loss": SmoothL1(),
        "postprocess": NonMaxSuppression(),
    }
    return SSD(backbone or MobileNetV1(0.25), num_classes=3, size=size, **settings | parts)


@pytest.fixture(scope="module")
def ssd():
    return build()


@pytest.fixture(scope="module")
def batch():
    """Four images, with 0, 1, 7 and 100 boxes."""
    random = np.random.default_rng(0)
    boxes, classes = np.full((4, SLOTS, 4), -1, np.float32), np.full((4, SLOTS), -1, np.int32)
    for i, count in enumerate((0, 1, 7, 100)):
        corners = random.uniform(0, 60, (count, 2))
        boxes[i, :count] = np.concatenate([corners, corners + random.uniform(6, 60, (count, 2))], axis=1)
        classes[i, :count] = random.integers(1, 4, count)
    boxes = np.where(classes[..., None] > 0, np.minimum(boxes, [96, 128, 96, 128]), boxes).astype(np.float32)
    return {"image": random.integers(0, 256, (4, *SIZE, 3), np.uint8), "boxes": boxes, "classes": classes}


def only(batch, *images):
    return {name: values[list(images)] for name, values in batch.items()}


def gradients(ssd, batch):
    with tf.GradientTape() as tape:
        parts, *_ = ssd.losses(batch)
        loss = sum(parts.values())
    found = tape.gradient(loss, ssd.model.trainable_variables, unconnected_gradients="zero")
    return float(loss), [g.numpy() for g in found]


def test_one_flat_model_of_plain_layers(ssd):
    kinds = {type(layer).__name__ for layer in ssd.model.layers}
    assert not kinds & {"Lambda", "Functional", "Model", "TFOpLambda", "SlicingOpLambda"}
    assert ssd.model.output["codes"].shape[1:] == (len(ssd.anchors), 4)
    assert ssd.model.output["logits"].shape[1:] == (len(ssd.anchors), 4)
    assert [tuple(x.shape[1:3]) for x in ssd.maps.values()] == [(6, 8), (3, 4), (2, 2), (1, 1)]
    assert len(ssd.anchors) == 48 * 3 + (12 + 4 + 1) * 6
    backbone = [v for layer in ssd.model.layers if layer.name in ssd.backbone_layers for v in layer.weights]
    assert len(backbone) == 135


def test_ssd300_of_the_paper_has_1917_anchors():
    ssd = build(size=(300, 300), neck=ExtraFeatureMaps())
    assert ssd.anchors.shape == (1917, 4)
    assert [tuple(x.shape[1:3]) for x in ssd.maps.values()] == [(n, n) for n in (19, 10, 5, 3, 2, 1)]


VARIANTS = {
    "ssdlite": {"neck": ExtraFeatureMaps(channels=(64, 32), separable=True), "head": SeparablePredictor()},
    "inception_block": {"neck": InceptionBlockFeatureMaps(channels=(64, 32)), "head": ConvPredictor(3)},
    "fpn": {
        "neck": FPN(channels=16), "head": SeparablePredictor(), "anchors": MultiscaleAnchors(anchor_scale=1.0),
        "classification_loss": FocalClassification(),
    },
    "vgg16": {
        "backbone": VGG16(0.125), "neck": VGGFeatureMaps(depth_multiplier=0.0625), "head": ConvPredictor(3),
        "classification_loss": SoftmaxClassification(),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def all_sizes():
    """Two images, with squares of 8 px to the whole frame: every map has anchors to match."""
    random = np.random.default_rng(0)
    boxes, classes = np.full((2, 40, 4), -1, np.float32), np.full((2, 40), -1, np.int32)
    sides = np.repeat(8 * 1.25 ** np.arange(12), 3)
    corners = random.uniform(0, 1, (36, 2)) * np.maximum(np.array(SIZE) - sides[:, None], 0)
    boxes[0, :36] = np.concatenate([corners, np.minimum(corners + sides[:, None], SIZE)], axis=1)
    boxes[1, 0] = [0, 0, *SIZE]
    classes[0, :36], classes[1, 0] = 1 + np.arange(36) % 3, 1
    return {"image": random.integers(0, 256, (2, *SIZE, 3), np.uint8), "boxes": boxes, "classes": classes}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_flat_and_learns_in_all_its_layers(all_sizes, name):
    tf_keras.utils.set_random_seed(0)
    ssd = build(**VARIANTS[name], sampler=None)
    kinds = {type(layer).__module__.partition(".")[0] for layer in ssd.model.layers}
    assert kinds == {"tf_keras"} and not any(hasattr(layer, "layers") for layer in ssd.model.layers)
    assert not {"Lambda", "TFOpLambda", "SlicingOpLambda"} & {type(layer).__name__ for layer in ssd.model.layers}
    assert ssd.model.output["logits"].shape[1:] == (len(ssd.anchors), 4)
    loss, found = gradients(ssd, all_sizes)
    assert np.isfinite(loss) and all(np.isfinite(g).all() for g in found)
    assert [v.name for v, g in zip(ssd.model.trainable_variables, found, strict=True) if not g.any()] == []
    parts = ssd.parts()
    assert [part.name for part in parts if part.anchors] == list(ssd.maps)
    assert sorted(name for part in parts for name in part.layers) == sorted(layer.name for layer in ssd.model.layers)
    assert all(part.layers for part in parts)
    assert cost.total_macs(ssd) == cost.total_macs(ssd, training=True) == sum(cost.macs(ssd.model).values()) > 0


def test_parts_of_maps_that_are_made_from_the_backbone_in_common():
    parts = build(**VARIANTS["fpn"]).parts()
    assert [part.name.rpartition("_")[0] for part in parts] == [
        "", "fpn/smoothing", "fpn/smoothing", "fpn/projection", "fpn/bottom_up_Conv2d", "fpn/bottom_up_Conv2d", "",
    ]  # fmt: skip
    assert (parts[0].name, parts[0].source, parts[-1].name) == ("backbone", "MobileNetV1", "predictors")
    assert "fpn/projection_2" in parts[2].layers and parts[3].layers == {"fpn/projection_3"}


def test_an_unknown_resize_is_refused():
    with pytest.raises(
        ConfigError, match=r"detector.resize=crop is not legal: expected one of stretch, keep_aspect, zoo"
    ):
        build(resize="crop")
    assert build(resize="keep_aspect").resize == "keep_aspect"


@pytest.mark.parametrize("images", [(0,), (1,), (3,), (0, 1, 2, 3)])
def test_loss_and_gradients_are_finite(ssd, batch, images):
    loss, found = gradients(ssd, only(batch, *images))
    assert np.isfinite(loss) and loss > 0
    assert all(np.isfinite(g).all() for g in found)
    assert any(g.any() for g in found)


@pytest.mark.parametrize("loss", [SoftmaxClassification(), FocalClassification()])
def test_other_losses_without_a_sampler(batch, loss):
    value, found = gradients(build(classification_loss=loss, sampler=None), batch)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in found)


def test_a_background_image_teaches_with_three_negatives_and_nothing_with_none(ssd, batch):
    background = only(batch, 0)
    _, scalars, _ = ssd.losses(background)
    assert float(scalars["anchors/negatives_per_image"]) == 3 and float(scalars["anchors/positives_per_image"]) == 0
    loss, found = gradients(ssd, background)
    assert loss > 0 and any(np.abs(g).max() > 1e-6 for g in found)
    ssd_of_the_zoo = build(sampler=HardExampleMiner(min_negatives=0))
    loss, found = gradients(ssd_of_the_zoo, background)
    assert loss == 0 and not any(g.any() for g in found)


def test_training_on_background_lowers_the_scores(batch):
    ssd, background = build(), only(batch, 0)

    def mean_score():
        logits = ssd.model(background["image"].astype(np.float32), training=False)["logits"]
        return float(tf.reduce_mean(ssd.classification_loss.scores(logits)))

    before = mean_score()
    for _ in range(3):
        _, found = gradients(ssd, background)
        for variable, gradient in zip(ssd.model.trainable_variables, found, strict=True):
            variable.assign_sub(0.1 * gradient)
    assert mean_score() < before - 0.01


def test_the_loss_of_a_batch_is_that_of_its_images_weighed_by_matches(ssd, batch):
    parts, scalars, _ = ssd.losses(batch, training=False)
    matches, sums = 0.0, {"classification": 0.0, "localization": 0.0}
    for i in range(4):
        alone, one, _ = ssd.losses(only(batch, i), training=False)
        own = float(one["anchors/positives_per_image"])
        matches += own
        for name in sums:
            sums[name] += float(alone[name]) * max(own, 1.0)  # undoes the normalisation of the single image
    assert matches == 4 * float(scalars["anchors/positives_per_image"]) > 8
    for name, total in sums.items():
        assert_same_outputs(float(parts[name]), total / matches)


def test_weights_of_the_two_parts(ssd, batch):
    weighed = build(localization_weight=2.0, classification_weight=0.5)
    weighed.model.set_weights(ssd.model.get_weights())
    one, other = ssd.losses(batch, training=False)[0], weighed.losses(batch, training=False)[0]
    assert_same_outputs(float(other["localization"]), 2 * float(one["localization"]))
    assert_same_outputs(float(other["classification"]), 0.5 * float(one["classification"]))


def test_detections_of_a_batch_are_those_of_its_images(ssd, batch):
    together = ssd.detect(batch["image"])
    assert together["boxes"].shape == (4, 100, 4)
    for i in range(4):
        alone = ssd.detect(batch["image"][i : i + 1])
        assert_same_detections(counted(together, i), counted(alone, 0), 128)


def test_detections_lie_in_the_frame(ssd, batch):
    found = {name: value.numpy() for name, value in ssd.detect(batch["image"]).items()}
    boxes = found["boxes"]
    assert (boxes >= 0).all() and (boxes[..., 2] <= 96).all() and (boxes[..., 3] <= 128).all()
    assert (np.diff(found["scores"], axis=1) <= 0).all()
    for i in range(4):
        count = found["count"][i]
        assert set(found["classes"][i, :count]) <= {1, 2, 3} and not found["classes"][i, count:].any()


def test_codes_of_the_truth_are_detected_as_the_truth(batch):
    """From targets back to boxes: a net that predicted its targets perfectly would find every box and class."""
    ssd = build()
    image = only(batch, 1)
    targets = ssd.target_assigner(tf.constant(ssd.anchors), image["boxes"], image["classes"])
    logits = tf.one_hot(targets.classes, 4) * 20 - 10
    boxes = ssd._decode(targets.codes)
    found = ssd.postprocess(boxes, ssd.classification_loss.scores(logits), ssd.size)
    np.testing.assert_allclose(found["boxes"][0, 0], image["boxes"][0, 0], atol=1e-2)
    assert int(found["classes"][0, 0]) == image["classes"][0, 0]
    assert float(found["scores"][0, 0]) > 0.999 and float(found["scores"][0, 1]) < 0.001
