"""Damaged and hostile TFLite files: indices and sizes are checked, and the interpreter tries a file apart."""

import random

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from detect import apart
from detect.detector import Detector
from detect.errors import WeightsError
from detect.tflite import flatbuffer, package, trial
from detect.tflite.runner import Runner


def changed(files, change):
    """The bytes of the float32 file after a change of its parsed content, written without a check."""
    model = flatbuffer.read(files["float32"].content)
    change(model, model.subgraphs[0])
    return flatbuffer.write(model)


def big(model, graph):
    graph.tensors[int(graph.inputs[0])].shape = np.array([1, 1 << 15, 1 << 15, 3], np.int32)


LIES = {
    "a giant tensor": (big, "with a tensor of the shape"),
    "a negative side": (
        lambda m, g: setattr(g.tensors[0], "shape", np.array([-5], np.int32)), "with a tensor of the shape"
    ),
    "no such buffer": (lambda m, g: setattr(g.tensors[0], "buffer", 999), "it has no buffer 999"),
    "a constant of another size": (
        lambda m, g: setattr(next(b for b in m.buffers if b.data is not None and len(b.data) > 64), "data", [0] * 8),
        "a constant of the shape",
    ),
    "no such tensor": (lambda m, g: setattr(g.operators[0], "inputs", np.array([999], np.int32)), "has a tensor that"),
    "no such kind": (lambda m, g: setattr(g.operators[0], "opcodeIndex", 99), "it has no kind 99 of operators"),
    "no such input": (lambda m, g: setattr(g, "inputs", np.array([-1], np.int32)), "an end of the graph is no tensor"),
    "no such signature": (
        lambda m, g: setattr(m.signatureDefs[0].inputs[0], "tensorIndex", 999), "its signature has a tensor that"
    ),
    "no such metadata": (lambda m, g: setattr(m.metadata[0], "buffer", 999), "its metadata are in no buffer"),
    "no graph": (lambda m, g: setattr(m, "subgraphs", []), "without a graph"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_files_that_lie(files, name):
    change, told = LIES[name]
    with pytest.raises(WeightsError, match=r"x\.tflite: a TFLite file") as caught:
        flatbuffer.read(changed(files, change), "x.tflite")
    assert told in str(caught.value)


def test_a_right_file_passes_the_trial(files, tmp_path):
    path = tmp_path / "x.tflite"
    for kind in ("float32", "dynamic"):
        path.write_bytes(files[kind].content)
        assert trial.read(path) == files[kind].content


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0TFL3", b"text"])
def test_what_is_no_file_of_this_kind(tmp_path, content):
    (tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"x\.tflite: (not a TFLite file|a TFLite file that is damaged|a TFLite file without)"
    ):
        Detector.load(tmp_path / "x.tflite")


def test_damaged_files_never_end_the_program(files, tmp_path):
    content, rng = files["float32"].content, random.Random(1)
    path = tmp_path / "x.tflite"
    refused = 0
    for _ in range(8):
        damaged = bytearray(content)
        for _ in range(20):
            damaged[rng.randrange(8, len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            Detector.load(path)(np.zeros((20, 30, 3), np.uint8))
        except WeightsError:
            refused += 1
    assert refused


def test_an_interpreter_that_crashes_is_told(files, tmp_path, monkeypatch):
    path = tmp_path / "x.tflite"
    path.write_bytes(files["float32"].content)
    monkeypatch.setattr(apart, "run", lambda *_: -11)
    with pytest.raises(WeightsError, match=r"x\.tflite: it is damaged: the process that read it ended with .*SEGV"):
        package.open_file(path)


def test_other_inputs_and_outputs(files):
    def wide(model, graph):
        graph.tensors[int(graph.inputs[0])].type = schema.TensorType.STRING

    with pytest.raises(WeightsError, match=r"the file takes a tensor|can't run this file"):
        Runner(changed(files, wide))


def with_settings(files, tmp_path, **values):
    import json

    model = flatbuffer.read(files["float32"].content)
    said = json.loads(flatbuffer.metadata(model)["detect.json"]) | values
    flatbuffer.set_metadata(model, {"detect.json": json.dumps(said).encode()})
    path = tmp_path / "x.tflite"
    path.write_bytes(flatbuffer.write(model))
    return path


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"classes": ["a", "b", "c"]}, "the file's logits have the shape"),
        ({"size": [64, 64]}, "but its metadata promise frames of"),
        ({"size": [1 << 30, 1]}, "size is"),
        ({"classes": "ab"}, "classes is 'ab'; legal is a list of names"),
        ({"total": 10**9}, "has total=1000000000, which is not legal"),
        ({"per_class": 0}, "has per_class=0"),
        ({"scales": [0, 1, 1, 1]}, "has scales="),
        ({"scales": [1]}, "has scales="),
        ({"iou": "x"}, "has iou=x"),
        ({"resize": "no"}, "has resize=no"),
        ({"resize": ["zoo"]}, "has resize="),
        ({"nms": "in_graph"}, "but its metadata promise"),
        ({"boxes": []}, "has boxes="),
        ({"anchors": {"shape": [1, 1]}}, "can't be read"),
        ({"anchors": {"shape": [-1, 2]}}, "its anchors have the shape"),
    ],
)
def test_metadata_that_lie(files, tmp_path, values, told):
    path = with_settings(files, tmp_path, **values)
    with pytest.raises(WeightsError) as caught:
        package.open_file(path)
    assert told in str(caught.value) and str(path) in str(caught.value)


def test_classes_that_a_model_has_not():
    def find(images):
        return [(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.array([7], np.int32))]

    with pytest.raises(WeightsError, match="x: it finds class 7; legal are 1 to 2"):
        Detector(find, ("cat", "dog"), (4, 4), "x")(np.zeros((4, 4, 3), np.uint8))
