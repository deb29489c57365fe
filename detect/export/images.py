"""The data set of a run, and the images for the comparison of an exported file with its run."""

import logging

import numpy as np
from omegaconf import DictConfig

from detect.data.dataset import DetectionDataset
from detect.data.image_file import read_image
from detect.data.subset import evenly_spread
from detect.errors import DataError
from detect.files import expanded
from detect.geometry.frame import Frame
from detect.runs.dataset import own_dataset
from detect.runs.folder import RunFolder
from detect.tflite.convert import representative

log = logging.getLogger("detect")
PHOTOGRAPHS = "photographs of scikit-image"
Images = list[np.ndarray]


def data_of(cfg: DictConfig) -> DetectionDataset | None:
    """The run's data set; None, with a warning, if it is missing or now has other classes.

    For `ptq`, which measures its ranges on it, it raises DataError instead.
    """
    try:
        return own_dataset(RunFolder(expanded(cfg.run)), decode=False)
    except DataError as reason:
        if cfg.quantization == "ptq":
            raise
        log.warning("the run's data set can't be used: nothing is scored, and photographs are compared: %s", reason)
        return None


def images_of(cfg: DictConfig, dataset: DetectionDataset | None, frame: Frame) -> tuple[str, Images, Images]:
    """The source of the compared images, these images, and the representative set, all fitted to the frame."""

    if dataset is None:
        return PHOTOGRAPHS, [frame.fit(image) for image in photographs()], []

    def frames(split: str, count: int) -> Images:
        return [frame.fit(read_image(example.path)) for example in evenly_spread(dataset.splits[split], count)]

    split = next((name for name in ("val", "test", "train") if dataset.splits[name]), None)
    if split is None:
        raise DataError(f"data set {dataset.name}: it has no images for the comparison of the file with the run")
    training = frames("train", cfg.representative) if cfg.quantization == "ptq" else []
    if cfg.quantization == "ptq":
        representative(training)  # it refuses an empty set, before the long work
    return f"{split} of {dataset.name}", frames(split, cfg.compared), training


def photographs() -> Images:
    """Three photographs from scikit-image."""
    from skimage import data

    return [data.chelsea(), data.coffee(), data.astronaut()]
