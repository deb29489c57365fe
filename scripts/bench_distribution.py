"""Trains one run with one, two and four processes on this machine, and kills a worker: speed, losses, seconds lost.

    python scripts/bench_distribution.py OUTPUT.json [STEPS]       # a part of make bench

The global batch and its images are the same for every number of processes. The processes share the cores, so that the
figures tell what the exchange of gradients costs, and not what further machines gain.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from detect.runs import provenance

BATCH, EVERY = 8, 5
WORDS = (
    *("dataset=digits", "dataset.images={train:48,val:4,test:4}", "init=none", "classify.enabled=false"),
    *("backbone.depth_multiplier=0.25", "detector.size=[160,160]", "detector.neck.depth_multiplier=0.25", "threads=1"),
    *(
        f"schedule.batch_size={BATCH}",
        f"schedule.log_every={EVERY}",
        "schedule.warmup=5",
        "schedule.checkpoint_every=10",
    ),
    *("schedule.batch_norm=frozen", "augment=none"),
)


def start(run: Path, workers: int, steps: int) -> list[subprocess.Popen]:
    """Begins the processes of a run."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    kind = "none" if workers == 1 else "multi_worker"
    words = [*WORDS, f"schedule.steps={steps}", f"schedule.evaluate_every={steps}", f"distribute.kind={kind}"]
    command = [sys.executable, "-m", "detect.cli", "train", *words, f"hydra.run.dir={run}"]
    processes = []
    for index in range(workers):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        with (run.parent / f"{run.name}.{index}.log").open("w") as log:
            env = os.environ | {"TF_CONFIG": json.dumps(cluster)}
            processes.append(subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT))
    return processes


def rows(run: Path) -> list[dict]:
    """The rows of the training figures so far."""
    file = run / "detector" / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [row for row in map(json.loads, lines) if row["kind"] == "train"]


def wait(processes: list[subprocess.Popen], run: Path) -> None:
    codes = [process.wait(timeout=900) for process in processes]
    if any(codes):
        raise SystemExit(f"exit codes {codes}: see {run.parent}/{run.name}.*.log")


def seconds_lost(place: Path, steps: int) -> float:
    """Kills one of two workers in the middle, starts both again, and returns the seconds until the step is reached
    again at which it was killed."""
    run = place / "killed"
    processes = start(run, 2, steps)
    while len(rows(run)) < steps // EVERY // 2:
        time.sleep(0.05)
    reached, begun = rows(run)[-1]["step"], time.monotonic()
    processes[1].send_signal(signal.SIGKILL)
    for process in processes:
        process.wait(timeout=300)
    processes = start(run, 2, steps)
    fresh = run / "detector" / "metrics.jsonl"
    changed = fresh.stat().st_mtime_ns
    while fresh.stat().st_mtime_ns == changed or rows(run)[-1]["step"] < reached:
        time.sleep(0.05)
    lost = time.monotonic() - begun
    wait(processes, run)
    return lost


def main() -> int:
    output, steps = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 40
    table: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="distribution-") as folder:
        place = Path(folder)
        for workers in (1, 2, 4):
            run = place / str(workers)
            wait(start(run, workers, steps), run)
            found = rows(run)
            speed = statistics.median(row["images_per_second"] for row in found[2:])
            losses = [row["loss/total"] for row in found]
            first = table[0] if table else None
            difference = max(abs(a - b) / b for a, b in zip(losses, first["losses"], strict=True)) if first else 0.0
            ratio = speed / first["images_per_second"] if first else 1.0
            table.append(
                {"processes": workers, "images_per_second": speed, "of_one": ratio, "difference": difference,
                 "losses": losses}
            )  # fmt: skip
            print(f"{workers} processes: {speed:.1f} images/s, {ratio:.2f} of one, losses differ by {difference:.1e}")
        lost = seconds_lost(place, steps)
        print(f"a killed worker costs {lost:.0f} s")
    content = {"host": provenance.host(), "rows": table, "seconds_lost_by_a_killed_worker": lost}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
