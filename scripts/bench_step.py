"""Where a training step of SSD-MobileNetV1-300 goes, and what changes its speed.

Usage: python scripts/bench_step.py OUTPUT.json [ROUNDS=5]
Writes the share of each kind of operation, from TensorFlow's profiler on one thread, and the speed of each variant over
that of the step as it is. Both keep running and step in turns; only one of them steps at a time.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bench_peers import Worker

HERE = Path(__file__).parent
BATCH, SIZE = 8, "detector.size=[300,300]"
PROFILED = 6, 10
"""First and last step that the profiler records."""

KINDS = {  # in this order: the first part that an operation's type contains
    "depthwise convolution": ("Depthwise",),
    "convolution": ("Conv2D",),
    "batch norm": ("BatchNorm",),
    "activation": ("Relu", "HardSwish"),
    "hard-example mining and assignment": ("NonMaxSuppression", "TopK", "Sort", "ArgMax"),
}
# name -> environment, batch, overrides
VARIANTS: dict[str, tuple[dict[str, str], int, list[str]]] = {
    "one thread": ({}, BATCH, ["threads=1"]),
    "one operation at a time": ({"TF_NUM_INTEROP_THREADS": "1"}, BATCH, []),
    "without oneDNN": ({"TF_ENABLE_ONEDNN_OPTS": "0"}, BATCH, []),
    "oneDNN's own layout": ({"TF_ENABLE_MKL_NATIVE_FORMAT": "0"}, BATCH, []),
    "XLA": ({}, BATCH, ["jit_compile=true"]),
    "frozen batch norm": ({}, BATCH, ["schedule.batch_norm=frozen"]),
    "without weight average": ({}, BATCH, ["schedule.ema_decay=0"]),
    "without suppression in the miner": ({}, BATCH, ["detector.sampler.nms_iou=null"]),
    "batch 2": ({}, 2, []),
    "batch 4": ({}, 4, []),
    "batch 16": ({}, 16, []),
    "batch 32": ({}, 32, []),
}


def shares() -> dict[str, float]:
    """The share of each kind of operation in the time of all operations of the steps, the largest first."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["train", "dataset=digits", "dataset.images={train:64,val:4,test:4}", "init=none", SIZE, "threads=1"]
        command += ["classify.enabled=false", f"schedule.steps={PROFILED[1]}", f"schedule.batch_size={BATCH}"]
        command += ["schedule.warmup=1", f"profile=[{PROFILED[0]},{PROFILED[1]}]", f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, "-m", "detect.cli", *command], check=True, stdout=subprocess.DEVNULL)
        (file,) = Path(folder).glob("detector/train/plugins/profile/*/*.xplane.pb")
        from tensorflow.tsl.profiler.protobuf import xplane_pb2

        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    spent: Counter[str] = Counter()
    for plane in space.planes:
        names = {number: entry.name for number, entry in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                node, _, operation = names[event.metadata_id].rpartition(":")
                if node and operation.isidentifier() and not node.endswith(":"):  # NODE:OPERATION, no function of C++
                    spent[_kind(operation)] += event.duration_ps
    total = sum(spent.values())
    return {kind: round(time / total, 3) for kind, time in spent.most_common() if time > total / 200}


def _kind(operation: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in operation for part in parts)), operation)


def ratios(rounds: int) -> dict[str, dict[str, float]]:
    """Images/s of each variant, and that over the images/s of the step as it is, measured in the same minute."""
    plain = _worker({}, BATCH, [])
    found = {}
    for name, (environment, batch, overrides) in VARIANTS.items():
        sides = {"plain": plain, "variant": _worker(environment, batch, overrides)}
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for turn in range(rounds + 1):
            for side, worker in sides.items():
                took = worker.step(2)["seconds"]
                seconds[side] += took if turn else []  # the first turn warms up
        sides["variant"].close()
        before, after = BATCH / statistics.median(seconds["plain"]), batch / statistics.median(seconds["variant"])
        found[name] = {"images_per_second": round(after, 2), "ratio": round(after / before, 2)}
        print(f"{name}: {found[name]['images_per_second']} images/s, ratio {found[name]['ratio']}", flush=True)
    plain.close()
    return found


def _worker(environment: dict[str, str], batch: int, overrides: list[str]) -> Worker:
    variables = [f"{key}={value}" for key, value in environment.items()]
    return Worker("env", *variables, sys.executable, str(HERE / "train_step.py"), str(batch), SIZE, *overrides)


def main() -> None:
    """Prints a line for each variant, and writes one JSON file."""
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    result = {"cores": os.cpu_count(), "shares": shares(), "variants": ratios(rounds)}
    Path(sys.argv[1]).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
