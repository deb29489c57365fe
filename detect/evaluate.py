"""Scores a trained detector: `detect evaluate run=RUN [split=test]`, or any detector on any data set."""

import json
import logging
from pathlib import Path

from detect.cli import verb
from detect.errors import ConfigError, DataError
from detect.logs import write_json
from detect.start import SAVED_CLASSES, SAVED_CONFIG, check_ground_truth, open_dataset, saved_config

log = logging.getLogger("detect")


@verb("evaluate")
def main(cfg) -> float | None:
    """Prints COCO's twelve figures and each class's; returns AP."""
    source = Path(cfg.run or cfg.model or "")
    if bool(cfg.run) == bool(cfg.model):
        raise ConfigError("evaluate: name either a run folder (run=RUN) or an exported model (model=FOLDER)")
    if cfg.get("dataset"):
        dataset = open_dataset(cfg)
    elif (source / SAVED_CONFIG).exists():
        dataset = open_dataset(saved_config(source))
        known = json.loads((source / SAVED_CLASSES).read_text())
        if list(dataset.classes) != known:
            raise DataError(f"{source} was trained on {known}, its data set now has {list(dataset.classes)}")
    else:
        raise ConfigError("evaluate: an exported model needs a data set: dataset=voc dataset.root=DIR")
    if not dataset.splits.get(cfg.split):
        filled = [name for name, examples in dataset.splits.items() if examples]
        raise ConfigError(f"split={cfg.split}: data set {dataset.name} has images in {', '.join(filled)} only")
    check_ground_truth(dataset)

    from detect import stages  # imports TensorFlow
    from detect.detector import Detector

    detector = Detector.load(source)
    if detector.classes != dataset.classes:
        raise DataError(f"{source} knows the classes {list(detector.classes)}, the data set {list(dataset.classes)}")
    folder = Path(cfg.output or source / "evaluation")
    folder.mkdir(parents=True, exist_ok=True)
    scores = stages.keep_scores(folder, cfg.split, dataset, *detector.evaluate(dataset.splits[cfg.split]))
    write_json(folder / f"{cfg.split}_scores.json", scores)
    log.info("pictures, scores and detections are in %s", folder)
    return scores["AP"]


if __name__ == "__main__":
    main()
