"""The training runs of a study as rows of its CSV file. Tables and page are made from this file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from detect.evaluation.coco import FIGURES
from detect.studies.cells import GENERIC, NEVER, Cell, TextRow, cell_of, figure
from detect.studies.commands import Member, command, member, variants
from detect.studies.csv_file import Row, host, rounded, versions
from detect.studies.curves import Curve, read_curve
from detect.studies.records import NO_STAGE, FinishedRun

SHARES = (50, 80, 90)
"""Percents of the baseline's final AP. The first evaluation that reaches each is reported."""


@dataclass(frozen=True)
class Reported:
    """A training run in a report. rows: one for each split. curve: that of a run in a study; None without one.

    final: AP of the best weights on the curve's split, which may have no row.
    """

    member: Member
    rows: tuple[Row, ...]
    curve: Curve | None = None
    final: float | None = None


def reported(run: FinishedRun, splits: Sequence[str]) -> Reported:
    """The run with its rows and its curve, without what depends on the other runs of the report."""
    mine, curve = _study_columns(run) if run.study else {}, read_curve(run) if run.study else None
    if curve is not None:
        mine |= _extra_seconds(run, curve)
        mine |= {name: round(curve.at_the_end(name), 4) for name in curve.watched}
    rows = {split: run_row(run, split) | mine | origin(run) for split in run.summary["scores"]}
    shown = tuple(rows[split] for split in splits if split in rows)
    return Reported(member(run), shown, curve, final_ap(rows.values(), curve))


def completed(runs: Sequence[Reported], baseline: str | None = None) -> list[Reported]:
    """The runs with the columns that depend on all of them: variant, baseline, steps to a share of the baseline's AP.

    baseline: an arm, or a variant such as `crop=17`; None is `generic`. Raises DataError for two runs of one cell that
    have the same seed.
    """
    named = []
    for run, variant in zip(runs, variants([run.member for run in runs]), strict=True):
        shared = {"variant": variant, "baseline": baseline or ""} if run.member.cell.study else {}
        same = [row if row.get("baseline") == shared.get("baseline") else _without_times(row) for row in run.rows]
        named.append(replace(run, rows=tuple(row | shared for row in same)))
    levels = _final_ap([run for run in named if run.member.cell.arm == (baseline or GENERIC)])
    return [
        replace(run, rows=tuple(row | _reached(run.curve, levels.get(_rivals(row))) for row in run.rows))
        for run in named
    ]


def final_ap(rows: Iterable[Row | TextRow], curve: Curve | None) -> float | None:
    """AP in the row of the curve's split; None without such a row."""
    return next((figure(row, "AP") for row in rows if curve is not None and row["split"] == curve.split), None)


def run_rows(runs: Sequence[Reported]) -> list[Row]:
    """The rows of all runs, sorted."""
    return sorted((row for run in runs for row in run.rows), key=lambda r: (r["split"], r["arm"], int(r["seed"])))


def run_row(run: FinishedRun, split: str) -> Row:
    """Scores, steps and minutes of one run. `minutes` are the minutes of training in all stages."""
    about, first, before = run.summary, NO_STAGE | run.stage_1, run.float_stage
    scores = about["scores"][split]
    classes = {f"{name} {key}": kind[key] for name, kind in scores["per_class"].items() for key in ("AP", "AP50")}
    return {
        "arm": run.arm,
        "seed": run.seed,
        "split": split,
        "run": run.folder.name,
        **{name: rounded(scores[name]) for name in FIGURES},
        **{name: rounded(value) for name, value in classes.items()},
        "minutes": round(run.seconds / 60, 2),
        "minutes stage 1": round(first["seconds"] / 60, 2),
        **({"minutes float stage": round(before["seconds"] / 60, 2)} if before else {}),
        "steps": about["steps"],
        "steps stage 1": first["steps"],
        **({"steps float stage": before["steps"]} if before else {}),
        "best step": about["best_step"],
        "images/s": round(about["images_per_second"], 2),
        "commit": commit(about),
        "data": about["dataset"]["fingerprint"],
        "fraction": run.fraction,
        "budget": run.budget,
    }


def commit(about: Mapping[str, Any]) -> str:
    """The commit of the program; ` (changed)` says that the files of the checkout were not those of the commit."""
    git = about.get("git") or {}
    return (git.get("commit") or "") + (" (changed)" if git.get("commit") and git.get("dirty") else "")


def origin(run: FinishedRun) -> Row:
    """The command that repeats the run, the host and the versions."""
    about = run.summary
    return {
        "dataset": about["dataset"].get("name") or "",
        "name": about["name"],
        "stage": run.stage,
        "command": command(run),
        "host": host(about),
        "versions": versions(about),
    }


def _study_columns(run: FinishedRun) -> Row:
    float_stage, last = (of.get("cost") or {} for of in (run.float_stage, run.summary))
    cost, data = float_stage | last, run.summary["dataset"]
    return {
        "study": run.study,
        "variant": "",
        "baseline": "",
        "network": run.summary.get("network") or "",
        "classes": data.get("classes") or "",
        "images": data.get("images") or "",
        "boxes": data.get("boxes") or "",
        "box share": data.get("box_share") or "",
        "seconds": round(run.seconds, 1),
        "seconds stage 1": round((NO_STAGE | run.stage_1)["seconds"], 1),
        "extra steps": cost.get("extra_steps") or 0,
        "MACs stage 1": cost.get("stage_1_macs") or "",
        "MACs detector": sum(of.get("detector_macs") or 0 for of in (float_stage, last)) or "",
    }


def _rivals(row: Row) -> Cell:
    """The settings that runs share if their arms are compared."""
    return replace(cell_of(row), arm="")


def _final_ap(runs: Sequence[Reported]) -> dict[Cell, float]:
    """Final AP of the baseline's runs: their best checkpoints on the curve's split, mean over seeds."""
    found: dict[Cell, list[float]] = {}
    for run in runs:
        if run.final is not None:
            found.setdefault(_rivals(run.rows[0]), []).append(run.final)
    return {key: fmean(values) for key, values in found.items()}


def _without_times(row: Row) -> Row:
    """The row without the times to the AP of a baseline."""
    return {key: value for key, value in row.items() if not key.startswith(("steps to ", "seconds to "))}


def _reached(curve: Curve | None, final: float | None) -> Row:
    row: Row = {}
    if curve is not None and final is not None:
        for share in SHARES:
            there = curve.reached(final * share / 100)
            row[f"steps to {share}%"] = there[0] if there else NEVER
            row[f"seconds to {share}%"] = round(there[1], 1) if there else NEVER
    return row


def _extra_seconds(run: FinishedRun, curve: Curve) -> Row:
    extra = (run.summary.get("cost") or {}).get("extra_steps")
    end = run.summary["steps"]
    return {"extra seconds": round(curve.seconds_at(end) - curve.seconds_at(end - extra), 1)} if extra else {}
