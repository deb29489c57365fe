"""`detect advise rate`: the steepest fall by hand, and the curve of a small network."""

import csv
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from detect.advice import choice
from detect.advice.rate import HIGHEST, LOWEST, STEPS, RangeTest, Rising, diverged, running_mean, text
from detect.errors import DataError
from detect.training import build
from detect.training.build import instantiate
from tests import program


def test_the_running_mean_of_a_constant_is_the_constant():
    assert running_mean([3.0] * 5) == pytest.approx(np.full(5, 3.0))
    assert running_mean([1.0, 2.0]) == pytest.approx([1.0, (0.9 * 0.1 * 1 + 0.1 * 2) / (1 - 0.81)])


def test_the_rate_of_the_steepest_fall():
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)
    losses = np.interp(range(STEPS), [50, 70, 90], [9, 3, 2])  # of steps 50 to 70, the middle is step 60
    assert RangeTest(rates, losses).suggested == pytest.approx(rates[60])
    assert text(0.00123) == "0.0012" and text(1e-5) == "1e-05"
    with pytest.raises(DataError, match="falls at no rate"):
        _ = RangeTest(rates, np.arange(100.0)).suggested
    for few in (0, 1, 30):  # the loss was not finite in one of the first steps
        with pytest.raises(DataError, match="at no rate"):
            _ = RangeTest(rates[:few], -np.arange(few)).suggested


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_the_noise_of_batches_suggests_no_rate(noise):
    """The loss falls from 10 to 4 between rates of 1e-4 and 1e-2, and each batch is easier or harder by `noise`."""
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)
    falling = np.interp(np.log10(rates), [-4, -2], [10, 4])
    for seed in range(30):
        losses = falling * np.exp(noise * np.random.default_rng(seed).normal(size=STEPS))
        assert 1e-4 < RangeTest(rates, running_mean(losses.tolist())).suggested < 3e-2, seed


@pytest.mark.parametrize(("losses", "steps"), [([1, *[9] * 99], 100), ([9] * 50 + [200] * 50, 52)])
def test_the_test_ends_where_the_loss_has_grown(losses, steps):
    """The running mean after two losses of 200 is 9 + (1 - .81) * 191 = 45; a first batch that is easy ends nothing."""
    assert next((n for n in range(1, 101) if diverged(running_mean(losses[:n]))), 100) == steps


def test_the_rate_rises_over_all_steps():
    schedule = Rising(steps=100, batch_size=1, optimizer=instantiate, rate=1.0)
    rates = [float(schedule.learning_rate()(step)) for step in (0, 1, 99)]
    assert rates == pytest.approx([LOWEST, LOWEST * 10 ** (6 / 99), 1.0], rel=1e-3)


@pytest.mark.parametrize("published", [False, True])
def test_a_rate_is_measured_from_the_weights_of_the_training(monkeypatch, published):
    """From random weights, another rate is best. What times a step alone needs no weights that must be fetched."""
    read = []
    weights = SimpleNamespace(read=lambda backbone: read.append(backbone))
    monkeypatch.setattr(build, "detector", lambda *_: SimpleNamespace())
    monkeypatch.setattr(build, "instantiate", lambda node: weights if node == "init" else node)
    choice.started(SimpleNamespace(init="init", backbone="net"), SimpleNamespace(num_classes=2), published)
    assert read == ["net"] * published


@pytest.mark.slow
@pytest.mark.drawn
def test_the_command_writes_the_curve(tmp_path):
    words = ["detector.size=[96,96]", "backbone.depth_multiplier=.25", "init=none", "dataset=digits", "threads=1"]
    command = [sys.executable, "-m", "detect.cli", "advise", "rate", *words, f"output={tmp_path}"]  # it draws a figure
    done = subprocess.run(command, cwd=program.ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "rate.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert "range test of SSD MobileNetV1, frame 96x96" in done.stdout
    assert 50 < len(rows) <= 100 and float(rows[0]["rate"]) == pytest.approx(1e-6)
    assert (tmp_path / "rate.png").stat().st_size > 1000
    assert 1e-5 < float(done.stdout.split("schedule.rate=")[1].split()[0]) < 0.5
