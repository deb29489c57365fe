"""Exports a trained detector: `detect export run=RUN`. A float SavedModel with resize and input scaling inside."""

import logging
from pathlib import Path

from detect.cli import verb
from detect.errors import ConfigError

log = logging.getLogger("detect")
SHOWN = 20  # best detections of each image that are compared


@verb("export")
def main(cfg) -> None:
    """Writes the SavedModel and checks it against the run on real images."""
    if not cfg.run:
        raise ConfigError("export: name a run folder: run=RUN")
    folder = Path(cfg.output or Path(cfg.run) / "saved_model")
    if folder.exists() and not cfg.overwrite:
        raise ConfigError(f"output={folder} exists; name another folder or give overwrite=true")
    from detect import serving  # imports TensorFlow
    from detect.detector import Detector

    detector = Detector.load(cfg.run)
    serving.save(detector.architecture, detector.classes, detector.name, folder)
    log.info("wrote %s", folder)
    log.info("largest difference of scores to the run's: %.1e", parity(detector, Detector.load(folder)))


def parity(detector, exported) -> float:
    """The largest difference of the best scores, in order, over photographs that ship with scikit-image."""
    import numpy as np
    from skimage import data

    images = [data.chelsea(), data.coffee(), data.astronaut()]
    pairs = zip(detector(images), exported(images), strict=True)
    return max(float(np.abs(a.scores[:SHOWN] - b.scores[:SHOWN]).max(initial=0.0)) for a, b in pairs)


if __name__ == "__main__":
    main()
