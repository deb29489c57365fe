"""Measures every detector: parameters, multiply-accumulates, anchors, speed, memory. Writes the README's table.

Usage: python scripts/bench_detectors.py OUTPUT.json [README.md]
Each row is a separate process (`train_step.py`); no other one runs at the same time. Images/s are from the median of a
few training steps; MACs are for detection in one image, with 20 classes. With a README, its table between the marks is
replaced.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from bench_peers import Worker

HERE = Path(__file__).parent
MARKS = "<!-- detectors -->", "<!-- end of detectors -->"
SSD, FASTER_RCNN = ("detector.size=[300,300]",), ("detector=faster_rcnn", "detector.size=[384,384]")
SSDLITE = ("detector=ssdlite", *SSD)
MOBILENETS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
STEPS = 3
# The reference that the tests compare each backbone with.
CHECKED = {
    "mobilenet_v1": "slim's shapes; tf_keras with the ImageNet checkpoint",
    "mobilenet_v2": "slim's shapes; a zoo graph; tf_keras",
    "mobilenet_v3_large": "tf_keras",
    "mobilenet_v3_small": "tf_keras",
    "inception_v2": "slim's shapes; slim's outputs",
    "inception_v3": "slim's shapes; slim's outputs; tf_keras",
    "vgg16": "slim's shapes; slim's outputs; tf_keras",
}
# The reference that the tests compare a detector with, for example the API's maps and anchors.
ALSO_CHECKED = {
    ("mobilenet_v1", "ssd"): "the API's anchors",
    ("inception_v2", "ssd"): "the API's anchors",
    ("inception_v3", "ssd"): "the API's anchors (padding=valid)",
    ("mobilenet_v2", "ssdlite"): "the zoo graph's detections",
    ("mobilenet_v3_large", "ssdlite"): "torchvision's size and MACs",
    ("mobilenet_v2", "ssd_fpnlite"): "the API's variables, anchors, losses and detections",
    ("mobilenet_v2", "fcos"): "torchvision's targets and losses",
    ("vgg16", "ssd300_vgg16"): "torchvision's size and MACs",
}


def cases() -> list[tuple[str, str, int, tuple[str, ...]]]:
    """(backbone, detector, batch, overrides) of each row."""
    rows = []
    for backbone in CHECKED:
        rows.append((backbone, "ssd", 8, SSD))
        if backbone in MOBILENETS:
            rows.append((backbone, "ssdlite", 8, SSDLITE))
        if backbone == "vgg16":
            rows.append((backbone, "ssd300_vgg16", 8, ("detector=ssd300_vgg16",)))
        if backbone == "mobilenet_v2":
            rows.append((backbone, "ssd_fpn", 8, ("detector=ssd_fpn", "detector.size=[320,320]")))
            rows.append((backbone, "ssd_fpnlite", 8, ("detector=ssd_fpnlite", "detector.size=[320,320]")))
            rows.append((backbone, "fcos", 8, ("detector=fcos", "detector.size=[320,320]")))
        rows.append((backbone, "faster_rcnn", 2, FASTER_RCNN))
    return rows


def measure(backbone: str, batch: int, overrides: tuple[str, ...]) -> dict[str, Any]:
    """One row's figures."""
    worker = Worker(sys.executable, str(HERE / "train_step.py"), str(batch), f"backbone={backbone}", *overrides)
    worker.step(1)
    answer = worker.step(STEPS)
    worker.close()
    speed = batch / statistics.median(answer["seconds"])
    return worker.about | {"images_per_second": round(speed, 2), "peak_memory_mb": answer["peak_memory_mb"]}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| backbone | detector | px | parameters | GMACs | anchors | proposals | images/s | build + trace | memory "
        "| equals |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        cells = (
            r["backbone"],
            r["detector"],
            r["size"],
            f"{r['parameters'] / 1e6:.2f} M",
            f"{r['macs'] / 1e9:.2f}",
            r["anchors"],
            r["proposals"] or "",
            f"{r['images_per_second']:.{1 if r['images_per_second'] >= 1 else 2}f}",
            f"{r['build_seconds']:.0f} + {r['trace_seconds']:.0f} s",
            f"{r['peak_memory_mb'] / 1024:.1f} GB",
            "; ".join(filter(None, (CHECKED[r["backbone"]], ALSO_CHECKED.get((r["backbone"], r["detector"]))))),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints and writes a row as soon as it is measured."""
    output, rows = Path(sys.argv[1]), []
    for backbone, detector, batch, overrides in cases():
        found = measure(backbone, batch, overrides)
        rows.append({"backbone": backbone, "detector": detector, "batch": batch, **found})
        output.write_text(json.dumps(rows, indent=2) + "\n")
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    if len(sys.argv) > 2:
        readme = Path(sys.argv[2])
        before, rest = readme.read_text().split(MARKS[0])
        readme.write_text(f"{before}{MARKS[0]}\n{table(rows)}{MARKS[1]}{rest.split(MARKS[1])[1]}")


if __name__ == "__main__":
    main()
