"""Scores a detector on the data set of its run or on another one: `detect evaluate run=RUN [split=test]`.

What another program has found is scored by the same code: `detect evaluate detections=FILE dataset.root=DIR`.
"""

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from detect.data.dataset import DetectionDataset
from detect.errors import ConfigError
from detect.evaluation.scored_files import DATA, FILE, OWN, SCORES, THRESHOLD, place_of
from detect.files import expanded, file_name, read_json, write_json
from detect.geometry import tiles
from detect.runs.dataset import check_ground_truth, other_dataset, own_dataset
from detect.runs.folder import RunFolder
from detect.runs.unstarted import refuse_unwritable

if TYPE_CHECKING:
    from detect.evaluation.coco import Scores

log = logging.getLogger("detect")

SOURCES = ("run", "model", "detections")
OF_DETECTORS = ("stage", "class_agnostic", "tile")


def main(cfg: DictConfig) -> float | None:
    """Prints COCO's twelve metrics and the metrics of each class, and lists suspected labels; returns AP."""
    key, source = _source(cfg)
    places = (source, *source.absolute().parents[:2])  # an exported model is in its run's folder unless a user moved it
    run = next((run for run in map(RunFolder, places) if run.is_run and run.classes.exists()), None)
    dataset = _data(cfg, run, f"{key}={source}")

    from detect.detector import Detector
    from detect.evaluation import suspected_labels
    from detect.evaluation.results_file import ResultsFile
    from detect.reporting import scores as scoring  # imports TensorFlow
    from detect.reporting import suspects
    from detect.studies import run_page

    detector: Detector | ResultsFile
    if key == "detections":
        detector = ResultsFile(source, dataset, cfg.split)
    else:
        detector = Detector.load(source, cfg.stage, class_agnostic=cfg.class_agnostic)
        dataset = dataset.with_classes(detector.classes)
    data, told = dataset.fingerprint(), _told(cfg, run)
    others = bool(cfg.get("dataset")) and run is not None and key != "detections"
    folder = _place(cfg, source, told, dataset.name if others else None, data)
    refuse_unwritable(folder, "output")
    folder.mkdir(parents=True, exist_ok=True)
    figures, found = detector.evaluate(dataset, cfg.split, cfg.tile)
    scores = scoring.keep_scores(folder, cfg.split, dataset, figures, found, detector.threshold)
    about = {
        DATA: data,
        THRESHOLD: detector.threshold and detector.threshold.score,
        FILE: source.name if place_of(source).name != OWN else None,
    } | told
    write_json(folder / f"{cfg.split}{SCORES}", about | scores)  # before the suspects, which may take longer
    suspects.write(folder, dataset, cfg.split, suspected_labels.suspects(dataset, cfg.split, found.detections))
    if run is not None and not cfg.get("dataset") and cfg.tile is None:
        keep_threshold(run, cfg, figures)
    log.info("pictures, scores and detections are in %s", folder)
    if key != "detections" and not cfg.get("dataset"):
        run_page.refresh(folder)  # the page of a run shows its own data
    return scores["AP"]


def _source(cfg: DictConfig) -> tuple[str, Path]:
    """The key that names what is scored, and its path. Raises ConfigError for options that do not fit it."""
    given = [key for key in SOURCES if cfg[key]]
    if len(given) != 1:
        raise ConfigError("name one of run=RUN, a run folder; model=PATH, an exported model; detections=FILE")
    key, source = given[0], expanded(cfg[given[0]])
    if key == "detections" and (odd := [name for name in OF_DETECTORS if cfg[name] is not None]):
        raise ConfigError(f"{odd[0]}={cfg[odd[0]]} needs a detector; with detections=FILE leave it out")
    if key == "model" and cfg.stage is not None:
        raise ConfigError(f"stage={cfg.stage} is for run=RUN; an exported model has one stage")
    if not source.exists():
        raise ConfigError(f"{key}={source}: there is no such file or folder")
    refuse_unwritable(expanded(cfg.output) if cfg.output else place_of(source).parent, "output")
    tiles.check(cfg.tile)
    return key, source


def _data(cfg: DictConfig, run: RunFolder | None, named: str) -> DetectionDataset:
    """The data set that the command names, or that of the run. Raises UserError for one that can't be scored."""
    if cfg.get("dataset"):
        dataset = other_dataset(cfg, run)
    elif run is not None:
        dataset = own_dataset(run)
    else:
        raise ConfigError(f"{named} is not in the folder of a run, so it needs a data set: dataset.root=DIR")
    dataset.images(cfg.split)  # an empty split stops here
    check_ground_truth(dataset)
    return dataset


def _place(cfg: DictConfig, source: Path, told: Mapping[str, object], others: str | None, data: str) -> Path:
    """The folder of the scores. Scores of other boxes, and of other data, do not replace those of the run's own data.

    told: the options with which the detector finds other boxes. others: the name of a data set that is not the run's.
    data: the fingerprint of the data set.
    """
    if cfg.output:
        return expanded(cfg.output)
    folder = place_of(source)
    names = [folder.name, *(f"{name}_{value}" for name, value in told.items()), *([others] if others else [])]
    folder = folder.with_name("_".join(map(file_name, names)))
    return _unused(folder, data) if cfg.get("dataset") else folder


def _told(cfg: DictConfig, run: RunFolder | None) -> dict[str, object]:
    """The options with which a detector finds other boxes. Scores with one of them have a folder of their own."""
    own = cfg.stage if run is None or cfg.stage != run.last_stage() else None
    options = {"stage": own, "tile": cfg.tile, "class_agnostic": cfg.class_agnostic}
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in options.items()
        if value is not None
    }


def _unused(folder: Path, data: str) -> Path:
    """`folder`, or the first of `folder_2`, `folder_3`, ... without scores of another data set of the same name."""
    others = (folder.with_name(f"{folder.name}_{number}") for number in itertools.count(2))
    return next(
        place
        for place in itertools.chain([folder], others)
        if all(read_json(file).get(DATA, data) == data for file in place.glob(f"*{SCORES}"))
    )


def keep_threshold(run: RunFolder, cfg: DictConfig, figures: "Scores") -> None:
    """Stores the thresholds of a finished run that has none, as one of an earlier version, if `split` is val."""
    plain = bool(cfg.run) and cfg.stage is None and cfg.class_agnostic is None
    if not plain or cfg.split != "val" or run.thresholds.exists() or not run.summary.exists():
        return
    from detect.evaluation.thresholds import Thresholds

    found = Thresholds.choose({cfg.split: figures.rankings}, cfg.split)
    for line in found.lines():
        log.info(line)
    try:
        write_json(run.thresholds, found.to_dict())
    except OSError as error:
        log.warning("the thresholds are not kept in the run: %s", error)
