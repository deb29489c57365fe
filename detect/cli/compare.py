"""Compares detectors on the same test images: `detect compare RUN RUN`."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from detect.config.tree import listed
from detect.errors import ConfigError, DataError, UserError, printable
from detect.files import expanded
from detect.runs import forms
from detect.runs.folder import STAGES, RunFolder
from detect.runs.unstarted import refuse_unwritable

log = logging.getLogger("detect")


def main(cfg: DictConfig) -> None:
    """Prints the differences with their intervals, and writes tables and a sheet of images."""
    from detect.evaluation.comparison import Contender, compare
    from detect.evaluation.scored_files import Scored
    from detect.reporting import comparison_files

    given = list(map(str, listed(cfg.runs)))
    if len(given) < 2:
        raise ConfigError("name two or more run folders: detect compare RUN RUN")
    folders = [place(expanded(one), cfg.split) for one in given]
    output = expanded(cfg.output) if cfg.output else folders[0] / "comparison"
    refuse_unwritable(output, "output")
    real = [folder.resolve() for folder in folders]
    if len(set(real)) < len(real):
        twice = next(one for one, folder in zip(given, real, strict=True) if real.count(folder) > 1)
        raise ConfigError(f"{twice} is given twice; name different detectors")
    pairs = zip(given, folders, strict=True)
    contenders = [Contender(name, Scored.read(folder, cfg.split), level(folder, cfg.split)) for name, folder in pairs]
    found = compare(contenders)
    log.info("%s: %s", cfg.split, printable_table(found.lines()))
    comparison_files.write_tables(output, found, cfg.split)
    log.info("the files of the comparison are in %s", printable(output))
    comparison_files.write_sheet(output, found, image_files(folders, cfg.split))


def place(source: Path, split: str) -> Path:
    """The folder of a scored split: of a run, of `detect evaluate`, or of an exported model or results that it has
    scored. If a run was scored on other data since its training, the newer scores are taken."""
    from detect.evaluation.scored_files import EXPORTED, TRUTH, place_of

    folders = [source, place_of(source)]
    if not source.exists():
        raise ConfigError(f"runs: {source} does not exist; legal is a run folder or an exported model")
    truths = [folder / f"{split}{TRUTH}" for folder in (folders if not source.is_file() else folders[1:])]
    if there := [truth for truth in truths if truth.is_file()]:
        if len({truth.read_bytes() for truth in there}) > 1:  # it was scored on other data than those of its training
            there = [max(there, key=lambda truth: truth.stat().st_mtime_ns)]
            log.info("%s: scores of two data sets; those of %s are newer and are compared", source, there[0].parent)
        return there[0].parent
    exported = source.is_file() or (source / "saved_model.pb").is_file() or any(source.glob(f"{EXPORTED}.*"))
    if RunFolder(source).is_run:
        given = f"run={source}"
    elif exported and source.suffix != ".json":
        given = f"model={source}"
    else:
        given = f"detections={source if exported else 'FILE'} dataset.root=DIR"
    raise DataError(f"{source} has no scores on {split}: make them with detect evaluate {given} split={split}")


def level(folder: Path, split: str) -> float:
    """The threshold of the detector that was scored in a folder, as `detect evaluate` stores it with the scores. Else
    that of the run that the folder belongs to; else that of `predict` for a detector without one."""
    from detect.evaluation.scored_files import THRESHOLD
    from detect.evaluation.thresholds import FALLBACK

    if THRESHOLD in (said := evaluated(folder, split)):
        return FALLBACK if said[THRESHOLD] is None else float(said[THRESHOLD])
    for run in (RunFolder(one) for one in (folder, *folder.absolute().parents[:2])):
        if run.is_run and run.thresholds.exists():
            stored = run.threshold(folder.name if folder.name in STAGES else run.last_stage() or "")
            return stored.score if stored else FALLBACK
    return FALLBACK


def evaluated(folder: Path, split: str) -> dict[str, Any]:
    """What `detect evaluate` stored with the scores in a folder; empty for the folder of a run."""
    from detect.evaluation.scored_files import SCORES

    scores = folder / f"{split}{SCORES}"
    return forms.read(scores, forms.EVALUATED) if scores.is_file() else {}


def image_files(folders: Sequence[Path], split: str) -> dict[str, Path]:
    """The image file of each name in the files of a split, from the data set of the first run that still has it.

    Images of another data set may have the same names: then there is none.
    """
    from hydra.errors import InstantiationException

    from detect.evaluation.coco_json import file_names
    from detect.evaluation.scored_files import DATA
    from detect.runs.dataset import dataset_of

    for folder in folders:
        data = evaluated(folder, split).get(DATA)
        for run in (RunFolder(one) for one in (folder, *folder.absolute().parents[:2])):
            if not run.is_run or not run.saved_config().get("dataset"):
                continue
            try:
                dataset = dataset_of(run.saved_config(), decode=False)
            except (UserError, OSError, InstantiationException) as error:
                log.warning("%s: no sheet of its images: %s", run.path, error)
                continue
            if data in (None, dataset.fingerprint()):
                paths = [example.path for example in dataset.splits[split]]
                return dict(zip(file_names(paths), paths, strict=True))
            log.info("%s: no sheet of its images: it was scored on another data set than that of its run", folder)
    return {}


def printable_table(lines: Sequence[str]) -> str:
    """Lines with names of strangers, safe for a console."""
    return "\n".join(printable(line) for line in lines)
