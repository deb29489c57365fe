"""Trains a detector: a classifier first, then the detector, and a fake-quantised twin of it where one is asked for."""

from pathlib import Path

from omegaconf import DictConfig

from detect.runs.start import finished, start_run


def main(cfg: DictConfig, folder: str | Path, command: str | None = None) -> float:
    """Trains what a configuration describes and leaves everything in a run folder. Returns AP on the validation images.

    cfg: the composed configuration of `detect train`, as `detect.config.compose.compose` returns it.
    folder: of the run. A run that stopped there goes on; one that has ended returns its AP at once.
    command: what makes the same run again; None is the command line of this process.
    Raises UserError, before TensorFlow is imported, for a bad configuration or bad data.
    """
    folder = Path(folder)
    if (score := finished(cfg, folder)) is not None:
        return score
    run = start_run(cfg, folder, command)  # a bad configuration and bad data stop here
    from detect.training import build, stages  # imports TensorFlow

    build.set_up(cfg)
    build.check(cfg, run.dataset.num_classes)  # what can't be built stops here, not after stage 1
    weights = stages.first_weights(cfg)
    if cfg.classify.enabled:
        weights = stages.train_classifier(run, weights)
    if not cfg.quantize.enabled:
        return stages.train_detector(run, weights)
    if cfg.quantize.float_stage:
        stages.train_detector(run, weights)
    return stages.train_quantized(run, weights)
