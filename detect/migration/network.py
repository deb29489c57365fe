"""The networks of a pipeline.config: feature extractors, maps, predictors and anchors of SSD."""

from dataclasses import dataclass, field
from typing import Any

from detect.migration.message import Message
from detect.migration.translation import EPSILON, Translation, activation, batch_norm, initializer


@dataclass(frozen=True)
class Extractor:
    """A feature extractor of the API: our backbone, values of it, and whether a pyramid follows.

    maps: the number of maps that come from the backbone. depth: whether it takes min_depth and a depth multiplier.
    whole: whether its batch norm and activation are those of the file's hyper-parameters (Inception).
    """

    backbone: str
    values: dict[str, Any] = field(default_factory=dict)
    pyramid: bool = False
    maps: int = 2
    whole: bool = False
    extras: tuple[int, ...] = (512, 256, 256, 128)


EXTRACTORS = {
    "ssd_mobilenet_v1": Extractor("mobilenet_v1"),
    "ssd_mobilenet_v2": Extractor("mobilenet_v2"),
    "ssd_mobilenet_v1_fpn": Extractor("mobilenet_v1", pyramid=True),
    "ssd_mobilenet_v2_fpn": Extractor("mobilenet_v2", pyramid=True),
    "ssd_mobilenet_v3_large": Extractor("mobilenet_v3_large", {"reduced_tail": True}),
    "ssd_mobilenet_v3_small": Extractor("mobilenet_v3_small", {"reduced_tail": True}),
    "ssd_inception_v2": Extractor("inception_v2", {"stem_norm": True}, whole=True),
    "ssd_inception_v3": Extractor("inception_v3", {"padding": "valid"}, maps=3, whole=True, extras=(512, 256, 128)),
}
"""The feature extractors of the API's SSD that exist here; those of TensorFlow 2 have the same names with `_keras`."""
PREDICTORS = ("convolutional_box_predictor", "weight_shared_convolutional_box_predictor")


def known(ssd: Message) -> None:
    """Raises NoCounterpart for a feature extractor that does not exist here."""
    message = ssd.message("feature_extractor")
    kind = message.text("type")
    if kind.removesuffix("_keras") not in EXTRACTORS:
        raise message.missing("type", f"the feature extractor {kind}")


def feature_extractor(ssd: Message, into: Translation) -> int:
    """Sets the backbone and the neck; returns the number of maps."""
    message = ssd.message("feature_extractor")
    kind = message.text("type").removesuffix("_keras")
    found = EXTRACTORS[kind]
    for name, default in (("use_explicit_padding", False), ("replace_preprocessor_with_placeholder", False)):
        if message.flag(name, default):
            raise message.missing(name, name)
    multiplier, least = message.number("depth_multiplier", 1.0), message.whole("min_depth", 16)
    if (
        message.text("type").startswith("ssd_mobilenet_v1")
        and message.text("type").endswith("_keras")
        and multiplier != 1
    ):
        raise message.missing("depth_multiplier", "a MobileNet v1 of TensorFlow 2 whose depth multiplier applies twice")
    into.choices["backbone"] = found.backbone
    into.values["backbone"] = {"depth_multiplier": multiplier, "min_depth": least} | found.values
    _hyperparams(message, found, into)
    height, width = into.values["detector"]["size"]
    multiple = message.whole("pad_to_multiple", 1)
    if multiple < 1 or height % multiple or width % multiple:
        raise message.missing("pad_to_multiple", f"padding of {height}x{width} px to a multiple of {multiple}")
    depthwise = message.flag("use_depthwise", False)
    neck = {"depth_multiplier": multiplier, "min_depth": least, "separable": depthwise}
    if found.pyramid:
        return _pyramid(message, neck, into)
    if message.has("fpn") or message.has("bifpn"):
        raise message.missing("fpn" if message.has("fpn") else "bifpn", f"a pyramid on {kind}")
    levels = message.whole("num_layers", 6)
    extras = list(found.extras)[: max(levels - found.maps, 0)]
    if levels < found.maps or levels > found.maps + len(found.extras):
        raise message.missing("num_layers", f"{levels} feature maps of {kind}")
    into.choices["detector/neck"] = "extras"
    into.values["detector"]["neck"] = into.values["detector"].get("neck", {}) | neck | {"channels": extras}
    return levels


def _hyperparams(message: Message, found: Extractor, into: Translation) -> None:
    """Checks the hyper-parameters of the convolutions; those of Inception become options of the backbone."""
    hyper, part = message.message("conv_hyperparams"), "feature extractor"
    override = message.flag("override_base_feature_extractor_hyperparams", False)
    norm = batch_norm(hyper, part, None if found.whole else EPSILON)
    if norm is None:
        raise message.missing("conv_hyperparams", f"a {part} without batch norm")
    scale = norm.flag("scale", False)
    if found.whole:
        if not override:
            raise message.missing("type", "an Inception without override_base_feature_extractor_hyperparams")
        if not scale:
            raise norm.missing("scale", "extra feature maps without gamma in batch norm")
        epsilon = norm.number("epsilon", EPSILON)
        rectifier = activation(hyper, {"RELU_6": "relu6"}, part)
        into.values["backbone"] |= {"scale": True, "activation": rectifier, "epsilon": epsilon}
        into.put("detector.neck.epsilon", epsilon)
    elif not scale:
        raise norm.missing("scale", f"a {part} without gamma in batch norm")
    else:
        activation(hyper, {"RELU_6": "relu6"}, part)
    into.put("schedule.batch_norm_decay", norm.number("decay", 0.999))
    if _fixed(norm, message) and override:
        into.put("schedule.batch_norm", "frozen")
        into.differ("batch norm: frozen, as the file says train: false; the API goes on to learn gamma and beta")
    elif _fixed(norm, message):
        into.differ(
            "batch norm of the feature maps: its statistics are learned; the API's do not change (train: false)"
        )
    stddev = initializer(hyper, "the feature maps", into)
    if stddev is not None and abs(stddev - 0.03) > 1e-9:
        into.differ(f"initial values of the feature maps: a truncated normal of stddev 0.03, not {stddev:g}")


def _fixed(norm: Message, extractor: Message) -> bool:
    """Whether the statistics of a batch norm do not change. The networks of TensorFlow 2 do not read `train`."""
    return not norm.flag("train", True) and not extractor.text("type").endswith("_keras")


def _pyramid(message: Message, neck: dict[str, Any], into: Translation) -> int:
    fpn = message.message("fpn")
    low, high = fpn.whole("min_level", 3), fpn.whole("max_level", 7)
    if low != 3 or high < 5:
        raise fpn.missing("min_level" if low != 3 else "max_level", f"a pyramid of levels {low} to {high}")
    message.ignore("num_layers")
    into.choices["detector/neck"] = "fpn"
    into.values["detector"]["neck"] = neck | {
        "levels": high - low + 1,
        "channels": fpn.whole("additional_layer_depth", 256),
    }
    kind = message.text("type")
    if kind.endswith("_keras"):
        into.values["detector"]["neck"]["carry"] = "smoothed"
    if neck["separable"] and kind != "ssd_mobilenet_v2_fpn_keras":
        into.values["backbone"]["reduced_tail"] = True
    return high - low + 1


def predictor(ssd: Message, into: Translation) -> float:
    """Sets the head; returns the initial bias of the class predictor."""
    found = ssd.message("box_predictor").one(PREDICTORS)
    if found is None:
        raise ssd.error("box_predictor", "is missing")
    kind, message = found
    hyper = message.message("conv_hyperparams")
    if message.whole("box_code_size", 4) != 4:
        raise message.missing("box_code_size", "a box code of another size")
    if message.flag("use_dropout", kind == "convolutional_box_predictor"):
        into.differ(
            f"dropout before the predictors: none, not a rate of "
            f"{1 - message.number('dropout_keep_probability', 0.8):.2g}"
        )
    message.ignore("dropout_keep_probability", "apply_conv_hyperparams_to_heads", "apply_conv_hyperparams_pointwise")
    for name in ("box_encodings_clip_range", "apply_sigmoid_to_scores"):
        if name == "apply_sigmoid_to_scores" and not message.flag(name, False):
            continue
        if message.has(name):
            raise message.missing(name, name)
    if message.word("score_converter", "IDENTITY") != "IDENTITY":
        raise message.missing("score_converter", "a score converter in the predictor")
    stddev = initializer(hyper, "the predictors", into)
    values: dict[str, Any] = {} if stddev is None else {"stddev": stddev}
    separable = message.flag("use_depthwise", False)
    if kind == "convolutional_box_predictor":
        into.choices["detector/head"] = "separable" if separable else "conv"
        values |= _own(message, hyper, ssd, separable, into)
    else:
        into.choices["detector/head"] = "shared"
        values |= _shared(message, hyper, ssd, separable, into)
    into.values["detector"]["head"] = values
    return message.number("class_prediction_bias_init", 0.0)


def _own(message: Message, hyper: Message, ssd: Message, separable: bool, into: Translation) -> dict[str, Any]:
    """The values of a predictor that each map has for itself."""
    kernel, depth = message.whole("kernel_size", 1), max(message.whole(name, 0) for name in ("max_depth", "min_depth"))
    if message.whole("num_layers_before_predictor", 0) and depth > 0:
        raise message.missing("num_layers_before_predictor", "layers before a predictor that is not shared")
    if not separable:
        hyper.ignore(
            *("activation", "batch_norm", "sync_batch_norm", "group_norm", "force_use_bias")
        )  # of other layers
        if kernel not in (1, 3):
            raise message.missing("kernel_size", f"a predictor of {kernel}x{kernel}")
        return {"kernel": kernel}
    if kernel != 3:
        raise message.missing("kernel_size", f"a depthwise predictor of {kernel}x{kernel}")
    activation(hyper, {"RELU_6": "relu6"}, "predictor")
    norm = _norm(hyper, ssd, into)
    if norm is None or not norm.flag("scale", False):
        raise message.missing("conv_hyperparams", "a depthwise predictor without batch norm and gamma")
    return {}


def _norm(hyper: Message, ssd: Message, into: Translation) -> Message | None:
    """The batch norm of a predictor. What differs from that of the feature extractor is told."""
    norm, trained = batch_norm(hyper, "predictor"), into.values["schedule"]
    if norm is None or trained.get("batch_norm") == "frozen":
        return norm
    if _fixed(norm, ssd.message("feature_extractor")):
        into.differ("batch norm of the predictor: its statistics are learned; the API's do not change (train: false)")
    elif (decay := norm.number("decay", 0.999)) != trained["batch_norm_decay"]:
        into.differ(f"batch norm of the predictor: a decay of {trained['batch_norm_decay']:g}, not {decay:g}")
    return norm


def _shared(message: Message, hyper: Message, ssd: Message, separable: bool, into: Translation) -> dict[str, Any]:
    """The values of a predictor that all maps share."""
    norm = _norm(hyper, ssd, into)
    if norm is not None and not norm.flag("scale", False):
        raise norm.missing("scale", "a shared predictor without gamma in batch norm")
    activation(hyper, {"RELU_6": "relu6"}, "shared predictor")
    layers, depth = message.whole("num_layers_before_predictor", 0), message.whole("depth", 0)
    if layers > 0 and depth < 1:
        raise message.error("depth", f"expected a whole number from 1 for the {layers} layers before the predictor")
    return {
        "convolutions": layers,
        "channels": depth if depth > 0 else None,
        "kernel": message.whole("kernel_size", 3),
        "separable": separable,
        "one_tower": message.flag("share_prediction_tower", False),
        "normalise": norm is not None,
    }


def anchors(ssd: Message, maps: int, into: Translation) -> None:
    """Sets the anchors."""
    found = ssd.message("anchor_generator").one(("ssd_anchor_generator", "multiscale_anchor_generator"))
    if found is None:
        raise ssd.error("anchor_generator", "is missing")
    kind, message = found
    if kind == "multiscale_anchor_generator":
        levels = message.whole("max_level", 7) - message.whole("min_level", 3) + 1
        if levels != maps:
            raise message.error("max_level", f"{levels} levels of anchors for {maps} feature maps")
        message.flag("normalize_coordinates", True)
        into.choices["detector/anchors"] = "multiscale"
        into.values["detector"]["anchors"] = {
            "anchor_scale": message.number("anchor_scale", 4.0),
            "scales_per_octave": message.whole("scales_per_octave", 2),
            "aspect_ratios": message.numbers("aspect_ratios"),
            "min_level": message.whole("min_level", 3),
            "spacing": "exact",
        }
        return
    if message.whole("num_layers", 6) != maps:
        raise message.error("num_layers", f"anchors of {message.whole('num_layers', 6)} maps for {maps} feature maps")
    for name in ("height_stride", "width_stride", "height_offset", "width_offset"):
        if message.has(name):
            raise message.missing(name, "anchors with strides or offsets of their own")
    for name in ("base_anchor_height", "base_anchor_width"):
        if message.number(name, 1.0) != 1.0:
            raise message.missing(name, f"a {name} of {message.number(name, 1.0):g}")
    scales = message.numbers("scales")
    if scales and len(scales) != maps:
        raise message.error("scales", f"{len(scales)} scales of anchors for {maps} feature maps")
    into.choices["detector/anchors"] = "ssd"
    into.values["detector"]["anchors"] = {
        "min_scale": message.number("min_scale", 0.2),
        "max_scale": message.number("max_scale", 0.95),
        "aspect_ratios": message.numbers("aspect_ratios"),
        "interpolated_scale_ratio": message.number("interpolated_scale_aspect_ratio", 1.0) or None,
        "reduce_lowest": message.flag("reduce_boxes_in_lowest_layer", True),
        "scales": scales or None,
    }
