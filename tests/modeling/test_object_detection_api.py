"""The parts of our detectors against the TF Object Detection API's own code, on the same numbers
(scripts/api_fixture.py)."""

import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detect.geometry.anchors import GridAnchors
from detect.geometry.box_coder import BoxCoder
from detect.modeling.backbones.mobilenet_v3 import MobileNetV3
from detect.modeling.faster_rcnn import FasterRCNN
from detect.modeling.losses import SmoothL1, SoftmaxClassification
from detect.modeling.matcher import IGNORED, ArgMaxMatcher
from detect.modeling.nms import NonMaxSuppression, suppress
from detect.modeling.rpn import ProposalGenerator, Proposals
from detect.modeling.sampler import BalancedSampler, HardExampleMiner
from detect.modeling.target_assigner import TargetAssigner
from detect.weights.names import our_name

FIXTURE = Path(__file__).parent / "fixtures" / "object_detection_api.npz"
SIZE, SAMPLES, RPN_SAMPLES = (96, 128), 16, 64


@pytest.fixture(scope="module")
def theirs():
    with np.load(FIXTURE) as file:
        return {name: file[name] for name in file.files}


class Drawn:
    """A sampler that draws what the API drew."""

    def __init__(self, drawn: np.ndarray, size: int):
        self.drawn, self.size = tf.constant(drawn, tf.float32), size
        self.allowed = []

    def __call__(self, positive, negative, seed):
        self.allowed = [positive.numpy(), negative.numpy()]
        return self.drawn

    indices = BalancedSampler.indices


def parts(**attributes) -> SimpleNamespace:
    """What the losses of a Faster R-CNN need of it."""
    return SimpleNamespace(
        rpn_target_assigner=TargetAssigner(ArgMaxMatcher(0.7, 0.3), BoxCoder()),
        box_target_assigner=TargetAssigner(ArgMaxMatcher(0.5, 0.5, force_match=False), BoxCoder()),
        classification_loss=SoftmaxClassification(),
        localization_loss=SmoothL1(),
        num_classes=3,
        add_truth=False,
        size=SIZE,
        **attributes,
    )


def test_anchors(theirs):
    ours = GridAnchors((0.25, 0.5, 1.0), (0.5, 1.0, 2.0), 64.0)([(6, 8)], SIZE)
    np.testing.assert_allclose(ours, theirs["anchors"], atol=1e-5)


def test_the_losses_of_the_first_stage(theirs):
    sampler = Drawn(theirs["rpn_drawn"], RPN_SAMPLES)
    boxes, classes = tf.constant(theirs["boxes"]), tf.constant(theirs["classes"])
    found, _ = FasterRCNN._rpn_losses(
        parts(rpn_sampler=sampler), theirs["objectness"], theirs["codes"], theirs["anchors"], boxes, classes, None
    )
    assert float(found["rpn_classification"]) == pytest.approx(float(theirs["rpn_classification"]), rel=2e-6)
    assert 2 * float(found["rpn_localization"]) == pytest.approx(float(theirs["rpn_localization"]), rel=2e-6)
    same_numbers(BalancedSampler(RPN_SAMPLES, 0.5), sampler.allowed, theirs["rpn_drawn"])


def test_the_samples_and_losses_of_the_second_stage(theirs):
    sampler = Drawn(theirs["box_drawn"], SAMPLES)
    boxes, classes = tf.constant(theirs["boxes"]), tf.constant(theirs["classes"])
    real = np.arange(theirs["proposals"].shape[1]) < theirs["proposal_counts"][:, None]
    stub = parts(
        box_sampler=sampler,
        roi=lambda features, sampled, size: sampled,
        box_model=lambda crops, training: {"logits": theirs["box_logits"], "codes": theirs["box_codes"]},
    )
    stub._sample = lambda *given: FasterRCNN._sample(stub, *given)
    proposals = Proposals(tf.constant(theirs["proposals"]), tf.constant(real))
    sampled, _, drawn = stub._sample(proposals, boxes, classes, None)
    assert drawn.numpy().sum(axis=1).tolist() == theirs["sampled_counts"].tolist() and drawn.numpy().sum() < 3 * SAMPLES
    np.testing.assert_array_equal(sampled * drawn[..., tf.newaxis], theirs["sampled"])
    found, _ = FasterRCNN._box_losses(stub, None, proposals, boxes, classes, None, True)
    assert float(found["box_classification"]) == pytest.approx(float(theirs["box_classification"]), rel=2e-6)
    assert 2 * float(found["box_localization"]) == pytest.approx(float(theirs["box_localization"]), rel=2e-6)
    same_numbers(BalancedSampler(SAMPLES, 0.25), sampler.allowed, theirs["box_drawn"])


def same_numbers(sampler, allowed, drawn):
    """Ours draws as many positives and negatives of each image as the API, and the API only what ours may draw."""
    positive, negative = allowed
    assert not (drawn & ~(positive | negative)).any() and (drawn & positive).any()
    ours = sampler(positive, negative, tf.range(len(drawn))).numpy() > 0
    for kind in allowed:
        np.testing.assert_array_equal((ours & kind).sum(axis=1), (drawn & kind).sum(axis=1))


def test_proposals(theirs):
    scores = SoftmaxClassification().scores(theirs["objectness"])[..., 0]
    found = ProposalGenerator(40, 0.7, min_size=0)(theirs["codes"], scores, theirs["anchors"], BoxCoder(), SIZE)
    np.testing.assert_array_equal(found.real.numpy().sum(axis=1), theirs["proposed_count"])
    np.testing.assert_allclose(found.boxes, theirs["proposed"], atol=1e-3)
    scores = SoftmaxClassification().scores(theirs["objectness"])
    boxes = BoxCoder().decode(theirs["codes"], np.stack([theirs["anchors"]] * 3))
    _, scores, _, _ = suppress(boxes, scores, SIZE, 0.7, 0.0, per_class=40, total=40)
    np.testing.assert_allclose(scores, theirs["proposed_scores"], atol=1e-6)


@pytest.mark.parametrize(("place", "ratio", "least"), [(0, 2.5, 0), (1, 3.0, 3), (2, 0.7, 1)])
def test_hard_examples(theirs, place, ratio, least):
    matches = theirs["mined_matches"]
    localization, classification = theirs["mined_losses"]
    miner = HardExampleMiner(40, 0.6, ratio, least)
    matched, weights = (x.astype(np.float32) for x in (matches >= 0, matches != IGNORED))
    counted = miner(classification, matched, weights, theirs["mined_boxes"]).numpy()
    sums = np.stack([(localization * counted).sum(axis=1), (classification * counted).sum(axis=1)], axis=1)
    np.testing.assert_allclose(sums, theirs["mined_sums"][place], rtol=1e-5)


@pytest.mark.parametrize(("place", "thresholds"), [(0, (0.5, 0.5)), (1, (0.7, 0.3))])
def test_matches(theirs, place, thresholds):
    similarity = np.swapaxes(theirs["similarity"], 1, 2)
    assert (similarity.max(axis=1) == 0).any()  # boxes that touch no anchor
    np.testing.assert_array_equal(ArgMaxMatcher(*thresholds)(similarity), theirs["matches"][place])


@pytest.mark.parametrize(("per_class", "total"), [(20, 30), (8, 40)])
def test_detections(theirs, per_class, total):
    suppression = NonMaxSuppression(0.4, 1e-8, per_class, total)
    found = suppression(theirs["nms_boxes"], theirs["nms_scores"], SIZE)
    count = theirs[f"nms_{total}_count"]
    np.testing.assert_array_equal(found["count"], count)
    real = np.arange(total) < count[:, None]
    assert real.any(axis=1).all()
    np.testing.assert_array_equal(found["classes"], (theirs[f"nms_{total}_classes"] + 1) * real)
    np.testing.assert_allclose(found["scores"], theirs[f"nms_{total}_scores"] * real, atol=1e-6)
    np.testing.assert_allclose(found["boxes"], theirs[f"nms_{total}_boxes"] * real[..., None], atol=1e-4)


def variable(name: str, shape) -> np.ndarray:
    """The random numbers that the script gave to a variable of slim."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    kind = name.rpartition("/")[2]
    if kind in ("weights", "depthwise_weights"):
        return random.normal(0, 1 / np.sqrt(np.prod(shape[:2] if kind != "weights" else shape[:3])), shape)
    return random.uniform(0.5, 1.5, shape) if kind in ("gamma", "moving_variance") else random.normal(0, 0.3, shape)


@pytest.mark.parametrize("size", ["small", "large"])
def test_maps_of_mobilenet_v3(theirs, size):
    backbone, image = MobileNetV3(size, 0.5), tf_keras.Input((48, 48, 3))
    model = tf_keras.Model(image, backbone(image))
    slim_names = {"kernel": "weights", "depthwise_kernel": "depthwise_weights", "bias": "biases"}
    for each in model.variables:
        layer, _, kind = each.name.removesuffix(":0").rpartition("/")
        name = f"{backbone.slim_scope}/{layer}/{slim_names.get(kind, kind)}"
        assert our_name(name, backbone.slim_scope) == f"{layer}/{kind}"
        each.assign(variable(name, tuple(each.shape)))
    outputs = model(theirs["v3_image"].astype(np.float32))
    for name in backbone.ssd_maps:
        expected = theirs[f"v3_{size}_{name.partition('/')[0]}"]
        assert expected.std() > 0.05
        np.testing.assert_allclose(outputs[name], expected, atol=4e-6 * np.abs(expected).max())
