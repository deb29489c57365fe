"""The stages: build, transfer weights, quantise, fit, score."""

import dataclasses
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import tf_keras
from omegaconf import OmegaConf

from detect.config.tree import plain
from detect.data.interface import Stream
from detect.errors import ConfigError
from detect.evaluation.evaluators import ClassificationEvaluator, DetectionEvaluator
from detect.geometry.frame import Frame
from detect.loggers.interface import FINAL
from detect.modeling import cost
from detect.modeling.interface import Architecture, Detector
from detect.modeling.precision import computing_in
from detect.quantization.calibrate import calibrate
from detect.reporting import pictures, scores
from detect.reporting.logger import RunLogger
from detect.runs import disk
from detect.runs.dataset import selection_split, threads
from detect.runs.folder import CLASSIFY, DETECTOR, QUANTIZED, RunFolder
from detect.runs.stage_folder import RESULTS, StageFolder
from detect.runs.start import Run
from detect.runs.summary import hyper_parameters, tell, write_summary
from detect.studies import run_page
from detect.training import build, saved_states
from detect.training.evaluations import AveragePrecision, FirstBatch, ShowConfig, TopOne, Watched
from detect.training.hooks import Checkpointing, EarlyStop, Evaluation, Keeping, Logging, QuantizationPhases
from detect.training.initial_weights import initialise
from detect.training.loop import Fit, Hook, Spent
from detect.training.schedule import Schedule
from detect.training.trainer import Trainer
from detect.weights import checkpoint
from detect.weights.interface import WeightSource
from detect.weights.sources import FromFile

log = logging.getLogger("detect")


class Outcome(Spent):
    """The result of a stage: its cost, the best score on the selection split, and the step of that score."""

    best: float
    best_step: int


@dataclass
class Stage:
    """One stage of a run, ready for training.

    folder: that of the stage. architecture: the network with its initial weights.
    schedule, stream: the training settings and the batches. evaluation: the hook that chooses the best weights.
    image_name: the name of the image with a given index in a batch, for messages.
    hooks: those between logging and evaluation; shown: those that show something at the start.
    summary: further entries of its `summary.json`, besides scores and cost.
    """

    run: Run
    folder: StageFolder
    architecture: Architecture
    schedule: Schedule
    stream: Stream
    evaluation: Evaluation
    image_name: Callable[[int], str]
    shown: list[Hook]
    hooks: list[Hook] = field(default_factory=list)
    summary: dict[str, object] = field(default_factory=dict)

    def fit(self, logger: RunLogger) -> Outcome:
        """Trains the stage and loads the best weights. Returns steps, seconds, images/s, best score and its step."""
        schedule, evaluation = self.schedule, self.evaluation
        hooks = [Logging(schedule.log_every), *build.shown(self.run.cfg), *self.shown, *self.hooks, evaluation]
        if self.run.extending:
            hooks.insert(0, Keeping(self.run.extending))
        if schedule.patience is not None:
            hooks.append(EarlyStop(schedule.patience, evaluation))
        hooks += [*build.hooks(self.run.cfg), Checkpointing(schedule.checkpoint_every)]
        trainer = Trainer(self.architecture, schedule, self.stream, build.replicas(self.run))
        outcome = Fit(trainer, schedule, self.folder, logger, hooks, self.image_name).run()
        checkpoint.load(self.architecture.model, self.folder.best)
        return {**outcome, "best": evaluation.best, "best_step": evaluation.best_step}

    def logger(self) -> RunLogger:
        """The logger for the figures of the stage."""
        name, shown = self.folder.name, self.run.worker.is_chief
        return RunLogger(self.folder.path, self.schedule.steps, name, console=shown, services=self.run.loggers)


def step_macs(architecture: Architecture, schedule: Schedule) -> int:
    """Multiply-accumulates of one training step of a stage, forward only."""
    return cost.total_macs(architecture, training=True) * schedule.step_images


def costs(run: Run, detector: Detector, schedule: Schedule) -> dict[str, float]:
    """The cost of stage 1, and that of one step of a float detector: `fit_detector` knows how many steps there were."""
    first = run.folder.stage(CLASSIFY).summary_figure("macs")
    return {"stage_1_macs": first, "detector_macs": step_macs(detector, schedule)}


def stage_1_macs(run: Run) -> int:
    """Multiply-accumulates, forward only, of the configured stage 1, even if the run leaves it out."""
    schedule: Schedule = build.instantiate(run.cfg.classify.schedule)
    return step_macs(build.classifier(run.cfg, build.stage_1_dataset(run).num_classes), schedule) * schedule.steps


def train_classifier(run: Run, weights: WeightSource) -> WeightSource:
    """Stage 1: fine-tunes the backbone as a classifier. Returns its best weights as a source for stage 2."""
    cfg, folder = run.cfg, run.folder.stage(CLASSIFY)
    best = FromFile(str(folder.best))
    if folder.scores() is not None:
        log.info("classify: finished before, at %.3f", folder.summary_figure("best"))
        tell(run, folder)  # the process may have been stopped before it told them
        return best
    log.info("stage 1: classify")
    dataset = build.stage_1_dataset(run)
    for line in dataset.describe():
        log.info(line)
    tf_keras.utils.set_random_seed(cfg.seed)
    schedule, replicas = build.instantiate(cfg.classify.schedule), build.replicas(run)
    with replicas.strategy.scope(), computing_in(cfg.precision):
        classifier = build.classifier(cfg, dataset.num_classes)
    macs = step_macs(classifier, schedule)
    initialise(classifier, weights, cfg, folder)
    build.prepare(run, classifier, schedule, CLASSIFY)
    split, detect = selection_split(dataset), replicas.inference(classifier.detect)
    evaluator = ClassificationEvaluator(
        detect, classifier.size, dataset, split, schedule.scored_images, threads(cfg), replicas
    )
    stage = Stage(
        run,
        folder,
        classifier,
        schedule,
        build.classification_stream(run, classifier, schedule, dataset),
        TopOne(
            schedule.evaluate_every,
            evaluator,
            dataset,
            split,
            build.stage_1_held_out_loss(run, classifier, schedule, dataset, split),
        ),
        lambda i: dataset.splits["train"][i].id,
        shown=[FirstBatch(lambda i: dataset.classes[dataset.splits["train"][i].label])],
    )
    with stage.logger() as logger:
        outcome = stage.fit(logger)
    cost_of_it = {
        "pictures": len(dataset.splits["train"]),
        "pictures_fingerprint": dataset.fingerprint(),
        "macs": macs * outcome["steps"],
    }
    pictures.results_figure(folder.metrics, folder.path / RESULTS)
    scored = evaluator()
    pictures.save(folder.confusion, pictures.confusion_figure(scored.confusion, dataset.classes))
    write_summary(folder.summary, run, outcome, {split: scored.to_dict()}, schedule.used(), **cost_of_it)
    tell(run, folder)
    return best


def train_detector(run: Run, weights: WeightSource) -> float:
    """Stage 2: trains the float detector from `weights`. Returns AP on the split that chose the checkpoint."""
    cfg, folder = run.cfg, run.folder.stage(DETECTOR)
    if folder.scores() is not None:
        log.info("detector: finished before")
        tell(run, folder)
        return folder.summary_figure("best")
    log.info("stage 2: %s", cfg.detector._target_.rsplit(".", 1)[-1])
    added_macs = stage_1_macs(run) if cfg.arm.extra else 0
    tf_keras.utils.set_random_seed(cfg.seed)
    schedule, replicas = build.instantiate(cfg.schedule), build.replicas(run)
    with replicas.strategy.scope(), computing_in(cfg.precision):
        detector = build.detector(cfg, run.dataset.num_classes)
    extra = math.ceil(added_macs / step_macs(detector, schedule))
    if extra:
        most = OmegaConf.select(cfg, "limit.steps")  # runs of older versions have no such key
        extra = extra if most is None else max(0, min(extra, most - schedule.steps))
        log.info("%d steps and %d more, which cost as much as stage 1", schedule.steps, extra)
        schedule = dataclasses.replace(schedule, steps=schedule.steps + extra)
    initialise(detector, weights, cfg, folder, run.dataset.classes)
    build.prepare(run, detector, schedule, DETECTOR)
    summary: dict[str, object] = {
        "init": {"weights": weights.describe(), "stage_1": bool(cfg.classify.enabled)},
        "cost": {**costs(run, detector, schedule), "extra_steps": extra},
    }
    stage = detection_stage(run, folder, detector, schedule, build.training_stream(run, detector, schedule), summary)
    return fit_detector(stage, detector, folder if cfg.quantize.enabled else run.folder)


def train_quantized(run: Run, weights: WeightSource) -> float:
    """Stage 3: trains the fake-quantised twin of the float detector. Returns AP of the evaluation graph.

    weights: those of stage 1 or `init`; the twin starts from them if there is no float stage.
    """
    cfg, folder = run.cfg, run.folder.stage(QUANTIZED)
    if cfg.quantize.float_stage:
        weights = FromFile(str(run.folder.stage(DETECTOR).best), scope="detector")
    log.info("stage 3: quantize")
    tf_keras.utils.set_random_seed(cfg.seed)
    spec, schedule, replicas = build.quantization(cfg), build.quantized_schedule(cfg), build.replicas(run)
    with replicas.strategy.scope():
        detector = build.detector(cfg, run.dataset.num_classes)
    loaded = initialise(detector, weights, cfg, folder, run.dataset.classes)
    if spec.ranges == "calibrated" and not loaded and not saved_states.steps(folder.last):
        raise ConfigError(
            "quantize.spec.ranges=calibrated: the network has random weights, so its ranges would fit nothing; give "
            "init=FILE, or quantize.float_stage=true, or moving_average or learned ranges"
        )
    summary: dict[str, object] = {
        "init": {"weights": weights.describe(), "stage_1": bool(cfg.classify.enabled)},
        "quantize": spec.to_config(),
        "cost": costs(run, detector, schedule),  # of the float network, whose place the twin takes
    }
    build.prepare(run, detector, schedule, QUANTIZED, spec)
    mixed = not cfg.quantize.float_stage  # else the float stage has ended with images as they are
    stream = build.training_stream(run, detector, schedule, mixed=mixed)
    if loaded and cfg.quantize.calibrate:
        whole = build.training_stream(run, detector, schedule, whole=True, mixed=False)  # as the detector will see them
        images = (whole.batch(k)["image"] for k in range(cfg.quantize.calibrate))
        log.info("calibrated on %d batches", calibrate(detector.model, images, detector.detect))
    stage = detection_stage(run, folder, detector, schedule, stream, summary, delay=spec.delay)
    stage.hooks.append(QuantizationPhases(detector.model))
    return fit_detector(stage, detector, run.folder)


def detection_stage(
    run: Run,
    folder: StageFolder,
    detector: Detector,
    schedule: Schedule,
    stream: Stream,
    summary: dict[str, object],
    delay: float = 0,
) -> Stage:
    """A stage that trains a detector. delay: see `AveragePrecision`."""
    cfg, dataset = run.cfg, run.dataset
    if build.stages(cfg) == 1:  # else `build.check` has done it
        disk.demand(run.folder.path, build.weight_bytes(detector), 1)
    split, frame = selection_split(dataset), Frame(detector.size, detector.resize)
    replicas = build.replicas(run)
    detect = replicas.inference(detector.detect)
    evaluator = DetectionEvaluator(detect, frame, dataset, split, schedule.scored_images, threads(cfg), replicas)
    watched = Watched(dataset, split, evaluator.detect)
    losses = build.held_out_loss(run, detector, schedule, split)
    return Stage(
        run,
        folder,
        detector,
        schedule,
        stream,
        AveragePrecision(schedule.evaluate_every, evaluator, watched, delay, cfg.histograms, losses),
        lambda i: dataset.splits["train"][i].id,
        shown=[ShowConfig(plain(cfg)), FirstBatch(lambda i: dataset.splits["train"][i].path.name, dataset.classes)],
        summary=summary,
    )


def fit_detector(stage: Stage, detector: Detector, place: StageFolder | RunFolder) -> float:
    """Fits a detector and scores its best checkpoint. Returns AP on the selection split.

    place: the folder for scores, pictures and `summary.json`; for the last stage, it is the run folder.
    """
    run, cfg = stage.run, stage.run.cfg
    dataset = run.dataset
    assert isinstance(stage.evaluation, AveragePrecision)
    split = stage.evaluation.watched.split
    with stage.logger() as logger:
        outcome = stage.fit(logger)
        splits = list(dict.fromkeys([*(name for name in ("val", "test") if dataset.splits[name]), split]))
        frame, detect = Frame(detector.size, detector.resize), stage.evaluation.watched.detect
        batch_size, cores, workers = stage.schedule.scored_images, threads(cfg), build.replicas(run)

        def show(name: str, picture: np.ndarray) -> None:
            logger.images(f"{FINAL}{name}", outcome["steps"], picture)

        found = scores.score_splits(place.path, detect, frame, dataset, splits, batch_size, cores, split, workers, show)
        for name in splits:
            lost = found[name]["errors"]["gains"]
            logger.final(outcome["steps"], {f"{name}_errors/{kind}": gain for kind, gain in lost.items()})
        earlier = [run.folder.stage(name) for name in (CLASSIFY, DETECTOR) if name != stage.folder.name]
        spent = outcome["seconds"] + sum(folder.summary_figure("seconds") for folder in earlier)
        figures = {f"{s}/{k}": found[s][k] for s in splits for k in ("AP", "AP50")}
        settings = hyper_parameters(cfg, stage.folder.name, stage.schedule.used())
        logger.hparams(settings, figures | {"seconds": spent})
    pictures.results_figure(stage.folder.metrics, place.path / RESULTS)
    if isinstance(spent_macs := stage.summary.get("cost"), dict):
        spent_macs["detector_macs"] *= outcome["steps"]  # fewer than those of the schedule, if the stage ended early
    # The last file: it ends the stage.
    write_summary(place.summary, run, outcome, found, stage.schedule.used(), **stage.summary)
    if isinstance(place, RunFolder) and run.worker.is_chief:
        run_page.leave(place.path)
    tell(run, place)
    return found[split]["AP"] or 0.0
