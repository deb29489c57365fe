"""The table that joins the figures of the benchmarks."""

import importlib
import io
import json
import sys

import pytest

from tests import outside


@pytest.fixture
def bench():
    return outside.module("scripts/bench.py")


def test_one_file_and_a_table_with_ratios_alone(bench, tmp_path, monkeypatch, capsys):
    figures = {
        "step": {"shares": {"convolution": 0.7}, "variants": {"XLA": {"images_per_second": 3.0, "ratio": 0.25}}},
        "evaluation": {"seconds": {"detect": [{"total": 4.0}, {"total": 2.0}], "pycocotools": [{"total": 30.0}]}},
        "quantize": {"cases": {"ssd": {"ours": {"ratio": 2.0}, "tfmot": {"ratio": 1.5}}}},
        "peers": {"ssd300": {"ratio": 1.05, "detect": {"images_per_second": 7}}},
        "inference": {"sides": {"run": {"ratio": 2.5}, "torchvision": {"ratio": 1.0}}},
    }
    for name, content in figures.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr(sys, "argv", ["bench.py", str(tmp_path)])
    bench.main()
    assert (tmp_path / "bench.md").read_text().splitlines()[2:] == [
        "| SSD-MobileNetV1-300, XLA | the step as it is | 0.25 |",
        "| COCO evaluation | pycocotools | 15.00 |",
        "| fake-quant step, ssd | float step | 0.50 |",
        "| fake-quant step, ssd | tfmot | 0.75 |",
        "| training step, ssd300 | torchvision | 1.05 |",
        "| detection in one image, run | torchvision | 2.50 |",
    ]
    assert capsys.readouterr().out == (tmp_path / "bench.md").read_text()
    joined = json.loads((tmp_path / "bench.json").read_text())
    assert joined["benchmarks"] == figures and "versions" in joined


@pytest.mark.slow
def test_a_worker_of_the_benchmarks_takes_steps(monkeypatch, capsys):
    """The protocol of train_step.py: a description, then seconds for each number of steps on standard input."""
    monkeypatch.syspath_prepend(str(outside.ROOT / "scripts"))
    worker = importlib.import_module("train_step")
    words = ["detector.size=[96,96]", "backbone.depth_multiplier=0.25", "detector.neck.channels=[]"]
    monkeypatch.setattr(sys, "argv", ["train_step.py", "2", *words])
    monkeypatch.setattr(sys, "stdin", io.StringIO("2\n1\n"))
    worker.main()
    about, *answers = map(json.loads, capsys.readouterr().out.splitlines())
    assert about["size"] == 96 and about["macs"] > 1e6
    assert [len(answer["seconds"]) for answer in answers] == [2, 1]


def test_each_operation_of_a_profile_has_one_kind(monkeypatch):
    monkeypatch.syspath_prepend(str(outside.ROOT / "scripts"))
    kind = importlib.import_module("bench_step")._kind
    assert kind("DepthwiseConv2dNativeBackpropFilter") == kind("_FusedDepthwiseConv2dNative") == "depthwise convolution"
    assert kind("_MklNativeConv2DBackpropInput") == "convolution"
    assert kind("FusedBatchNormGradV3") == "batch norm" and kind("Mul") == "Mul"


def test_without_a_gpu_nothing_is_measured(monkeypatch):
    from detect.runs import provenance

    monkeypatch.setattr(provenance, "gpu_models", list)
    monkeypatch.syspath_prepend(str(outside.ROOT / "scripts"))
    bench_gpu = importlib.import_module("bench_gpu")
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", "python", "gpu.json"])
    with pytest.raises(SystemExit, match="no GPU"):
        bench_gpu.main()
