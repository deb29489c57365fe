"""The fuzzer itself: every reader reads its right files, and its damage has all kinds."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from detect.portable import packages

ROOT = Path(__file__).resolve().parent.parent
MODELS = (
    "frozen graph",
    "checkpoint",
    "V1 checkpoint",
    "object checkpoint",
    "tar",
    "catalogue",
    "pipeline config",
    "h5",
    "run folder",
    "keras and other zips",
)
SLOW = ("tflite", "saved model", "older saved model")


def fuzz(cases, *names):
    words = [sys.executable, "scripts/fuzz.py", str(cases), "300", "--only", *names]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("names", [MODELS, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_no_reader_of_weights_and_models_is_ended_by_damage(names):
    done = fuzz(25 * len(names), *names)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name in names:
        assert f"| {name} | 25 | " in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_no_reader_of_optional_formats_is_ended_by_damage(kind):
    for name in packages.WRITES[kind]:
        pytest.importorskip(name, reason=f"{name} is not installed: pip install -e '.[{kind}]'")
    done = fuzz(25, kind)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"| {kind} | 25 | " in done.stdout


def test_readers_are_chosen_by_name():
    done = fuzz(1, "no such reader")
    assert done.returncode == 2 and "invalid choice: 'no such reader'" in done.stderr and "frozen graph" in done.stderr


def test_damage_of_all_kinds(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import fuzz as module

    content, other = bytes(range(1, 255)) * 4, b"other" * 40
    found = [module.damaged(content, random.Random(seed), other) for seed in range(400)]
    assert found == [module.damaged(content, random.Random(seed), other) for seed in range(400)]
    assert any(len(one) < len(content) // 2 for one in found)
    assert any(len(one) > len(content) for one in found)
    assert any(b"other" in one for one in found)
    assert any(b"\xff\xff\xff\x7f" in one for one in found)
    assert sum(one != content for one in found) > 300
