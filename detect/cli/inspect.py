"""Shows a data set and a network before training: `detect inspect dataset=voc dataset.root=DIR`. It also shows the
effect of int8 on each layer of a trained network: `detect inspect quantize run=RUN`."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from detect.config.check import refuse_inside_data, refuse_unread
from detect.config.trust import instantiate
from detect.data.classification_stream import cut
from detect.data.dataset import DetectionDataset
from detect.data.examples import Examples
from detect.data.image_file import read_image
from detect.data.pipeline import DetectionStream
from detect.data.split import SPLITS
from detect.data.statistics import coverage, in_frame, statistics
from detect.data.subset import evenly_spread
from detect.data.validate import Finding, check, clean, first_of_each_kind, summarise
from detect.errors import ConfigError, DataError, counted
from detect.files import expanded, write_csv
from detect.geometry.frame import Frame
from detect.modeling.interface import Detector
from detect.reporting import pictures as draw
from detect.runs.dataset import own_dataset, threads
from detect.runs.folder import RunFolder
from detect.runs.unstarted import refuse_unwritable

log = logging.getLogger("detect")
CLASSES_WITHOUT_DATA = 10
OF_IMAGES = ("images", "decode", "seed", "threads", "max_boxes")
OF_A_RUN = ("run", "stage", "weights", "representative")
COLUMNS, SHEET = 4, 1920  # pictures in a row of a contact sheet, and the pixels of a row


def main(cfg: DictConfig) -> None:
    """Prints findings, statistics, the network and the coverage of its anchors; writes contact sheets of the images."""
    if cfg.only == "quantize":
        refuse_unread(cfg, "inspect", "detect inspect quantize takes the data of its run", "dataset.root", *OF_IMAGES)
        report_layers(cfg)
        return
    refuse_unread(cfg, "inspect", "detect inspect quantize takes it, which inspects a trained network", *OF_A_RUN)
    if cfg.only == "network":
        refuse_unread(cfg, "inspect", "detect inspect network looks at no image", "output", *OF_IMAGES)
    if cfg.only == "network" and OmegaConf.is_missing(cfg.dataset, "root"):
        log.info("no dataset.root is given: the network has %d classes", CLASSES_WITHOUT_DATA)
        report_network(cfg, CLASSES_WITHOUT_DATA)
        return
    if type(cfg.images) is not int or cfg.images < 1:
        raise ConfigError(f"images={cfg.images}: legal are whole numbers from 1")
    dataset = instantiate(cfg.dataset)
    if cfg.only == "network":
        report_network(cfg, dataset.num_classes)
        return
    folder = expanded(cfg.output or "inspection")
    refuse_unwritable(folder, "output")
    refuse_inside_data(cfg, folder, "output")
    for line in dataset.describe():
        log.info(line)
    findings = check(dataset, decode=cfg.decode)
    report_findings(findings, folder)
    errors = sum(finding.action == "error" for finding in findings)
    if not isinstance(dataset, DetectionDataset):
        if not errors:
            draw_pictures(dataset, folder, cfg.images)
    else:
        dataset, _ = clean(dataset)
        for line in statistics(dataset).lines():
            log.info(line)
        if not errors:
            draw_sheets(cfg, dataset, folder)
        if cfg.only is None:
            report_coverage(dataset, report_network(cfg, dataset.num_classes))
    if errors:
        raise DataError(
            f"data set {dataset.name}: it has {counted(errors, 'error')}, listed above; correct it before training"
        )


def report_findings(findings: Sequence[Finding], folder: Path) -> None:
    """One line for each of the first findings of a kind, then the count of each kind. If there are more, `findings.csv`
    has all of them. The files of an earlier inspection, which may be of other data, go away."""
    shown = first_of_each_kind(findings)
    for finding in shown:
        log.info("%s", finding)
    for line in summarise(findings) or ["no findings"]:
        log.info(line)
    listed = folder / "findings.csv"
    for name in (listed.name, *(f"raw_{split}.png" for split in SPLITS), "augmented.png"):
        (folder / name).unlink(missing_ok=True)
    if len(shown) < len(findings):
        folder.mkdir(parents=True, exist_ok=True)
        rows = [[f.action, f.kind, f.split, f.path, f.detail] for f in findings]
        write_csv(listed, ["action", "kind", "split", "path", "detail"], rows)
        log.info("all %d findings are in %s", len(findings), listed)


def frame_of(cfg: DictConfig, num_classes: int) -> Frame:
    """The frame of the network. A detector of one's own may have its size and its resize in the class."""
    if {"size", "resize"} <= cfg.detector.keys():
        return Frame(tuple(cfg.detector.size), cfg.detector.resize)
    from detect.training import build  # imports TensorFlow

    detector = build.detector(cfg, num_classes)
    return Frame(detector.size, detector.resize)


def draw_sheets(cfg: DictConfig, dataset: DetectionDataset, folder: Path) -> None:
    """Writes `raw_SPLIT.png` for each split, and `augmented.png` with training images as the network sees them."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, examples in dataset.splits.items():
        chosen = evenly_spread(examples, cfg.images)
        drawn = (draw.draw_boxes(read_image(e.path), e.boxes, e.classes, names=dataset.classes) for e in chosen)
        pictures = [draw.within(picture, SHEET // min(COLUMNS, len(chosen))) for picture in drawn]
        if pictures:
            draw.save(
                folder / f"raw_{split}.png", draw.contact_sheet(pictures, COLUMNS, SHEET, [e.path.name for e in chosen])
            )
    if not dataset.splits["train"]:
        return
    frame = frame_of(cfg, dataset.num_classes)
    stream = DetectionStream(
        dataset.splits["train"],
        size=frame.size,
        batch_size=min(cfg.images, len(dataset.splits["train"])),
        augment=instantiate(cfg.augment),
        seed=cfg.seed,
        max_boxes=cfg.max_boxes,
        threads=threads(cfg),
        resize=frame.mode,
        mixing=instantiate(cfg.mixing),
    )
    batch = stream.batch(0)
    pictures = [
        draw.draw_boxes(image, boxes[classes > 0], classes[classes > 0], names=dataset.classes)
        for image, boxes, classes in zip(batch["image"], batch["boxes"], batch["classes"], strict=True)
    ]
    captions = [dataset.splits["train"][index].path.name for index in batch["index"]]
    draw.save(folder / "augmented.png", draw.contact_sheet(pictures, COLUMNS, SHEET, captions))
    log.info("contact sheets are in %s", folder)


def draw_pictures(dataset, folder: Path, count: int) -> None:
    """Writes `raw_SPLIT.png` for each split of a classification data set, with class and file of each picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, examples in dataset.splits.items():
        chosen = evenly_spread(examples, count)
        images = (read_image(e.path) if e.box is None else cut(read_image(e.path), e.box, e) for e in chosen)
        pictures = [draw.within(picture, SHEET // min(COLUMNS, len(chosen))) for picture in images]
        captions = [f"{dataset.classes[example.label]}: {example.path.name}" for example in chosen]
        if pictures:
            draw.save(folder / f"raw_{split}.png", draw.contact_sheet(pictures, COLUMNS, SHEET, captions))
    log.info("contact sheets are in %s", folder)


def report_network(cfg: DictConfig, num_classes: int) -> Detector:
    """Builds the detector, prints its parts and their cost, and returns it."""
    from detect.modeling import cost  # imports TensorFlow
    from detect.training import build

    detector = build.detector(cfg, num_classes)
    names = [part._target_.rpartition(".")[2] for part in (cfg.detector, cfg.backbone)]
    height, width = detector.size
    log.info("%s on %s, frames of %dx%d px, %s", *names, height, width, counted(num_classes, "class"))
    for line in cost.table(detector):
        log.info("  %s", line)
    log.info("  MACs: multiply-accumulates of an image; params: with batch norm's statistics")
    return detector


def report_coverage(dataset: DetectionDataset, detector: Detector) -> None:
    """Prints how many training boxes no anchor matches, and what to change."""
    boxes, classes = in_frame(Examples.of(dataset.splits["train"]), Frame(detector.size, detector.resize))
    if not len(boxes):
        return
    found = coverage(boxes, classes, dataset.classes, detector.anchors, unmatched=detector.unmatched(boxes))
    for line in found.lines():
        log.info(line)


def report_layers(cfg: DictConfig) -> None:
    """Prints the layers of a run's float detector that int8 damages most; writes all as CSV, picture, TensorBoard."""
    if not cfg.run:
        raise ConfigError("name a run folder: run=RUN")
    run = expanded(cfg.run)
    if not RunFolder(run).is_run:
        raise ConfigError(f"run={cfg.run}: only a run folder has Keras layers; an exported model has none")
    folder = expanded(cfg.output or run / "quantize_layers")
    refuse_unwritable(folder, "output")
    from detect import detector as finder
    from detect.quantization import sensitivity, sensitivity_report
    from detect.quantization.spec import Spec
    from detect.training import finished  # imports TensorFlow

    architecture = finder.Detector.load(run, cfg.stage or "detector").architecture
    if cfg.stage == "quantized":
        architecture = finished.float_twin(RunFolder(run))
    inputs = [architecture.network_inputs(image) for image in training_frames(cfg, run, architecture)]
    log.info("%s: int8 kernels %s, ranges from %d training images", run, cfg.weights.replace("_", " "), len(inputs))
    layers = sensitivity.layer_damage(
        architecture.model, inputs, Spec(per_channel=cfg.weights == "per_channel", ranges="calibrated")
    )
    folder.mkdir(parents=True, exist_ok=True)
    sensitivity_report.write_csv(folder / "quantize_layers.csv", layers)
    picture = sensitivity_report.picture(layers)
    draw.save(folder / "quantize_layers.png", picture)
    sensitivity_report.write_board(folder / "tensorboard", layers, picture)
    for line in [*sensitivity_report.table(layers), *sensitivity_report.verdict(layers)]:
        log.info(line)
    log.info("all %d layers are in %s", len(layers), folder)


def training_frames(cfg: DictConfig, run: Path, architecture: Detector) -> list[np.ndarray]:
    """Training images of the run's data set, evenly spread, fitted to the network's frame: float32 [1, H, W, 3]."""
    frame = Frame(architecture.size, architecture.resize, exact=True)
    chosen = evenly_spread(own_dataset(RunFolder(run), decode=False).splits["train"], cfg.representative)
    return [frame.fit(read_image(example.path))[np.newaxis].astype(np.float32) for example in chosen]
