"""Faster R-CNN on a small net: targets, losses, gradients, what is random and what must not be, detections."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.errors import ConfigError
from detect.geometry.anchors import GridAnchors
from detect.geometry.box_coder import BoxCoder
from detect.modeling.backbones.mobilenet_v1 import MobileNetV1
from detect.modeling.backbones.vgg16 import VGG16
from detect.modeling.box_heads import BackboneBoxHead, TwoFC
from detect.modeling.cost import macs, parameters, total_macs
from detect.modeling.faster_rcnn import FasterRCNN
from detect.modeling.losses import FocalClassification, SmoothL1, SoftmaxClassification
from detect.modeling.matcher import ArgMaxMatcher
from detect.modeling.nms import NonMaxSuppression
from detect.modeling.roi import RoiCrop
from detect.modeling.rpn import ProposalGenerator, Proposals, RPNHead
from detect.modeling.sampler import BalancedSampler
from detect.modeling.target_assigner import TargetAssigner
from detect.training.schedule import Schedule
from tests.closeness import assert_same_detections, assert_same_outputs, counted
from tests.modeling.test_ssd import gradients, only

SIZE = (96, 128)
SLOTS = 300


def build(size=SIZE, num_classes=3, backbone=None, **parts):
    settings = {
        "anchors": GridAnchors(base=64.0),
        "rpn_head": RPNHead(channels=32),
        "rpn_target_assigner": TargetAssigner(ArgMaxMatcher(0.7, 0.3), BoxCoder()),
        "rpn_sampler": BalancedSampler(64, 0.5),
        "proposals": ProposalGenerator(count=40),
        "roi": RoiCrop(),
        "box_head": BackboneBoxHead(),
        "box_target_assigner": TargetAssigner(ArgMaxMatcher(0.5, 0.5, force_match=False), BoxCoder()),
        "box_sampler": BalancedSampler(16, 0.25),
        "classification_loss": SoftmaxClassification(),
        "localization_loss": SmoothL1(),
        "postprocess": NonMaxSuppression(total=50),
    }
    return FasterRCNN(backbone or MobileNetV1(0.25), num_classes=num_classes, size=size, **settings | parts)


@pytest.fixture(scope="module")
def detector():
    tf_keras.utils.set_random_seed(0)
    return build()


@pytest.fixture(scope="module")
def batch():
    """Four images, with 0, 1, 7 and 300 boxes."""
    random = np.random.default_rng(0)
    boxes, classes = np.full((4, SLOTS, 4), -1, np.float32), np.full((4, SLOTS), -1, np.int32)
    for i, count in enumerate((0, 1, 7, 300)):
        corners = random.uniform(0, 60, (count, 2))
        boxes[i, :count] = np.concatenate([corners, corners + random.uniform(6, 60, (count, 2))], axis=1)
        classes[i, :count] = random.integers(1, 4, count)
    boxes = np.where(classes[..., None] > 0, np.minimum(boxes, [96, 128, 96, 128]), boxes).astype(np.float32)
    image = random.integers(0, 256, (4, *SIZE, 3), np.uint8)
    return {"image": image, "boxes": boxes, "classes": classes, "seed": np.array([3, 4, 5, 6], np.int32)}


def test_one_flat_model_of_plain_layers_that_the_two_stages_share(detector):
    kinds = {type(layer).__name__ for layer in detector.model.layers}
    assert not kinds & {"Lambda", "Functional", "Model", "TFOpLambda", "SlicingOpLambda"}
    assert detector.model.input_names == ["image", "crops"]
    outputs = {name: tuple(value.shape[1:]) for name, value in detector.model.output.items()}
    assert outputs == {
        "features": (6, 8, 128), "objectness": (576, 2), "rpn_codes": (576, 4), "logits": (4,), "codes": (3, 4),
    }  # fmt: skip
    stages = [*detector.rpn_model.variables, *detector.box_model.variables]
    assert {id(v) for v in stages} == {id(v) for v in detector.model.variables} and len(stages) == len(
        detector.model.variables
    )
    assert detector.anchors.shape == (576, 4) and list(detector.maps) == ["Conv2d_11_pointwise"]


def test_layer_names_are_the_apis(detector):
    names = {v.name.removesuffix(":0").rpartition("/")[0] for v in detector.model.variables}
    heads = {name for name in names if name not in detector.backbone_layers}
    assert heads == {
        "FirstStageBoxPredictor/Conv", "FirstStageBoxPredictor/ClassPredictor",
        "FirstStageBoxPredictor/BoxEncodingPredictor", "SecondStageBoxPredictor/ClassPredictor",
        "SecondStageBoxPredictor/BoxEncodingPredictor",
    }  # fmt: skip


@pytest.mark.parametrize("box_head", [BackboneBoxHead(), TwoFC(8)])
def test_backbone_layers_are_those_of_the_whole_backbone(box_head):
    detector = build(box_head=box_head)
    image = tf_keras.Input((96, 96, 3))
    whole = tf_keras.Model(image, list(MobileNetV1(0.25)(image).values()))
    assert {layer.name for layer in whole.layers if layer.weights} <= detector.backbone_layers
    own = [layer.name for layer in detector.model.layers if layer.name not in detector.backbone_layers]
    assert not any(name.startswith("Conv2d") for name in own)


@pytest.mark.parametrize("images", [(0,), (1,), (3,), (0, 1, 2, 3)])
def test_loss_and_gradients_are_finite(detector, batch, images):
    loss, found = gradients(detector, only(batch, *images))
    assert np.isfinite(loss) and loss > 0
    assert all(np.isfinite(g).all() for g in found)


@pytest.mark.parametrize(
    "parts",
    [{}, {"box_head": TwoFC(8)}, {"roi": RoiCrop("crop_and_resize")}, {"num_classes": 1}, {"border_anchors": "keep"}],
)
def test_an_image_with_objects_teaches_every_variable(batch, parts):
    """Gradients of the stage 2 reach the backbone through the crops, those of stage 1 through the map."""
    detector = build(**parts)
    image = only(batch, 2)
    image["classes"] = np.minimum(image["classes"], detector.num_classes)
    _, found = gradients(detector, image)
    untaught = [v.name for v, g in zip(detector.model.trainable_variables, found, strict=True) if not g.any()]
    assert untaught == []


def test_a_background_image_teaches_that_nothing_is_there(detector, batch):
    parts, scalars, _ = detector.losses(only(batch, 0))
    assert float(parts["rpn_localization"]) == float(parts["box_localization"]) == 0
    assert float(parts["rpn_classification"]) > 0.1 and float(parts["box_classification"]) > 0.1
    assert float(scalars["rpn/positives_per_image"]) == float(scalars["box/positives_per_image"]) == 0
    assert float(scalars["rpn/recall_50"]) == 1  # by definition: it must not be NaN


def test_the_loss_of_a_batch_is_the_mean_of_its_images(detector, batch):
    """In inference mode; each image's draws come from its own seed, whatever its neighbours are."""
    together, scalars, _ = detector.losses(batch, training=False)
    alone = [detector.losses(only(batch, i), training=False) for i in range(4)]
    for name, value in together.items():
        assert_same_outputs(float(value), np.mean([float(parts[name]) for parts, *_ in alone]))
    positives = [float(s["box/positives_per_image"]) for _, s, _ in alone]
    assert float(scalars["box/positives_per_image"]) == pytest.approx(np.mean(positives)) and positives[3] == 4


def test_draws_come_from_the_seeds_alone(detector, batch):
    image = only(batch, 2)
    first, again = (float(detector.losses(image, training=False)[0]["box_classification"]) for _ in range(2))
    other = float(detector.losses(image | {"seed": np.array([99], np.int32)}, training=False)[0]["box_classification"])
    assert first == again != other


def test_weights_of_the_four_parts(detector, batch):
    names = ("rpn_localization", "rpn_classification", "box_localization", "box_classification")
    weighed = build(**{f"{name}_weight": 3.0 for name in names})
    weighed.model.set_weights(detector.model.get_weights())
    one, other = (d.losses(only(batch, 2), training=False)[0] for d in (detector, weighed))
    ratios = [float(other[name]) / float(one[name]) for name in names]
    np.testing.assert_allclose(ratios, [1.5, 3, 1.5, 3], rtol=1e-4)  # of the defaults 2, 1, 2, 1


def test_rpn_losses_by_hand(detector):
    """All logits and codes 0: log 2 for each anchor drawn; an anchor with codes (1, 0, 0, 0) to learn costs 1/2."""
    anchors = detector.anchors[detector.trained]
    height = anchors[0, 2] - anchors[0, 0]
    box = (anchors[0] + [0.1 * height, 0, 0.1 * height, 0])[np.newaxis, np.newaxis]
    zeros = tf.zeros((1, len(anchors), 4))
    parts, scalars = detector._rpn_losses(
        zeros[..., :2], zeros, anchors, box.astype(np.float32), np.array([[3]]), np.array([1], np.int32)
    )
    assert float(parts["rpn_classification"]) == pytest.approx(np.log(2), rel=1e-5)
    positives = float(scalars["rpn/positives_per_image"])
    assert positives == 1  # IoU .82 with the anchor; the next cell's lies 16 px off
    assert float(parts["rpn_localization"]) == pytest.approx(0.5 / 64, rel=1e-3)


def test_anchors_across_the_border_are_not_trained_and_clipped_in_detection(detector):
    inside = detector.anchors[detector.trained]
    assert 0 < len(inside) < len(detector.anchors)
    assert (inside >= 0).all() and (inside <= [96, 128, 96, 128]).all()
    assert (detector._detecting >= 0).all() and (detector._detecting <= [96, 128, 96, 128]).all()
    kept = build(border_anchors="keep")
    assert len(kept.trained) == 576 and kept._detecting is kept.anchors
    with pytest.raises(ConfigError, match=r"detector\.anchors: .*96x128 px.*detector\.anchors\.base"):
        build(anchors=GridAnchors(base=1024.0))
    with pytest.raises(ConfigError, match=r"border_anchors=clip is not legal: expected one of drop, keep"):
        build(border_anchors="clip")


def test_the_sample_for_the_second_stage(detector, batch):
    """Of one image with one box: the box itself is among the sample, with codes 0; padding is never drawn."""
    image = only(batch, 1)
    nothing = Proposals(tf.zeros((1, 40, 4)), tf.zeros((1, 40), bool))
    sampled, (classes, codes, matched), drawn = detector._sample(
        nothing, image["boxes"], image["classes"], image["seed"]
    )
    assert sampled.shape == (1, 16, 4) and drawn.numpy().sum() == matched.numpy().sum() == 1
    np.testing.assert_allclose(sampled[0, 0], image["boxes"][0, 0])
    np.testing.assert_allclose(codes[0, 0], np.zeros(4), atol=1e-6)
    assert int(classes[0, 0]) == image["classes"][0, 0]
    without = build(add_truth=False)._sample(nothing, image["boxes"], image["classes"], image["seed"])
    assert not without[2].numpy().any()


def test_at_most_a_quarter_of_the_sample_is_positive_at_iou_one_half(detector, batch):
    image = only(batch, 1)
    box = image["boxes"][0, 0]
    height = box[2] - box[0]
    shifts = np.linspace(0, 1, 40)[:, None] * height * [1, 0, 1, 0]
    proposals = Proposals(tf.constant((box + shifts)[None], tf.float32), tf.ones((1, 40), bool))
    sampled, (classes, _, matched), drawn = detector._sample(proposals, image["boxes"], image["classes"], image["seed"])
    assert drawn.numpy().all() and matched.numpy().sum() == 4
    shift = (sampled.numpy()[0, :, 0] - box[0]) / height
    expected = (1 - shift) / (1 + shift) >= 0.5  # IoU of the box and itself, moved down
    np.testing.assert_array_equal(matched[0].numpy() > 0, expected)
    np.testing.assert_array_equal(classes[0].numpy() > 0, expected)


def test_only_the_code_of_the_true_class_is_taught(detector, batch):
    image = only(batch, 1)
    image["classes"] = np.where(image["classes"] > 0, 2, -1).astype(np.int32)
    layer = detector.model.get_layer("SecondStageBoxPredictor/BoxEncodingPredictor")
    with tf.GradientTape() as tape:
        loss = detector.losses(image)[0]["box_localization"]
    gradient = tape.gradient(loss, layer.bias).numpy().reshape(3, 4)
    assert gradient[1].any() and not gradient[[0, 2]].any()


def test_no_gradient_runs_through_proposal_coordinates(detector, batch):
    """The second stage's loss teaches the RPN's own layers nothing."""
    rpn = [layer for layer in detector.model.layers if layer.name.startswith("FirstStage") and layer.weights]
    variables = [v for layer in rpn for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
        parts, *_ = detector.losses(only(batch, 2, 3))
        loss = parts["box_classification"] + parts["box_localization"]
    assert len(variables) == 6 and tape.gradient(loss, variables) == [None] * 6


def test_detections_of_a_batch_are_those_of_its_images(detector, batch):
    together = {name: value.numpy() for name, value in detector.detect(batch["image"]).items()}
    assert together["boxes"].shape == (4, 50, 4) and together["count"].min() > 0
    for i in range(4):
        alone = detector.detect(batch["image"][i : i + 1])
        assert together.keys() == alone.keys()
        assert_same_detections(counted(together, i), counted(alone, 0), 128)
    boxes = together["boxes"]
    assert (boxes >= 0).all() and (boxes[..., 2] <= 96).all() and (boxes[..., 3] <= 128).all()
    assert (np.diff(together["scores"], axis=1) <= 0).all()


def test_codes_of_the_truth_are_detected_as_the_truth(batch):
    """A second stage that always predicts class 2 and a shift of a tenth finds the proposals, shifted, as class 2."""
    detector = build()
    for name, bias in [("ClassPredictor", [0, 0, 9, 0]), ("BoxEncodingPredictor", [0] * 4 + [1, 0, 0, 0] + [0] * 4)]:
        layer = detector.model.get_layer(f"SecondStageBoxPredictor/{name}")
        layer.set_weights([np.zeros_like(layer.get_weights()[0]), np.array(bias, np.float32)])
    image = batch["image"][:1]
    _, proposals = detector.propose(image)
    found = {name: value.numpy()[0] for name, value in detector.detect(image).items()}
    best = proposals.boxes.numpy()[0, 0]
    shifted = best + 0.1 * (best[2] - best[0]) * np.array([1, 0, 1, 0])
    kept = found["boxes"][: found["count"]]
    distance = np.abs(kept - np.clip(shifted, 0, [96, 128, 96, 128])).max(axis=1)
    assert distance.min() < 1e-2 and found["classes"][distance.argmin()] == 2
    assert found["scores"][0] == pytest.approx(np.exp(9) / (np.exp(9) + 3), rel=1e-4)


def test_frozen_batch_norm_and_freeze_until_hold_for_both_stages(batch):
    def trainable(detector, **settings):
        plan = Schedule(steps=9, batch_size=1, optimizer=tf_keras.optimizers.SGD, rate=0.1, **settings)
        plan.prepare(detector)
        return {layer.name for layer in detector.model.layers if layer.weights and layer.trainable}

    detector = build()
    assert not any("BatchNorm" in name for name in trainable(detector, batch_norm="frozen"))
    norms = [layer for layer in detector.model.layers if layer.name.endswith("Conv2d_13_pointwise/BatchNorm")]
    norms += [layer for layer in detector.model.layers if layer.name == "Conv2d_3_pointwise/BatchNorm"]
    before = [layer.get_weights() for layer in norms]
    gradients(detector, batch)  # a forward pass in training mode
    for layer, weights in zip(norms, before, strict=True):
        np.testing.assert_array_equal(layer.get_weights(), weights)
    assert len(norms) == 2

    left = trainable(detector, freeze_until="Conv2d_3_pointwise")
    assert "Conv2d_3_pointwise" not in left and {"Conv2d_4_depthwise", "Conv2d_13_pointwise"} <= left
    left = trainable(detector, freeze_until="Conv2d_12_pointwise")  # of the second stage: the first feeds it
    assert not left & {"Conv2d_0", "Conv2d_11_pointwise", "Conv2d_12_pointwise"}
    assert {"FirstStageBoxPredictor/Conv", "Conv2d_13_depthwise"} <= left
    gradients(detector, batch)


class OwnHead:
    """A predictor of proposals without a layer between the map and its outputs, as the contract allows."""

    def __call__(self, features, anchors):
        logits = tf_keras.layers.Conv2D(anchors * 2, 1, name="own/logits")(features)
        codes = tf_keras.layers.Conv2D(anchors * 4, 1, name="own/codes")(features)
        return tf_keras.layers.Reshape((-1, 2))(logits), tf_keras.layers.Reshape((-1, 4))(codes)


def test_a_head_of_the_users_own_has_its_part():
    own = build(rpn_head=OwnHead())
    _, rpn, _ = own.parts()
    assert rpn.shape == (6, 8, 128) and {"own/logits", "own/codes"} < set(rpn.layers)
    assert total_macs(own) > 0


def test_parts_share_out_every_layer_and_count_the_second_stage_by_proposals(detector):
    names = [name for part in detector.parts() for name in part.layers]
    assert sorted(names) == sorted(layer.name for layer in detector.model.layers)
    features, rpn, head = detector.parts()
    assert (rpn.anchors, head.times, head.training_times) == (12, 40, 16)
    assert features.shape == (6, 8, 128) and rpn.shape == (6, 8, 32) and head.shape == (256,)
    counts = macs(detector.model)
    once = {p.name: sum(counts[name] for name in p.layers) for p in detector.parts()}
    assert once["RPN"] == 48 * (9 * 128 * 32 + 32 * 12 * 6)
    assert total_macs(detector) == once[features.name] + once["RPN"] + 40 * once["box head"]
    assert sum(parameters(detector.model).values()) == detector.model.count_params()


def test_a_map_that_ends_before_the_frame_is_told(caplog):
    """VGG16 without padding has 6 x 8 cells of stride 16 in 110 x 128 px."""
    build(size=(96, 128), backbone=VGG16(0.125, padding="valid"))
    assert "covers" not in caplog.text
    build(size=(110, 128), backbone=VGG16(0.125, padding="valid"))
    assert "the map of the proposals covers 96x128 of 110x128 px" in caplog.text


def test_a_prior_that_no_predictor_takes_is_told(caplog):
    build(classification_loss=FocalClassification(prior=None))
    assert not caplog.messages
    build(classification_loss=FocalClassification())
    assert caplog.messages[0].startswith("detector.classification_loss.prior=0.01 has no effect")
