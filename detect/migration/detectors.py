"""The meta-architectures of a pipeline.config, SSD and Faster R-CNN: frame, matcher, losses, post-processing."""

import math
from typing import Any

from detect.migration import network
from detect.migration.message import Message
from detect.migration.translation import Translation, initializer

LOSSES = "detect.modeling.losses"
NO_LIMIT = 1_000_000  # anchors: more than a frame has


def detector(model: Message, into: Translation) -> None:
    """Sets the detector and the backbone."""
    found = model.one(("ssd", "faster_rcnn"))
    if found is None:
        raise model.error("ssd", "is missing: expected model { ssd { ... } } or model { faster_rcnn { ... } }")
    kind, message = found
    {"ssd": network.known, "faster_rcnn": _known}[kind](message)
    into.choices["detector"] = kind
    into.values["detector"] = {}
    if message.whole("num_classes", 0) < 1:
        raise message.error("num_classes", "expected a whole number from 1")
    resizer(message, into)
    {"ssd": ssd, "faster_rcnn": faster_rcnn}[kind](message, into)


def resizer(message: Message, into: Translation) -> None:
    """Sets the frame."""
    found = message.message("image_resizer").one(("fixed_shape_resizer", "keep_aspect_ratio_resizer"))
    if found is None:
        raise message.error("image_resizer", "is missing")
    kind, given = found
    if given.word("resize_method", "BILINEAR") != "BILINEAR":
        raise given.missing("resize_method", f"a resizer of the method {given.word('resize_method', 'BILINEAR')}")
    if given.flag("convert_to_grayscale", False):
        raise given.missing("convert_to_grayscale", "grey images")
    if kind == "fixed_shape_resizer":
        size = [given.whole("height", 300), given.whole("width", 300)]
        into.values["detector"] |= {"size": size, "resize": "zoo"}
        return
    low, high = given.whole("min_dimension", 600), given.whole("max_dimension", 1024)
    square = given.flag("pad_to_max_dimension", False)
    if square and low != high and into.choices["detector"] == "ssd":  # whose anchors are shares of the frame
        raise given.missing(
            "pad_to_max_dimension", f"an SSD whose images are padded from {low}x{high} to {high}x{high} px"
        )
    if any(padding := given.numbers("per_channel_pad_value")):
        into.differ(f"the border of a padded image: 0; the API's {', '.join(f'{value:g}' for value in padding)}")
    into.values["detector"] |= {"size": [low, high], "resize": "keep_aspect"}
    shape = f"is {high}x{high} px" if square else "has the shape of the image"
    into.differ(
        f"the frame: {low}x{high} px for every image, which is scaled into it and padded; the API's frame {shape} "
        f"(shorter side of an image {low}, longer at most {high} px); for upright images give "
        f"detector.size=[{high},{low}]"
        if low != high
        else f"the frame: {low}x{high} px for every image, which is scaled into it and padded"
    )
    into.differ(
        "the scaling of images: bilinear between the centres of pixels, and a mean of areas where an image shrinks to "
        "half or less; the API's is bilinear between corners, and takes no mean"
    )


def ssd(message: Message, into: Translation) -> None:
    """Sets all parts of an SSD."""
    message.ignore("inplace_batchnorm_update", "return_raw_detections_during_predict")
    for name, wanted in (
        ("add_background_class", True),
        ("explicit_background_class", False),
        ("use_confidences_as_targets", False),
        ("normalize_loss_by_num_matches", True),
    ):
        if message.flag(name, wanted) != wanted:
            raise message.missing(name, f"{name}: {str(not wanted).lower()}")
    for name in ("negative_class_weight", "implicit_example_weight"):
        if message.number(name, 1.0) != 1.0:
            raise message.missing(name, f"a {name} of {message.number(name, 1.0):g}")
    if message.has("mask_head_config"):
        raise message.missing("mask_head_config", "masks")
    if message.flag("freeze_batchnorm", False):
        into.put("schedule.batch_norm", "frozen")
    maps = network.feature_extractor(message, into)
    bias = network.predictor(message, into)
    network.anchors(message, maps, into)
    scales = box_coder(message)
    into.put("detector.target_assigner.matcher", matcher(message))
    into.put("detector.target_assigner.box_coder.scales", scales)
    losses(message, bias, into)
    into.values["detector"]["postprocess"] = postprocess(message.message("post_processing"), into)


def box_coder(message: Message) -> list[float]:
    """The four factors of the box code."""
    found = message.message("box_coder").one(("faster_rcnn_box_coder",))
    given = found[1] if found else message.message("box_coder")
    defaults = {"y_scale": 10.0, "x_scale": 10.0, "height_scale": 5.0, "width_scale": 5.0}
    return [given.number(name, default) for name, default in defaults.items()]


def matcher(message: Message) -> dict[str, Any]:
    """The matcher of anchors and boxes."""
    found = message.message("similarity_calculator").one(("iou_similarity",))
    found = message.message("matcher").one(("argmax_matcher",))
    given = found[1] if found else message.message("matcher")
    given.ignore("use_matmul_gather")
    ignore = given.flag("ignore_thresholds", False)
    high, low = given.number("matched_threshold", 0.5), given.number("unmatched_threshold", 0.5)
    if not (ignore or 0 <= low <= high <= 1):
        raise given.error("matched_threshold", f"expected 0 <= unmatched_threshold={low:g} <= {high:g} <= 1")
    if not given.flag("negatives_lower_than_unmatched", True) and high != low:
        raise given.missing("negatives_lower_than_unmatched", "negatives between the two thresholds of the matcher")
    return {
        "positive": 0.0 if ignore else high,
        "negative": 0.0 if ignore else low,
        "force_match": given.flag("force_match_for_each_row", False),
    }


def losses(message: Message, bias: float, into: Translation) -> None:
    """Sets the losses, their weights and the miner of hard examples."""
    loss, values = message.message("loss"), into.values["detector"]
    for name in ("random_example_sampler", "equalization_loss"):
        if loss.has(name):
            raise loss.missing(name, name)
    if loss.word("expected_loss_weights", "NONE") != "NONE":
        raise loss.missing("expected_loss_weights", "expected loss weights")
    loss.ignore("min_num_negative_samples", "desired_negative_sampling_ratio")
    code_size = 4.0 if message.flag("normalize_loc_loss_by_codesize", False) else 1.0
    values["localization_weight"] = loss.number("localization_weight", 1.0) / code_size
    values["classification_weight"] = loss.number("classification_weight", 1.0)
    zeros = message.flag("encode_background_as_zeros", False)
    values["classification_loss"] = classification_loss(loss, zeros, bias, into)
    found = loss.message("localization_loss").one(("weighted_smooth_l1",))
    if found is None:
        raise loss.error("localization_loss", "is missing")
    found[1].ignore("anchorwise_output")
    values["localization_loss"] = {"delta": found[1].number("delta", 1.0)}
    values["sampler"] = miner(loss, into) if loss.has("hard_example_miner") else None


def classification_loss(loss: Message, zeros: bool, bias: float, into: Translation) -> dict[str, Any]:
    """The loss of the classes. zeros: what column 0 learns for background. bias: initial one of the predictor."""
    found = loss.message("classification_loss").one(("weighted_sigmoid", "weighted_softmax", "weighted_sigmoid_focal"))
    if found is None:
        raise loss.error("classification_loss", "is missing")
    kind, given = found
    given.ignore("anchorwise_output")
    if kind == "weighted_sigmoid_focal":
        return {
            "_target_": f"{LOSSES}.FocalClassification",
            "alpha": given.number("alpha", 0.25) if given.has("alpha") else None,
            "gamma": given.number("gamma", 2.0),
            "prior": 1 / (1 + math.exp(-max(min(bias, 50.0), -50.0))) if bias else None,
            "background": "zero" if zeros else "one",
        }
    if bias:
        into.differ(f"initial biases of the class predictor: 0, not {bias:g}")
    if kind == "weighted_softmax":
        _plain(given)
        if zeros:
            raise loss.missing("classification_loss", "a softmax loss with encode_background_as_zeros")
        return {"_target_": f"{LOSSES}.SoftmaxClassification"}
    return {"_target_": f"{LOSSES}.{'ZeroBackgroundSigmoid' if zeros else 'SigmoidClassification'}"}


def _plain(softmax: Message) -> None:
    """Raises NoCounterpart for a softmax loss of scaled logits."""
    if softmax.number("logit_scale", 1.0) != 1.0:
        raise softmax.missing("logit_scale", "a softmax loss of scaled logits")
    softmax.ignore("anchorwise_output")


def miner(loss: Message, into: Translation) -> dict[str, Any]:
    """The miner of hard examples."""
    given = loss.message("hard_example_miner")
    kind = given.word("loss_type", "BOTH")
    if kind != "CLASSIFICATION":
        raise given.missing("loss_type", f"hard examples by the loss {kind}")
    ratio = given.whole("max_negatives_per_positive", 0)
    if ratio <= 0:
        raise given.missing("max_negatives_per_positive", "hard examples without a limit of negatives")
    iou, most = given.number("iou_threshold", 0.7), given.whole("num_hard_examples", 64)
    return {
        "candidates": most if most > 0 else NO_LIMIT,
        "nms_iou": iou if iou < 1 else None,
        "negatives_per_positive": float(ratio),
        "min_negatives": given.whole("min_negatives_per_image", 0),
    }


def postprocess(given: Message, into: Translation, softmax: bool = False) -> dict[str, Any]:
    """The suppression. softmax: the wanted converter of scores, if the loss does not tell."""
    nms = given.message("batch_non_max_suppression")
    nms.ignore("use_static_shapes", "use_partitioned_nms", "use_combined_nms", "change_coordinate_frame")
    nms.ignore("use_hard_nms", "use_cpu_nms")
    together = nms.flag("use_class_agnostic_nms", False)
    if (most := nms.whole("max_classes_per_detection", 1)) != 1 and together:
        raise nms.missing("max_classes_per_detection", f"{most} classes of one object")
    if nms.number("soft_nms_sigma", 0.0):
        raise nms.missing("soft_nms_sigma", "soft non-max suppression")
    if given.has("calibration_config"):
        raise given.missing("calibration_config", "calibration of scores")
    if given.number("logit_scale", 1.0) != 1.0:
        raise given.missing("logit_scale", "scores of scaled logits")
    loss = into.values["detector"].get("classification_loss", {}).get("_target_", "")
    wanted = "SOFTMAX" if softmax or loss.endswith("SoftmaxClassification") else "SIGMOID"
    converter = given.word("score_converter", "IDENTITY")
    if converter != wanted:
        raise given.missing("score_converter", f"scores by {converter} of a network that learns by {wanted}")
    return {
        "iou": nms.number("iou_threshold", 0.6),
        "score": nms.number("score_threshold", 0.0),
        "per_class": nms.whole("max_detections_per_class", 100),
        "total": nms.whole("max_total_detections", 100),
        "class_agnostic": together,
    }


def _known(message: Message) -> None:
    extractor = message.message("feature_extractor")
    if extractor.text("type") != "faster_rcnn_inception_v2":
        raise extractor.missing("type", f"the feature extractor {extractor.text('type')}")


def faster_rcnn(message: Message, into: Translation) -> None:
    """Sets all parts of a Faster R-CNN."""
    message.ignore("inplace_batchnorm_update", "use_matmul_crop_and_resize", "use_matmul_gather_in_matcher")
    message.ignore("use_static_balanced_label_sampler", "use_static_shapes", "use_static_shapes_for_eval")
    message.ignore("use_partitioned_nms_in_first_stage", "use_combined_nms_in_first_stage", "resize_masks")
    message.ignore("return_raw_detections_during_predict", "output_final_box_features", "output_final_box_rpn_features")
    message.ignore("second_stage_mask_prediction_loss_weight")
    extractor = message.message("feature_extractor")
    stages = message.whole("number_of_stages", 2)
    if stages != 2:
        part = "masks" if stages == 3 else "a network without a second stage"
        raise message.missing("number_of_stages", f"{part} (number_of_stages: {stages})")
    for name, part in (
        ("context_config", "Context R-CNN"),
        ("hard_example_miner", "hard examples in the second stage"),
    ):
        if message.has(name):
            raise message.missing(name, part)
    if found := message.message("second_stage_classification_loss").one(("weighted_softmax",)):
        _plain(found[1])
    if extractor.whole("first_stage_features_stride", 16) != 16:
        raise extractor.missing("first_stage_features_stride", "a stride of 8")
    for name in ("conv_hyperparams", "fpn", "override_base_feature_extractor_hyperparams"):
        if extractor.has(name):
            raise extractor.missing(name, f"{name} of the feature extractor")
    extractor.ignore("pad_to_multiple")
    frozen = not extractor.flag("batch_norm_trainable", False)
    into.put("schedule.batch_norm", "frozen" if frozen else "trainable")
    into.choices["backbone"] = "inception_v2"
    into.values["backbone"] = {"scale": True, "stem_norm": True, "activation": "relu"}
    into.values["detector"] |= _first_stage(message, into) | _second_stage(message, into)


def _first_stage(message: Message, into: Translation) -> dict[str, Any]:
    found = message.message("first_stage_anchor_generator").one(("grid_anchor_generator",))
    if found is None:
        raise message.error("first_stage_anchor_generator", "is missing")
    grid = found[1]
    sides = [grid.whole(name, 256) for name in ("height", "width")]
    strides = [grid.whole(name, 16) for name in ("height_stride", "width_stride")]
    if sides[0] != sides[1] or strides[0] != strides[1]:
        raise grid.missing("height", "anchors whose base or stride differs in height and width")
    hyper = message.message("first_stage_box_predictor_conv_hyperparams")
    hyper.word("op", "CONV")
    if hyper.has("batch_norm"):
        raise hyper.missing("batch_norm", "batch norm in the region proposal network")
    hyper.word("activation", "RELU")
    stddev = initializer(hyper, "the region proposal network", into)
    if message.whole("first_stage_atrous_rate", 1) != 1:
        raise message.missing("first_stage_atrous_rate", "a dilated convolution in the region proposal network")
    if message.whole("first_stage_box_predictor_kernel_size", 3) != 3:
        raise message.missing("first_stage_box_predictor_kernel_size", "another kernel of the region proposal network")
    if message.number("first_stage_nms_score_threshold", 0.0) != 0:
        raise message.missing("first_stage_nms_score_threshold", "a score that proposals must have")
    if message.flag("clip_anchors_to_image", False):
        raise message.missing("clip_anchors_to_image", "training of anchors that are clipped to the image")
    head: dict[str, Any] = {"channels": message.whole("first_stage_box_predictor_depth", 512)}
    return {
        "anchors": {
            "scales": grid.numbers("scales"),
            "aspect_ratios": grid.numbers("aspect_ratios"),
            "base": float(sides[0]),
            "stride": float(strides[0]),
            "offset": [float(grid.whole("height_offset", 0)), float(grid.whole("width_offset", 0))],
        },
        "rpn_head": head | ({} if stddev is None else {"stddev": stddev}),
        "rpn_sampler": {
            "size": message.whole("first_stage_minibatch_size", 256),
            "positive_fraction": message.number("first_stage_positive_balance_fraction", 0.5),
        },
        "proposals": {
            "count": message.whole("first_stage_max_proposals", 300),
            "nms_iou": message.number("first_stage_nms_iou_threshold", 0.7),
            "min_size": 0.0,
        },
        "rpn_localization_weight": message.number("first_stage_localization_loss_weight", 1.0),
        "rpn_classification_weight": message.number("first_stage_objectness_loss_weight", 1.0),
    }


def _second_stage(message: Message, into: Translation) -> dict[str, Any]:
    found = message.message("second_stage_box_predictor").one(("mask_rcnn_box_predictor",))
    if found is None:
        raise message.error("second_stage_box_predictor", "is missing")
    given = found[1]
    for name in ("predict_instance_masks", "predict_keypoints", "share_box_across_classes"):
        if given.flag(name, False):
            raise given.missing(
                name, {"predict_instance_masks": "masks", "predict_keypoints": "keypoints"}.get(name, name)
            )
    if given.flag("use_dropout", False):
        into.differ("dropout in the second stage: none")
    given.ignore("dropout_keep_probability", "conv_hyperparams", "mask_height", "mask_width", "box_code_size")
    given.ignore("mask_prediction_conv_depth", "mask_prediction_num_conv_layers", "masks_are_class_agnostic")
    given.ignore("convolve_then_upsample_masks")
    hyper = given.message("fc_hyperparams")
    hyper.word("op", "FC")
    hyper.word("activation", "RELU")
    initializer(hyper, "the predictors of the second stage", into, fixed=True)
    crop, pool = message.whole("initial_crop_size", 14), message.whole("maxpool_kernel_size", 1)
    if message.whole("maxpool_stride", pool) != pool:
        raise message.missing("maxpool_stride", "a pooling of crops whose stride is not its kernel")
    return {
        "add_truth": False,
        "border_anchors": "drop",
        "roi": {"method": "crop_and_resize", "crop": crop, "pool": pool},
        "box_sampler": {
            "size": message.whole("second_stage_batch_size", 64),
            "positive_fraction": message.number("second_stage_balance_fraction", 0.25),
        },
        "box_localization_weight": message.number("second_stage_localization_loss_weight", 1.0),
        "box_classification_weight": message.number("second_stage_classification_loss_weight", 1.0),
        "postprocess": postprocess(message.message("second_stage_post_processing"), into, softmax=True),
    }
