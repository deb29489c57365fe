"""`detect report`: what it takes for a study, where it writes, and what it refuses."""

import json
from functools import partial
from pathlib import Path

import pytest

from detect.cli.overrides import first_job, prepare, read
from detect.errors import ConfigError, DataError
from detect.evaluation.coco import FIGURES
from detect.studies.csv_file import read_csv
from tests import program, verbs

CSV = """arm,seed,split,AP,AP50,AP75,AR100,cat AP,cat AP50,minutes,steps
mine,0,val,0.5004,0.75,n/a,0.25,0.5004,0.75,3.15,100
"""
TABLE = """| split | arm | seed | AP | AP50 | AP75 | AR100 | cat | minutes |
|---|---|---|---|---|---|---|---|---|
| val | mine | 0 | 0.500 | 0.750 | n/a | 0.250 | 0.500 / 0.750 | 3.1 |
"""


call = partial(verbs.call, "report")


def make_run(folder: Path, name: str = "mine", seed: int = 0) -> None:
    """What a finished run without an evaluation on the way leaves behind."""
    (folder / "detector").mkdir(parents=True)
    scores = dict.fromkeys(FIGURES, 0.25) | {"per_class": {"cat": {"AP": 0.25, "AP50": 0.5}}}
    about = {
        "name": name, "seed": seed, "seconds": 60.0, "steps": 100, "best_step": 90, "images_per_second": 12.345,
        "git": {"commit": "abc"}, "dataset": {"fingerprint": "0123"}, "scores": {"val": scores, "test": scores},
        "command": f"detect train name={name} seed={seed} dataset.root=/far/cats",
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(about))
    rows = [{"stage": "detector", "kind": "train", "step": k, "loss/total": 1.0 / k} for k in range(1, 51)]
    (folder / "detector" / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory with a committed study `old` in it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments" / "old"
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text(CSV)
    (folder / "README.md").write_text("<!-- table -->\nstale\n<!-- end of table -->\n")
    return tmp_path


def test_one_word_is_the_study():
    cfg = first_job(prepare(read(["two_stage", "rows=runs"], "report")))
    assert (cfg.study, cfg.rows, cfg.runs) == ("two_stage", "runs", None)
    assert first_job(prepare(read(["runs/two stage"], "report"))).study == "runs/two stage"
    assert first_job(prepare(read(["runs=a", "output=b"], "report"))).study is None


def test_a_study_is_read_from_runs_and_written_into_experiments(place):
    make_run(place / "runs" / "mine" / "a")
    call("study=mine")
    (row, _) = read_csv(Path("experiments/mine/results.csv"))
    assert row["arm"] == "mine" and row["command"] == "detect train name=mine seed=0 dataset.root=cats"
    call("study=runs/mine", "output=elsewhere", "splits=[val]")
    assert len(read_csv(Path("elsewhere/results.csv"))) == 1


@pytest.mark.parametrize(("word", "inside"), [(".", ""), ("..", "0"), ("../mine", ""), ("./", "")])
def test_a_study_that_is_named_by_dots(place, monkeypatch, word, inside):
    make_run(place / "runs" / "mine" / "0")
    here = place / "runs" / "mine" / inside
    monkeypatch.chdir(here)
    call(f"study={word}")
    assert (here / "experiments" / "mine" / "results.csv").is_file()
    assert not (here / "results.csv").exists() and not (here / "experiments" / "results.csv").exists()


def test_runs_may_be_named(place):
    make_run(place / "a", "one")
    make_run(place / "b", "two")
    call("study=mine", "runs=[a,b]")
    assert "| test | one | a | 0 |" in Path("experiments/mine/table.md").read_text()
    call("runs=b", "output=only")
    assert "one" not in Path("only/table.md").read_text()


def test_folders_may_be_called_as_numbers(place):
    for name in ("2024", "2024_05"):
        make_run(place / name, f"of {name}")
    assert first_job(prepare(read(["runs=2024_05", "output=x"], "report"))).runs == "2024_05"
    call("runs=2024", "output=x")
    call("runs=[2024]", "output=y")
    for output in ("x", "y"):
        assert {row["arm"] for row in read_csv(Path(output, "results.csv"))} == {"of 2024"}


@pytest.mark.parametrize("words", [["study=old"], ["study=experiments/old"], []])
def test_without_runs_the_tables_are_made_from_the_csv(place, words):
    call(*words)
    assert Path("experiments/old/table.md").read_text() == TABLE
    assert Path("experiments/old/README.md").read_text() == f"<!-- table -->\n{TABLE}<!-- end of table -->\n"
    assert Path("experiments/old/results.csv").read_text() == CSV
    assert '<td data-head="arm">mine</td>' in Path("experiments/old/report.html").read_text()


def test_a_folder_of_runs_with_a_report_in_it_is_read_again(place):
    make_run(place / "runs" / "mine" / "a")
    call("study=mine", "output=runs/mine")
    make_run(place / "runs" / "mine" / "b", seed=1)
    call("study=mine")
    assert len(read_csv(Path("experiments/mine/results.csv"))) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["study=odl"],
            r"study=odl: .* no run folders in runs/odl and no results in experiments/odl; did you mean old\?",
        ),
        (["runs=runs"], "output=null is not legal .*: give output=DIR"),
        (["study=old", "runs=gone"], "runs=gone: no such folder"),
        (["output=here", "runs='~/gone/for/good'"], f"runs={Path.home()}/gone/for/good: no such folder"),
        (["keep=some"], "keep=some is not legal: expected true, false or null"),
        (["study=old", "splits=tset"], "splits=tset is not legal: expected a list of train, val, test"),
        (["study=old", "splits=5"], "splits=5 is not legal: expected a list of train, val, test"),
        (["run=[a,b]"], r"\['a', 'b'\]: expected one path"),
        (["run=a", "study=old"], "study=old is not legal here: run=RUN writes the page of one run"),
        (["run=a", "baseline=x"], "baseline=x is not legal here: run=RUN"),
        (["study=experiments/old", "output=new"], "output=new is not legal here: .* tables of experiments/old"),
        (["study=old", "baseline=x"], "baseline=x is not legal here: .* no run folders, only .*experiments/old"),
        (["study=old", "rows=runs"], "rows=runs is not legal here"),
        (["study=old", "splits=[test]"], r"splits=\['test'\] is not legal here"),
        (["keep=true"], "keep=true is not legal here: name a study or runs=DIR"),
        (["rows=all"], "rows=all is not legal: expected runs, exports, measured or null"),
    ],
)
def test_what_is_refused(place, words, message):
    with pytest.raises(ConfigError, match=message):
        call(*words)


def test_a_damaged_line_in_the_curves_of_a_single_run_is_named(place):
    make_run(place / "a", "one")
    metrics = place / "a" / "detector" / "metrics.jsonl"
    metrics.write_text("nonsense\n" + metrics.read_text())
    with pytest.raises(DataError, match=r"detector/metrics\.jsonl, line 1: not readable"):
        call("runs=a", "output=out")


def test_rows_of_runs_that_are_not_here_go_away_only_if_asked(place):
    make_run(place / "a", "one")
    with pytest.raises(
        DataError, match=r"old/results\.csv has 1 training run .* not here: mine \(seed 0\)\. keep=true"
    ):
        call("study=old", "runs=a")
    call("study=old", "runs=a", "keep=true")
    assert {row["arm"] for row in read_csv(Path("experiments/old/results.csv"))} == {"mine", "one"}
    make_run(place / "b", "mine")
    call("study=old", "runs=[a,b]")  # the run of the earlier version, which had no name of a folder
    call("study=old", "runs=a", "keep=false")
    assert {row["arm"] for row in read_csv(Path("experiments/old/results.csv"))} == {"one"}


def test_one_split_is_a_list_of_one(place):
    make_run(place / "a", "one")
    call("runs=a", "output=new", "splits=val")
    assert {row["split"] for row in read_csv(Path("new/results.csv"))} == {"val"}


def test_a_report_of_exports_does_not_remove_runs_that_are_not_here(place):
    make_run(place / "a", "one")
    (place / "a" / "tflite").mkdir()
    (place / "a" / "tflite" / "export.json").write_text('{"bytes": 1, "format": "tflite", "options": {}}')
    with pytest.raises(DataError, match=r"old/results\.csv has 1 training run .* no table of training runs"):
        call("study=old", "runs=a", "rows=exports")
    assert Path("experiments/old/results.csv").read_text() == CSV


def test_a_baseline_that_no_run_has_is_named(place, caplog):
    make_run(place / "a", "one")
    call("runs=a", "output=new", "baseline=oen")
    assert "baseline=oen: no run has this arm or variant, so nothing is compared; there are one" in caplog.text


def test_nothing_to_make_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no experiments/\*/results\.csv: name a study"):
        call()


def test_command_line(place):
    done = program.run("report", "old")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "split  arm   seed  AP     AP50   AP75  AR100  cat            minutes",
        "val    mine  0     0.500  0.750  n/a   0.250  0.500 / 0.750  3.1",
        "",
        "no run folders: wrote the tables in experiments/old again from its CSV",
    ]
