"""AP of run and file side by side."""

import pytest

from detect.data.subset import evenly_spread
from detect.tflite import accuracy


def figures(run: float | None, file: float | None, **more: float) -> dict:
    return accuracy.compared("test", 72, {name: {"AP": ap} for name, ap in {"run": run, "file": file, **more}.items()})


def test_examples_are_evenly_spread():
    assert evenly_spread(range(10), 4) == [0, 2, 5, 7]
    assert evenly_spread(range(3), 500) == [0, 1, 2] and evenly_spread((), 5) == []


def test_what_is_kept():
    found = figures(0.57, 0.5685, float=0.571)
    assert found["difference"] == pytest.approx(-0.0015) and found["images"] == 72 and found["split"] == "test"
    assert accuracy.line(found) == "AP on 72 test images: file 0.5685, run 0.5700, float 0.5710"
    own = found | {"float_stage": "quantized"}
    assert accuracy.line(own).endswith(": file 0.5685, run 0.5700, without rounding 0.5710")
    assert accuracy.line(figures(None, None)) == "AP on 72 test images: file n/a, run n/a"


@pytest.mark.parametrize("quantize, limited", [("none", True), ("qat", True), ("ptq", False), ("float16", False)])
def test_the_limit(quantize, limited):
    assert accuracy.complaint(figures(0.5, 0.5019), quantize) is None
    assert accuracy.complaint(figures(None, None), quantize) is None and accuracy.complaint(None, quantize) is None
    told = accuracy.complaint(figures(0.5, 0.4979), quantize)
    assert (told is not None) == limited
    if told:
        assert told == (
            "the file's AP on 72 test images is 0.4979, the run's 0.5000; 0.002 is the limit of the difference"
        )
