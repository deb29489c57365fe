"""The two stages: build, transfer weights, fit, score. The only library module that reads the configuration."""

import json
import logging
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import tensorflow as tf
import tf_keras
from omegaconf import DictConfig

from detect import draw
from detect.classifier import Classifier
from detect.config import plain
from detect.data.dataset import BACKGROUND, ClassificationDataset, DetectionDataset
from detect.data.frame import Frame
from detect.data.pipeline import ClassificationStream, DetectionStream, read_image
from detect.errors import ConfigError
from detect.evaluators import ClassificationEvaluator, DetectionEvaluator
from detect.logs import RunLogger, write_json
from detect.loop import Trainer, fit
from detect.metrics.coco import CocoEvaluator, Scores, coco_results
from detect.metrics.confusion import confusion_matrix
from detect.start import Run, selection_split, threads
from detect.weights import checkpoint
from detect.weights.sources import FromFile
from detect.weights.transfer import class_heads, transfer

log = logging.getLogger("detect")
instantiate = hydra.utils.instantiate
SHOWN_SCORE = 0.3  # detections below are not drawn
SHOWN_IMAGES = 8
SCORING_BATCH = 8


def set_up(cfg: DictConfig) -> None:
    """Seeds, determinism and memory growth, before the first operation; a sweep's earlier job is forgotten."""
    tf_keras.backend.clear_session()
    tf.get_logger().setLevel("ERROR")  # it takes the jobs of a sweep for one function that is traced again and again
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
    tf_keras.utils.set_random_seed(cfg.seed)
    if cfg.deterministic:
        tf.config.experimental.enable_op_determinism()


def build_detector(cfg: DictConfig, num_classes: int) -> Any:
    """The meta-architecture of `cfg.detector` around `cfg.backbone`, with random weights."""
    return instantiate(cfg.detector, backbone=instantiate(cfg.backbone), num_classes=num_classes)


def build_classifier(cfg: DictConfig, num_classes: int) -> Classifier:
    """The classifier of `cfg.classify` on `cfg.backbone`, with random weights."""
    head = cfg.classify.classifier
    return instantiate(head, backbone=instantiate(cfg.backbone), num_classes=num_classes)


def train_classifier(run: Run, weights: Any) -> Any:
    """Stage 1: fine-tunes the backbone as a classifier. Returns its best weights as a source for stage 2."""
    cfg, folder = run.cfg, run.folder / "classify"
    stage, result = cfg.classify, run.folder / "classify" / "summary.json"
    if result.exists():
        log.info("classify: finished before, at %s", json.loads(result.read_text())["scores"])
        return FromFile(str(folder / "best"))
    log.info("stage 1: classify")
    dataset = instantiate(stage.dataset)
    if not isinstance(dataset, ClassificationDataset):
        dataset = dataset(run.dataset, seed=cfg.seed)
    for line in dataset.describe():
        log.info(line)
    tf_keras.utils.set_random_seed(cfg.seed)
    classifier, schedule = build_classifier(cfg, dataset.num_classes), instantiate(stage.schedule)
    initialise(classifier, weights, cfg, folder)
    schedule.prepare(classifier.model)
    stream = ClassificationStream(
        dataset.splits["train"],
        num_classes=dataset.num_classes,
        size=classifier.size,
        batch_size=schedule.batch_size,
        augment=instantiate(stage.augment),
        seed=cfg.seed,
        threads=threads(cfg),
        balanced=stage.balanced,
    )
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
        show_batch(logger, folder, stream.batch(0)["image"])
        outcome = fit(trainer, evaluate, schedule, logger, folder, lambda i: dataset.splits["train"][i].id)
    checkpoint.load(classifier.model, folder / "best")
    scores = {split: evaluator().to_dict()}
    write_summary(result, run, outcome, scores, pictures=len(dataset.splits["train"]))
    draw.results_figure(folder / "metrics.jsonl", folder / "results.png")
    return FromFile(str(folder / "best"))


def train_detector(run: Run, weights: Any) -> float:
    """Stage 2: the detector, from the backbone's weights. Returns AP on the split that chose the checkpoint."""
    cfg, folder, dataset = run.cfg, run.folder / "detector", run.dataset
    log.info("stage 2: %s", cfg.detector._target_.rsplit(".", 1)[-1])
    tf_keras.utils.set_random_seed(cfg.seed)
    detector, schedule = build_detector(cfg, dataset.num_classes), instantiate(cfg.schedule)
    initialise(detector, weights, cfg, folder)
    schedule.prepare(detector.model)
    stream = DetectionStream(
        dataset.splits["train"],
        size=detector.size,
        batch_size=schedule.batch_size,
        augment=instantiate(cfg.augment),
        seed=cfg.seed,
        max_boxes=cfg.max_boxes,
        threads=threads(cfg),
        resize=detector.resize,
    )
    split, frame = selection_split(dataset), Frame(detector.size, detector.resize)
    evaluator = DetectionEvaluator(detector.detect, frame, dataset, split, schedule.batch_size, threads(cfg))

    def evaluate(step: int) -> float:
        scores, found = evaluator()
        figures = {f"{split}/{name}": value for name, value in scores.summary.items() if value is not None}
        per_class = {f"{split}_AP/{name}": row["AP"] for name, row in scores.per_class.items() if row["AP"] is not None}
        logger.evaluation(step, figures | per_class, scores.table())
        logger.images("predictions", step, truth_beside_predictions(dataset, split, found.detections))
        logger.images("confusion", step, confusion_picture(dataset, split, found.detections))
        logger.pr_curves(step, scores)
        if cfg.histograms:
            logger.histograms(step, detector.model)
        return scores.summary["AP"] or 0.0

    trainer = Trainer(detector, schedule, stream)
    with RunLogger(folder, schedule.steps, "detector") as logger:
        logger.text("config", f"```\n{json.dumps(plain(cfg), indent=2)}\n```")
        first = stream.batch(0)
        show_batch(logger, folder, first["image"], first["boxes"], first["classes"], dataset.classes)
        outcome = fit(trainer, evaluate, schedule, logger, folder, lambda i: dataset.splits["train"][i].id)
        checkpoint.load(detector.model, folder / "best")
        splits = [name for name in ("val", "test") if dataset.splits[name]] or [split]
        scores = score_splits(run.folder, detector.detect, frame, dataset, splits)
        logger.hparams(hyper_parameters(cfg), {f"{s}/{k}": scores[s][k] for s in splits for k in ("AP", "AP50")})
    start = {"weights": weights.describe(), "stage_1": bool(cfg.classify.enabled)}
    write_summary(run.folder / "summary.json", run, outcome, scores, init=start)
    draw.results_figure(folder / "metrics.jsonl", run.folder / "results.png")
    return scores[split]["AP"] or 0.0


def initialise(architecture: Any, weights: Any, cfg: DictConfig, folder: Path) -> None:
    """Copies weights by name and shape, and keeps the ledger; logs which start was chosen.

    Raises ConfigError where a classifier is to start from a whole detector, whose heads would not reach stage 2.
    """
    if (folder / "last").exists():
        log.info("start: resume %s", folder.name)
        return
    if weights.scope == "detector" and isinstance(architecture, Classifier):
        raise ConfigError(
            "init.scope=detector brings a detector's heads, and stage 1 would change the backbone beneath them: "
            "leave stage 1 out (classify.enabled=false), or start from the backbone alone (init.scope=backbone)"
        )
    arrays = weights.read(instantiate(cfg.backbone))
    if arrays is None:
        log.info("start: from scratch (random weights)")
        return
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


def score_splits(folder: Path, detect: Any, frame: Frame, dataset: DetectionDataset, splits) -> dict[str, dict]:
    """Scores a detector on splits; leaves pictures and COCO results of each in `folder`.

    detect: images of the frame -> detections in pixels of it, as `DetectionEvaluator` takes it.
    """
    evaluators = {s: DetectionEvaluator(detect, frame, dataset, s, SCORING_BATCH) for s in splits}
    return {split: keep_scores(folder, split, dataset, *evaluator()) for split, evaluator in evaluators.items()}


def keep_scores(folder: Path, split: str, dataset: DetectionDataset, scores: Scores, found: CocoEvaluator) -> dict:
    """Prints a split's scores, leaves its pictures and COCO results in `folder`, and returns the figures."""
    log.info("%s: %s", split, scores.table())
    examples = dataset.splits[split]
    draw.save(folder / f"{split}_confusion.png", confusion_picture(dataset, split, found.detections))
    draw.save(folder / f"{split}_pr_curves.png", draw.pr_figure(scores))
    sheet = draw.contact_sheet(truth_beside_predictions(dataset, split, found.detections), columns=2)
    draw.save(folder / f"{split}_predictions.png", sheet)
    write_json(folder / f"{split}_detections.json", coco_results(examples, found.detections))
    return scores.summary | {"per_class": scores.per_class}


def confusion_picture(dataset: DetectionDataset, split: str, detections: dict) -> np.ndarray:
    """The confusion matrix of a split, background first."""
    matrix = confusion_matrix(dataset.splits[split], detections, dataset.num_classes)
    return draw.confusion_figure(matrix, (BACKGROUND, *dataset.classes))


def truth_beside_predictions(dataset: DetectionDataset, split: str, detections: dict, width: int = 480) -> list:
    """The same few images of a split each time: ground truth on the left, detections on the right."""
    examples = dataset.splits[split]
    count = min(SHOWN_IMAGES, len(examples))
    pictures = []
    for example in (examples[i * len(examples) // count] for i in range(count)):
        image = read_image(example.path)
        boxes, scores, classes = detections[example.id]
        shown = scores >= SHOWN_SCORE
        truth = (example.boxes[~example.crowd], example.classes[~example.crowd])
        pictures.append(
            draw.side_by_side(image, truth, (boxes[shown], classes[shown], scores[shown]), dataset.classes, width)
        )
    return pictures


def show_batch(logger: RunLogger, folder: Path, images, boxes=None, classes=None, names=()) -> None:
    """Saves the first augmented batch as the network sees it."""
    if boxes is not None:
        rows = zip(images, boxes, classes, strict=True)
        images = [draw.draw_boxes(image, b[c > 0], c[c > 0], names=names) for image, b, c in rows]
    sheet = draw.contact_sheet(list(images), columns=4)
    draw.save(folder / "first_batch.png", sheet)
    logger.images("first_batch", 0, sheet)


def write_summary(path: Path, run: Run, outcome: dict, scores: dict, **more) -> None:
    """`summary.json`: scores, cost, seed, versions, commit, data, host."""
    content = {
        "name": run.cfg.name,
        "seed": run.cfg.seed,
        "scores": scores,
        **outcome,
        **more,
        "dataset": {"name": run.dataset.name, "fingerprint": run.dataset.fingerprint()},
        **run.provenance,
    }
    write_json(path, content)


def hyper_parameters(cfg: DictConfig) -> dict[str, Any]:
    """The settings that TensorBoard's HParams page compares: groups' main values as flat scalars."""
    keys = ("rate", "steps", "batch_size", "decay", "weight_decay", "batch_norm", "freeze_until")
    values = {f"schedule.{key}": cfg.schedule[key] for key in keys}
    values |= {"seed": cfg.seed, "classify": cfg.classify.enabled, "init": cfg.init._target_.rsplit(".", 1)[-1]}
    values |= {f"backbone.{key}": value for key, value in cfg.backbone.items() if key != "_target_"}
    return {key: str(value) if value is None else value for key, value in values.items()}
