"""The whole program from the command line, on a small net and few embedded images."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from detect.loggers.interface import PLACES
from detect.reporting.logger import read_metrics
from detect.reporting.meanings import meaning
from tests import program

STEPS = ["schedule.steps=12", "schedule.evaluate_every=6", "schedule.checkpoint_every=4"]


@pytest.fixture(scope="module")
def tiny(small_overrides) -> list[str]:
    """Overrides of a run of two stages of a network that is built and traced fast."""
    own = [line for line in small_overrides if not line.startswith("backbone.")]
    return [*own, "backbone._target_=tests.tiny_backbone.Tiny", "trust=[tests]", "detector.neck.channels=[]", *STEPS]


def steps_done(folder: Path) -> int:
    path = folder / "detector" / "metrics.jsonl"
    rows = path.read_text().splitlines() if path.exists() else []
    return max((json.loads(row)["step"] for row in rows), default=0)


def weights(folder: Path, stage: str = "detector") -> dict[str, np.ndarray]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(folder / stage / "last")))
    names = reader.get_variable_to_shape_map()
    kept = [n for n in names if n.startswith(("model/", "optimizer/")) and "OBJECT_GRAPH" not in n]
    return {name: reader.get_tensor(name) for name in kept}


def test_a_run_folder_holds_everything(small_run):
    folder, console = small_run
    names = "config.yaml classes.json summary.json results.png test_predictions.png test_confusion.png"
    stages = "classify/summary.json classify/best.index detector/best.index detector/transfer.json"
    more = "test_pr_curves.png detector/first_batch.png detector/metrics.jsonl"
    for name in f"{names} {stages} {more}".split():
        assert (folder / name).exists(), name
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 12 and summary["seed"] == 0
    assert set(summary["scores"]) == {"val", "test"} and "AP50" in summary["scores"]["test"]
    assert summary["versions"]["tensorflow"] and summary["dataset"]["fingerprint"]
    stage_1 = json.loads((folder / "classify" / "summary.json").read_text())
    assert [used["schedule"][key] for used in (stage_1, summary) for key in ("steps", "warmup")] == [3, 0, 12, 1]
    ledger = json.loads((folder / "detector" / "transfer.json").read_text())
    assert len(ledger["loaded"]) == 135 and not ledger["missing"]
    assert max(map(len, console.splitlines())) <= 120
    assert list((folder / "detector" / "train").rglob("events*"))


def test_every_figure_of_a_run_has_a_meaning(small_run):
    rows = [row for stage in ("classify", "detector") for row in read_metrics(small_run[0] / stage / "metrics.jsonl")]
    names = {name for row in rows for name in row if name not in PLACES}
    assert {"rate", "top1/batch", "val/top1", "val/AP", "loss/localization"} <= names
    assert [name for name in names if not meaning(name if "/" in name else f"training/{name}")] == []


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tiny, tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    process = program.begin("train", *tiny, f"hydra.run.dir={folder}")
    deadline = time.time() + 240
    while steps_done(folder) < 6 and time.time() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert 6 <= steps_done(folder) < 12, "killed too late or too early to show anything"
    done = program.run("train", f"resume={folder}", "trust=[tests]")
    assert done.returncode == 0, done.stderr
    assert "resumed at step" in done.stdout and "finished before" in done.stdout
    assert program.run("train", *tiny, f"hydra.run.dir={whole}").returncode == 0
    expected, got = weights(whole), weights(folder)
    assert expected.keys() == got.keys() and len(got) > 50
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)
    steps = [json.loads(row)["step"] for row in (folder / "detector" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and len(steps) == 12 + 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_resume_goes_on(tiny, hangup, tmp_path, number):
    """The process has a Python of its own."""
    folder = tmp_path / "stopped"
    words = ["train", *tiny, "classify.enabled=false", "schedule.steps=100000", f"hydra.run.dir={folder}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "detect.cli", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while steps_done(folder) < 3 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert list((folder / "detector" / "last").glob("*.index"))


def test_a_page_that_a_kill_has_prevented_is_written_on_resume(small_run, tmp_path):
    """The summary is complete, and the program was killed before it wrote the page."""
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder, ignore=shutil.ignore_patterns("report.html"))
    done = program.run("train", f"resume={folder}")
    assert done.returncode == 0 and "finished before" in done.stdout, done.stderr
    assert (folder / "report.html").stat().st_size > 10_000


def test_what_loggers_are_told_of_a_finished_stage(small_run):
    from detect.runs.folder import RunFolder
    from detect.runs.summary import results

    run = RunFolder(small_run[0])
    name, figures, files = results(run)
    summary = json.loads(run.summary.read_text())
    assert name == "" and figures["steps"] == 12 and figures["test/AP"] == summary["scores"]["test"]["AP"]
    assert {"config.yaml", "summary.json", "results.png"} <= {file.name for file in files}
    name, figures, files = results(run.stage("classify"))
    assert name == "classify" and figures["steps"] == 3 and 0 <= figures["val/top1"] <= 1
    assert all(file.is_file() and file.parent.name == "classify" for file in files)


def test_an_extension_that_cannot_go_on_leaves_the_results(small_run, tmp_path):
    """The run was finished: its scores and its configuration are those of its weights."""
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    last, kept = folder / "detector" / "last", ("summary.json", "config.yaml", "detector/best.index")
    before = [(folder / name).read_bytes() for name in kept]

    def refused() -> str:
        done = program.run("train", f"resume={folder}", "schedule.steps=20")
        assert done.returncode == 2 and [(folder / name).read_bytes() for name in kept] == before, done.stderr
        return done.stderr

    for path in last.glob("*.index"):
        path.write_bytes(b"nonsense")
    assert "every saved state is damaged" in refused()
    shutil.rmtree(last)
    assert f"{last}: " in (said := refused()) and f"remove {folder / 'detector'}" in said


def test_resume_with_another_configuration_is_refused(small_run):
    folder, _ = small_run
    done = program.run("train", f"resume={folder}", "schedule.rate=0.5")
    assert done.returncode == 2
    assert "schedule.rate" in done.stderr and "0.003" in done.stderr and "0.5" in done.stderr
