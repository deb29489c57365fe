"""Draws a detector's boxes on images: `detect predict run=RUN images=PATH`."""

import glob
import json
import logging
from pathlib import Path

from omegaconf import DictConfig

from detect.cli.main import verb
from detect.data.folder import find_images
from detect.errors import ConfigError, DataError, first_few

log = logging.getLogger("detect")
LISTED = 4  # detections on the console for each image


@verb("predict")
def main(cfg: DictConfig) -> None:
    """Writes a picture for each image, and `detections.json` in COCO's result format, with file names."""
    if bool(cfg.run) == bool(cfg.model):
        raise ConfigError("predict: name either a run folder (run=RUN) or an exported model (model=PATH)")
    paths = images(cfg.images)
    from detect.detector import Detector  # imports TensorFlow

    source = Path(cfg.run or cfg.model)
    detector = Detector.load(source)
    folder = Path(cfg.output or (source.parent if source.is_file() else source) / "predictions")
    folder.mkdir(parents=True, exist_ok=True)
    write(detector, paths, folder, cfg.score)


def images(what: str) -> list[Path]:
    """The image files of `what`: an image, a folder or a glob."""
    path = Path(what).expanduser()
    matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    found = find_images(path) if path.is_dir() else matches
    if not found:
        raise DataError(f"images={what}: there is no image; legal are an image, a folder or a glob")
    return found


def write(detector, paths: list[Path], folder: Path, score: float) -> None:
    """Draws boxes with a score of at least `score`. The JSON file holds all detections."""
    from detect.data.image_file import read_image
    from detect.reporting import pictures

    rows = []
    for number, path in enumerate(paths, start=1):
        image = read_image(path)
        (found,) = detector(image)
        shown = found.scores >= score
        drawn = pictures.draw_boxes(
            image, found.boxes[shown], found.classes[shown], found.scores[shown], detector.classes
        )
        pictures.save(folder / f"{number:04d}_{path.stem}.png", drawn)
        for box, value, kind in zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True):
            ymin, xmin, ymax, xmax = box
            rows.append(
                {
                    "image_id": number,
                    "file_name": str(path),
                    "category_id": kind,
                    "category": detector.classes[kind - 1],
                    "bbox": [xmin, ymin, xmax - xmin, ymax - ymin],
                    "score": value,
                }
            )
        named = [f"{n} {s:.2f}" for n, s in zip(found.names, found.scores, strict=True) if s >= score]
        log.info("%s: %s", path.name, first_few(named, LISTED) or "nothing")
    (folder / "detections.json").write_text(json.dumps(rows))
    log.info("%d pictures and detections.json are in %s", len(paths), folder)


if __name__ == "__main__":
    main()
