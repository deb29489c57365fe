"""Times a step of fake-quant training, a float step, and a step with tfmot's `quantize_model`.

Usage: python scripts/bench_quantize.py OUTPUT.json [ROUNDS=5]
All sides run in one process and step in turns; only one of them steps at a time. The time of a side is its median
step. Until batch norm is frozen, our side convolves twice in each layer, as tf.contrib.quantize did: once with the
folded, rounded kernel, once for the batch's statistics. tfmot convolves once, as it rounds kernels without folding.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # as `detect.environment` sets them for the command

import hydra
import numpy as np
import tensorflow as tf
import tf_keras
from tfmot_quantize import tfmot_twin

from detect.config.check import CONFIG_DIR
from detect.modeling.interface import Losses
from detect.quantization.callbacks import Phases
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from detect.runs import provenance
from detect.training import build
from detect.training.trainer import Trainer

BATCH, STEPS = 8, 3  # images per step, steps per turn
FREEZE = 10  # the step from which batch norm is frozen
BOXES = [[20, 20, 120, 150], [60, 80, 200, 220], [100, 30, 250, 140]]
ARMS = ("float", "float, batch norm frozen", "ours", "ours, batch norm frozen", "tfmot")
Step = Callable[[], float]


class Application:
    """A classifier of tf_keras.applications with the interface that the trainer needs."""

    def __init__(self, model: tf_keras.Model):
        self.model = model

    def adopt(self, model: tf_keras.Model) -> None:
        """Computes with the twin from now on."""
        self.model = model

    def losses(self, batch: dict, training: bool = True):
        """Cross-entropy of batch["index"] as labels."""
        probabilities = self.model(tf.cast(batch["image"], tf.float32) / 127.5 - 1, training=training)
        loss = tf_keras.losses.sparse_categorical_crossentropy(batch["index"], probabilities)
        return Losses({"classification": tf.reduce_mean(loss)}, {}, tf.cast(tf.size(loss), tf.float32))


CASES: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "ssd_mobilenet_v1": (300, lambda cfg: build.detector(cfg, num_classes=len(BOXES))),
    "applications.MobileNetV2": (224, lambda cfg: Application(tf_keras.applications.MobileNetV2(weights=None))),
}


def batch_of(size: int) -> dict[str, Any]:
    """A constant batch of noise with three boxes in each image."""
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), np.uint8)
    return {
        "image": tf.constant(pixels),
        "boxes": tf.constant(np.tile(np.array(BOXES, np.float32), (BATCH, 1, 1))),
        "classes": tf.constant(np.tile(np.array([1, 2, 3], np.int32), (BATCH, 1))),
        "index": tf.range(BATCH),
        "seed": tf.range(BATCH),
    }


def stepper(architecture: Any, schedule: Any, batch: dict[str, Any]) -> Step:
    """A function that trains one step and returns its seconds."""
    trainer = Trainer(architecture, schedule, stream=None)

    def step() -> float:
        start = time.perf_counter()
        float(trainer.take([batch])["loss/total"])
        return time.perf_counter() - start

    return step


def sides(size: int, make: Callable[[Any], Any]) -> dict[str, Step]:
    """The step function of each of ARMS."""
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose("train", ["init=none", "quantize=int8"])
    schedule, batch = build.quantized_schedule(cfg), batch_of(size)
    plain, frozen, ours, theirs = architectures = [make(cfg) for _ in range(4)]
    for architecture in architectures:
        schedule.prepare(architecture)
    for layer in frozen.model.layers:
        layer.trainable = not isinstance(layer, tf_keras.layers.BatchNormalization)
    ours.adopt(fake_quant(ours.model, Spec(freeze_bn=FREEZE)))
    theirs.adopt(tfmot_twin(theirs.model))
    phases, fake_quantised = Phases(ours.model), stepper(ours, schedule, batch)

    def at(number: int) -> Step:
        def step() -> float:
            phases.step(number)
            return fake_quantised()

        return step

    others = [stepper(architecture, schedule, batch) for architecture in (plain, frozen, theirs)]
    return dict(zip(ARMS, (*others[:2], at(0), at(FREEZE), others[2]), strict=True))


def measure(size: int, make: Callable[[Any], Any], rounds: int) -> dict[str, Any]:
    """{arm: {"milliseconds" of the median step, "ratio" to float}}."""
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    steps = sides(size, make)
    for turn in range(rounds + 1):
        for arm, step in steps.items():
            taken = [step() for _ in range(STEPS if turn else 1)]
            seconds[arm] += taken if turn else []  # the first turn traces
    median = {arm: statistics.median(values) for arm, values in seconds.items()}
    return {
        arm: {"milliseconds": round(1000 * value, 1), "ratio": round(value / median["float"], 3)}
        for arm, value in median.items()
    }


def main() -> None:
    """Prints a table, and writes one JSON file."""
    tf.get_logger().setLevel("ERROR")
    output, rounds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    results: dict[str, Any] = {"batch": BATCH, "rounds": rounds, "cases": {}, **provenance.collect()}
    results["versions"]["tensorflow-model-optimization"] = provenance.version("tensorflow-model-optimization")
    for name, (size, make) in CASES.items():
        print(f"{name}, {size} px, batch {BATCH}", flush=True)
        found = results["cases"][name] = measure(size, make, rounds)
        for arm, row in found.items():
            print(f"  {arm:<26}{row['milliseconds']:>8.0f} ms{row['ratio']:>7.2f}", flush=True)
        output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
