"""Trains for 5,000 steps with evaluations, and measures whether memory, open files or the run folder grow.

    python scripts/growth.py [STEPS]       # make test-growth

The network is the default detector, small in pixels and at a quarter of its width. It prints a table and writes it to
runs/growth.md. A line has the peak of the memory and of the run folder since the line before it, and the median of the
open files: one is open for a moment while a state is saved. The logs are a column of their own, because they keep all
figures and ten sets of pictures. The last line is the final scoring, after the training.
Exit code 1: memory, open files, or the run folder without its logs grew by more than 1% after step 200.
"""

import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import faults_program as program
import forked
import psutil

FIRST, MOST = 200, 1.01
COLUMNS = ("step", "memory, MB", "open files", "run folder without logs, MB", "logs, MB")
WORDS = (
    *("train", "dataset=digits", "dataset.images={train:40,val:8,test:4}", "init=none", "classify.enabled=false"),
    *("backbone.depth_multiplier=0.25", "detector.neck.depth_multiplier=0.25", "detector.size=[96,96]", "threads=1"),
    *("schedule.batch_size=2", "schedule.evaluate_every=100", "schedule.checkpoint_every=100"),
)


def measure(process: psutil.Process, run: Path) -> tuple[float, ...] | None:
    """The step that the run has reached, and what it needs; None before the first row."""
    rows = run / "detector" / "metrics.jsonl"
    lines = rows.read_bytes().splitlines() if rows.exists() else []
    if len(lines) < 2:
        return None
    sizes = {path: path.stat().st_size for path in run.rglob("*") if path.is_file() and "ckpt-" not in path.name}
    # While a state is saved there is one more: the folder counts as it is between two saves.
    states = sorted((path.stat().st_size for path in run.glob("*/last/ckpt-*.data*")), reverse=True)[:2]
    logs = sum(size for path, size in sizes.items() if ".tfevents." in path.name or path.suffix in (".jsonl", ".log"))
    kept = sum(sizes.values()) + sum(states) - logs
    return json.loads(lines[-2])["step"], process.memory_info().rss / 1e6, process.num_fds(), kept / 1e6, logs / 1e6


def line(rows: list[tuple[float, ...]]) -> tuple[float, ...]:
    """The last step of some rows, their peaks, and the median of the open files."""
    step, memory, files, kept, logs = zip(*rows, strict=True)
    return max(step), max(memory), statistics.median(files), max(kept), max(logs)


def main() -> int:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    forked.prepare()
    found: list[tuple[float, ...]] = []
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        run = Path(folder, "run")
        words = [*WORDS, f"schedule.steps={steps}", f"hydra.run.dir={run}"]
        number = program.start(Path(folder, "log"), words)
        process = psutil.Process(number)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            try:
                row = measure(process, run)
            except (OSError, psutil.Error):  # a file was replaced meanwhile, or the process has ended
                row = None
            if row:
                found.append(row)
            time.sleep(0.5)
        if program.wait(number):
            raise SystemExit(Path(folder, "log").read_text())
    # The last row of figures is the second last line of the file, so the final scoring begins at the last step.
    edges = sorted({0, FIRST, *(round(steps * part / 5) for part in range(1, 5)), steps - 1})
    parts = [[row for row in found if low < row[0] <= high] for low, high in itertools.pairwise([*edges, steps])]
    table = [line(part) for part in parts if part]
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(f"{value:,.{int(k > 2)}f}" for k, value in enumerate(row)) + " |" for row in table]
    grown = [last / max(first, 1e-9) for first, last in zip(table[0][1:4], table[-2][1:4], strict=True)]
    lines += [
        "",
        "From the first line to the last one of the training: " + ", ".join(f"{100 * (g - 1):+.2f}%" for g in grown),
    ]
    text = "\n".join(lines)
    print(text)
    Path("runs").mkdir(exist_ok=True)
    Path("runs/growth.md").write_text(text + "\n")
    return int(max(grown) > MOST)


if __name__ == "__main__":
    sys.exit(main())
