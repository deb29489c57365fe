"""The script that newcomers copy, and tfmot beside our own fake quantisation."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from detect.tflite import flatbuffer, operators

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "quantize_a_convnet.py"


@pytest.mark.slow
def test_from_float_training_to_three_files(tmp_path, monkeypatch, capfd):
    """One epoch of each: an int8 file is right as often as the float one, give or take 5%, and less than a third as
    large; all of its convolutions are int8."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path), "1"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capfd.readouterr().out
    rows = {
        name: (float(share), size) for name, share, size in re.findall(r"(\w+) +([\d.]+)% .* ([\d,]+) bytes", printed)
    }
    assert list(rows) == ["float", "ptq", "qat"], printed
    share, size = rows["float"]
    assert share > 50
    for name in ("ptq", "qat"):
        file = (tmp_path / f"{name}.tflite").read_bytes()
        assert rows[name][1] == f"{len(file):,}" and len(file) < int(size.replace(",", "")) / 3
        assert rows[name][0] > share - 5
        assert operators.census(flatbuffer.read(file))["CONV_2D"] == {"int8": 4}
        assert operators.float_convolutions(flatbuffer.read(file)) == []


def test_it_stays_small():
    assert len(SCRIPT.read_text().splitlines()) < 60


@pytest.mark.slow
def test_tfmot_in_the_place_of_stage_3(small_run, tmp_path):
    """Two steps from the float detector of a run: an int8 file that is scored like our own."""
    script, run = SCRIPT.parent / "tfmot_quantize.py", tmp_path / "tfmot"
    changes = ["quantize.schedule.steps=2", "quantize.schedule.evaluate_every=2", "quantize.schedule.batch_size=4"]
    command = [sys.executable, str(script), str(small_run[0]), str(run), *changes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    report = json.loads((run / "tflite" / "export.json").read_text())
    assert report["operators"]["CONV_2D"].keys() == report["operators"]["DEPTHWISE_CONV_2D"].keys() == {"int8"}
    assert report["inputs"]["image"]["type"] == "uint8" and report["inputs"]["image"]["step"] == 1.0
    assert report["scores"].keys() >= {"file", "run", "float"} and report["bytes"] < report["float32_bytes"] / 2
    assert json.loads((run / "summary.json").read_text())["steps"] == 2
    command = [sys.executable, "-m", "detect.cli", "evaluate", f"model={run / 'tflite' / 'model.tflite'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    scored = json.loads((run / "tflite" / "evaluation" / "test_scores.json").read_text())
    assert scored["AP"] == pytest.approx(report["scores"]["file"]["AP"])
