"""Runs optimiser steps of a detector on a constant batch. `bench_peers.py` and `bench_detectors.py` time them.

Usage: python train_step.py BATCH OVERRIDE...   (overrides of configs/train.yaml, such as detector=ssdlite)
Prints a json line when it is ready; then, for each line N on standard input, takes N steps and prints their seconds.
"""

import resource
import sys
import time

from answering import answer

from detect import environment

BOXES = [[20, 20, 120, 150], [60, 80, 200, 220], [100, 30, 250, 140]]
CLASSES = 20


def memory_mb() -> int:
    """The peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def gpu_memory_mb() -> int | None:
    """The peak memory of the first GPU in MB; None without one."""
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"]) >> 20 if gpus else None


def main() -> None:
    """Builds, traces and takes a first step, prints a description, then takes steps on request."""
    batch_size, overrides = int(sys.argv[1]), sys.argv[2:]
    environment.for_program()  # as the command sets it, before TensorFlow is imported
    import hydra
    import numpy as np
    import tensorflow as tf

    from detect.config.check import CONFIG_DIR
    from detect.modeling import cost
    from detect.modeling.precision import computing_in
    from detect.training import build
    from detect.training.trainer import Trainer

    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose("train", ["init=none", *overrides])
    start = time.perf_counter()
    build.set_up(cfg)
    with computing_in(cfg.precision):
        detector = build.detector(cfg, num_classes=CLASSES)
    schedule = build.instantiate(cfg.schedule)
    schedule.prepare(detector)
    trainer = Trainer(detector, schedule, stream=None)
    height, width = detector.size
    boxes = np.minimum(np.array(BOXES, np.float32), [height, width, height, width])
    generator = np.random.default_rng(0)
    batch = {
        "image": tf.constant(generator.integers(0, 256, (batch_size, height, width, 3), np.uint8)),
        "boxes": tf.constant(np.tile(boxes, (batch_size, 1, 1)).astype(np.float32)),
        "classes": tf.constant(np.tile(np.array([1, 2, 3], np.int32), (batch_size, 1))),
        "index": tf.range(batch_size),
        "seed": tf.range(batch_size),
    }
    built = time.perf_counter()

    def step() -> float:
        return float(trainer.take([batch])["loss/total"])  # waits for the device

    step()
    about = {
        "macs": cost.total_macs(detector),
        "training_macs": cost.total_macs(detector, training=True),
        "parameters": detector.model.count_params(),
        "size": detector.size[0],
        "anchors": len(detector.anchors),
        "proposals": next((part.times for part in detector.parts() if part.times > 1), None),
        "build_seconds": round(built - start, 1),
        "trace_seconds": round(time.perf_counter() - built, 1),
    }
    answer(about, step, lambda: {"peak_memory_mb": memory_mb(), "peak_gpu_memory_mb": gpu_memory_mb()})


if __name__ == "__main__":
    main()
