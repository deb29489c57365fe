"""`detect benchmark`: the models that it finds, their times in processes of their own, and the table."""

import importlib
import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import hydra
import numpy as np
import pytest
import tensorflow as tf
from omegaconf import OmegaConf

from detect import environment
from detect.config.check import CONFIG_DIR
from detect.config.trust import trusting
from detect.detector import Detector
from detect.errors import ConfigError, DataError, WeightsError
from detect.export import benchmark, timing
from detect.export.timing import Model
from tests import verbs

call = partial(verbs.call, "benchmark")


def test_models_are_recognised_by_their_files(tmp_path):
    for name in ("a/model.onnx", "b/model.tflite", "c/model.xml", "d/saved_model.pb", "run/config.yaml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("{}")
    (tmp_path / "b/export.json").write_text('{"options": {"quantize": "qat"}}')
    found = benchmark.find_models(None, [tmp_path / name for name in ("a", "b", "c", "d", "a/model.onnx")])
    assert {name: model.kind for name, model in found.items()} == {
        "a": "onnx", "b": "tflite", "c": "openvino", "d": "saved_model", "a/model.onnx": "onnx"
    }  # fmt: skip
    assert (found["a"].stage, found["b"].stage) == ("detector", "quantized")
    assert benchmark.recognised(tmp_path / "run").kind == "run"
    for stage in ("detector", "quantized"):
        (tmp_path / "run" / stage).mkdir()
        assert benchmark.recognised(tmp_path / "run").stage == stage
    with pytest.raises(ConfigError, match=r"empty: legal are a \.tflite, \.onnx or \.xml file"):
        benchmark.recognised(tmp_path / "empty")


def test_an_export_in_the_run_that_cannot_be_opened_is_left_out(tmp_path, caplog, monkeypatch):
    (tmp_path / "config.yaml").write_text("{}")
    for name in ("renamed/board.tflite", "gone/export.json", "net/model.onnx"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("{}")
        (tmp_path / name).with_name("export.json").write_text("{}")
    monkeypatch.setattr(benchmark, "READS", {"onnx": ("no_such_package",)})
    monkeypatch.setattr("detect.portable.packages.READS", {"onnx": ("no_such_package",)})
    found = benchmark.find_models(tmp_path, [])
    assert {name: model.path.name for name, model in found.items()} == {"renamed": "board.tflite"}
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [line.split(":")[0] for line in told] == ["gone is left out", "net is left out"]
    assert "no_such_package is not installed" in told[1]
    with pytest.raises(ConfigError, match=r"gone: legal are"):
        benchmark.find_models(tmp_path, [tmp_path / "gone"])


def test_an_export_in_the_run_whose_content_is_damaged_is_left_out(tmp_path, caplog, monkeypatch):
    from detect.cli.benchmark import _opened

    (tmp_path / "run" / "cut").mkdir(parents=True)
    for name in ("run/cut/model.tflite", "named.tflite"):
        (tmp_path / name).write_bytes(b"x" * 100)
    good, cut = (Model("run", tmp_path / "run"), Model("tflite", tmp_path / "run/cut/model.tflite"))
    load = Detector.load
    known = SimpleNamespace(classes=("a",))
    monkeypatch.setattr(Detector, "load", lambda path, stage: known if path == good.path else load(path, stage))
    assert _opened({"run": good, "cut": cut}, tmp_path / "run") == {"run": known}
    assert caplog.messages[-1].startswith("cut is left out: ") and "not a TFLite file" in caplog.messages[-1]
    with pytest.raises(WeightsError, match="not a TFLite file"):
        _opened({"run": good, "named": Model("tflite", tmp_path / "named.tflite")}, tmp_path / "run")
    with pytest.raises(DataError, match=r"none of its models can be opened: cut"):
        _opened({"cut": cut}, tmp_path / "run")


def test_processes_are_asked_in_turn_and_tell_their_memory(tmp_path, caplog):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3], tf.uint8, name="image")])
    def network(image):
        return {"sum": tf.reduce_sum(tf.cast(image, tf.float32))}

    file = tmp_path / "a.tflite"
    file.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()]).convert())
    frame = np.zeros((8, 8, 3), np.uint8)
    found = timing.measure({"one": Model("tflite", file), "two": Model("tflite", file)}, frame, 1, 5)
    for row in found.values():
        assert 0 < row["low"] <= row["ms"] <= row["high"]
        assert 20 < row["memory_mb"] < 400  # far less than a process with TensorFlow
    worker = timing.Worker("one", Model("tflite", file), frame, 1)
    worker.process.kill()
    worker.process.wait()
    with pytest.raises(WeightsError, match=r"one: it can't be timed: its process ended with code -9"):
        worker.ask("1")
    (tmp_path / "bad.tflite").write_bytes(b"x" * 100)
    both = {"bad": Model("tflite", tmp_path / "bad.tflite"), "one": Model("tflite", file)}
    assert list(timing.measure(both, frame, 1, 2)) == ["one"]
    told = caplog.messages[-1]
    assert told.startswith("bad: it can't be timed: ") and "not a TFLite file" in told


def test_a_model_is_compared_with_its_own_run(monkeypatch):
    """The order of `model=` changes nothing, and the exports of a second run are not compared with the first."""
    one, two = Model("run", Path("runs/one")), Model("run", Path("runs/two"))
    files = {name: Model("tflite", Path(name)) for name in ("runs/one/tflite/a.tflite", "b.tflite")}
    models = files | {"one": one}
    assert {name: benchmark.origin_of(name, models) for name in models} == dict.fromkeys(models, "one")
    models |= {"two": two, "qat": Model("tflite", Path("runs/two/a.tflite"), "quantized")}
    origins = {name: benchmark.origin_of(name, models) for name in models}
    assert origins == {"runs/one/tflite/a.tflite": "one", "b.tflite": None, "one": "one", "two": "two", "qat": None}

    found = [(np.array([[0.1, 0.1, 0.5, 0.5]]), np.array([0.9]), np.array([1]))]
    opened = dict.fromkeys((*files, "one"), SimpleNamespace(size=(96, 96), class_agnostic=False))
    monkeypatch.setattr(benchmark, "_right", lambda model, _: model)
    monkeypatch.setattr(benchmark, "_detections", lambda *_: (found, 0.5))
    monkeypatch.setattr(benchmark, "size_of", lambda _: 1)
    monkeypatch.setattr(timing, "measure", lambda *_: {})
    rows = benchmark.benchmark(models, opened, [], 2, 1)
    assert [(row["name"], row["partners"]) for row in rows] == [(name, 1.0) for name in (*files, "one")]


def test_an_export_whose_classes_compete_is_compared_with_such_a_run(monkeypatch):
    """In the run as trained, one object has two classes."""
    box, loads = [0.1, 0.1, 0.5, 0.5], []

    def opened(class_agnostic):
        return SimpleNamespace(size=(96, 96), class_agnostic=class_agnostic)

    def load(path, stage, class_agnostic):
        loads.append((path, stage))
        return opened(class_agnostic)

    def detections(detector, examples):
        count = 1 if detector.class_agnostic else 2
        return [(np.array([box] * count), np.array([0.9, 0.8])[:count], np.array([1, 2])[:count])], 0.5

    monkeypatch.setattr(benchmark.Detector, "load", load)
    monkeypatch.setattr(benchmark, "_detections", detections)
    monkeypatch.setattr(benchmark, "size_of", lambda _: 1)
    monkeypatch.setattr(timing, "measure", lambda *_: {})
    models = {"run": Model("run", Path("run")), "a": Model("onnx", Path("run/a")), "b": Model("onnx", Path("run/b"))}
    detectors = {"run": opened(False), "a": opened(True), "b": opened(True)}
    rows = benchmark.benchmark(models, detectors, [], 2, 1)
    assert [row["partners"] for row in rows] == [1.0, 1.0, 1.0] and loads == [(Path("run"), "detector")]


def test_a_process_that_dies_before_it_reads_is_named(monkeypatch):
    monkeypatch.setattr(timing.sys, "executable", shutil.which("false"))
    with pytest.raises(WeightsError, match=r"one: it can't be timed: its process ended with code 1"):
        timing.Worker("one", Model("tflite", Path("x")), np.zeros((300, 300, 3), np.uint8), 1)


def test_a_file_that_is_wrong_with_several_threads_is_timed_with_one(monkeypatch, tmp_path):
    asked = {}
    settings = SimpleNamespace(nms="tflite_op", class_agnostic=False, classes=("a", "b", "c"))
    monkeypatch.setattr(benchmark.Settings, "read", lambda *_: settings)
    monkeypatch.setattr(benchmark.flatbuffer, "read", lambda _: None)
    (tmp_path / "a.tflite").write_bytes(b"")
    times = {"ms": 4.0, "low": 3.0, "high": 5.0, "memory_mb": 50.0}

    class Worker:
        def __init__(self, name, model, frame, threads):
            asked[name] = [*asked.get(name, []), threads]

        def ask(self, word):
            return times

        def end(self):
            pass

    monkeypatch.setattr(timing, "Worker", Worker)
    opened = dict.fromkeys("ab", SimpleNamespace(size=(96, 96), class_agnostic=False))
    models = {"a": Model("tflite", tmp_path / "a.tflite"), "b": Model("onnx", tmp_path / "a.tflite")}
    rows = benchmark.benchmark(models, opened, [], 2, 2)
    assert asked == {"a": [1, 1], "b": [1, 2]}
    assert [row["one_thread"] for row in rows] == [True, False]
    assert "run it with 1 thread" in benchmark.table(rows)[2] and len(benchmark.table(rows)) == 4


def test_a_saved_model_is_timed_as_it_is_run(monkeypatch):
    """Without joint kernels of convolution and batch norm, where these are slow."""
    seen, options = [], tf.config.optimizer.get_experimental_options
    monkeypatch.setattr(environment, "onednn_with_avx2", lambda: True)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    for kind in ("intra", "inter"):
        monkeypatch.setattr(tf.config.threading, f"set_{kind}_op_parallelism_threads", lambda count: None)
    signature = {"serving_default": lambda batch: seen.append(options().get("remapping"))}
    monkeypatch.setattr(tf.saved_model, "load", lambda path: SimpleNamespace(signatures=signature))
    run = timing.loaded(Model("saved_model", Path("x")), 1, np.zeros((8, 8, 3), np.uint8))
    run()
    assert seen == [False] and options().get("remapping", True)


def test_the_table_fits_80_columns():
    times = {"ms": 1234.56, "low": 1100.0, "high": 1300.0, "memory_mb": 1234.0}
    row = {"bytes": 123_456_789, "AP": 0.5, "partners": 1.0, "threads": {"1": times, "16": times}}
    lines = benchmark.table([{"name": "x" * 60, **row}, {**row, "name": "run", "bytes": None, "AP": None}])
    assert {len(line) for line in lines} == {80}
    assert "1234.6 ±100.0" in lines[1] and lines[2].split()[:3] == ["run", "-", "-"]


def test_a_model_that_can_not_be_timed_keeps_its_score(tmp_path):
    times = {"ms": 4.0, "low": 3.0, "high": 5.0, "memory_mb": 50.0}
    row = {"name": "a", "kind": "tflite", "bytes": 1, "AP": 0.5, "partners": 1.0, "largest_score_difference": 0.0}
    rows = [row | {"threads": {"1": times}}, row | {"name": "b", "threads": {"1": None}}]
    assert benchmark.table(rows)[2].split() == ["b", "0.0", "0.500", "100%", "-", "-"]
    benchmark.write(rows, 4, tmp_path)
    assert (tmp_path / "benchmark.csv").read_text().splitlines()[2] == "b,tflite,1,0.5,1.0,0.0,,,,"


def test_what_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="name a run folder"):
        call()
    with pytest.raises(ConfigError, match="runs=1: legal are whole numbers from 2"):
        call("model=x", "runs=1")
    with pytest.raises(ConfigError, match="this is no run folder"):
        call(f"run={tmp_path}")
    with pytest.raises(ConfigError, match="split=val is not legal here: nothing is scored without a data set or a run"):
        call("model=x", "split=val")
    with pytest.raises(ConfigError, match="split=val is not legal here: images=0 scores nothing"):
        call("model=x", "split=val", "images=0", "dataset=digits")
    with pytest.raises(ConfigError, match="images=0 scores nothing: leave dataset out"):
        call("model=x", "images=0", "dataset=digits")


@pytest.mark.slow
def test_a_run_and_its_file(small_run, tmp_path):
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = hydra.compose(
            "export", [f"run={small_run[0]}", "format=tflite", "nms=in_graph", f"output={tmp_path}/file"]
        )
    importlib.import_module("detect.cli.export").main(cfg)
    call(f"run={small_run[0]}", f"model={tmp_path}/file", "runs=3", f"output={tmp_path}/out")
    said = json.loads((tmp_path / "out/benchmark.json").read_text())
    run, file = (row for row in said["models"] if row["name"] in ("run", "file"))
    assert (run["partners"], said["images"]) == (1.0, 4)
    assert file["AP"] == pytest.approx(run["AP"], abs=1e-3) and file["partners"] > 0.95
    assert file["threads"]["1"]["memory_mb"] < run["threads"]["1"]["memory_mb"] / 2
    assert (tmp_path / "out/benchmark.csv").read_text().startswith("name,kind,bytes,AP,partners,")


def test_the_size_of_a_saved_model_is_what_ships(tmp_path):
    for name in ("saved_model.pb", "variables/variables.index", "detector.json", "labels.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 10)
    for name in ("export.json", "evaluation/test_worst.png", "predictions/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 1000)
    assert benchmark.size_of(Model("saved_model", tmp_path)) == 40


def test_the_process_of_a_run_may_use_the_modules_that_were_named(small_run, tmp_path, monkeypatch, caplog):
    run = tmp_path / "run"
    shutil.copytree(small_run[0], run, ignore=shutil.ignore_patterns("events*", "*.png"))
    cfg = OmegaConf.load(run / "config.yaml")
    target = cfg.backbone._target_
    cfg.backbone._target_ = "my_own_net.Net"
    OmegaConf.save(cfg, run / "config.yaml")
    module, _, name = target.rpartition(".")
    (tmp_path / "my_own_net.py").write_text(f"from {module} import {name}\n\n\nclass Net({name}):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    frame = np.zeros((96, 96, 3), np.uint8)
    assert timing.measure({"run": Model("run", run)}, frame, 1, 2) == {} and "my_own_net" in caplog.messages[-1]
    with trusting(["my_own_net"]):
        assert timing.measure({"run": Model("run", run)}, frame, 1, 2)["run"]["ms"] > 0
