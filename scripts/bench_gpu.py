"""Training speed on a GPU: images/s, utilisation and peak memory, by precision, XLA and batch, beside torchvision.

Usage: python scripts/bench_gpu.py TORCHVISION_PYTHON OUTPUT.json [BATCH,...]
Each figure is from a process of its own. A batch that does not fit into the memory ends its row. torchvision runs on
the same card with automatic mixed precision and channels last. Without a GPU, the program says so and ends.
"""

import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench_peers import FASTER_RCNN, HERE, SAME_WORK, Worker

from detect.runs import provenance

STEPS = 20
BATCHES = (1, 8, 32, 128, 256)
WAYS: dict[str, tuple[str, ...]] = {
    "float32": (),
    "bfloat16": ("precision=bfloat16",),
    "float32, XLA": ("jit_compile=true",),
    "bfloat16, XLA": ("precision=bfloat16", "jit_compile=true"),
}
# name -> (pixels, overrides, the peer's name)
CASES: dict[str, tuple[int, list[str], str | None]] = {
    "SSD-MobileNetV1-300": (300, ["detector=ssd", "detector.size=[300,300]"], None),
    "SSD300 VGG16": (300, ["detector=ssd300_vgg16", "backbone=vgg16"], "ssd300_vgg16"),
    "Faster R-CNN Inception v3": (384, FASTER_RCNN, "faster_rcnn_inception_v3"),
}


def utilisation() -> float:
    """The utilisation of the first GPU now, in percent."""
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(batch: int, *command: str) -> dict[str, Any] | None:
    """Images/s of the median step, utilisation in percent, and peak GPU memory in MB; None if the process ended."""
    try:
        worker = Worker(*command)
        worker.step(3)
        used = []
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(worker.step, STEPS)
            while not running.done():
                used.append(utilisation())
        answer = running.result()
        worker.close()
    except SystemExit as error:  # such as a lack of memory, which the process prints
        print(error, file=sys.stderr)
        return None
    return {
        "images_per_second": round(batch / statistics.median(answer["seconds"]), 1),
        "utilisation": round(statistics.mean(used)),
        "peak_gpu_memory_mb": answer["peak_gpu_memory_mb"],
    }


def rows(peer_python: str, batches: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for each network, way and batch that fits; each is printed when it is measured."""
    found = []
    for name, (pixels, overrides, peer) in CASES.items():
        ours = [sys.executable, str(HERE / "train_step.py")]
        sides = {way: (ours, [*overrides, *SAME_WORK, *words]) for way, words in WAYS.items()}
        if peer is not None:
            sides["torchvision, AMP"] = ([peer_python, str(HERE / "train_step_torchvision.py"), peer], [str(pixels)])
        for way, (before, after) in sides.items():
            for batch in batches:
                figures = measure(batch, *before, str(batch), *after)
                if figures is None:
                    break
                found.append({"network": name, "way": way, "batch": batch, **figures})
                print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    """Writes one JSON file."""
    gpus = provenance.gpu_models()
    if not gpus:
        raise SystemExit("no GPU: the driver of this machine lists none, so nothing is measured")
    batches = tuple(map(int, sys.argv[3].split(","))) if len(sys.argv) > 3 else BATCHES
    result = {"gpus": gpus, "versions": provenance.versions(), "rows": rows(sys.argv[1], batches)}
    Path(sys.argv[2]).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
