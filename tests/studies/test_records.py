"""What counts as a run, and the seconds of its stages."""

import json
from collections import Counter
from pathlib import Path

import pytest

from detect.errors import ConfigError, DataError
from detect.studies.records import collect
from detect.studies.rows import reported, run_row
from detect.studies.writer import write


def test_stages_are_no_runs_of_their_own(tmp_path, make_run):
    run = make_run(tmp_path / "a", first=30.0)
    (run / "quantized").mkdir()
    (run / "detector" / "summary.json").write_text((run / "summary.json").read_text())  # of the float stage: 20 s
    (found,) = collect(tmp_path).runs
    assert (found.folder, found.stage, found.seconds) == (run, "quantized", 70.0)
    row = run_row(found, "val")
    assert (row["minutes"], row["minutes stage 1"], row["minutes float stage"]) == (1.17, 0.5, 0.33)
    assert (row["steps"], row["steps stage 1"], row["steps float stage"], row["commit"]) == (100, 30, 100, "")


@pytest.mark.parametrize("stage", ["quantized", "tfmot"])
def test_a_quantised_run_needs_no_float_stage(tmp_path, make_run, stage):
    run = make_run(tmp_path / "a")
    (run / "detector").rename(run / stage)
    (found,) = collect(str(tmp_path)).runs
    assert (found.stage, found.metrics, found.seconds) == (stage, run / stage / "metrics.jsonl", 20.0)
    assert "minutes float stage" not in run_row(found, "val")


def test_the_multiply_accumulates_of_a_quantised_run_are_those_of_both_stages(tmp_path, make_run):
    run = make_run(tmp_path / "a", cost={"stage_1_macs": 50, "detector_macs": 7})
    float_stage = {"seconds": 20.0, "steps": 105, "cost": {"stage_1_macs": 50, "detector_macs": 105, "extra_steps": 5}}
    (run / "detector").rename(run / "quantized")
    (run / "detector").mkdir()
    (run / "detector" / "summary.json").write_text(json.dumps(float_stage))
    (row,) = reported(collect(tmp_path).runs[0], ["val"]).rows
    assert (row["MACs stage 1"], row["MACs detector"], row["extra steps"]) == (50, 112, 5)


def test_what_is_not_finished_is_no_run(tmp_path, make_run):
    run = make_run(tmp_path / "a", first=1.0)
    (run / "summary.json").unlink()  # stage 1 alone is finished
    assert collect(tmp_path).runs == []


def test_what_is_missing_in_a_summary_has_a_meaning(tmp_path, make_run):
    run = make_run(tmp_path / "a", study=None)
    about = json.loads((run / "summary.json").read_text())
    for key in ("study", "fraction", "budget", "cost", "host", "versions", "command"):
        del about[key]
    (run / "summary.json").write_text(json.dumps(about | {"arm": "none", "name": "mine"}))
    (found,) = collect(tmp_path).runs
    assert (found.study, found.arm, found.fraction, found.budget, found.overrides) == ("", "mine", 1.0, 100, [])


def test_runs_of_equal_minutes_are_one_cell_and_are_paired(tmp_path, make_run):
    """Their steps follow from the speed of the machine: 150 and 100 of the 1000 that were configured."""
    for seed in (0, 1):
        for arm, extra, shift in (("small", 50, 0.0), ("large", 0, 0.1)):
            run = make_run(tmp_path / f"{arm}_{seed}", arm, seed, (0.2, 0.4 + shift), extra=extra)
            about = json.loads((run / "summary.json").read_text())
            about |= {"budget": about["steps"], "cost": {"extra_steps": 0}}
            (run / "summary.json").write_text(json.dumps(about))
            budget = {"steps": {"detector": about["steps"]}, "configured": {"detector": 1000}}
            (run / "budget.json").write_text(json.dumps(budget))
    assert [run.budget for run in collect(tmp_path).runs] == [1000] * 4
    write(tmp_path, tmp_path / "out", splits=["test"], baseline="small")
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| cats | large | 2 | 0.400 ± 0.000 | 0.200 ± 0.000 | 100 | 0.3 |" in table
    assert "| cats | small | 2 | 0.300 ± 0.000 | 0.150 ± 0.000 | 150 | 0.5 |" in table
    assert "| data | arm | seeds | AP | AP50 | trained steps | minutes |" in table
    assert "| cats | large | small | +0.100 | [+0.100, +0.100] | 2 | yes |" in table
    (run / "budget.json").write_text('{"steps": {}, "configured": {"detector": "many"}}')
    with pytest.raises(DataError, match=r"budget\.json.*many"):
        write(tmp_path, tmp_path / "out")


def test_the_budget_of_a_run_that_only_trains_with_fake_quantisation_is_its_own(tmp_path, make_run):
    run = make_run(tmp_path / "a", budget=1000, steps=40)
    (run / "detector").rename(run / "quantized")
    (found,) = collect(tmp_path).runs
    assert (found.stage, found.budget) == ("quantized", 40)


def test_folders_are_walked_and_read_once(tmp_path, make_run, monkeypatch):
    make_run(tmp_path / "deep" / "er" / "a")
    make_run(tmp_path / "deep" / "b", "crops", first=2.0)
    reads, read_text = Counter(), Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *a, **k: reads.update([path]) or read_text(path, *a, **k))
    records = collect([str(tmp_path / "deep"), str(tmp_path / "deep" / "b"), str(tmp_path)])
    assert [run.label for run in records.runs] == ["crops (0)", "generic (0)"]
    assert sorted(reads.values()) == [1, 1, 1]


def test_links_are_followed_and_each_run_counts_once(tmp_path, make_run):
    """Runs often lie on a larger disk, and a link stands in the folder of the study."""
    run = make_run(tmp_path / "disk" / "a")
    study = tmp_path / "study"
    study.mkdir()
    (study / "a").symlink_to(run)
    (study / "again").symlink_to(run)
    (run / "round").symlink_to(study)
    assert [found.folder for found in collect(study).runs] == [study / "a"]
    assert [found.folder for found in collect([study, tmp_path / "disk"]).runs] == [study / "a"]


def test_what_can_not_be_read_is_named(tmp_path, make_run):
    with pytest.raises(ConfigError, match=r"runs=.*none: no such folder"):
        collect(tmp_path / "none")
    (make_run(tmp_path / "a") / "summary.json").write_text('{"name": ')
    with pytest.raises(DataError, match=r"a/summary\.json is not readable JSON"):
        collect(tmp_path)
    (tmp_path / "a" / "summary.json").write_text("[1]")
    with pytest.raises(DataError, match=r"a/summary\.json is not readable JSON: legal is a mapping, found is list"):
        collect(tmp_path)


def test_a_run_of_a_budget_that_was_extended_is_a_cell_of_its_own(tmp_path, make_run):
    for seed, (fitted, steps) in enumerate(((60, 60), (70, 5000))):
        run = make_run(tmp_path / f"{seed}", seed=seed, budget=steps)
        budget = {"steps": {"detector": fitted}, "configured": {"detector": 1000}}
        (run / "budget.json").write_text(json.dumps(budget))
    assert [run.budget for run in collect(tmp_path).runs] == [1000, 5000]
