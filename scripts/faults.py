"""Kills, starves and damages small trainings, and compares each with the run that nothing happened to.

    python scripts/faults.py [KILLS] [SECONDS] [--only NAME]       # make test-faults

A trial is one run from its start to its end: something happens to it, some times more than once, and
`detect train resume=RUN` goes on until it is finished. It is survived if all tensors of its last states and of its best
weights, its rows of metrics.jsonl and its scores then have the same bits as those of the undisturbed run, or, for
damage that can't be repaired, if one message names the file and nothing else is printed as an error.

It prints a table and writes it to runs/faults.md. Exit code 1: a trial was not survived, or there were too few kills.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faults_program as program
import forked
from faults_trials import OTHERS, SHARES, Failed, Row, Trial, full_disk, read_only

PARALLEL = 2
KILLS = 5  # of a trial, in the mean: some come after the end


def reference(place: Path, data: Path, words: tuple[str, ...]) -> tuple[dict[str, object], float]:
    """The result of an undisturbed run, and how long it takes."""
    row = Row("undisturbed")
    trial = Trial(place, data, {}, words, row, random.Random(0), 0)
    place.mkdir()
    begun = time.monotonic()
    trial.check_code(program.wait(trial.start()), (0,))
    return program.result(trial.run), time.monotonic() - begun


def plan(kills: int, only: str | None) -> list[tuple[str, Callable[[Trial], None]]]:
    """The trials in the order in which they run: all kinds take turns. A trial of kills has about KILLS of them."""
    wanted = {name: (max(1, round(kills * share / KILLS)), one) for name, (share, one) in SHARES.items()} | OTHERS
    kinds = {name: pair for name, pair in wanted.items() if only is None or only in name}
    rounds = max(times for times, _ in kinds.values())
    places = [((i + 0.5) / times * rounds, name) for name, (times, _) in kinds.items() for i in range(times)]
    return [(name, kinds[name][1]) for _, name in sorted(places)]


def attempt(number: int, name: str, one: Callable[[Trial], None], shared: dict, rows: dict[str, Row]) -> None:
    source = random.Random(number)
    three = source.random() < 0.15
    expected, seconds, words = shared["three" if three else "two"]
    place = Path(shared["place"]) / f"{number}"
    place.mkdir()
    data = place / "data"
    shutil.copytree(shared["data"], data)
    row = rows[name]
    row.trials += 1
    try:
        if one in (full_disk, read_only) and os.geteuid() != 0:
            row.trials -= 1
            row.seen.append("not tried: only root can mount a file system of limited size")
            return
        one(Trial(place, data, expected, words, row, source, seconds))
    except (Failed, RuntimeError, OSError) as error:
        row.failures.append(f"trial {number} ({'three' if three else 'two'} stages): {error}")
        print(f"{name}, {row.failures[-1]}", flush=True)
    shutil.rmtree(place, ignore_errors=True)


def share(part: int, trials: list[tuple[str, Callable]], kills: int, end: float, shared: dict) -> dict[str, dict]:
    """Makes every PARALLEL-th trial, and further ones while its part of the kills is not reached.

    Returns the rows of the table as plain values.
    """
    rows = {name: Row(name) for name, _ in trials}
    killing = [trial for trial in trials if trial[0] in SHARES]
    number = part
    while time.monotonic() < end and (number < len(trials) or (killing and killed(rows) < kills / PARALLEL)):
        trial = trials[number] if number < len(trials) else killing[number % len(killing)]
        attempt(number, *trial, shared, rows)
        number += PARALLEL
    return {name: vars(row) for name, row in rows.items()}


def killed(rows: dict[str, Row]) -> int:
    """The kills of all kinds."""
    return sum(row.times for name, row in rows.items() if name in SHARES)


def table(rows: dict[str, Row]) -> str:
    lines = ["| fault | times | trials | same bits | one message | failed | steps lost, mean and most | message |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for row in rows.values():
        lost = f"{sum(row.lost) / len(row.lost):.1f}, {max(row.lost)}" if row.lost else ""
        cells = [
            row.fault,
            row.times,
            row.trials,
            row.bits,
            row.told or "",
            len(row.failures),
            lost,
            min(row.seen, key=len, default=""),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kills", type=int, nargs="?", default=150)
    parser.add_argument("seconds", type=float, nargs="?", default=1100, help="no trial begins after them")
    parser.add_argument("--only", help="a part of the name of a fault")
    options = parser.parse_args()
    forked.prepare()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        place = Path(folder)
        digits = ["dataset=digits", "dataset.images={train:12,val:4,test:4}", "dataset.sides=[64,96]"]
        words = ["convert", *digits, "to=yolo", f"output={place / 'data'}"]
        if program.wait(program.start(place / "log", words)):
            raise SystemExit((place / "log").read_text())
        shared: dict = {"place": folder, "data": place / "data"}
        for name, more in (("two", ()), ("three", program.QUANTIZED)):
            words_of = (*program.SMALL, *more)
            shared[name] = (*reference(place / name, place / "data", words_of), words_of)
            print(f"{name} stages, undisturbed: {shared[name][1]:.1f} s", flush=True)
        trials = plan(options.kills, options.only)
        rows = {name: Row(name) for name in (*SHARES, *OTHERS) if any(name == one for one, _ in trials)}
        end = begun + options.seconds
        for found in program.in_processes(PARALLEL, lambda part: share(part, trials, options.kills, end, shared)):
            for name, row in found.items():
                rows[name].add(row)
    kills = killed(rows)
    text = f"{table(rows)}\n\n{kills} kills, {time.monotonic() - begun:.0f} s"
    print(text)
    Path("runs").mkdir(exist_ok=True)
    Path("runs/faults.md").write_text(text + "\n")
    failed = any(row.failures for row in rows.values())
    few = options.only is None and kills < options.kills
    if few:
        print(f"fewer than the {options.kills} kills that were asked for: give it more than {options.seconds:.0f} s")
    return int(failed or few)


if __name__ == "__main__":
    sys.exit(main())
