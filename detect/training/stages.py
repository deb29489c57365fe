"""The stages: build, transfer weights, quantise, fit, score."""

import dataclasses
import json
import logging
import math
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras
from omegaconf import DictConfig

from detect.config import arms
from detect.config.tree import plain
from detect.data.pipeline import DetectionStream
from detect.errors import ConfigError
from detect.evaluation.evaluators import ClassificationEvaluator, DetectionEvaluator
from detect.geometry.frame import Frame
from detect.modeling import cost
from detect.modeling.classifier import Classifier
from detect.quantization.calibrate import calibrate
from detect.quantization.callbacks import Phases
from detect.quantization.rewrite import fake_quant
from detect.reporting import pictures as draw
from detect.reporting import scores as scoring
from detect.reporting.logger import RunLogger
from detect.runs.start import SUMMARY, Run, selection_split, threads
from detect.runs.summary import before, hyper_parameters, write_summary
from detect.training import build
from detect.training.loop import Trainer, fit
from detect.training.schedule import Schedule
from detect.weights import checkpoint
from detect.weights.sources import FromFile, NoWeights
from detect.weights.transfer import class_heads, transfer

log = logging.getLogger("detect")


def first_weights(cfg: DictConfig) -> Any:
    """The source of the first stage's weights: `init`, unless the arm of an ablation starts from random values."""
    weights = NoWeights() if cfg.arm.start == "random" else build.instantiate(cfg.init)
    if cfg.arm.name is not None:
        log.info(arms.description(cfg.arm, weights.describe()))
    return weights


def step_macs(architecture: Any, schedule: Schedule) -> int:
    """Multiply-accumulates of one training step of either stage, in the forward direction."""
    if isinstance(architecture, Classifier):
        return sum(cost.macs(architecture.model).values()) * schedule.batch_size
    return cost.total_macs(architecture, training=True) * schedule.batch_size


def stage_1_macs(run: Run) -> int:
    """Multiply-accumulates, forward, of stage 1 as it is configured, whether or not it is trained."""
    schedule = build.instantiate(run.cfg.classify.schedule)
    return step_macs(build.classifier(run.cfg, build.stage_1_dataset(run).num_classes), schedule) * schedule.steps


def train_classifier(run: Run, weights: Any) -> Any:
    """Stage 1: fine-tunes the backbone as a classifier. Returns its best weights as a source for stage 2."""
    cfg, folder = run.cfg, run.folder / "classify"
    stage, result = cfg.classify, run.folder / "classify" / SUMMARY
    if result.exists():
        log.info("classify: finished before, at %s", json.loads(result.read_text())["scores"])
        return FromFile(str(folder / "best"))
    log.info("stage 1: classify")
    dataset = build.stage_1_dataset(run)
    for line in dataset.describe():
        log.info(line)
    tf_keras.utils.set_random_seed(cfg.seed)
    classifier, schedule = build.classifier(cfg, dataset.num_classes), build.instantiate(stage.schedule)
    initialise(classifier, weights, cfg, folder)
    schedule.prepare(classifier.model)
    stream = build.classification_stream(run, classifier, schedule, dataset)
    split = selection_split(dataset)
    evaluator = ClassificationEvaluator(
        classifier.detect, classifier.size, dataset, split, schedule.batch_size, threads(cfg)
    )

    def evaluate(step: int) -> float:
        scores = evaluator()
        logger.evaluation(step, {f"{split}/top1": scores.top1, f"{split}/mean": scores.mean}, scores.table())
        picture = draw.confusion_figure(scores.confusion, dataset.classes)
        draw.save(folder / "confusion.png", picture)
        logger.images("confusion", step, picture)
        return scores.mean or 0.0

    trainer = Trainer(classifier, schedule, stream)
    with RunLogger(folder, schedule.steps, "classify") as logger:
        begin(logger, folder)
        scoring.show_batch(logger, folder, stream.batch(0)["image"])
        outcome = fit(trainer, evaluate, schedule, logger, folder, lambda i: dataset.splits["train"][i].id)
    checkpoint.load(classifier.model, folder / "best")
    scores = {split: evaluator().to_dict()}
    pictures = {"pictures": len(dataset.splits["train"]), "macs": step_macs(classifier, schedule) * outcome["steps"]}
    write_summary(result, run, outcome, scores, **pictures)
    draw.results_figure(folder / "metrics.jsonl", folder / "results.png")
    return FromFile(str(folder / "best"))


def train_detector(run: Run, weights: Any) -> float:
    """Stage 2: the float detector, from the backbone's weights. Returns AP on the split that chose the checkpoint."""
    cfg, folder = run.cfg, run.folder / "detector"
    results = folder if cfg.quantize.enabled else run.folder  # the run's own results are those of its last stage
    if folder == results and (folder / SUMMARY).exists():
        log.info("detector: finished before")
        return json.loads((folder / SUMMARY).read_text())["best"]
    log.info("stage 2: %s", cfg.detector._target_.rsplit(".", 1)[-1])
    added_macs = stage_1_macs(run) if cfg.arm.extra else 0
    tf_keras.utils.set_random_seed(cfg.seed)
    detector, schedule = build.detector(cfg, run.dataset.num_classes), build.instantiate(cfg.schedule)
    extra = math.ceil(added_macs / step_macs(detector, schedule))
    if extra:
        log.info("%d steps and %d more, which cost what stage 1 would", schedule.steps, extra)
        schedule = dataclasses.replace(schedule, steps=schedule.steps + extra)
    initialise(detector, weights, cfg, folder)
    schedule.prepare(detector.model)
    start = {"init": {"weights": weights.describe(), "stage_1": bool(cfg.classify.enabled)}}
    start["cost"] = {
        "stage_1_macs": before(run, "classify", "macs"),
        "detector_macs": step_macs(detector, schedule) * schedule.steps,
        "extra_steps": extra,
    }
    return fit_detector(run, detector, schedule, build.training_stream(run, detector, schedule), folder, results, start)


def train_quantized(run: Run, weights: Any) -> float:
    """Stage 3: the fake-quantised twin of the float detector. Returns AP of the evaluation graph.

    weights: of stage 1 or `init`, which the twin starts from where there is no float stage.
    """
    cfg, folder = run.cfg, run.folder / "quantized"
    if cfg.quantize.float_stage:
        weights = FromFile(str(run.folder / "detector" / "best"), scope="detector")
    log.info("stage 3: quantize")
    tf_keras.utils.set_random_seed(cfg.seed)
    detector, spec = build.detector(cfg, run.dataset.num_classes), build.quantization(cfg)
    schedule = build.quantized_schedule(cfg)
    loaded = initialise(detector, weights, cfg, folder)
    schedule.prepare(detector.model)
    detector.adopt(fake_quant(detector.model, spec))
    stream = build.training_stream(run, detector, schedule)
    if loaded and cfg.quantize.calibrate:
        images = (stream.batch(k)["image"] for k in range(cfg.quantize.calibrate))
        log.info("calibrated on %d batches", calibrate(detector.model, images, detector.detect))
    start = {"init": {"weights": weights.describe(), "stage_1": bool(cfg.classify.enabled)}}
    start["quantize"] = spec.to_config()
    return fit_detector(run, detector, schedule, stream, folder, run.folder, start, delay=spec.delay)


def fit_detector(
    run: Run,
    detector: Any,
    schedule: Schedule,
    stream: DetectionStream,
    folder: Path,
    results: Path,
    start: dict[str, Any],
    delay: float = 0,
) -> float:
    """Fits a detector whose weights are in place, and scores its best checkpoint. Returns AP on the selection split.

    folder: of the stage; results: where scores, pictures and `summary.json`, with `start` in it, go.
    delay: the step from which a fake-quantised model rounds; what was scored before is no candidate.
    """
    cfg, dataset = run.cfg, run.dataset
    split, frame = selection_split(dataset), Frame(detector.size, detector.resize)
    evaluator = DetectionEvaluator(detector.detect, frame, dataset, split, schedule.batch_size, threads(cfg))
    phases = Phases(detector.model)

    def evaluate(step: int) -> float | None:
        phases.step(step)
        scores, found = evaluator()
        figures = {f"{split}/{name}": value for name, value in scores.summary.items() if value is not None}
        per_class = {f"{split}_AP/{name}": row["AP"] for name, row in scores.per_class.items() if row["AP"] is not None}
        logger.evaluation(step, figures | per_class, scores.table())
        logger.images("predictions", step, scoring.truth_beside_predictions(dataset, split, found.detections))
        logger.images("confusion", step, scoring.confusion_picture(dataset, split, found.detections))
        logger.pr_curves(step, scores)
        if cfg.histograms:
            logger.histograms(step, detector.model)
        return (scores.summary["AP"] or 0.0) if step >= delay else None

    trainer = Trainer(detector, schedule, stream, before_step=phases.step)
    with RunLogger(folder, schedule.steps, folder.name) as logger:
        begin(logger, folder)
        logger.text("config", f"```\n{json.dumps(plain(cfg), indent=2)}\n```")
        first = stream.batch(0)
        scoring.show_batch(logger, folder, first["image"], first["boxes"], first["classes"], dataset.classes)
        outcome = fit(trainer, evaluate, schedule, logger, folder, lambda i: dataset.splits["train"][i].id)
        checkpoint.load(detector.model, folder / "best")
        splits = [name for name in ("val", "test") if dataset.splits[name]] or [split]
        scores = scoring.score_splits(results, detector.detect, frame, dataset, splits)
        spent = sum(before(run, stage, "seconds") for stage in ("classify", "detector") if stage != folder.name)
        figures = {f"{s}/{k}": scores[s][k] for s in splits for k in ("AP", "AP50")}
        logger.hparams(hyper_parameters(cfg), figures | {"seconds": outcome["seconds"] + spent})
    write_summary(results / SUMMARY, run, outcome, scores, **start)
    draw.results_figure(folder / "metrics.jsonl", results / "results.png")
    return scores[split]["AP"] or 0.0


def initialise(architecture: Any, weights: Any, cfg: DictConfig, folder: Path) -> bool:
    """Copies weights by name and shape, and keeps the ledger; logs which start was chosen. Returns whether it copied.

    Raises ConfigError where a classifier is to start from a whole detector, whose heads would not reach stage 2.
    """
    if tf.train.latest_checkpoint(str(folder / "last")):
        log.info("start: resume %s", folder.name)
        return False
    if weights.scope == "detector" and isinstance(architecture, Classifier):
        raise ConfigError(
            "init.scope=detector brings a detector's heads, and stage 1 would change the backbone beneath them: "
            "leave stage 1 out (classify.enabled=false), or start from the backbone alone (init.scope=backbone)"
        )
    arrays = weights.read(build.instantiate(cfg.backbone))
    if arrays is None:
        log.info("start: from scratch (random weights)")
        return False
    log.info("start: weights of %s (%s)", weights.describe(), weights.scope)
    ledger = transfer(
        architecture.model,
        arrays,
        source=weights.describe(),
        layers=architecture.backbone_layers,
        scope=weights.scope,
        skip=weights.skip,
    )
    folder.mkdir(parents=True, exist_ok=True)
    ledger.save(folder / "transfer.json")
    for line in [*ledger.lines(), *class_heads(ledger, weights.scope)]:
        log.info(line)
    return True


def begin(logger: RunLogger, folder: Path) -> None:
    """Forgets what was recorded of a stage that was stopped before its first checkpoint: it begins anew."""
    if not tf.train.latest_checkpoint(str(folder / "last")):
        logger.resume_at(0)
