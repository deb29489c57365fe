"""The table that joins the figures of the benchmarks."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "bench.py"


@pytest.fixture
def bench():
    spec = importlib.util.spec_from_file_location("bench", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_file_and_a_table_with_ratios_alone(bench, tmp_path, monkeypatch, capsys):
    figures = {
        "evaluation": {"seconds": {"detect": [{"total": 4.0}, {"total": 2.0}], "pycocotools": [{"total": 30.0}]}},
        "quantize": {"cases": {"ssd": {"ours": {"ratio": 2.0}, "tfmot": {"ratio": 1.5}}}},
        "peers": {"ssd300": {"ratio": 1.05, "detect": {"images_per_second": 7}}},
    }
    for name, content in figures.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr(sys, "argv", ["bench.py", str(tmp_path)])
    bench.main()
    assert (tmp_path / "bench.md").read_text().splitlines()[2:] == [
        "| COCO evaluation | pycocotools | 15.00 |",
        "| fake-quant step, ssd | float step | 0.50 |",
        "| fake-quant step, ssd | tfmot | 0.75 |",
        "| training step, ssd300 | torchvision | 1.05 |",
    ]
    assert capsys.readouterr().out == (tmp_path / "bench.md").read_text()
    joined = json.loads((tmp_path / "bench.json").read_text())
    assert joined["benchmarks"] == figures and "versions" in joined
