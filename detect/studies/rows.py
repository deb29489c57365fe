"""The training runs of a study as rows of its CSV file. Tables and page are made from this file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from detect.evaluation.coco import FIGURES
from detect.studies.commands import command, variants
from detect.studies.csv_file import Row, host, rounded, versions
from detect.studies.curves import WATCHED, Curve
from detect.studies.records import NO_STAGE, FinishedRun

SHARES = (50, 80, 90)
"""Percents of the baseline's final AP. The first evaluation that reaches each is reported."""
GENERIC, MATCHED, CROPS = "generic", "generic_extra", "crops"
NEVER = "-"


def run_rows(
    runs: Sequence[FinishedRun], splits: Sequence[str], curves: Mapping[Path, Curve], baseline: str | None = None
) -> list[Row]:
    """A row for each run and split, sorted. curves: of a study, by run folder. baseline: an arm; None is `generic`."""
    variant = variants(runs)
    levels = _final_ap(runs, curves, variant, baseline or GENERIC)
    rows = []
    for run in runs:
        mine = _study_columns(run, variant[run.folder], baseline) if run.study else {}
        curve = curves.get(run.folder)
        if curve is not None:
            mine |= _reached(curve, levels.get(_rivals(run, variant[run.folder])))
            mine |= _extra_seconds(run, curve)
            mine |= {WATCHED[key]: round(curve.at_the_end(key), 4) for key in curve.watched}
        rows += [run_row(run, split) | mine | origin(run) for split in splits if split in run.summary["scores"]]
    return sorted(rows, key=lambda r: (r["split"], r["arm"], r["seed"]))


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
        "commit": (about.get("git") or {}).get("commit") or "",
        "data": about["dataset"]["fingerprint"],
    }


def origin(run: FinishedRun) -> Row:
    """The command that repeats the run, the host and the versions."""
    about = run.summary
    return {
        "dataset": about["dataset"].get("name") or "",
        "stage": run.stage,
        "command": command(run),
        "host": host(about),
        "versions": versions(about),
    }


def _study_columns(run: FinishedRun, variant: str, baseline: str | None) -> Row:
    cost, data = run.summary.get("cost") or {}, run.summary["dataset"]
    return {
        "study": run.study,
        "fraction": run.fraction,
        "budget": run.budget,
        "variant": variant,
        "baseline": baseline or "",
        "network": run.summary.get("network") or "",
        "classes": data.get("classes") or "",
        "images": data.get("images") or "",
        "boxes": data.get("boxes") or "",
        "box share": data.get("box_share") or "",
        "seconds": round(run.seconds, 1),
        "seconds stage 1": round((NO_STAGE | run.stage_1)["seconds"], 1),
        "extra steps": cost.get("extra_steps") or 0,
        "MACs stage 1": cost.get("stage_1_macs") or "",
        "MACs detector": cost.get("detector_macs") or "",
    }


def _rivals(run: FinishedRun, variant: str) -> tuple:
    """The settings that runs share if their arms are compared."""
    return run.study, run.summary["dataset"].get("name"), run.fraction, run.budget, variant


def _final_ap(
    runs: Sequence[FinishedRun], curves: Mapping[Path, Curve], variant: Mapping[Path, str], baseline: str
) -> dict[tuple, float]:
    """Final AP of the baseline: its runs' best checkpoints on the curve's split, mean over seeds."""
    found: dict[tuple, list[float]] = {}
    for run in runs:
        curve = curves.get(run.folder)
        if run.arm == baseline and curve is not None:
            scores = run.summary["scores"].get(curve.split) or {}
            if scores.get("AP") is not None:
                found.setdefault(_rivals(run, variant[run.folder]), []).append(scores["AP"])
    return {key: fmean(values) for key, values in found.items()}


def _reached(curve: Curve, final: float | None) -> Row:
    row: Row = {}
    if final is not None:
        for share in SHARES:
            there = curve.reached(final * share / 100)
            row[f"steps to {share}%"] = there[0] if there else NEVER
            row[f"seconds to {share}%"] = round(there[1], 1) if there else NEVER
    return row


def _extra_seconds(run: FinishedRun, curve: Curve) -> Row:
    extra = (run.summary.get("cost") or {}).get("extra_steps")
    end = run.summary["steps"]
    return {"extra seconds": round(curve.seconds_at(end) - curve.seconds_at(end - extra), 1)} if extra else {}
