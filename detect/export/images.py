"""The images that an exported file is compared with its run on, and the run's own data set."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from detect.data.dataset import DetectionDataset
from detect.data.pipeline import read_image
from detect.data.subset import evenly_spread
from detect.errors import DataError
from detect.geometry.frame import Frame
from detect.runs.dataset import dataset_of
from detect.runs.folder import RunFolder
from detect.tflite.convert import representative

log = logging.getLogger("detect")
PHOTOGRAPHS = "photographs of scikit-image"
Images = list[np.ndarray]


def data_of(cfg: DictConfig, classes: Sequence[str]) -> DetectionDataset | None:
    """The run's own data set; None, with a warning, where it is gone or has other classes now.

    Only `ptq`, which takes its ranges from it, must have it: raises DataError.
    """
    saved = RunFolder(Path(cfg.run)).saved_config()
    try:
        dataset = dataset_of(saved, decode=False)
        if dataset.classes != tuple(classes):
            raise DataError(f"the run was trained on {list(classes)}, its data set now has {list(dataset.classes)}")
        return dataset
    except DataError as reason:
        if cfg.quantization == "ptq":
            raise
        log.warning("the run's data set can't be used: nothing is scored, and photographs are compared: %s", reason)
        return None


def images_of(cfg: DictConfig, dataset: DetectionDataset | None, frame: Frame) -> tuple[str, Images, Images]:
    """Where the compared images are from, those images, and the representative set, all as the network sees them."""

    if dataset is None:
        return PHOTOGRAPHS, [frame.fit(image) for image in photographs()], []

    def frames(split: str, count: int) -> Images:
        return [frame.fit(read_image(example.path)) for example in evenly_spread(dataset.splits[split], count)]

    split = next((name for name in ("val", "test", "train") if dataset.splits[name]), None)
    if split is None:
        raise DataError(f"data set {dataset.name}: no images to compare the file with")
    training = frames("train", cfg.representative) if cfg.quantization == "ptq" else []
    if cfg.quantization == "ptq":
        representative(training)  # which refuses an empty set, before the long work
    return f"{split} of {dataset.name}", frames(split, cfg.compared), training


def photographs() -> Images:
    """Three that ship with scikit-image."""
    from skimage import data

    return [data.chelsea(), data.coffee(), data.astronaut()]
