"""A pipeline.config of the TF Object Detection API, translated into an experiment of this program."""

import re
from pathlib import Path

from detect.data.notes import Notes
from detect.data.text import read_text
from detect.errors import ConfigError, DataError
from detect.migration import augmentation, data, detectors, training
from detect.migration.message import Message
from detect.migration.translation import Translation
from detect.text_format import parse

REGULARIZERS = re.compile(r"\.(regularizer|regularize_depthwise) \(")
"""Those of other parts than the feature extractor: all kernels have one weight decay here."""


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
    training.schedule(train, _weight_decay(pipeline.message("model")), averaged, into)
    training.quantisation(pipeline.message("graph_rewriter"), into)
    training.weights(train, into)
    data.data(pipeline, into)
    augmentation.augmentation(train, into)
    pipeline.ignore("eval_config")
    for name in ("freeze_variables", "update_trainable_variables"):
        if train.has(name):
            train.ignore(name)
            into.left_out.append(f"train_config.{name}: see schedule.freeze_until")
    into.left_out += [field for field in pipeline.unread() if not REGULARIZERS.search(field)]
    return into


def _weight_decay(model: Message) -> float:
    """The L2 factor of the feature extractor's kernels; of Faster R-CNN, that of its region proposal network."""
    ssd = model.message("ssd")
    hyper = ssd.message("feature_extractor").message("conv_hyperparams")
    if not ssd.given:
        hyper = model.message("faster_rcnn").message("first_stage_box_predictor_conv_hyperparams")
    found = hyper.message("regularizer").one(("l2_regularizer", "l1_regularizer"))
    if found is None:
        return 0.0
    kind, given = found
    if kind == "l1_regularizer":
        raise hyper.message("regularizer").missing(kind, "an L1 loss of the weights")
    factor = given.number("weight", 1.0)
    if not 0 <= factor <= 1:
        raise given.error("weight", f"{factor:g} is not legal: expected a number from 0 to 1")
    return factor
