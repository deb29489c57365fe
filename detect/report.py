"""One study's table, csv and curves from its run folders: `detect report runs=FOLDER output=FOLDER`."""

import csv
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detect import draw
from detect.cli import verb
from detect.errors import ConfigError, DataError

log = logging.getLogger("detect")
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
TABLE_FIGURES = ("AP", "AP50", "AP75", "AR100")
MARKS = "<!-- table -->", "<!-- end of table -->"


@verb("report")
def main(cfg) -> None:
    """Writes results.csv, table.md and curves.png; replaces the marked table in README.md where there is one."""
    runs = finished(cfg.runs)
    rows = [row(run, split) for run in runs for split in cfg.splits if split in run.summary["scores"]]
    if not rows:
        raise DataError(f"runs={cfg.runs}: no finished run with scores on {', '.join(cfg.splits)}")
    rows.sort(key=lambda r: (r["split"], r["arm"], r["seed"]))
    folder = Path(cfg.output)
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(column for r in rows for column in r))
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    text = table(rows)
    (folder / "table.md").write_text(text)
    readme = folder / "README.md"
    if readme.exists() and all(mark in readme.read_text() for mark in MARKS):
        before, rest = readme.read_text().split(MARKS[0])
        readme.write_text(f"{before}{MARKS[0]}\n{text}{MARKS[1]}{rest.split(MARKS[1])[1]}")
    curves = {run.label: run.folder / "detector" / "metrics.jsonl" for run in runs}
    draw.save(folder / "curves.png", draw.study_figure(curves))
    log.info("%s\nwrote results.csv, table.md and curves.png into %s", text, folder)


@dataclass(frozen=True)
class FinishedRun:
    """A run folder, its summary.json and that of its stage 1, each read once; `stage_1` is {} without one."""

    folder: Path
    summary: dict[str, Any]
    stage_1: dict[str, Any]

    @property
    def label(self) -> str:
        """Arm and seed, as the curves are labelled."""
        return f"{self.summary['name']} ({self.summary['seed']})"


def finished(runs: str | list[str]) -> list[FinishedRun]:
    """All finished runs at or below the named folders, sorted: those with a summary.json of a detector.

    Raises ConfigError for a folder that is not there, DataError for a summary.json that is cut short.
    """
    named = [Path(runs)] if isinstance(runs, str) else [Path(one) for one in runs]
    for folder in named:
        if not folder.is_dir():
            raise ConfigError(f"runs={folder}: no such folder")
    summaries = {path.parent: read(path) for folder in named for path in folder.rglob("summary.json")}
    return [
        FinishedRun(folder, about, summaries.get(folder / "classify", {}))
        for folder, about in sorted(summaries.items())
        if "scores" in about and (folder / "detector").is_dir()
    ]


def read(path: Path) -> dict[str, Any]:
    """The content of a summary.json."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path}: not readable json: {error}") from error


def row(run: FinishedRun, split: str) -> dict[str, Any]:
    """One line of results.csv; seconds of stage 1 count, as the minutes are those of all training."""
    about, first = run.summary, {"seconds": 0.0, "steps": 0} | run.stage_1
    scores = about["scores"][split]
    classes = {f"{name} {key}": kind[key] for name, kind in scores["per_class"].items() for key in ("AP", "AP50")}
    return {
        "arm": about["name"],
        "seed": about["seed"],
        "split": split,
        **{name: rounded(scores[name]) for name in FIGURES},
        **{name: rounded(value) for name, value in classes.items()},
        "minutes": round((about["seconds"] + first["seconds"]) / 60, 2),
        "minutes stage 1": round(first["seconds"] / 60, 2),
        "steps": about["steps"],
        "steps stage 1": first["steps"],
        "best step": about["best_step"],
        "images/s": round(about["images_per_second"], 2),
        "commit": about.get("git", {}).get("commit", ""),
        "data": about["dataset"]["fingerprint"],
    }


def rounded(value: float | None) -> float | str:
    """Four digits, or n/a where there was nothing to score."""
    return "n/a" if value is None else round(value, 4)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table: the main figures, AP and AP50 of each class, minutes of training."""
    classes = [name[: -len(" AP50")] for name in rows[0] if name.endswith(" AP50")]
    heads = ["split", "arm", "seed", *TABLE_FIGURES, *classes, "minutes"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for r in rows:
        cells = [r["split"], r["arm"], r["seed"], *(show(r[name]) for name in TABLE_FIGURES)]
        cells += [f"{show(r[f'{name} AP'])} / {show(r[f'{name} AP50'])}" for name in classes]
        lines.append("| " + " | ".join(map(str, [*cells, f"{r['minutes']:.1f}"])) + " |")
    return "\n".join(lines) + "\n"


def show(value: float | str) -> str:
    """Three digits."""
    return value if isinstance(value, str) else f"{value:.3f}"


if __name__ == "__main__":
    main()
