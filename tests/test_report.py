"""The report of many runs: which folders count, what a row holds, and that each file is read once."""

import json
import time
from collections import Counter
from pathlib import Path

import hydra
import pytest

from detect import report
from detect.config import CONFIG_DIR
from detect.errors import DataError

FIGURES = dict.fromkeys(report.FIGURES, 0.25)


def make_run(folder: Path, name: str, seed: int, stage_1: bool = False, **scores: float) -> None:
    """What a finished run leaves behind; scores: AP of each split."""
    (folder / "detector").mkdir(parents=True)
    kinds = {split: {"cat": {"AP": ap, "AP50": None}} for split, ap in scores.items()}
    about = {
        "name": name, "seed": seed, "seconds": 60.0, "steps": 100, "best_step": 90, "images_per_second": 12.345,
        "git": {"commit": "abc"}, "dataset": {"fingerprint": "0123"},
        "scores": {split: {**FIGURES, "AP": ap, "per_class": kinds[split]} for split, ap in scores.items()},
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(about))
    steps = [{"stage": "detector", "kind": "train", "step": k, "loss/total": 1.0 / k} for k in range(1, 51)]
    steps += [{"stage": "detector", "kind": "eval", "step": 50, "val/AP": 0.5, "val/AP50": 0.7}]
    (folder / "detector" / "metrics.jsonl").write_text("\n".join(map(json.dumps, steps)))
    if stage_1:
        (folder / "classify").mkdir()
        first = {"seconds": 30.0, "steps": 7, "scores": {"val": {"top1": 0.5}}}
        (folder / "classify" / "summary.json").write_text(json.dumps(first))


def write(runs: Path, output: Path) -> str:
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose("report", [f"runs={runs}", f"output={output}"])
    report.main(cfg)
    return (output / "table.md").read_text()


def test_stage_1_counts_and_is_no_run_of_its_own(tmp_path):
    make_run(tmp_path / "a", "two stages", 0, stage_1=True, val=0.5)
    make_run(tmp_path / "b", "one stage", 1, val=0.25, test=0.125)
    (tmp_path / "unfinished" / "detector").mkdir(parents=True)
    runs = report.finished(str(tmp_path))
    assert [run.label for run in runs] == ["two stages (0)", "one stage (1)"]
    first, second = report.row(runs[0], "val"), report.row(runs[1], "val")
    assert (first["minutes"], first["minutes stage 1"], first["steps stage 1"]) == (1.5, 0.5, 7)
    assert (second["minutes"], second["minutes stage 1"], second["steps stage 1"]) == (1.0, 0.0, 0)
    assert first["cat AP"] == 0.5 and first["cat AP50"] == "n/a" and first["commit"] == "abc"
    assert len(report.finished([str(tmp_path / "a"), str(tmp_path)])) == 2  # one folder named twice is one run


def test_a_broken_summary_is_named(tmp_path):
    make_run(tmp_path / "a", "a", 0, val=0.5)
    (tmp_path / "a" / "summary.json").write_text('{"name": ')
    with pytest.raises(DataError, match=r"a/summary\.json: not readable json"):
        report.finished(str(tmp_path))


def test_forty_runs_take_a_moment_and_every_file_is_read_once(tmp_path, monkeypatch):
    for k in range(40):
        make_run(tmp_path / "runs" / f"{k}", f"arm {k % 4}", k, stage_1=True, val=k / 100, test=0.5)
    reads, read_text = Counter(), Path.read_text

    def counted(path: Path, *arguments, **options):
        reads[path] += 1
        return read_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", counted)
    start = time.perf_counter()
    text = write(tmp_path / "runs", tmp_path / "study")
    assert time.perf_counter() - start < 10
    assert text.count("\n") == 2 + 80 and "| val | arm 3 | 39 | 0.390 |" in text
    inside = {path: count for path, count in reads.items() if path.is_relative_to(tmp_path / "runs")}
    assert len(inside) == 3 * 40 and set(inside.values()) == {1}
