"""Trains a detector: first a classifier, then the detector, then its fake-quantised twin, as far as configured."""

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from detect.config import check
from detect.config.resume import Command
from detect.files import expanded
from detect.runs import disk, start, unstarted
from detect.runs.folder import RunFolder
from detect.runs.start import Run, start_run
from detect.runs.workers import worker
from detect.training.early_check import weights_check


def main(cfg: DictConfig, folder: str | Path, command: Command | None = None) -> float:
    """Trains all stages of a configuration and writes the results into a run folder. Returns AP on validation images.

    cfg: the composed configuration of `detect train`, from `detect.config.compose.compose`.
    folder: the run folder. A stopped run continues there; a finished run returns its AP at once.
    command: the command that repeats the run; None is the command line of this process, and saves none.
    Raises UserError, before images are decoded, for a bad configuration and bad annotations; before training, for
    weights that do not fit (`early_check` says when this comes first, too). A start that fails leaves no new folder.
    """
    folder = expanded(folder)
    if (score := finished(cfg, folder)) is not None:
        return score
    if command is None:  # the command line has checked its own
        check.check(cfg)
        check.refuse_inside_data(cfg, folder, "folder")
    place = RunFolder(folder)
    own = place.of_worker(worker(cfg)).path
    kept = unstarted.ancestor(own)
    try:
        go_on = place.continuation(by_command=command is not None)
        with disk.told(folder, go_on):
            return _train(cfg, folder, command)
    except Exception:
        unstarted.remove(own, kept)
        raise


def finished(cfg: DictConfig, folder: Path) -> float | None:
    """AP of a run that is already finished in its folder; None if there is work to do.

    The program may have been stopped after the last score. So a page that is missing is written, and loggers are told
    the results that they did not get.
    Raises ConfigError, which names each key, if the folder holds a run of another configuration.
    """
    score = start.finished(cfg, folder)
    if score is not None and worker(cfg).is_chief:
        from detect.runs import summary
        from detect.studies import run_page

        place = RunFolder(folder)
        if not start.described(place, cfg).ended and (services := start.loggers(cfg)):
            from detect.training import budget  # imports TensorFlow

            run = start.described(place, budget.configuration(place))
            services.catch_up(run, lambda: summary.results(place))
        if not (folder / run_page.PAGE).exists():
            run_page.leave(folder)
    return score


def _train(cfg: DictConfig, folder: Path, command: Command | None) -> float:
    fits = weights_check(cfg, RunFolder(folder))
    with start_run(cfg, folder, command, fits) as run:  # bad data and weights that do not fit stop here
        from detect.training import build, distribution  # imports TensorFlow

        build.set_up(cfg, run.worker)
        with distribution.lost_worker(run.worker, folder), distribution.enough_memory():
            return _stages(run)


def _stages(run: Run) -> float:
    from detect.training import budget, build, initial_weights, stages

    build.agree(run)
    build.check_parts(run)
    fitted = budget.fitted(run)
    build.check(fitted)  # what can't be built stops here, not after stage 1
    run = replace(fitted, extending=run if run.folder.extensions(run.cfg) else None)
    with run.loggers.running(run.described()):
        weights = initial_weights.first_weights(run.cfg)
        if run.cfg.classify.enabled:
            weights = stages.train_classifier(run, weights)
        if not run.cfg.quantize.enabled:
            return stages.train_detector(run, weights)
        if run.cfg.quantize.float_stage:
            stages.train_detector(run, weights)
        return stages.train_quantized(run, weights)
