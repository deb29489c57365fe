"""Training speed and memory of SSD-MobileNetV1-300, compared with a matrix product on the same machine.

Usage: python scripts/bench_training.py OUTPUT.json [ROUNDS=3]
Alternates, in one run: optimiser steps of batch 8, and a 2000 x 2000 float32 matrix product. Then starts
`detect train debug=step` on the embedded data and measures the time from the command to its first step.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from detect import environment

environment.for_program()  # as the command sets it, before TensorFlow is imported

BATCH, SIZE, STEPS = 8, 300, 8
MACS = 1.237e9  # of one image forward, computed layer by layer
FORWARD_AND_BACKWARD = 3  # a backward pass costs two forward passes


def training_and_matmul(rounds: int) -> dict:
    """Medians over the rounds of images/s of the optimiser step, and GFLOP/s of the matrix product."""
    import hydra
    import numpy as np
    import tensorflow as tf

    from detect.config.check import CONFIG_DIR
    from detect.training import build
    from detect.training.trainer import Trainer

    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose("train", ["init=none"])
    detector = build.detector(cfg, num_classes=3)
    trainer = Trainer(detector, build.instantiate(cfg.schedule), stream=None)
    generator = np.random.default_rng(0)
    boxes = np.tile(np.array([[20, 20, 120, 150], [60, 80, 200, 220], [100, 30, 250, 140]], np.float32), (BATCH, 1, 1))
    batch = {
        "image": tf.constant(generator.integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)),
        "boxes": tf.constant(boxes),
        "classes": tf.constant(np.tile(np.array([1, 2, 3], np.int32), (BATCH, 1))),
        "index": tf.constant(np.arange(BATCH, dtype=np.int32)),
    }
    matrix = tf.random.uniform((2000, 2000))

    def step():
        return float(trainer.take([batch])["loss/total"])

    def product():
        return float((matrix @ matrix)[0, 0])

    step(), product()
    images, flops = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        images.append(BATCH * STEPS / (time.perf_counter() - start))
        start = time.perf_counter()
        for _ in range(STEPS):
            product()
        flops.append(2 * 2000**3 * STEPS / (time.perf_counter() - start) / 1e9)
    speed, peak = statistics.median(images), statistics.median(flops)
    reached = speed * MACS * 2 * FORWARD_AND_BACKWARD / 1e9
    return {
        "images_per_second": round(speed, 2),
        "matmul_gflops": round(peak, 1),
        "training_gflops": round(reached, 1),
        "fraction_of_matmul": round(reached / peak, 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def seconds_to_first_step() -> float:
    """Seconds from the command to the first row of metrics.jsonl, without stage 1."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "detect.cli", "train", "dataset=digits", "init=none", "debug=step"]
        command.append("classify.enabled=false")
        start = time.time()
        subprocess.run([*command, f"hydra.run.dir={folder}"], check=True, stdout=subprocess.DEVNULL)
        rows = (Path(folder) / "detector" / "metrics.jsonl").read_text().splitlines()
        return round(json.loads(rows[0])["time"] - start, 1)


def main() -> None:
    """Writes one JSON file."""
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    result = {"seconds_to_first_step": seconds_to_first_step()} | training_and_matmul(rounds)
    Path(sys.argv[1]).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
