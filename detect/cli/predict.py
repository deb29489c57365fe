"""Draws a detector's boxes on images: `detect predict run=RUN images=PATH`."""

import glob
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from detect.cli import video
from detect.data.folder import find_files
from detect.data.image_file import IMAGE_SUFFIXES, UNREAD_SUFFIXES, examine, read_image
from detect.errors import ConfigError, DataError, Unfinished, first_few, printable
from detect.evaluation.annotation_file import AnnotationFile
from detect.evaluation.coco_json import Category, ImageId, categories_of, file_names, rows_of
from detect.files import expanded, json_list
from detect.geometry import tiles
from detect.runs import disk
from detect.runs.unstarted import refuse_unwritable

if TYPE_CHECKING:
    import numpy as np

    from detect.detector import Detector

log = logging.getLogger("detect")
LISTED = 4  # detections on the console for each image
RESULTS = "detections.json"
WRITTEN = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Types of images that pictures are written in; a picture of another type becomes a PNG beside its name."""


@dataclass(frozen=True)
class Photographs:
    """The images to predict. folder: their names in results are relative to it. paths: of files that exist."""

    folder: Path
    paths: tuple[Path, ...]

    @property
    def names(self) -> list[str]:
        """The path of each image relative to the folder, with forward slashes."""
        return file_names(self.paths, self.folder)


def main(cfg: DictConfig) -> None:
    """Writes a picture for each image, and `detections.json` in COCO's result format, with file names.

    Raises Unfinished after the work if an image can't be read: all others are done.
    """
    if bool(cfg.run) == bool(cfg.model):
        raise ConfigError("name either a run folder (run=RUN) or an exported model (model=PATH)")
    source = expanded(cfg.run or cfg.model)
    folder = expanded(cfg.output or (source.parent if source.is_file() else source) / "predictions")
    refuse_unwritable(folder, "output")
    tiles.check(cfg.tile)
    if bool(cfg.watch) == (cfg.images is not None):
        raise ConfigError("name what to predict: images=PATH, or a folder to watch (watch=DIR)")
    if isinstance(cfg.images, ListConfig):
        raise ConfigError(f"images={cfg.images}: legal is one path: an image, a folder or a glob")
    films = not cfg.watch and video.is_video(video.source_of(str(cfg.images)))
    if cfg.every != 1 and not films:
        raise ConfigError(f"every={cfg.every} is for a video, a camera or a stream; for images leave it out")
    if cfg.watch or films:
        return moving(cfg, source, folder)
    photographs = without_output(find_photographs(str(cfg.images)), folder)
    annotations = AnnotationFile(expanded(cfg.annotations)) if cfg.annotations else None
    names = photographs.names
    targets = destinations(names, folder)
    inputs = [*photographs.paths, *([annotations.path] if annotations else [])]
    refuse_overwriting(folder, [*targets, folder / RESULTS], inputs, cfg.overwrite)
    ids = annotations.image_ids(names) if annotations else list(range(1, len(names) + 1))
    detector = opened(cfg, source)
    categories = categories_of(detector.classes, detector.category_ids)
    if annotations:
        categories = annotations.categories(detector.classes, detector.category_ids)
    folder.mkdir(parents=True, exist_ok=True)
    write(detector, Job(photographs.paths, names, ids, targets, categories, folder), cfg.score, cfg.tile)


def opened(cfg: DictConfig, source: Path) -> "Detector":
    """The detector of a run or of a file, with the suppression and the scores that were asked for."""
    from detect.detector import Detector  # imports TensorFlow

    detector = Detector.load(source, class_agnostic=cfg.class_agnostic)
    detector = detector.calibrated() if cfg.calibrated else detector
    log.info("drawn are %s", printable(detector.showing(cfg.score)))
    return detector


def moving(cfg: DictConfig, source: Path, folder: Path) -> None:
    """Predicts on a video, a camera, a stream or a watched folder."""
    if cfg.annotations:
        raise ConfigError("annotations= is for images; a video and a watched folder have none")
    watched = expanded(str(cfg.watch)) if cfg.watch else None
    if watched and not watched.is_dir():
        raise ConfigError(f"watch={watched}: this is no folder")
    if watched and folder.resolve() == watched.resolve():
        raise ConfigError(f"output={folder}: its pictures would be taken as images; name another folder")
    what = video.source_of(str(cfg.images))
    targets = [folder / RESULTS] if watched else video.results(what, folder)
    refuse_overwriting(folder, targets, [Path(what)], cfg.overwrite)
    if not watched:
        video.open_video(what).release()  # before TensorFlow is imported
    detector, shown = opened(cfg, source), video.Shown(cfg.score, cfg.tile)
    folder.mkdir(parents=True, exist_ok=True)
    if watched:
        video.watch(detector, watched, folder, shown)
    else:
        video.predict_video(detector, what, folder, cfg.every, shown)


def find_photographs(what: str) -> Photographs:
    """The images of `what`: an image, a folder or a glob. A path that exists is no pattern, even with brackets in it.

    A named file, and a file of an image format that is not read, is among them: it must not be missed. Raises DataError
    if there is no image.
    """
    path = expanded(what)
    if path.is_dir():
        base, files = path, find_files(path)
    elif path.exists():
        return Photographs(path.parent, (path,))
    else:
        plain = [part for part in path.parts if not glob.has_magic(part)]
        base = Path(*path.parts[: next((k for k, part in enumerate(path.parts) if part not in plain), None)])
        matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        files = [file for match in matches for file in (find_files(match) if match.is_dir() else [match])]
    files = list(dict.fromkeys(files))
    images = tuple(file for file in files if file.suffix.lower() in (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES))
    others = [file.name for file in files if file.suffix.lower() not in (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES)]
    if not images:
        found = f"; {len(others)} files of other kinds are there: {first_few(others, 3)}" if others else ""
        raise DataError(f"images={what}: there is no image{found}; legal are an image, a folder or a glob")
    if others:
        log.info("%d files are no images and are passed over: %s", len(others), printable(first_few(others, 3)))
    return Photographs(base, images)


def without_output(photographs: Photographs, folder: Path) -> Photographs:
    """The images without those of an earlier prediction, if the folder of the output lies in that of the images."""
    inside, outside = folder.resolve(), photographs.folder.resolve()
    if inside == outside or not inside.is_relative_to(outside):
        return photographs
    kept = tuple(path for path in photographs.paths if not path.resolve().is_relative_to(inside))
    if len(kept) < len(photographs.paths):
        log.info("%d pictures in %s are passed over", len(photographs.paths) - len(kept), printable(folder))
    if not kept:
        raise DataError(f"images={photographs.folder}: all images are in output={folder}; name another output")
    return Photographs(photographs.folder, kept)


def destinations(names: Sequence[str], folder: Path) -> list[Path]:
    """The file of each picture: the name and the folders of the image, and its type if pictures are written in it."""
    taken: set[str] = set(names)
    targets = []
    for name in names:
        target = name
        if Path(name).suffix.lower() not in WRITTEN:
            while target in taken:
                target += ".png"
            taken.add(target)
        targets.append(folder / target)
    return targets


def refuse_overwriting(folder: Path, targets: Sequence[Path], inputs: Sequence[Path], overwrite: bool) -> None:
    """Raises ConfigError, which names the file, if a file to write is one of the inputs, by any name or link.

    Without `overwrite`, also if it exists: it is the result of another prediction.
    """
    read = {_identity(path): path for path in inputs if path.exists()}
    existing = [target for target in targets if os.path.exists(target)]  # Path.exists raises for a long name
    for target in existing:
        if told := read.get(_identity(target)):
            raise ConfigError(f"output={folder}: it would overwrite the input {told}; name another folder")
    if existing and not overwrite:
        name = printable(existing[0].relative_to(folder))
        raise ConfigError(f"output={folder}: {name} exists; name another folder or give overwrite=true")


def _identity(path: Path) -> tuple[int, int]:
    about = os.stat(path)
    return about.st_dev, about.st_ino


@dataclass(frozen=True)
class Job:
    """What is written for each image: its path, its name and id in results, and the file of its picture."""

    paths: Sequence[Path]
    names: Sequence[str]
    ids: Sequence[ImageId]
    targets: Sequence[Path]
    categories: Sequence[Category]
    folder: Path


def write(detector: "Detector", job: Job, score: float | str, tile: int | str | None = None) -> None:
    """Draws the boxes that `Detector.shown` chooses. The JSON file holds all detections."""
    from detect.reporting import pictures

    bad: list[str] = []
    done = 0

    def missed(name: str, reason: str) -> None:
        bad.append(f"{name}: {reason}")
        log.warning("%s", printable(bad[-1]))

    try:
        with json_list(job.folder / RESULTS) as append:
            for path, name, number, target in zip(job.paths, job.names, job.ids, job.targets, strict=True):
                try:
                    image = read_image(path)
                    (found,) = detector(image, tile=tile)
                except DataError as error:
                    missed(name, _reason(path, error))
                    continue
                append(rows_of(number, name, (found.boxes, found.scores, found.classes), job.categories))
                shown = detector.shown(found, score)
                boxes, kinds, scores = found.boxes[shown], found.classes[shown], found.scores[shown]
                if why := _unsaved(target, pictures.draw_boxes(image, boxes, kinds, scores, detector.classes)):
                    missed(name, f"its detections are in {RESULTS}, but its picture can't be written: {why}")
                    continue
                done += 1
                drawn = zip(found.names, found.scores, shown, strict=True)
                named = [f"{n} {s:.2f}" for n, s, visible in drawn if visible]
                log.info("%s: %s", printable(name), printable(first_few(named, LISTED) or "nothing"))
    except (KeyboardInterrupt, OSError):
        log.info("stopped: %d of %d images are done; %s has these", done, len(job.paths), RESULTS)
        raise
    log.info("%d pictures and %s are in %s", done, RESULTS, printable(job.folder))
    if bad:
        listed = "\n  ".join(printable(line) for line in bad)
        raise Unfinished(f"{len(bad)} of {len(job.paths)} images could not be done, all others are:\n  {listed}")


def _unsaved(target: Path, picture: "np.ndarray") -> str:
    """Saves a picture; returns why it can't be written, or nothing. Raises OSError if others can't be, either."""
    from detect.reporting import pictures

    try:
        pictures.save(target, picture)
    except OSError as error:
        if error.errno in disk.LASTING:
            raise
        return str(error)
    return ""


def _reason(path: Path, error: DataError) -> str:
    """Why an image can't be read."""
    if path.suffix.lower() in UNREAD_SUFFIXES:
        return f"{path.suffix[1:].upper()} is not read; save it as JPEG or PNG"
    return examine(path)[0] or str(error)
