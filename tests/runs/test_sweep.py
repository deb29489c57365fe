"""Sweeps: which cells a command means, what becomes of one that fails, and going on after the power went."""

import csv
import fcntl
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import hydra
import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, read_write

from detect.cli import job, overrides
from detect.cli.overrides import prepare, read
from detect.config.check import CONFIG_DIR
from detect.config.composer import Composer
from detect.config.grammar import jobs, parse
from detect.config.tree import plain
from detect.errors import ConfigError, DataError
from detect.runs import sweep
from detect.runs.folder import RunFolder
from tests import program

STUDY = ["-m", "experiment=ablation/two_stage", "dataset=digits"]


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def planned(*argv: str) -> tuple[overrides.Command, list[set[str]]]:
    """The command as it will be given to Hydra, and the overrides of its cells."""
    command = read([*STUDY, *argv], "train")
    with command.composer.ready() as composer:
        command, asked, study = overrides._planned(command, parse(command.overrides), composer)
    assert study == "two_stage"
    return command, [{str(o.input_line) for o in job} for job in jobs(asked, composer.groups, multirun=True)]


def test_the_experiments_grid_and_the_command_lines():
    command, cells = planned()
    assert command.sweep_folder == Path("runs/two_stage") and len(cells) == 5 * 3 * 2
    assert {"schedule.steps=1000", "limit.fraction=0.2", "seed=2", "arm=random_crops"} < cells[-1]
    _, cells = planned("arm=crops,generic_extra", "seed=range(8)", "limit.fraction=1.0")
    assert len(cells) == 16 and all({"arm=crops", "arm=generic_extra"} & cell for cell in cells)


@pytest.mark.slow
def test_the_grid_holds_where_the_experiment_itself_is_swept():
    """Hydra composes a sweep without what it varies: the grid of the experiments has to be among the overrides."""
    command = prepare(read(["-m", "experiment=extras/plain,extras/fpn", "dataset.root=DIR"], "train"))
    assert "seed=0,1,2" in command.overrides and len(command.checked) == 6
    command = prepare(read(["-m", "experiment=extras/plain,extras/fpn", "dataset.root=DIR", "seed=7"], "train"))
    assert "seed=0,1,2" not in command.overrides and len(command.checked) == 2


def test_two_cells_of_one_folder_are_refused():
    share = r"two cells would share the folder .*crops_f1.0_b1000_r0.001_s0: .*size=4 and .*size=8; put"
    with pytest.raises(ConfigError, match=share):
        prepare(read([*STUDY, "schedule.batch_size=4,8", "arm=crops", "seed=0", "limit.fraction=1.0"], "train"))


def test_a_folder_of_another_configuration_is_refused_before_the_first_cell(tmp_path):
    own = ["experiment=ablation/two_stage", "arm=crops", "seed=1", "limit.fraction=0.2", f"hydra.sweep.dir={tmp_path}"]
    with Composer("train").ready() as composer:
        then, same, other = (
            composer.checked(parse([*own, line]))
            # the rate of `random` is not that of this arm
            for line in ("schedule.batch_size=8", "rates.detector.random=0.5", "schedule.batch_size=4")
        )
    cell = tmp_path / "crops_f0.2_b1000_r0.001_s1"
    cell.mkdir()
    OmegaConf.save(OmegaConf.create(plain(then)), cell / "config.yaml")
    sweep.Cells().add(same, "seed=1")
    with pytest.raises(ConfigError) as refused:
        sweep.Cells().add(other, "seed=1")
    head, *changed = str(refused.value).splitlines()
    assert "crops_f0.2_b1000_r0.001_s1: it holds a run of another configuration" in head
    (difference,) = changed
    assert re.search(r"schedule\.batch_size: .* 8, .* 4$", difference)


@pytest.mark.parametrize(
    ("launcher", "more", "threads"),
    [
        ("joblib_processes", ["hydra.launcher.n_jobs=2"], 4),
        ("joblib_processes", ["hydra.launcher.n_jobs=-1"], 1),
        ("submitit_queue", ["hydra.launcher.cpus_per_task=6"], 6),
        ("ray_tasks", ["hydra.launcher.ray.remote.num_cpus=3"], 3),
        ("joblib_processes", ["threads=5"], None),
        ("basic", [], None),
    ],
)
def test_launchers_divide_the_threads(monkeypatch, launcher, more, threads):
    monkeypatch.setattr(sweep, "usable_cores", lambda: 8)
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose("train", [f"hydra/launcher={launcher}", *more], return_hydra_config=True)
    assert sweep.threads_of_a_cell(cfg) == threads


@pytest.mark.parametrize("number", ["0", "-2", "half"])
def test_a_number_of_processes_that_is_none_is_refused(number):
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        words = ["hydra/launcher=joblib_processes", f"hydra.launcher.n_jobs={number}"]
        cfg = hydra.compose("train", words, return_hydra_config=True)
    with pytest.raises(ConfigError, match=rf"hydra\.launcher\.n_jobs={number}: legal are"):
        sweep.threads_of_a_cell(cfg)


def test_the_threads_of_a_cell_are_in_its_command():
    if not installed("hydra_plugins.hydra_joblib_launcher"):
        pytest.skip("hydra_joblib_launcher is not installed")
    _, cells = planned("hydra/launcher=joblib_processes", "hydra.launcher.n_jobs=-1", "seed=0", "limit.fraction=1.0")
    assert all("threads=1" in cell for cell in cells)


@pytest.mark.parametrize(("launcher", "extra"), [("joblib_processes", "sweep"), ("ray_tasks", "ray")])
def test_a_launcher_whose_package_is_missing_says_what_to_install(monkeypatch, launcher, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose("train", [f"hydra/launcher={launcher}"], return_hydra_config=True)
    with pytest.raises(ConfigError, match=rf"hydra/launcher={launcher}: .*pip install -e '\.\[{extra}\]'"):
        sweep.check_plugins(cfg)


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """Runs `sweep.run_cell` in tmp_path, with a shell script in place of Python; `score` is what the cell scored."""
    monkeypatch.setattr(RunFolder, "objective", lambda folder: 0.25)

    def run(script: str):
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\ncd '{tmp_path}'\necho \"$@\" > arguments\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sweep.sys, "executable", str(program))
        return sweep.run_cell(tmp_path, ["detect", "train", "seed=1"])

    return run


def test_a_cell_is_a_run_of_its_own(cell, tmp_path):
    assert cell("exit 0") == 0.25
    assert (tmp_path / "arguments").read_text().split()[:4] == ["-m", "detect.cli", "train", "seed=1"]
    assert (tmp_path / "arguments").read_text().split()[4] == f"hydra.run.dir='{tmp_path}'"


def test_how_a_cell_can_end(cell, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        cell("exit 130")
    with pytest.raises(KeyboardInterrupt):
        cell("kill -TERM $$")  # a signal that came before the cell could handle it
    assert not (tmp_path / "failed.txt").exists()
    with pytest.raises(sweep.CellFailed, match="no good"):
        cell("echo no good > failed.txt; exit 2")
    sweep.forget_failure(tmp_path)
    with pytest.raises(sweep.CellFailed, match=r"ended with SIGKILL \(out of memory\?\)"):
        cell("kill -9 $$")
    assert "SIGKILL" in (tmp_path / "failed.txt").read_text()


def test_a_reason_that_the_disk_does_not_take_is_told_all_the_same(cell, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(sweep, "write_text", full)
    with pytest.raises(sweep.CellFailed, match="ended with code 3 and without a message"):
        cell("exit 3")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_cell_which_saves_its_state(cell, hangup, tmp_path, number):
    threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
    with pytest.raises(KeyboardInterrupt):
        cell("trap 'touch saved; exit 130' TERM; sleep 30 & wait; exit 0")
    assert (tmp_path / "saved").exists()


def test_failures_since_the_sweep_began(tmp_path):
    for name, error in (("a_s0", DataError("x.jpg: truncated\nmore")), ("b_s0", ValueError("a bug\nand more"))):
        (tmp_path / name).mkdir()
        sweep.record(tmp_path / name, error)
    os.utime(tmp_path / "a_s0" / "failed.txt", (1000, 1000))
    assert sweep.failures(tmp_path, since=0) == ["a_s0: x.jpg: truncated", "b_s0: ValueError: a bug"]
    (tmp_path / "c_s0").mkdir()
    (tmp_path / "c_s0" / "failed.txt").write_text("")  # the disk was full
    assert "c_s0: there is no message; was the disk full?" in sweep.failures(tmp_path, since=2000)
    (tmp_path / "c_s0" / "failed.txt").unlink()
    assert sweep.failures(tmp_path, since=2000) == ["b_s0: ValueError: a bug"]


def test_every_cell_is_tried_and_those_that_failed_are_named_at_the_end(tmp_path):
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    data = ["dataset=voc", f"dataset.root={tmp_path}/no,{tmp_path}/empty"]
    done = program.run("train", "-m", *data, f"hydra.sweep.dir={tmp_path}/sweep")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    first, second = done.stderr.splitlines()[-2:]
    assert first == f"detect train: failed: 0: dataset.root={tmp_path}/no: no such folder"
    assert second.startswith("detect train: failed: 1: ") and "no XML annotations" in second
    assert (tmp_path / "sweep" / "0" / "failed.txt").read_text().startswith(f"dataset.root={tmp_path}/no")


def test_a_folder_is_of_one_process(tmp_path):
    held = RunFolder(tmp_path / "run").claim()
    words = "from detect.runs.folder import RunFolder; lock = RunFolder(Path(sys.argv[1])).claim()"
    other = f"import sys; from pathlib import Path; {words}"
    done = subprocess.run([sys.executable, "-c", other, str(tmp_path / "run")], capture_output=True, text=True)
    assert f"run folder {tmp_path}/run: another process is training in it" in done.stderr
    held.close()
    assert RunFolder(tmp_path / "run").claim()


@pytest.fixture(scope="module")
def tiny(small_run, small_overrides) -> list[str]:
    """A study of cells that take seconds; its generic weights are those of the small run."""
    own = [line for line in small_overrides if not line.startswith(("init=", "threads="))]
    steps = ["schedule.steps=12", "schedule.evaluate_every=6", "schedule.checkpoint_every=4"]
    where = ["arm=generic_extra,crops", "seed=0,1", "limit.fraction=0.5"]
    command = [sys.executable, "-m", "detect.cli", "train", *STUDY, *where]
    return [*command, f"init={small_run[0]}", *own, *steps]


def free(folder: Path) -> bool:
    """Whether no process trains in a run folder."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def best_weights(folder: Path) -> dict[str, np.ndarray]:
    from detect.weights import checkpoint

    return checkpoint.read(folder / "detector" / "best")


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_and_equals_single_runs_bit_for_bit(tiny, tmp_path):
    folder = tmp_path / "sweep"
    command = [*tiny, f"hydra.sweep.dir={folder}"]
    names = [f"{arm}_f0.5_b12_r0.001_s{seed}" for seed in (0, 1) for arm in ("generic_extra", "crops")]
    first, second = folder / names[0], folder / names[1]
    rows = second / "detector" / "metrics.jsonl"
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.time() + 500
    while not (rows.exists() and len(rows.read_text().splitlines()) > 5) and time.time() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(100):
        if free(second):
            break
        time.sleep(0.1)
    assert free(second), "the cell's process outlived the sweep"
    assert (first / "summary.json").exists() and not (second / "summary.json").exists()
    finished = (first / "summary.json").stat().st_mtime_ns

    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished before: AP") == 1 and "start: resume detector" in done.stdout
    assert (first / "summary.json").stat().st_mtime_ns == finished
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert {(row["arm"], row["seed"]) for row in rows} == {(a, s) for a in ("generic_extra", "crops") for s in "01"}

    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0 and again.stdout.count("finished before: AP") == 4
    assert "stage 2" not in again.stdout

    summaries = {name: json.loads((folder / name / "summary.json").read_text()) for name in names}
    for name, about in summaries.items():
        words = shlex.split(about["command"])
        alone = [sys.executable, "-m", "detect.cli", *words[1:], f"hydra.run.dir={tmp_path / name}"]
        done = subprocess.run(alone, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        single = json.loads((tmp_path / name / "summary.json").read_text())
        for key in ("scores", "fingerprint", "cost", "command", "study", "arm", "fraction", "budget", "best_step"):
            assert single[key] == about[key], key
        expected, got = best_weights(tmp_path / name), best_weights(folder / name)
        assert expected.keys() == got.keys() and all(np.array_equal(got[k], expected[k]) for k in got)

    crops, extra = summaries["crops_f0.5_b12_r0.001_s0"], summaries["generic_extra_f0.5_b12_r0.001_s0"]
    assert (extra["budget"], extra["steps"]) == (12, 12 + extra["cost"]["extra_steps"])
    assert extra["schedule"]["steps"] == extra["steps"]
    step = extra["cost"]["detector_macs"] / extra["steps"]
    added = step * extra["cost"]["extra_steps"]
    assert added - step < crops["cost"]["stage_1_macs"] <= added
    assert extra["dataset"]["fingerprint"] == crops["dataset"]["fingerprint"]


LAUNCHERS = {
    "joblib_processes": ["hydra/launcher=joblib_processes"],
    "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1"],
    "ray": ["hydra/launcher=ray_tasks", "hydra.launcher.ray.remote.num_cpus=1", "hydra.launcher.ray.init.num_cpus=2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launchers_train_cells_beside_each_other(tiny, tmp_path, launcher):
    package = f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher"
    if not installed(package):
        pytest.skip(f"{package} is not installed")
    command = [*tiny, f"hydra.sweep.dir={tmp_path}", *LAUNCHERS[launcher], "arm=generic", "schedule.steps=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    found = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("generic_f0.5_b2_r*_s*/summary.json"))]
    assert [about["seed"] for about in found] == [0, 1]
    assert all(about["command"].endswith(" threads=1") for about in found)


@pytest.mark.slow
def test_optuna_proposes_rates_and_goes_on(tiny, tmp_path):
    if not installed("hydra_plugins.hydra_optuna_sweeper"):
        pytest.skip("hydra_plugins.hydra_optuna_sweeper is not installed")
    rate = "schedule.rate=tag(log, interval(0.0001, 0.01))"
    more = ["experiment=ablation/rates", "arm=generic", "seed=7", "schedule.steps=2", rate, "study=rates"]
    sampler = ["hydra/sweeper=optuna_tpe", "hydra.sweeper.n_trials=2", f"hydra.sweep.dir={tmp_path}"]
    command = [line for line in tiny if not line.startswith(("experiment=", "arm=", "seed="))] + more + sampler
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    rates = [json.loads(path.read_text())["command"] for path in sorted(tmp_path.glob("generic_r*_s7/summary.json"))]
    assert len(rates) == 2 and "best_params" in (tmp_path / "optimization_results.yaml").read_text()
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0 and again.stdout.count("finished before: AP") == 2


def test_a_job_knows_whether_it_is_a_cell():
    with Composer("train").ready() as composer:
        cfg = composer.checked([])
        HydraConfig.instance().set_config(cfg)
        assert not job.is_cell()


def test_a_cell_composes_what_its_sweep_has_composed():
    """Shortened words would be read a second time: `init=a` becomes an absolute path, or an option of that name."""
    task = ["seed=1", "init=path", "init.path=random", "experiment=demo", "resume=x"]
    with Composer("train").ready() as composer:
        cfg = composer.checked([])
        with read_write(cfg.hydra):
            cfg.hydra.overrides.task = task
        HydraConfig.instance().set_config(cfg)
        assert job.words() == ["detect", "train", "seed=1", "init=path", "init.path=random", "experiment=demo"]
        assert job.shortened() == ["detect", "train", "experiment=demo", "seed=1", "init=random"]


def test_a_glob_over_experiments_in_a_folder_is_written_out():
    command = prepare(read(["-m", "experiment=glob(mixing/*)", "dataset=digits", "seed=0"], "train"))
    (line,) = [line for line in command.overrides if line.startswith("experiment=")]
    names = line.removeprefix("experiment=").split(",")
    assert len(names) > 3 and all(name.startswith("mixing/") for name in names) and len(command.cells) == len(names)


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def flock(file, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        RunFolder(tmp_path / "run").claim().close()
    with sweep.owned(tmp_path / "sweep", "basic"):
        pass
    told = [message for message in caplog.messages if "has no locks (" in message]
    assert [Path(message.partition(":")[0]).name for message in told] == ["run", "sweep"]
