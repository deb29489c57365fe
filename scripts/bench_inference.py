"""Times one image: a run, its exports, and torchvision's SSDLite320, which is the same network, in turns.

Usage: python scripts/bench_inference.py TORCHVISION_PYTHON OUTPUT.json [ROUNDS=5]
The run is an SSDLite320 MobileNet v3 large after one step on the embedded data set. So its scores are nearly random,
as those of the peer: nearly all boxes pass the score limit, and suppression has the most work that it can have. Both
have the score limit, the overlap and the number of boxes of torchvision.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_peers import HERE, Worker

RUN = (
    "detector=ssdlite",
    "backbone=mobilenet_v3_large",
    "backbone.reduced_tail=true",
    "detector.size=[320,320]",
    "detector.anchors.reduce_lowest=false",
    "detector.postprocess.score=0.001",
    "detector.postprocess.iou=0.55",
    "detector.postprocess.per_class=300",
    "detector.postprocess.total=300",
    "dataset=digits",
    "init=none",
    "classify.enabled=false",
    "schedule.steps=1",
    "schedule.batch_size=8",
)
CLASSES = 10
EXPORTS = {
    "SavedModel": ("format=saved_model",),
    "TFLite": ("format=tflite",),
    "TFLite int8": ("format=tflite", "quantization=ptq"),
}
IMAGES = 10
"""Images of a turn."""


def command(*words: str) -> None:
    """Runs `detect`; its output is shown if it fails."""
    done = subprocess.run([sys.executable, "-m", "detect.cli", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"detect {' '.join(words)}\n{done.stdout}{done.stderr}")


def make(folder: Path) -> dict[str, Path]:
    """The run and its exports by name."""
    run = folder / "run"
    command("train", *RUN, f"hydra.run.dir={run}")
    made = {"run": run}
    for name, words in EXPORTS.items():
        made[name] = folder / name.replace(" ", "_")
        command("export", f"run={run}", *words, f"output={made[name]}", "strict=false", "scored=0", "timings=1")
    return made


def compare(sides: dict[str, list[str]], rounds: int) -> dict[str, dict[str, Any]]:
    """The median milliseconds of each side. All programs stay, and one of them runs at a time."""
    workers = {name: Worker(*words) for name, words in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, worker in workers.items():
            answer = worker.step(IMAGES)
            if turn:  # the first turn warms up
                seconds[name] += answer["seconds"]
    found = {
        name: worker.about | {"milliseconds": round(1000 * statistics.median(seconds[name]), 2)}
        for name, worker in workers.items()
    }
    for worker in workers.values():
        worker.close()
    return found


def main() -> None:
    """Prints a line for each side, and writes the JSON file."""
    peer_python, output = sys.argv[1], Path(sys.argv[2])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    with tempfile.TemporaryDirectory() as temporary:
        ours = {
            name: [sys.executable, str(HERE / "detect_step.py"), str(path)]
            for name, path in make(Path(temporary)).items()
        }
        peer = {"torchvision": [peer_python, str(HERE / "detect_step_torchvision.py"), str(CLASSES)]}
        found = compare(ours | peer, rounds)
    for name, row in found.items():
        row["ratio"] = round(found["torchvision"]["milliseconds"] / row["milliseconds"], 2)
        print(f"{name}: {row['milliseconds']} ms, {row['ratio']} times as fast as torchvision", flush=True)
    output.write_text(
        json.dumps({"image": [480, 640], "classes": CLASSES, "rounds": rounds, "sides": found}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
