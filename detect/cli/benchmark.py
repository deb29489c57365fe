"""Compares all formats of a detector: `detect benchmark run=RUN`."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from detect.config.check import refuse_unread
from detect.data.dataset import DetectionDataset
from detect.data.subset import evenly_spread
from detect.errors import ConfigError, DataError, UserError, first_few, printable
from detect.files import expanded
from detect.runs.dataset import check_ground_truth, other_dataset, own_dataset
from detect.runs.folder import RunFolder
from detect.runs.unstarted import refuse_unwritable

if TYPE_CHECKING:
    from detect.detector import Detector
    from detect.export.timing import Model

log = logging.getLogger("detect")


def main(cfg: DictConfig) -> None:
    """Prints a row for each model, and writes benchmark.json and benchmark.csv."""
    named = list(cfg.model) if isinstance(cfg.model, ListConfig) else [cfg.model] if cfg.model else []
    for key, least in (("runs", 2), ("images", 0), ("threads", 1)):
        if cfg[key] is not None and not (type(cfg[key]) is int and cfg[key] >= least):
            raise ConfigError(f"{key}={cfg[key]}: legal are whole numbers from {least}")
    run = expanded(cfg.run) if cfg.run else None
    if run is None and not named:
        raise ConfigError("name a run folder (run=RUN), exported models (model=[FILE,FILE]), or both")
    if run is not None and not RunFolder(run).is_run:
        raise ConfigError(f"run={run}: this is no run folder, which has a config.yaml; name exports with model=[...]")
    folder = expanded(cfg.output or (run / "benchmark" if run else "benchmark"))
    refuse_unwritable(folder, "output")
    if not cfg.images:
        refuse_unread(cfg, "benchmark", "images=0 scores nothing", "split")
        if cfg.get("dataset"):
            raise ConfigError("images=0 scores nothing: leave dataset out, or give images=100")
    elif run is None and not cfg.get("dataset"):
        refuse_unread(cfg, "benchmark", "nothing is scored without a data set or a run", "images", "split")
    dataset = _dataset(cfg, run) if cfg.images else None
    from detect.export import benchmark  # imports TensorFlow

    models = benchmark.find_models(run, [expanded(str(name)) for name in named])
    detectors = _opened(models, run)
    classes = next(iter(detectors.values())).classes
    examples = evenly_spread(dataset.with_classes(classes).images(cfg.split), cfg.images) if dataset else []
    rows = benchmark.benchmark(models, detectors, examples, cfg.runs, cfg.threads)
    benchmark.write(rows, len(examples), folder)
    for line in benchmark.table(rows):
        log.info("%s", line)
    log.info("%d images, %d runs of each time; wrote benchmark.json and .csv into %s", len(examples), cfg.runs, folder)


def _dataset(cfg: DictConfig, run: Path | None) -> DetectionDataset | None:
    """The data set of the command, or that of the run; None if there is neither."""
    if not cfg.get("dataset") and run is None:
        return None
    folder = None if run is None else RunFolder(run)
    dataset = other_dataset(cfg, folder) if folder is None or cfg.get("dataset") else own_dataset(folder)
    dataset.images(cfg.split)  # an empty split stops here
    check_ground_truth(dataset)
    return dataset


def _opened(models: Mapping[str, "Model"], run: Path | None) -> dict[str, "Detector"]:
    """The detectors of the models that can be opened. An export of the run that can't be opened is left out with a
    warning.

    Raises DataError if two models have different classes, and what `Detector.load` raises for other models.
    """
    from detect.detector import Detector

    known: dict[str, Detector] = {}
    for name, model in models.items():
        try:
            known[name] = Detector.load(model.path, model.stage if model.kind == "run" else None)
        except UserError as error:
            if model.kind == "run" or run is None or not model.path.is_relative_to(run):
                raise
            log.warning("%s is left out: %s", printable(name), error)
    if not known:
        raise DataError(f"{run}: none of its models can be opened: {first_few(map(printable, models))}")
    (first, one), *others = known.items()
    for name, other in others:
        if other.classes != one.classes:
            raise DataError(f"{name} has the classes {list(other.classes)}; {first} has {list(one.classes)}")
    return known
