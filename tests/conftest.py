"""Fixtures shared by all tests: where the optional real data lies, and quiet, repeatable libraries."""

import fcntl
import gc
import logging
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from detect.config.composer import Composer
from detect.reporting import figures
from detect.runs.log import Console
from scripts.composed_once import composed_once, read_once
from scripts.forked import blank
from tests import program

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # as the program sets it
gc.set_threshold(50_000, 10, 10)  # as the program sets it

settings.register_profile("any computer", deadline=None)  # how long an example takes depends on it
settings.load_profile("any computer")

Composer._composed = composed_once
read_once()

LONG = (
    "cli/test_verbs.py",
    "modeling/test_pairs.py",
    "quantization/",
    "training/test_resume.py",
    "training/",
    "cli/",
    "test_api.py",
    "test_contract_configs.py",
    "modeling/",
    "tflite/",
)
"""The longest tests, which begin first, so that the processes of a session end together. The second process does not
begin with what needs `small_run`: it would wait until the first one has made it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; the order within a file stays."""
    tests = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(tests).as_posix()
        return next((i for i, start in enumerate(LONG) if name.startswith(start)), len(LONG))

    items.sort(key=place)


@pytest.fixture
def blank_figures(request, monkeypatch) -> None:
    """Figures are blank, unless the test is marked `drawn`: to draw them takes most of the time of a small report."""
    if request.node.get_closest_marker("drawn") is None:
        monkeypatch.setattr(figures.render, "__code__", blank.__code__)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights that DETECT_SHARED names; without it, the test is skipped."""
    named = os.environ.get("DETECT_SHARED")
    if not named:
        pytest.skip("needs real data and weights: set DETECT_SHARED to their folder")
    folder = Path(named).resolve()
    if not folder.is_dir():
        pytest.fail(f"DETECT_SHARED={named} is not a folder")
    return folder


@pytest.fixture
def hangup():
    """SIGHUP as a terminal's program has it, also if the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def small_overrides() -> list[str]:
    """Overrides of a training run that takes seconds."""
    return [
        "dataset=digits",
        "init=none",
        "backbone.depth_multiplier=0.25",
        "detector.size=[96,96]",
        "detector.neck.depth_multiplier=0.25",
        "classify.classifier.size=[96,96]",
        "dataset.images={train:16,val:4,test:4}",
        "schedule.batch_size=4",
        "schedule.warmup=1",
        "schedule.log_every=1",
        "classify.schedule.steps=3",
        "classify.schedule.batch_size=8",
        "classify.schedule.warmup=0",
        "classify.schedule.evaluate_every=3",
        "validation_loss=0",
        "threads=2",
    ]


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, worker_id, small_overrides) -> tuple[Path, str]:
    """A finished two-stage run of twelve steps on embedded digits, from the command line: (folder, console).

    The processes of one test session share it: the first that needs it makes it, the others wait.
    """
    base = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    folder, console = base / "runs" / "uninterrupted", base / "console.txt"
    with (base / "small_run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not console.exists():
            steps = ["schedule.steps=12", "schedule.evaluate_every=6", "schedule.checkpoint_every=4"]
            words = ["train", *small_overrides, *steps, f"hydra.run.dir={folder}"]
            done = program.run(*words, figures=True, timeout=900)
            assert done.returncode == 0, done.stderr
            console.write_text(done.stdout)
    return folder, console.read_text()


@pytest.fixture(autouse=True)
def console_of_its_own():
    """The log of a job that a test has run does not go to the console of the next test."""
    yield
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, Console)]:
        root.removeHandler(handler)


@pytest.fixture
def eager():
    """Functions run without being traced, which takes most of the time of one run."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
