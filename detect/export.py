"""Exports a trained detector: `detect export run=RUN`. A SavedModel or a TFLite file, measured as it is written."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.errors import InstantiationException

from detect.cli import verb
from detect.errors import ConfigError, DataError
from detect.logs import write_json

if TYPE_CHECKING:
    from detect.data.frame import Frame
    from detect.detector import Detector
    from detect.tflite.ship import File, Options

log = logging.getLogger("detect")
SHOWN = 20  # best detections of each image that are compared
MODEL, REPORT, LABELS, ANCHORS = "model.tflite", "export.json", "labels.txt", "anchors.csv"
Images = list[np.ndarray]


@verb("export")
def main(cfg) -> None:
    """Writes the model, checks it against the run on real images, and leaves the figures in export.json."""
    if not cfg.run:
        raise ConfigError("export: name a run folder: run=RUN")
    check(cfg)
    folder = Path(cfg.output or Path(cfg.run) / default_name(cfg))
    if folder.exists() and not cfg.overwrite:
        raise ConfigError(f"output={folder} exists; name another folder or give overwrite=true")
    from detect.detector import Detector  # imports TensorFlow

    logging.getLogger("tensorflow").setLevel("ERROR")
    detector = Detector.load(cfg.run)
    if detector.architecture is None:
        raise ConfigError(f"run={cfg.run}: an exported model can't be exported again; name the run folder")
    (saved_model if cfg.format == "saved_model" else tflite)(cfg, detector, folder)


def check(cfg) -> None:
    """Raises ConfigError for settings that do not go together, before TensorFlow is imported."""
    if cfg.quantization == "qat":
        raise ConfigError(f"quantize=qat: {cfg.run} is an export of a run without quantisation-aware training")
    if str(cfg.output or "").endswith(".tflite"):
        raise ConfigError(f"output={cfg.output}: name a folder; the file in it is called {MODEL}")
    if cfg.format == "saved_model":
        legal = {"quantization": ("none",), "nms": (None, "in_graph"), "input": (None,), "heads": (None,)}
        given = [f"{key}={cfg[key]}" for key, values in legal.items() if cfg[key] not in values]
        if given:
            raise ConfigError(f"{', '.join(given)} is for format=tflite; a SavedModel is float, with its NMS inside")


def default_name(cfg) -> str:
    """The folder within the run's: `saved_model`, or `tflite_` and what makes the file another one."""
    if cfg.format == "saved_model":
        return "saved_model"
    parts = [cfg.quantization, "per_tensor" if cfg.weights == "per_tensor" else "", cfg.nms or "none"]
    return "_".join(["tflite", *(part for part in parts if part not in ("", "none"))])


def saved_model(cfg, detector: "Detector", folder: Path) -> None:
    """A float SavedModel with resize, input scaling and suppression inside."""
    from detect import provenance, serving
    from detect.detector import Detector
    from detect.tflite.checks import timed

    serving.save(detector.architecture, detector.classes, detector.name, folder)
    log.info("wrote %s", folder)
    shipped, images = Detector.load(folder), photographs()
    difference = parity(detector, shipped, images)
    milliseconds = timed(lambda: shipped(images[0]), cfg.timings)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    figures = {"parity": {"largest_score_difference": difference}, "bytes": size, "latency_ms": milliseconds}
    write_json(folder / REPORT, {"format": "saved_model", **figures, **provenance.collect()})
    log.info("largest difference of scores to the run's: %.1e", difference)
    log.info("size %.1f MB, latency of one photograph %.1f ms", size / 1e6, milliseconds)


def tflite(cfg, detector: "Detector", folder: Path) -> None:
    """A TFLite file, its labels, and export.json."""
    from detect import provenance
    from detect.data.frame import Frame
    from detect.tflite import ship
    from detect.tflite.settings import Settings

    architecture = detector.architecture
    options = ship.Options(cfg.quantization, cfg.weights, cfg.nms or "none", cfg.input, cfg.heads)
    settings = Settings.of(architecture, detector.classes, options.nms)
    frame = Frame(architecture.size, architecture.resize, exact=True)
    source, real, training = images_of(cfg, options, frame)

    def made(wanted: "Options") -> "File":
        return ship.build(architecture.model, settings, wanted, training)

    reference = made(ship.Options(nms=options.nms))
    file = reference if options == ship.Options(nms=options.nms) else made(options)
    report = ship.report(file, reference, architecture.model, settings, options, real, cfg.timings)
    report["parity"]["source"] = source
    problem = ship.disagreement(report["parity"])
    if problem and cfg.strict:
        raise ConfigError(f"not written: {problem}; strict=false writes the file all the same")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(file.content)
    (folder / LABELS).write_text("\n".join(detector.classes) + "\n", encoding="utf-8")
    np.savetxt(folder / ANCHORS, settings.anchors, "%.9g", ",", header="ymin,xmin,ymax,xmax", comments="")
    about = {"format": "tflite", "representative": len(training), **report, **provenance.collect()}
    about["versions"] |= {"ai-edge-litert": provenance.version("ai-edge-litert")}
    write_json(folder / REPORT, about)
    for line in [f"wrote {folder / MODEL}", *ship.table(report)]:
        log.info(line)
    if problem:
        log.warning(problem)


def images_of(cfg, options: "Options", frame: "Frame") -> tuple[str, Images, Images]:
    """Where the compared images are from, those images, and the representative set, all as the network sees them.

    The images are those of the run's own data set, photographs of scikit-image where it is no longer there; only
    `ptq` must have its training images.
    """
    from detect.data.pipeline import read_image
    from detect.start import limit, open_dataset, saved_config

    def frames(examples, count: int) -> Images:
        chosen = [examples[i * len(examples) // count] for i in range(min(count, len(examples)))]
        return [frame.fit(read_image(example.path)) for example in chosen]

    saved = saved_config(Path(cfg.run))
    try:
        dataset = limit(open_dataset(saved, decode=False), saved)
    except (DataError, InstantiationException) as error:
        reason = error.__cause__ if isinstance(error, InstantiationException) else error
        if not isinstance(reason, DataError):
            raise
        if options.quantize == "ptq":
            raise reason from None
        log.warning("the run's data set can't be read, the file is compared on photographs: %s", reason)
        return "photographs of scikit-image", [frame.fit(image) for image in photographs()], []
    training = frames(dataset.splits["train"], cfg.representative) if options.quantize == "ptq" else []
    split = next(name for name in ("val", "test", "train") if dataset.splits[name])
    return f"{split} of {dataset.name}", frames(dataset.splits[split], cfg.compared), training


def photographs() -> Images:
    """Three that ship with scikit-image."""
    from skimage import data

    return [data.chelsea(), data.coffee(), data.astronaut()]


def parity(detector: Callable[[Images], Any], exported: Callable[[Images], Any], images: Images) -> float:
    """The largest difference of the best scores, in order."""
    pairs = zip(detector(images), exported(images), strict=True)
    return max(float(np.abs(a.scores[:SHOWN] - b.scores[:SHOWN]).max(initial=0.0)) for a, b in pairs)


if __name__ == "__main__":
    main()
