"""The check of `init` at the start of a run, before its images are decoded. Only the check itself needs TensorFlow."""

from collections.abc import Callable

from omegaconf import DictConfig

from detect.config import trust
from detect.data.dataset import DetectionDataset
from detect.runs.folder import STAGES, RunFolder
from detect.runs.workers import worker
from detect.weights.interface import WeightSource
from detect.weights.sources import FromFile, NoWeights

MANY = 2000
"""Images from which decoding takes longer than to build the network once more, which takes seconds."""


def weights_check(cfg: DictConfig, place: RunFolder) -> Callable[[DetectionDataset], None] | None:
    """A function that raises UserError if the weights of `init` do not fit the network of the first stage.

    It passes over fewer than `MANY` images without `minutes`: the stage itself refuses the weights soon after.
    None if no weights are read, if a stage has begun, and for a run of several workers, which first have to connect.
    Raises WeightsError at once if there is no file of weights.
    """
    begun = any(place.stage(name).path.is_dir() for name in STAGES)
    if begun or cfg.arm.start == "random" or worker(cfg).count > 1:
        return None
    weights: WeightSource = trust.instantiate(cfg.init)
    if isinstance(weights, NoWeights):
        return None
    if isinstance(weights, FromFile):
        weights.place()

    def check(dataset: DetectionDataset) -> None:
        if sum(map(len, dataset.splits.values())) < MANY and cfg.get("minutes") is None:  # timing steps takes minutes
            return
        from detect.training import build, contracts, initial_weights

        build.set_up(cfg)
        contracts.refuse_nameless(build.instantiate(cfg.backbone), bool(cfg.classify.enabled))
        if cfg.classify.enabled:
            initial_weights.refuse_unfit(build.classifier(cfg, 1), weights, cfg)
        else:
            initial_weights.refuse_unfit(build.detector(cfg, dataset.num_classes), weights, cfg)

    return check
