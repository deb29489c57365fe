"""Compares training speed with torchvision: the same networks, batch, size and work, in turns.

Usage: python scripts/bench_peers.py TORCHVISION_PYTHON OUTPUT.json [ROUNDS=5]
Both programs keep running and step in turns; only one of them steps at a time. The speed is that of the median step.
The ratio is our speed over theirs: it is above 1 if `detect` is faster.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SAME_WORK = [  # only SGD with momentum, as in the peer
    "schedule/optimizer=sgd",
    "schedule.weight_decay=0.0",
    "schedule.clip_norm=null",
    "schedule.ema_decay=0",
]
FASTER_RCNN = ["detector=faster_rcnn", "backbone=inception_v3", "backbone.padding=valid", "detector.size=[384,384]"]
# name -> (batch, size, steps a turn, overrides, the peer's name)
CASES: dict[str, tuple[int, int, int, list[str], str]] = {
    "ssdlite_mobilenet_v3_large": (
        8,
        320,
        3,
        [
            "detector=ssdlite",
            "backbone=mobilenet_v3_large",
            "backbone.reduced_tail=true",
            "detector.size=[320,320]",
            "detector.anchors.reduce_lowest=false",
            "detector.sampler.nms_iou=null",  # the peer's mining has no suppression
        ],
        "ssdlite_mobilenet_v3_large",
    ),
    "ssd300_vgg16": (4, 300, 1, ["detector=ssd300_vgg16", "backbone=vgg16"], "ssd300_vgg16"),
    "faster_rcnn_inception_v3, two_fc": (
        2,
        384,
        1,
        [*FASTER_RCNN, "detector/box_head=two_fc", "detector.rpn_head.channels=768"],
        "faster_rcnn_inception_v3",
    ),
    "faster_rcnn_inception_v3, Mixed_7": (2, 384, 1, FASTER_RCNN, "faster_rcnn_inception_v3"),
    "faster_rcnn_inception_v3, Mixed_7, crops of 8": (
        2,
        384,
        1,
        [*FASTER_RCNN, "detector.roi.crop=8"],
        "faster_rcnn_inception_v3",
    ),
    "faster_rcnn_inception_v3, Mixed_7, crops of 4": (
        2,
        384,
        1,
        [*FASTER_RCNN, "detector.roi.crop=4"],
        "faster_rcnn_inception_v3",
    ),
}


class Worker:
    """One side: a process that steps on request."""

    def __init__(self, *command: str):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self._read()

    def step(self, count: int) -> dict[str, Any]:
        """Takes `count` steps. Returns their seconds and the process's peak memory."""
        assert self.process.stdin is not None
        print(count, file=self.process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args!r}: ended without an answer")
        return json.loads(line)


def compare(name: str, peer_python: str, rounds: int) -> dict[str, Any]:
    """One case: medians of both sides' steps over the rounds, and the ratio of their speeds."""
    batch, size, steps, overrides, peer = CASES[name]
    sides = {
        "detect": Worker(sys.executable, str(HERE / "train_step.py"), str(batch), *overrides, *SAME_WORK),
        "torchvision": Worker(peer_python, str(HERE / "train_step_torchvision.py"), peer, str(batch), str(size)),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    memory = {}
    for turn in range(rounds + 1):
        for side, worker in sides.items():
            answer = worker.step(steps)
            memory[side] = answer["peak_memory_mb"]
            if turn:  # the first turn warms up
                seconds[side] += answer["seconds"]
    result: dict[str, Any] = {"batch": batch, "size": size, "rounds": rounds}
    for side, worker in sides.items():
        speed = batch / statistics.median(seconds[side])
        result[side] = worker.about | {"images_per_second": round(speed, 3), "peak_memory_mb": memory[side]}
        worker.close()
    ours, theirs = result["detect"], result["torchvision"]
    result["ratio"] = round(ours["images_per_second"] / theirs["images_per_second"], 2)
    result["macs_ratio"] = round(ours["training_macs"] / theirs["macs"], 3)
    result["parameters_ratio"] = round(ours["parameters"] / theirs["parameters"], 3)
    return result


def main() -> None:
    """Prints a line for each case, and writes one JSON file."""
    peer_python, output = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    results = {}
    for name in CASES:
        found = results[name] = compare(name, peer_python, rounds)
        print(
            f"{name}: {found['detect']['images_per_second']} images/s, torchvision "
            f"{found['torchvision']['images_per_second']}: ratio {found['ratio']} "
            f"(MACs {found['macs_ratio']}, parameters {found['parameters_ratio']})",
            flush=True,
        )
        Path(output).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
