"""Writes what the TF Object Detection API's own code makes of random numbers: Faster R-CNN's losses, samples and
proposals, hard examples, matches, detections, and the feature maps of slim's MobileNet v3.

Usage: python scripts/api_fixture.py tests/modeling/fixtures/object_detection_api.npz
It needs an environment of its own, with Python 3.11 and PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python:
    pip install tensorflow-cpu==2.15.* tf_keras==2.15.* tf-slim "numpy<2" matplotlib pandas lxml scipy pillow
    pip install --no-deps tf-models-research-object-detection==2.8.0.post1
Classes count from 1, and 0 is the background. Boxes are [ymin, xmin, ymax, xmax] in pixels, padded with -1.
"""

import functools
import importlib
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_slim as slim
from object_detection import nets
from object_detection.anchor_generators.grid_anchor_generator import GridAnchorGenerator
from object_detection.core import balanced_positive_negative_sampler as sampler
from object_detection.core import box_list, losses, matcher, post_processing, target_assigner
from object_detection.matchers import argmax_matcher
from object_detection.meta_architectures.faster_rcnn_meta_arch import FasterRCNNMetaArch

SIZE, STRIDE, CLASSES, BOXES = (96, 128), 16, 3, (4, 0, 2)
SCALES, RATIOS, BASE = (0.25, 0.5, 1.0), (0.5, 1.0, 2.0), 64.0
PROPOSALS, SAMPLES, RPN_SAMPLES = 40, 16, 64


class Recorded(sampler.BalancedPositiveNegativeSampler):
    """The API's sampler, which keeps what it drew."""

    def __init__(self, positive_fraction: float):
        super().__init__(positive_fraction=positive_fraction)
        self.drawn = []

    def subsample(self, indicator, batch_size, labels, scope=None):
        drawn = super().subsample(indicator, batch_size, labels, scope)
        self.drawn.append(drawn.numpy())
        return drawn


def faster_rcnn(**attributes) -> types.SimpleNamespace:
    """The API's Faster R-CNN without its network: the named methods, and the attributes that they use."""
    stub = types.SimpleNamespace(
        _box_coder=target_assigner.create_target_assigner("FasterRCNN", "detection").get_box_coder(),
        _parallel_iterations=1,
        _use_static_shapes=False,
        _is_training=False,
        _hard_example_miner=None,
        _num_classes=CLASSES,
        max_num_proposals=SAMPLES,
        groundtruth_has_field=lambda name: False,
        _first_stage_localization_loss=losses.WeightedSmoothL1LocalizationLoss(),
        _first_stage_objectness_loss=losses.WeightedSoftmaxClassificationLoss(),
        _second_stage_localization_loss=losses.WeightedSmoothL1LocalizationLoss(),
        _second_stage_classification_loss=losses.WeightedSoftmaxClassificationLoss(),
        _first_stage_loc_loss_weight=2.0,
        _first_stage_obj_loss_weight=1.0,
        _second_stage_loc_loss_weight=2.0,
        _second_stage_cls_loss_weight=1.0,
        **attributes,
    )
    for name in (
        *("_loss_rpn", "_loss_box_classifier", "_postprocess_rpn", "_sample_box_classifier_batch"),
        *("_sample_box_classifier_minibatch_single_image", "_padded_batched_proposals_indicator"),
        *("_get_refined_encodings_for_postitive_class", "_batch_decode_boxes", "_compute_clip_window"),
    ):
        setattr(stub, name, types.MethodType(getattr(FasterRCNNMetaArch, name), stub))
    return stub


def within(random: np.random.Generator, count: int) -> np.ndarray:
    """Boxes [count, 4] inside the frame."""
    sides = random.uniform(0.1, 0.7, (count, 2)) * SIZE
    corners = random.uniform(0, 1, (count, 2)) * (SIZE - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def near(random: np.random.Generator, boxes: np.ndarray, count: int) -> np.ndarray:
    """`count` boxes: some close to `boxes`, the others anywhere."""
    close = np.repeat(boxes, 4, axis=0) + random.normal(0, 4, (4 * len(boxes), 4))
    found = np.concatenate([close, within(random, count - len(close))])[random.permutation(count)]
    return np.clip(found, 0, [*SIZE, *SIZE]).astype(np.float32)


def truth(random: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray], dict[str, np.ndarray]]:
    """Boxes and classes of each image, and the same padded."""
    boxes = [within(random, count) for count in BOXES]
    classes = [random.integers(1, CLASSES + 1, count).astype(np.int32) for count in BOXES]
    padded = {
        "boxes": np.full((len(BOXES), max(BOXES), 4), -1, np.float32),
        "classes": np.full((len(BOXES), max(BOXES)), -1, np.int32),
    }
    for image, count in enumerate(BOXES):
        padded["boxes"][image, :count], padded["classes"][image, :count] = boxes[image], classes[image]
    return boxes, classes, padded


def two_stages() -> dict[str, np.ndarray]:
    """The losses of both stages with what was drawn for them, the sampled proposals, and the proposals of detection."""
    random = np.random.default_rng(0)
    tf.random.set_seed(0)
    boxes, classes, padded = truth(random)
    lists = [box_list.BoxList(tf.constant(each)) for each in boxes]
    weights = [tf.ones(len(each)) for each in boxes]
    one_hot = [tf.one_hot(each, CLASSES + 1) for each in classes]

    grid = GridAnchorGenerator(SCALES, RATIOS, [BASE, BASE], [STRIDE, STRIDE], [0, 0])
    (anchors,) = grid.generate([tuple(side // STRIDE for side in SIZE)])
    shape = (len(BOXES), anchors.num_boxes_static())
    codes = random.normal(0, 2, (*shape, 4)).astype(np.float32)
    objectness = random.normal(0, 2, (*shape, 2)).astype(np.float32)
    rpn_sampler = Recorded(0.5)
    first = faster_rcnn(
        _proposal_target_assigner=target_assigner.create_target_assigner("FasterRCNN", "proposal"),
        _first_stage_sampler=rpn_sampler,
        _first_stage_minibatch_size=RPN_SAMPLES,
        _first_stage_nms_fn=functools.partial(
            post_processing.batch_multiclass_non_max_suppression,
            score_thresh=0.0,
            iou_thresh=0.7,
            max_size_per_class=PROPOSALS,
            max_total_size=PROPOSALS,
        ),
    )
    outputs = tf.constant(codes), tf.constant(objectness)
    found = first._loss_rpn(*outputs, anchors.get(), lists, one_hot, weights)
    result = padded | {
        "anchors": anchors.get().numpy(),
        "codes": codes,
        "objectness": objectness,
        "rpn_drawn": np.stack(rpn_sampler.drawn),
        "rpn_localization": found["Loss/RPNLoss/localization_loss"],
        "rpn_classification": found["Loss/RPNLoss/objectness_loss"],
    }
    shapes = tf.constant([[*SIZE, 3]] * len(BOXES))
    proposed = first._postprocess_rpn(*outputs, anchors.get(), shapes, shapes)
    frame = np.array([*SIZE, *SIZE], np.float32)
    result |= {"proposed": proposed[0] * frame, "proposed_scores": proposed[1], "proposed_count": proposed[3]}

    proposals = np.stack([near(random, each, PROPOSALS) for each in boxes])
    counts = np.array([PROPOSALS, PROPOSALS - 5, 12], np.int32)  # in the last image fewer than are drawn
    box_sampler = Recorded(0.25)
    second = faster_rcnn(
        _detector_target_assigner=target_assigner.create_target_assigner("FasterRCNN", "detection"),
        _second_stage_sampler=box_sampler,
        _second_stage_batch_size=SAMPLES,
    )
    sampled, _, drawn = second._sample_box_classifier_batch(
        tf.constant(proposals), tf.zeros(proposals.shape[:2]), tf.constant(counts), lists, one_hot, weights
    )
    logits = random.normal(0, 2, (len(BOXES) * SAMPLES, CLASSES + 1)).astype(np.float32)
    refined = random.normal(0, 2, (len(BOXES) * SAMPLES, CLASSES, 4)).astype(np.float32)
    found = second._loss_box_classifier(
        tf.constant(refined), tf.constant(logits), sampled, drawn, lists, one_hot, weights, shapes[0]
    )
    return result | {
        "proposals": proposals,
        "proposal_counts": counts,
        "box_drawn": np.stack(box_sampler.drawn),
        "sampled": sampled,
        "sampled_counts": drawn,
        "box_logits": logits,
        "box_codes": refined,
        "box_localization": found["Loss/BoxClassifierLoss/localization_loss"],
        "box_classification": found["Loss/BoxClassifierLoss/classification_loss"],
    }


def hard_examples() -> dict[str, np.ndarray]:
    """Sums of the losses that the miner keeps of each of several images, for three ratios; -2 is an ignored anchor."""
    random = np.random.default_rng(1)
    images, anchors = 6, 60
    boxes = np.stack([near(random, within(random, 12), anchors) for _ in range(images)])
    matches = random.choice([-2, -1, 0, 1], (images, anchors), p=[0.1, 0.8, 0.05, 0.05]).astype(np.int32)
    matches[0] = -1
    values = random.uniform(0, 5, (2, images, anchors)).astype(np.float32) * (matches != -2)
    kept = []
    for ratio, least in ((2.5, 0), (3.0, 3), (0.7, 1)):
        miner = losses.HardExampleMiner(40, 0.6, "cls", 1.0, 1.0, ratio, least)
        for image in range(images):
            match = matcher.Match(tf.constant(matches[image]))
            one = slice(image, image + 1)
            kept.append(miner(values[0][one], values[1][one], [box_list.BoxList(tf.constant(boxes[image]))], [match]))
    sums = np.array(kept, np.float32).reshape(3, images, 2)
    return {"mined_boxes": boxes, "mined_matches": matches, "mined_losses": values, "mined_sums": sums}


def matched() -> dict[str, np.ndarray]:
    """Matches of similarities [images, boxes, anchors]; some boxes touch no anchor, some values are equal."""
    random = np.random.default_rng(2)
    similarity = np.round(random.beta(0.6, 1.2, (8, 6, 40)), 2).astype(np.float32)
    similarity[random.random((8, 6)) < 0.25] = 0
    similarity[:, :, ::3] = 0
    found = []
    for thresholds in ((0.5, 0.5), (0.7, 0.3)):
        assign = argmax_matcher.ArgMaxMatcher(*thresholds, force_match_for_each_row=True)
        found.append([assign.match(tf.constant(each)).match_results.numpy() for each in similarity])
    return {"similarity": similarity, "matches": np.array(found, np.int32)}


def detections() -> dict[str, np.ndarray]:
    """Detections of boxes that often lie across the frame's border, or outside."""
    random = np.random.default_rng(3)
    low = random.uniform(-60, 130, (3, 80, 2))
    boxes = np.concatenate([low, low + random.uniform(4, 60, (3, 80, 2))], axis=2).astype(np.float32)
    boxes[:, ::10, 2] = boxes[:, ::10, 0]  # no area
    scores = random.permuted(np.linspace(0.001, 0.999, 3 * 80 * CLASSES)).reshape(3, 80, CLASSES).astype(np.float32)
    result = {"nms_boxes": boxes, "nms_scores": scores}
    for per_class, total in ((20, 30), (8, 40)):
        found = post_processing.batch_multiclass_non_max_suppression(
            tf.constant(boxes[:, :, None]), tf.constant(scores), 1e-8, 0.4, per_class, total,
            clip_window=tf.constant([0.0, 0.0, *map(float, SIZE)]),
        )  # fmt: skip
        for name, value in zip(("boxes", "scores", "classes", "count"), (*found[:3], found[5]), strict=True):
            result[f"nms_{total}_{name}"] = value
    return result


def variable(name: str, shape: list[int]) -> np.ndarray:
    """Random numbers that follow from the name of a variable alone; they keep the signal at the size of 1."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    kind = name.rpartition("/")[2]
    if kind in ("weights", "depthwise_weights"):
        return random.normal(0, 1 / np.sqrt(np.prod(shape[:2] if kind != "weights" else shape[:3])), shape)
    return random.uniform(0.5, 1.5, shape) if kind in ("gamma", "moving_variance") else random.normal(0, 0.3, shape)


def mobilenet_v3_maps() -> dict[str, np.ndarray]:
    """The maps of slim's network that a detector uses, for a random image."""
    for name in ("", ".base", ".convolutional", ".core", ".normalization", ".pooling"):  # TensorFlow 2.15 looks there
        sys.modules[f"tf_keras.legacy_tf_layers{name}"] = importlib.import_module(
            f"tf_keras.src.legacy_tf_layers{name}"
        )
    sys.path.append(str(Path(nets.__path__[0]).parent))  # its modules are imported as `nets`
    np.int = int  # they are older than NumPy 1.24, which dropped the alias
    mobilenet_v3 = importlib.import_module("nets.mobilenet.mobilenet_v3")
    image = np.random.default_rng(4).integers(0, 256, (1, 48, 48, 3), np.uint8)
    result = {"v3_image": image}
    for size, maps in (
        ("small", ("layer_10/expansion_output", "layer_13")),
        ("large", ("layer_14/expansion_output", "layer_17")),
    ):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            definition = {"small": mobilenet_v3.V3_SMALL, "large": mobilenet_v3.V3_LARGE}[size]
            with slim.arg_scope(mobilenet_v3.training_scope(is_training=False)):
                _, points = mobilenet_v3.mobilenet(
                    tf.constant(image / np.float32(127.5) - 1),
                    base_only=True,
                    conv_defs=definition,
                    depth_multiplier=0.5,
                )
            for each in tf.compat.v1.global_variables():
                each.load(variable(each.op.name, each.shape.as_list()), session)
            for name, value in zip(maps, session.run([points[name] for name in maps]), strict=True):
                result[f"v3_{size}_{name.partition('/')[0]}"] = value
    return result


def main() -> None:
    """Draws, asks the API, writes."""
    parts = (two_stages(), hard_examples(), matched(), detections(), mobilenet_v3_maps())
    arrays = {name: np.asarray(value) for part in parts for name, value in part.items()}
    np.savez_compressed(sys.argv[1], versions=f"object_detection 2.8.0.post1, tensorflow {tf.__version__}", **arrays)
    print({name: array.shape for name, array in arrays.items()})


if __name__ == "__main__":
    main()
