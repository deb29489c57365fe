"""A pipeline.config of the TF Object Detection API, translated into an experiment of this program."""

from pathlib import Path

from detect.data.notes import Notes
from detect.data.text import read_text
from detect.errors import ConfigError, DataError
from detect.migration import augmentation, data, detectors, network, training
from detect.migration.message import Message
from detect.migration.translation import Translation
from detect.text_format import parse


def read(file: Path) -> Message:
    """The message of a file. Raises ConfigError for a file that can't be read or that is no pipeline.config."""
    try:
        message = Message(parse(read_text(file, Notes()), file), file)
    except DataError as error:
        raise ConfigError(str(error)) from error
    if not message.message("model").given:
        raise ConfigError(f"{file}: it has no `model {{ ... }}`: expected a pipeline.config of the API")
    return message


def translate(pipeline: Message) -> Translation:
    """The experiment that trains as the file says. Raises NoCounterpart, and ConfigError for an illegal value."""
    into = Translation()
    detectors.detector(pipeline.message("model"), into)
    train = pipeline.message("train_config")
    into.put("classify.enabled", False)
    averaged = pipeline.message("eval_config").flag("use_moving_averages", False)
    _evaluation(pipeline.message("eval_config"), into)
    decay = _weight_decay(pipeline.message("model"), train.flag("add_regularization_loss", True), into)
    training.schedule(train, decay, averaged, into)
    training.quantisation(pipeline.message("graph_rewriter"), into)
    training.weights(train, into)
    data.data(pipeline, into)
    augmentation.augmentation(train, into)
    for name in ("freeze_variables", "update_trainable_variables"):
        if train.has(name):
            train.ignore(name)
            into.left_out.append(f"train_config.{name}: see schedule.freeze_until")
    into.left_out += pipeline.unread()
    return into


def _evaluation(given: Message, into: Translation) -> None:
    """Tells what is scored in another way here."""
    given.ignore("batch_size", "eval_interval_secs", "max_evals", "save_graph", "eval_master", "export_path")
    given.ignore("num_visualizations", "visualization_export_dir", "keep_image_id_for_visualization_export")
    given.ignore("min_score_threshold", "max_num_boxes_to_visualize", "skip_scores", "skip_labels", "keypoint_edge")
    given.ignore("visualize_groundtruth_boxes", "groundtruth_box_visualization_color", "retain_original_images")
    given.ignore("retain_original_image_additional_channels", "include_metrics_per_category")
    given.ignore("all_metrics_per_category", "use_dummy_loss_in_eval")
    if others := [name for name in given.texts("metrics_set") if name != "coco_detection_metrics"]:
        into.left_out.append(f"eval_config.metrics_set: {', '.join(others)}; the scores are COCO's")
    if images := given.whole("num_examples", 0):
        into.differ(f"the evaluation: of all images of a split; older releases of the API take {images} (num_examples)")


def _weight_decay(model: Message, used: bool, into: Translation) -> float:
    """The L2 factor of the backbone's kernels, which all kernels have here. Another one of a predictor is told.

    used: whether the API adds such losses; if not, the factor is 0. The API has no such loss for the backbone of a
    Faster R-CNN.
    """
    ssd, faster = model.message("ssd"), model.message("faster_rcnn")
    if found := ssd.message("box_predictor").one(network.PREDICTORS):
        hyper = ssd.message("feature_extractor").message("conv_hyperparams")
        parts = {"the predictor": found[1].message("conv_hyperparams")}
        kind, decay = _regularizer(hyper)
        if kind == "L1":
            raise hyper.message("regularizer").missing("l1_regularizer", "an L1 loss of the weights")
        if not 0 <= decay <= 1:
            raise hyper.error("regularizer", f"a weight of {decay:g} is not legal: expected a number from 0 to 1")
    else:
        second = faster.message("second_stage_box_predictor").message("mask_rcnn_box_predictor")
        parts = {
            "the region proposal network": faster.message("first_stage_box_predictor_conv_hyperparams"),
            "the second stage": second.message("fc_hyperparams"),
        }
        decay = 0.0
    for part, hyper in parts.items():
        kind, factor = _regularizer(hyper)
        if used and (factor != decay or (factor and kind == "L1")):
            into.differ(
                f"weight decay of {part}: {decay:g}, as of all kernels; the API adds an {kind} loss of {factor:g}"
            )
    return decay if used else 0.0


def _regularizer(hyper: Message) -> tuple[str, float]:
    """L1 or L2, and the factor."""
    hyper.ignore("regularize_depthwise")
    found = hyper.message("regularizer").one(("l2_regularizer", "l1_regularizer"))
    if found is None:
        return "L2", 0.0
    return found[0][:2].upper(), found[1].number("weight", 1.0)
