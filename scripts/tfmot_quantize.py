"""Replaces stage 3 by tfmot's `quantize_model`: the same weights, batches, steps, rate and optimiser, then int8.

Usage: python scripts/tfmot_quantize.py RUN OUTPUT [KEY=VALUE...]
RUN is a run of an SSD. The script starts from its float detector, or from its `init` if it has no stage 2. It uses
its `quantize.schedule` (that of quantize=int8 if the run has no stage 3); KEY=VALUE changes settings.
It writes to OUTPUT: `tfmot/` with best, last and curves, `summary.json`, and `tflite/` with the file and `export.json`.
`detect evaluate model=OUTPUT/tflite/model.tflite` scores the file.

tfmot (tensorflow-model-optimization, in the lock file) rounds kernels before batch norm, and does not fold batch norm.
Its ranges start at [-6, 6] and follow with decay .999, so after a short training they are still too wide.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import hydra
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from omegaconf import DictConfig, OmegaConf

from detect.config.check import CONFIG_DIR
from detect.data.image_file import read_image
from detect.data.subset import evenly_spread
from detect.detector import Detector
from detect.environment import usable_cores
from detect.evaluation.evaluators import DetectionEvaluator
from detect.export.options import LABELS
from detect.files import write_json
from detect.geometry.frame import Frame
from detect.runs import provenance
from detect.runs.dataset import dataset_of
from detect.runs.folder import DETECTOR, EXPORT, TFLITE_MODEL, RunFolder
from detect.runs.start import Run
from detect.tflite import accuracy, detection_output, flatbuffer, operators, package
from detect.tflite.convert import converter_of
from detect.tflite.metadata import Settings
from detect.tflite.quiet import quiet
from detect.training import build, initial_weights, stages
from detect.weights import checkpoint
from detect.weights.sources import FromFile

keras = tfmot.quantization.keras
COMPARED, TIMINGS = 16, 30  # images whose heads are compared; runs of each latency


class OutputConfig(tfmot.quantization.keras.QuantizeConfig):
    """For input scaling, which tfmot does not support: rounds its output as tfmot rounds the input of a model."""

    def get_weights_and_quantizers(self, layer: Any) -> list:
        """No kernel."""
        return []

    def get_activations_and_quantizers(self, layer: Any) -> list:
        """No activation."""
        return []

    def set_quantize_weights(self, layer: Any, quantize_weights: list) -> None:
        """Nothing to set."""
        return

    def set_quantize_activations(self, layer: Any, quantize_activations: list) -> None:
        """Nothing to set."""
        return

    def get_output_quantizers(self, layer: Any) -> list:
        """The range of all values that were seen."""
        return [keras.quantizers.AllValuesQuantizer(8, per_axis=False, symmetric=False, narrow_range=False)]

    def get_config(self) -> dict[str, Any]:
        """It has no arguments."""
        return {}


def tfmot_twin(model: tf_keras.Model) -> tf_keras.Model:
    """The model that tfmot makes from a float model, with its weights."""

    def annotate(layer):
        scales = isinstance(layer, tf_keras.layers.Rescaling)
        return keras.quantize_annotate_layer(layer, OutputConfig() if scales else None)

    annotated = tf_keras.models.clone_model(model, clone_function=annotate)
    annotated.set_weights(model.get_weights())
    with keras.quantize_scope({"OutputConfig": OutputConfig}):
        return keras.quantize_apply(annotated)


def configuration(run: Path, changes: list[str]) -> DictConfig:
    """The configuration of the run, with a stage 3 and the changes. Keys newer than the run have their defaults."""
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        defaults = hydra.compose("train", ["quantize=int8"])
    saved = RunFolder(run).saved_config()
    if not saved.quantize.enabled:
        del saved.quantize
    new = {key: defaults[key] for key in defaults if key not in saved} | {"limit": defaults.limit}
    cfg = OmegaConf.merge(new, saved, {"name": "tfmot"}, OmegaConf.from_dotlist(changes))
    assert isinstance(cfg, DictConfig)
    return cfg


def train(run: Run, source: Path) -> tuple[Any, Any]:
    """Like `stages.train_quantized`, with another twin. Returns (float detector, tfmot's with its best weights)."""
    cfg, best, folder = run.cfg, RunFolder(source).stage(DETECTOR).best, run.folder.stage("tfmot")
    weights = FromFile(str(best), "detector") if checkpoint.exists(best) else build.instantiate(cfg.init)
    build.set_up(cfg)
    in_float, detector = (build.detector(cfg, run.dataset.num_classes) for _ in range(2))
    schedule = build.quantized_schedule(cfg)
    for architecture in (in_float, detector):
        initial_weights.initialise(architecture, weights, cfg, folder)
    schedule.prepare(detector)
    detector.adopt(tfmot_twin(detector.model))
    about = {"init": {"weights": weights.describe()}, "tfmot": provenance.version("tensorflow-model-optimization")}
    stream = build.training_stream(run, detector, schedule)
    stage = stages.detection_stage(run, folder, detector, schedule, stream, about)
    stages.fit_detector(stage, detector, run.folder)
    return in_float, detector


def convert(model: tf_keras.Model, settings: Settings) -> package.File:
    """The int8 file: uint8 pixels, int8 heads, ranges of the model. Raises WeightsError if a convolution is float."""

    converter = converter_of(model, "float32", 1)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.int8
    with quiet():
        body = converter.convert()
    graph = flatbuffer.read(body)
    operators.refuse_float_convolutions(graph)
    whole = detection_output.attach(graph, settings)
    flatbuffer.set_metadata(whole, settings.entries())
    return package.File(flatbuffer.write(whole), body)


def export(run: Run, in_float: Any, detector: Any) -> Path:
    """Writes the file, its labels and `export.json`, with the keys of `detect export quantize=qat`."""
    dataset, folder = run.dataset, run.folder.path / "tflite"
    settings = Settings.of(detector, dataset.classes)
    file, reference = convert(detector.model, settings), package.build(in_float.model, settings, package.Options())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TFLITE_MODEL).write_bytes(file.content)
    (folder / LABELS).write_text("\n".join(dataset.classes) + "\n", encoding="utf-8")
    split = next(name for name in ("test", "val", "train") if dataset.splits[name])
    examples, frame = dataset.splits[split], Frame(detector.size, detector.resize, exact=True)
    frames = [frame.fit(read_image(example.path)) for example in evenly_spread(examples, COMPARED)]
    report = package.report(file, reference, detector.model, settings, package.Options("qat"), frames, TIMINGS)
    report["parity"]["source"] = f"{split} of {dataset.name}"
    figures = {"file": Detector.load(folder).evaluate(dataset, split)[0].summary}
    for name, architecture in (("run", detector), ("float", in_float)):
        evaluator = DetectionEvaluator(architecture.detect, frame, dataset, split, batch_size=8, threads=usable_cores())
        figures[name] = evaluator()[0].summary
    report["scores"] = accuracy.compared(split, len(examples), figures)
    write_json(folder / EXPORT, {"format": "tflite", "by": "tfmot", **report, **provenance.collect()})
    print("\n".join(package.table(report)))
    return folder


def main() -> None:
    """Trains, converts, scores."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    source, folder, *changes = sys.argv[1:]
    cfg = configuration(Path(source), changes)
    dataset = dataset_of(cfg, decode=False)
    place = RunFolder(Path(folder))
    lock = place.claim()
    place.save(cfg, dataset)
    run = Run(place, cfg, dataset, provenance.collect(), lock)
    print(f"wrote {export(run, *train(run, Path(source)))}")


if __name__ == "__main__":
    main()
