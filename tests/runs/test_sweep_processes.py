"""The processes of a sweep: one owner for a folder, cells that end with it, and signals that let cells save.

The cells are small programs in place of `python -m detect.cli train`: they lock their folder as a run does.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from detect.errors import InUse
from detect.runs import sweep
from detect.runs.folder import RunFolder

CELL = """
    #!{python}
    # A cell: it locks its folder, and runs until it is told to stop. Its first word is -m, its second detect.cli.
    import os, pathlib, signal, sys, time
    from detect.runs import sweep
    from detect.runs.folder import RunFolder
    folder = pathlib.Path(sys.argv[-1].removeprefix("hydra.run.dir=").strip("'"))
    sweep.end_with_owner()
    lock = RunFolder(folder).claim()
    (folder / "pid").write_text(str(os.getpid()))
    def stop(number, frame):
        (folder / "saved").write_text(signal.Signals(number).name)
        sys.exit(130)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    time.sleep(float(os.environ.get("CELL_SECONDS", 60)))
    (folder / "summary.json").write_text('{{"scores": {{"val": {{"AP": 0.5}}}}}}')
"""

MAIN = """
    import sys
    from detect.cli import job, main
    from detect.runs import start, sweep

    def train(cfg):
        folder = job.folder()
        if start.finished(cfg, folder) is None:
            sys.executable = sys.argv[0] = {cell!r}
            return sweep.run_cell(folder, job.words())

    if __name__ == "__main__":
        sys.exit(main.run("train", train, sys.argv[1:]))
"""


class Program:
    """`detect train -m` of two seeds with cells that sleep."""

    def __init__(self, place: Path):
        self.place, self.folder = place, place / "sweep"
        cell = place / "cell"
        cell.write_text(textwrap.dedent(CELL.format(python=sys.executable)).lstrip())
        cell.chmod(0o755)
        (place / "sleeping.py").write_text(textwrap.dedent(MAIN.format(cell=str(cell))))

    def start(self, *more: str, seconds: float = 60) -> subprocess.Popen:
        words = ["-m", "dataset=digits", "seed=1,2", f"hydra.sweep.dir={self.folder}", *more]
        paths = os.pathsep.join([str(Path(sweep.__file__).parents[2]), str(self.place)])
        program = "import sys, sleeping as s; sys.exit(s.main.run('train', s.train, sys.argv[1:]))"
        return subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.place,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": paths, "CELL_SECONDS": str(seconds)},
        )

    def cells(self, count: int) -> list[int]:
        """The numbers of the processes of the cells, when so many have begun."""
        deadline = time.monotonic() + 120
        while len(found := list(self.folder.glob("*/pid"))) < count and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(found) >= count
        time.sleep(0.2)
        return [int(file.read_text()) for file in found]

    def listing(self) -> dict[str, tuple[int, bytes]]:
        """All files below the folder, with their times and content."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture
def program(tmp_path) -> Program:
    return Program(tmp_path)


def ended(number: int, within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


LAUNCHERS = {"basic": [], "joblib": ["hydra/launcher=joblib_processes", "threads=1"]}


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_cells_end_when_the_main_process_is_killed(program, launcher):
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    process = program.start(*LAUNCHERS[launcher])
    cells = program.cells(1 if launcher == "basic" else 2)
    process.kill()
    process.communicate(timeout=20)
    assert all(ended(cell, within=5) for cell in cells)
    time.sleep(1.5)  # a process of the launcher may not record a failure, nor begin another cell
    assert not list(program.folder.glob("*/failed.txt"))
    assert all(ended(int(file.read_text()), 0.1) for file in program.folder.glob("*/pid"))


@pytest.mark.slow
def test_the_next_sweep_waits_for_cells_of_a_dead_one(program):
    process = program.start()
    (cell,) = program.cells(1)
    os.kill(cell, signal.SIGSTOP)  # it can't end by itself: only SIGKILL ends it
    process.kill()
    process.communicate(timeout=20)
    again = program.start(seconds=0.1)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert len(list(program.folder.glob("*/summary.json"))) == 2


@pytest.mark.slow
def test_a_second_sweep_in_a_folder_leaves_no_mark(program):
    process = program.start()
    cells = program.cells(1)
    try:
        before = program.listing()
        second = program.start()
        _, errors = second.communicate(timeout=120)
        assert second.returncode == 2 and len(errors.strip().splitlines()) == 1
        assert "another" in errors and str(program.folder) in errors
        assert program.listing() == before
        assert not ended(cells[0], 0.1)
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
def test_a_sweep_beside_one_between_two_cells_is_refused(program):
    """No cell is live here: the lock of the sweep alone tells."""
    with sweep.owned(program.folder, "basic"):
        before = program.listing()
        second = program.start()
        _, errors = second.communicate(timeout=120)
    assert second.returncode == 2 and f"hydra.sweep.dir={program.folder}: another sweep" in errors
    assert program.listing() == before


@pytest.mark.slow
def test_a_cell_that_another_process_trains_is_no_failure(program):
    folder = program.folder / "0"
    held = RunFolder(folder).claim()
    before = program.listing()
    process = program.start(seconds=0.1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2 and f"run folder {folder}: another process is training in it" in errors
    assert program.listing() == before
    held.close()


def test_a_cell_that_is_refused_late_is_not_recorded(tmp_path, monkeypatch):
    """Its folder was free when the sweep began."""
    held = RunFolder(tmp_path / "run").claim()
    monkeypatch.setattr(sweep.sys, "executable", "false")
    with pytest.raises(InUse, match="another process is training in it"):
        sweep.run_cell(tmp_path / "run", ["detect", "train"])
    assert not (tmp_path / "run" / "failed.txt").exists()
    held.close()


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_to_the_main_process_lets_the_cells_save(program, number, launcher):
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    process = program.start(*LAUNCHERS[launcher])
    cells = program.cells(1 if launcher == "basic" else 2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"hydra.sweep.dir={program.folder}" in errors and "the same command goes on" in errors
    saved = list(program.folder.glob("*/saved"))
    assert len(saved) == len(cells) and {file.read_text() for file in saved} == {"SIGTERM"}
    assert all(ended(cell, 1) for cell in cells) and not list(program.folder.glob("*/failed.txt"))


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_a_cell_once(program):
    """A terminal sends SIGINT to its whole process group; a second signal would stop the cell before it has saved."""
    process = program.start()
    program.cells(1)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert [file.read_text() for file in program.folder.glob("*/saved")] == ["SIGTERM"]


def test_a_lock_is_looked_at_without_a_change(tmp_path):
    assert not sweep.in_use(tmp_path) and list(tmp_path.iterdir()) == []
    held = RunFolder(tmp_path).claim()
    assert sweep.in_use(tmp_path)
    held.close()
    assert not sweep.in_use(tmp_path)


@pytest.mark.slow
def test_modules_of_ones_own_reach_the_cells_by_the_command_line_alone(program):
    (program.place / "of_cells.py").write_text("class Message:\n    def __init__(self, text): ...\n")
    own = ["hooks=[{_target_: of_cells.Message, text: a}]", "trust=[of_cells]"]
    (program.place / "cell").write_text('#!/bin/sh\nfor last; do :; done\nfolder=${last#hydra.run.dir=}\n'
                                        'eval "echo \\"$*\\" > $folder/words"\nexit 130\n')  # fmt: skip
    process = program.start(*own)
    process.communicate(timeout=120)
    (words,) = program.folder.glob("*/words")
    assert "trust=[of_cells]" in words.read_text()


@pytest.mark.slow
def test_a_finished_cell_tells_its_objective(program):
    process = program.start(seconds=0.1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    scores = [json.loads(file.read_text())["scores"] for file in program.folder.glob("*/summary.json")]
    assert scores == [{"val": {"AP": 0.5}}] * 2
