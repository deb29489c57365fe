"""How a stage starts: from a state of this run, from weights that are copied by name, or from random values."""

import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import cast

from omegaconf import DictConfig

from detect.config import arms
from detect.config.tree import leaves, plain
from detect.errors import ConfigError, WeightsError
from detect.modeling.interface import Architecture, Detector
from detect.runs.stage_folder import StageFolder
from detect.training import build, contracts, saved_states
from detect.weights import anchor_order, checkpoint, class_heads
from detect.weights.interface import WeightSource
from detect.weights.ledger import Ledger
from detect.weights.names import Arrays
from detect.weights.sources import NoWeights
from detect.weights.transfer import transfer

log = logging.getLogger("detect")

BACKBONE_MEANING = ("backbone.*",)
DETECTOR_MEANING = (
    *("detector.anchors.*", "detector.resize", "detector.neck.*", "detector.*box_coder.*", "detector.roi.*"),
    *("detector.classification_loss._target_", "detector.classification_loss.background"),
    *("detector.rpn_head.activation", "detector.head.centerness"),
)
"""Globs of the keys that give weights of the backbone, and of the heads, their meaning."""


def first_weights(cfg: DictConfig) -> WeightSource:
    """The source of the first stage's weights: `init`, unless the arm of an ablation starts from random values."""
    weights: WeightSource = NoWeights() if cfg.arm.start == "random" else build.instantiate(cfg.init)
    if cfg.arm.name is not None:
        log.info(arms.description(cfg.arm, weights.describe()))
    return weights


def initialise(
    architecture: Architecture, weights: WeightSource, cfg: DictConfig, folder: StageFolder, classes: Sequence[str] = ()
) -> bool:
    """Copies weights by name and shape, writes the ledger and logs the chosen start. Returns whether it copied.

    classes: the class names of a detector.

    Raises ConfigError if a classifier starts from a whole detector, because the heads would not reach stage 2, and
    WeightsError if the stage had begun and its state is gone.
    """
    saved_states.finish_interrupted(folder.last)
    if saved_states.steps(folder.last):
        log.info("start: resume %s", folder.name)
        return False
    if checkpoint.exists(folder.best):
        raise WeightsError(
            f"{folder.last}: it holds no saved state, and {folder.best.name} beside it holds the best weights of the "
            f"stage. Restore the folder from a copy; or remove {folder.shared}, and the stage begins again"
        )
    arrays = _read(architecture, weights, cfg)
    if arrays is None:
        log.info("start: from scratch (random weights)")
        return False
    warn_of_other_settings(cfg, arrays.settings, weights)
    log.info("start: weights of %s (%s)", weights.describe(), weights.scope)
    for note in arrays.notes:
        log.info(note)
    ledger = _transfer(architecture, weights, arrays, classes)
    folder.path.mkdir(parents=True, exist_ok=True)
    ledger.save(folder.ledger)
    for line in [*ledger.lines(), *class_heads.account(ledger, weights.scope, arrays.classes, classes)]:
        log.info(line)
    if weights.scope == "detector":
        warn_of_other_anchors(cast(Detector, architecture), arrays.anchors, weights.describe())
    return True


def refuse_unfit(architecture: Architecture, weights: WeightSource, cfg: DictConfig) -> None:
    """Raises what `initialise` would raise, and changes nothing."""
    if (arrays := _read(architecture, weights, cfg)) is not None:
        _transfer(architecture, weights, arrays, (), assign=False)


def _read(architecture: Architecture, weights: WeightSource, cfg: DictConfig) -> Arrays | None:
    if weights.scope == "detector" and not architecture.detects:
        raise ConfigError(
            "init.scope=detector also loads a detector's heads, and stage 1 would change the backbone before them: "
            "leave stage 1 out (classify.enabled=false), or load only the backbone (init.scope=backbone)"
        )
    with contracts.promised():
        return weights.read(build.instantiate(cfg.backbone))


def _transfer(
    architecture: Architecture, weights: WeightSource, arrays: Arrays, classes: Sequence[str], assign: bool = True
) -> Ledger:
    return transfer(
        architecture.model,
        arrays,
        source=weights.describe(),
        layers=architecture.backbone_layers,
        scope=weights.scope,
        skip=weights.skip,
        classes=classes,
        assign=assign,
    )


def warn_of_other_settings(cfg: DictConfig, told: Mapping[str, object] | None, weights: WeightSource) -> None:
    """Logs a warning for each key that changes the meaning of loaded weights, and had another value in their training.

    told: what is known of the configuration of that training, by dotted key. Most such keys change no shape, so that
    all weights load.
    """
    if told is None:
        return
    globs = [*BACKBONE_MEANING, *(DETECTOR_MEANING if weights.scope == "detector" else ())]
    for key, value in leaves(plain(cfg)):
        means = key != "backbone.dropout" and any(fnmatchcase(key, glob) for glob in globs)
        if means and told.get(key, value) != value:
            log.warning(
                "%s: its network has %s=%s, and this one has %s: the weights were trained for the other value",
                weights.describe(), key, told[key], value,
            )  # fmt: skip


def warn_of_other_anchors(detector: Detector, told: anchor_order.Told | None, source: str) -> None:
    """Logs a warning if the heads in a file were trained for other anchors than the detector's. told: by the file."""
    shapes = [(int(x.shape[1]), int(x.shape[2])) for x in detector.maps.values()]
    warning = anchor_order.complaint(detector.anchor_generator, shapes, detector.size, told, source)
    if warning:
        log.warning(warning)
