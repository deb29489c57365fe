"""Writes a data set in another format: `detect convert dataset.root=DIR to=coco output=DIR`. With a detector, it writes
boxes that a labelling tool opens: `detect convert run=RUN images=PHOTOS to=voc output=DIR`."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from detect.cli.predict import find_photographs
from detect.config.check import refuse_inside_data, refuse_unread
from detect.data.dataset import DetectionDataset
from detect.data.examples import Example
from detect.data.formats.arrayrecord_writer import write_arrayrecord
from detect.data.formats.tfrecord_writer import write_tfrecord
from detect.data.formats.writing import write_voc, write_yolo
from detect.data.image_file import image_size, read_image
from detect.data.notes import Notes
from detect.errors import ConfigError, DataError, first_few, printable
from detect.evaluation.coco_files import write_coco
from detect.files import expanded
from detect.runs.dataset import open_dataset
from detect.runs.unstarted import refuse_unwritable

log = logging.getLogger("detect")

WRITERS: dict[str, Callable[[DetectionDataset, Path, Notes], None]] = {
    "voc": write_voc,
    "coco": write_coco,
    "yolo": write_yolo,
    "tfrecord": write_tfrecord,
    "arrayrecord": write_arrayrecord,
}
RESUMED = ("arrayrecord",)
"""Formats whose writer goes on where it was stopped: what is written stays after an error."""


def main(cfg: DictConfig) -> None:
    """Writes the files into a new folder, all or none."""
    if bool(cfg.run) and bool(cfg.model):
        raise ConfigError("name either a run folder (run=RUN) or an exported model (model=PATH)")
    source = cfg.run or cfg.model
    if bool(source) != bool(cfg.images):
        raise ConfigError("boxes of a detector need both: a detector (run=RUN) and images=PATH")
    if source:
        refuse_unread(cfg, "convert", "the boxes are those of a detector in images=PATH", "dataset.root", "decode")
    else:
        refuse_unread(cfg, "convert", "it chooses boxes of a detector (run=RUN images=PATH)", "score")
    if not cfg.output:
        raise ConfigError(f"output={'null' if cfg.output is None else cfg.output}: name a new folder: output=DIR")
    folder = expanded(cfg.output)
    folder = folder.resolve() if folder.is_symlink() else folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"output={cfg.output}: the folder is not empty; name a new one")
    if os.path.ismount(folder):
        raise ConfigError(f"output={cfg.output}: a mount point can't be replaced; name a new folder in it")
    refuse_unwritable(folder.parent, "output")
    if folder.resolve() == Path.cwd():
        raise ConfigError(f"output={cfg.output}: this is the current folder, which can't be replaced; name a new one")
    if source:
        dataset = found_by(expanded(source), cfg.images, cfg.score)
    else:
        refuse_inside_data(cfg, folder, "output")
        dataset = open_dataset(cfg, cfg.decode)  # without boxes outside of the images, which no reader takes
    for line in dataset.describe():
        log.info(line)
    notes = Notes()
    write(dataset, cfg.to, folder, notes)
    for line in notes.lines():
        log.info("  %s", printable(line))
    log.info("%d images are in %s, as %s", sum(map(len, dataset.splits.values())), folder, cfg.to)


def write(dataset: DetectionDataset, kind: str, folder: Path, notes: Notes) -> None:
    """Writes a data set into a new folder; after an error, the folder is not there."""
    plain = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(plain, ignore_errors=True)
    temporary = folder.with_name(f".{folder.name}.{kind}.new") if kind in RESUMED else plain
    temporary.mkdir(parents=True, exist_ok=True)
    try:
        WRITERS[kind](dataset, temporary, notes)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        raise DataError(f"output={folder}: can't write there ({error.strerror or error})") from error
    finally:
        if kind not in RESUMED:
            shutil.rmtree(temporary, ignore_errors=True)


def found_by(source: Path, images: str, score: float | str) -> DetectionDataset:
    """The boxes that `Detector.shown` chooses, as a data set whose images are all in train."""
    photographs = find_photographs(images)
    from detect.detector import Detector  # imports TensorFlow

    detector = Detector.load(source)
    examples, bad = [], []
    for path, name in zip(photographs.paths, photographs.names, strict=True):
        try:
            (found,) = detector(read_image(path))
        except DataError as error:
            bad.append(str(error))
            continue
        width, height = image_size(path) or (0, 0)
        shown = detector.shown(found, score)
        crowd = np.zeros(int(shown.sum()), bool)
        examples.append(Example(path, width, height, found.boxes[shown], found.classes[shown], crowd, name))
    if not examples:
        raise DataError(f"images={images}: no image could be read: {first_few(bad, 3)}")
    note = f"boxes: found by {source}: {detector.showing(score)}"
    notes = (note, *(f"left out: {reason}" for reason in bad))
    return DetectionDataset(source.name, detector.classes, {"train": tuple(examples)}, notes, detector.category_ids)
