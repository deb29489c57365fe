"""Joins what the benchmarks wrote: `python scripts/bench.py runs/bench` (the last step of `make bench`).

Writes bench.json, with all figures by benchmark and the machine, and bench.md, a table with ratios alone. Each ratio is
of two sides that ran in turns on that machine; above 1, `detect` is faster. A benchmark that did not run is left out.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detect.files import write_json, write_text
from detect.runs import provenance

BENCHMARKS = (
    "input",
    "training",
    "step",
    "evaluation",
    "quantize",
    "peers",
    "inference",
    "detectors",
    "data",
    "distribution",
)
Row = tuple[str, str, float]


def ratios(found: dict[str, Any]) -> Iterator[Row]:
    """(what, beside which other side, ratio of the speeds) from the figures of the benchmarks by name."""
    if "input" in found:
        yield "input pipeline", "albumentations loop in one thread", found["input"]["ratio_to_peer"]
    if "training" in found:
        yield "SSD-MobileNetV1-300, FLOP/s of a step", "matrix product", found["training"]["fraction_of_matmul"]
    for name, row in found.get("step", {}).get("variants", {}).items():
        yield f"SSD-MobileNetV1-300, {name}", "the step as it is", row["ratio"]
    seconds = found.get("evaluation", {}).get("seconds", {})
    if "pycocotools" in seconds:
        best = {side: min(took["total"] for took in rounds) for side, rounds in seconds.items()}
        yield "COCO evaluation", "pycocotools", round(best["pycocotools"] / best["detect"], 2)
    for case, arms in found.get("quantize", {}).get("cases", {}).items():
        ours, theirs = arms["ours"]["ratio"], arms["tfmot"]["ratio"]
        yield f"fake-quant step, {case}", "float step", round(1 / ours, 2)
        yield f"fake-quant step, {case}", "tfmot", round(theirs / ours, 2)
    for case, row in found.get("peers", {}).items():
        yield f"training step, {case}", "torchvision", row["ratio"]
    for side, row in found.get("inference", {}).get("sides", {}).items():
        if side != "torchvision":
            yield f"detection in one image, {side}", "torchvision", row["ratio"]
    for row in found.get("distribution", {}).get("rows", [])[1:]:
        yield f"training in {row['processes']} processes on this machine", "one process", round(row["of_one"], 2)


def table(rows: Iterator[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| `detect` | beside | ratio |", "|---|---|---|", *(f"| {a} | {b} | {c:.2f} |" for a, b, c in rows)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints the table, and writes both files into the folder of the figures."""
    folder = Path(sys.argv[1])
    files = {name: folder / f"{name}.json" for name in BENCHMARKS}
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}
    lines = table(ratios(found))
    write_json(folder / "bench.json", {**provenance.collect(), "benchmarks": found})
    write_text(folder / "bench.md", lines)
    print(lines, end="")


if __name__ == "__main__":
    main()
