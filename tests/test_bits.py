"""The files of other bit widths of the study quantisation_seeds: what they hold, and that a report names them."""

import shutil
import sys

import numpy as np
import pytest

from detect import files
from detect.studies.export_rows import file_kind
from detect.tflite import flatbuffer, operators
from tests import outside

MADE = {"bits_4_per_tensor": "4-bit kernels ptq per_tensor", "int16x8": "int16x8 ptq"}


@pytest.fixture(scope="module")
def bits():
    return outside.module("scripts/bits.py")


def test_the_files_have_the_bits_of_their_names(bits, small_run, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    shutil.copytree(small_run[0], run, ignore=shutil.ignore_patterns("last", "tensorboard", "classify", "*.png"))
    monkeypatch.setattr(bits, "FILES", {name: bits.FILES[name] for name in MADE})
    monkeypatch.setattr(sys, "argv", ["bits.py", str(run)])
    bits.main()
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "of the run" in line] == [
        str(run / name) for name in MADE
    ]
    largest = {}
    for name, called in MADE.items():
        about = files.read_json(run / name / "export.json")
        assert file_kind(about, run / name) == called
        assert about["scores"]["images"] == 4 and about["representative"] == 16
        model = flatbuffer.read((run / name / "model.tflite").read_bytes())
        kernels = kernels_of(model)
        largest[name] = {int(np.abs(kernel).max()) for kernel in kernels}
        assert about["bytes"] == (run / name / "model.tflite").stat().st_size
        assert len(kernels) == sum(sum(operators.census(model).get(op, {}).values()) for op in operators.CONVOLUTIONS)
    assert largest["bits_4_per_tensor"] == {7, 127}  # 127: the scaling of the pixels
    assert max(largest["int16x8"]) == 127
    bits.main()
    assert "of the run" not in capsys.readouterr().out  # a file that is there is not made again


def kernels_of(model) -> list[np.ndarray]:
    """The int8 kernels of the convolutions of a file."""
    found = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            if flatbuffer.operator_name(model, operator) in operators.CONVOLUTIONS:
                tensor = graph.tensors[operator.inputs[1]]
                assert flatbuffer.dtype_name(tensor) == "int8"
                found.append(np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8))
    return found
