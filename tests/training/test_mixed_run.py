"""Mixed images and repeated classes from the command line: a run that uses them all, and what is refused before it."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from detect.config.compose import compose
from detect.runs.folder import RunFolder
from detect.runs.start import Run
from detect.training import build, stages
from tests import program


def train(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return program.run("train", *overrides, f"hydra.run.dir={folder}")


@pytest.mark.slow
def test_a_run_mixes_and_repeats(small_overrides, tmp_path):
    steps = ["classify.enabled=false", "schedule.steps=4", "schedule.evaluate_every=4"]
    options = ["mixing=strong", "augment=scale_jitter", "repeat_threshold=0.5"]
    done = train(tmp_path / "run", *small_overrides, *steps, *options)
    assert done.returncode == 0, done.stderr
    assert "repeat_threshold=0.5: an epoch draws its 16 images" in done.stdout
    assert (tmp_path / "run" / "detector" / "first_batch.png").exists()


def test_ranges_are_calibrated_on_images_that_are_not_mixed(monkeypatch):
    """Without a float stage, the first steps are mixed. Calibrated ranges stay, and the detector sees plain images."""
    asked = {}

    def stream(*_, whole=False, mixed=True):
        asked["calibration" if whole else "training"] = mixed
        return MagicMock()

    monkeypatch.setattr(stages, "build", MagicMock(training_stream=stream))
    monkeypatch.setattr(stages, "initialise", lambda *_: True)
    monkeypatch.setattr(stages, "calibrate", lambda *_: 1)
    monkeypatch.setattr(stages, "detection_stage", MagicMock())
    monkeypatch.setattr(stages, "QuantizationPhases", MagicMock())
    monkeypatch.setattr(stages, "fit_detector", lambda *_: 0.5)
    run = MagicMock(cfg=SimpleNamespace(quantize=SimpleNamespace(float_stage=False, calibrate=1), seed=0))
    run.cfg.classify = SimpleNamespace(enabled=True)
    stages.train_quantized(run, MagicMock())
    assert asked == {"training": True, "calibration": False}


@pytest.mark.parametrize(("debug", "augmented"), [("overfit", False), ("step", True)])
def test_stage_1_of_an_overfit_is_not_augmented(monkeypatch, tmp_path, debug, augmented):
    monkeypatch.setattr(build, "ClassificationStream", lambda *_, augment, **given: augment)
    cfg = compose(["dataset=digits", f"debug={debug}", "classify.enabled=true"])
    run = Run(RunFolder(tmp_path), cfg, MagicMock(), {})
    schedule = build.schedules(cfg)["classify.schedule"]
    made = build.classification_stream(run, SimpleNamespace(size=(8, 8)), schedule, MagicMock())
    assert bool(made.transforms) is augmented


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mixing.mosaic.p=2", "mixing.mosaic.p=2 is not legal: expected a number from 0 to 1"),
        ("repeat_threshold=0", "repeat_threshold=0 is not legal: expected a number above 0 to 1 or null"),
        ("mixing.fade=0.95", "mixing.fade=0.95 is not legal: expected at most mixing.until=0.9"),
        ("mixing.mosaic.scale=[1,0.5]", "mixing.mosaic.scale=[1, 0.5] is not legal: expected [low, high]"),
    ],
)
def test_what_is_not_legal_is_refused_before_training(small_overrides, tmp_path, override, message):
    done = train(tmp_path / "run", *small_overrides, override)
    assert done.returncode != 0 and message in done.stderr + done.stdout and "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "classify").exists()
