"""Trains a detector in two stages, and a third one that quantises: `detect train`."""

from detect import sweep
from detect.cli import verb
from detect.start import finished, start_run


@verb("train")
def main(cfg) -> float | None:
    """Returns AP on the validation images: the objective of a sweep."""
    if (before := finished(cfg)) is not None:
        return before
    if sweep.is_cell():
        return sweep.run_cell()
    run = start_run(cfg)  # bad configurations and bad data stop here
    from detect import build, stages  # imports TensorFlow

    build.set_up(cfg)
    build.check_detector(cfg, run.dataset.num_classes)  # one that can't be built stops here, not after stage 1
    weights = stages.first_weights(cfg)
    if cfg.classify.enabled:
        weights = stages.train_classifier(run, weights)
    if not cfg.quantize.enabled:
        return stages.train_detector(run, weights)
    if cfg.quantize.float_stage:
        stages.train_detector(run, weights)
    return stages.train_quantized(run, weights)


if __name__ == "__main__":
    main()
