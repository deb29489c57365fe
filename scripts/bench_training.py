"""Training speed and memory of SSD-MobileNetV1-300, compared with a matrix product on the same machine.

Usage: python scripts/bench_training.py OUTPUT.json [ROUNDS=3]
First come the seconds of the start: of `detect --help`, of a refused typo, of the parts of a start, and from the
command `detect train debug=step` on the embedded data to its first step. Then optimiser steps of batch 8 alternate with
a 2000 x 2000 float32 matrix product.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_peers import Worker

from detect import environment

environment.for_program()  # as the command sets it, before TensorFlow is imported

HERE = Path(__file__).parent
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


def starting(rounds: int) -> dict[str, float]:
    """Seconds of the start: medians over the rounds of whole commands, and the parts of a start."""
    train = ["train", "dataset=digits", "init=none", "classify.enabled=false"]
    commands = {
        "help": ["-m", "detect.cli", "--help"],
        "refused_typo": ["-m", "detect.cli", "train", "datset=voc"],
        "composed_and_checked": ["-m", "detect.cli", *train, "--cfg", "job"],
        "imported": ["-c", "from detect import environment as e; e.for_program(); import detect.training.build"],
    }
    found: dict[str, list[float]] = {name: [] for name in (*commands, "first_step", "built", "traced_and_run")}
    for _ in range(rounds):
        for name, words in commands.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            found[name].append(time.perf_counter() - start)
        found["first_step"].append(seconds_to_first_step(train))
        step = Worker(sys.executable, str(HERE / "train_step.py"), str(BATCH), f"detector.size=[{SIZE},{SIZE}]")
        found["built"].append(step.about["build_seconds"])
        found["traced_and_run"].append(step.about["trace_seconds"])
        step.close()
    return {f"seconds_{name}": round(statistics.median(values), 2) for name, values in found.items()}


def seconds_to_first_step(command: list[str]) -> float:
    """Seconds from the command to the first row of metrics.jsonl, without stage 1."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        command = [sys.executable, "-m", "detect.cli", *command, "debug=step", f"hydra.run.dir={folder}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        rows = (Path(folder) / "detector" / "metrics.jsonl").read_text().splitlines()
        return float(json.loads(rows[0])["time"] - start)


def main() -> None:
    """Writes one JSON file."""
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    result = starting(rounds) | training_and_matmul(rounds)
    Path(sys.argv[1]).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
