"""`detect export` of runs with and without a quantised stage, and what it refuses."""

import errno
import json
import os
import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from detect.config.check import CONFIG_DIR
from detect.detector import Detector
from detect.errors import ConfigError, DataError, WeightsError
from detect.export import images, options, writer
from tests import verbs
from tests.verbs import composed

LEFT_OUT = ("last", "tensorboard", "classify", "*.png")


call = partial(verbs.call, "export")


def edited(run, folder, **values):
    """A copy of a run with other values in its configuration."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    cfg = OmegaConf.load(folder / "config.yaml")
    for key, value in values.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, force_add=True)
    OmegaConf.save(cfg, folder / "config.yaml")
    return folder


@pytest.mark.parametrize("name", ["saved_model.pb", "model.tflite", "model.onnx"])
def test_an_export_is_not_exported_again(tmp_path, name):
    (tmp_path / name).write_bytes(b"any")
    for run in (tmp_path, tmp_path / name):
        with pytest.raises(ConfigError, match=f"run={run}: an exported model can't be exported again; name the run"):
            call(f"run={run}")


@pytest.mark.parametrize("letter", ["[", "\\"])
def test_a_saved_model_is_not_written_where_nothing_can_open_it(small_run, tmp_path, letter):
    told = r"TensorFlow can't read a SavedModel whose path contains \[ or"
    with pytest.raises(ConfigError, match=f"output=.*: {told}"):
        call(f"run={small_run[0]}", f"output='{tmp_path}/a{letter}1'")
    folder = tmp_path / f"a{letter}1"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"")
    (folder / "detector.json").write_text("{}")
    with pytest.raises(WeightsError, match=told):
        Detector.load(folder)


def test_images_for_ranges_that_nothing_measures_are_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(ConfigError, match="representative=7 is not legal here: quantize=ptq alone measures ranges"):
        call(f"run={tmp_path}", "format=tflite", "representative=7")


@pytest.mark.parametrize(
    "init, mend",
    [
        ({"scope": "detector", "path": "RUN"}, "name the run that it started from: run=RUN$"),
        ({"scope": "detector", "path": "RUN/detector/best"}, "name the run that it started from: run=RUN$"),
        ({"scope": "detector", "path": "/x/model.ckpt"}, "train one without quantize.float_stage=false"),
        ({"scope": "backbone", "path": "/x.ckpt"}, "train one without quantize.float_stage=false"),
        ({}, "train one without quantize.float_stage=false"),
    ],
)
def test_a_run_without_a_float_stage_names_the_one_that_has_it(small_run, tmp_path, init, mend):
    init = {key: value.replace("RUN", str(small_run[0])) for key, value in init.items()}
    mend = mend.replace("RUN", str(small_run[0]))
    run = edited(small_run[0], tmp_path / "run", quantize={"enabled": True, "float_stage": False}, init=init)
    with pytest.raises(ConfigError, match=f"quantize=ptq: .*has no float detector.*; {mend}"):
        call(f"run={run}", "format=tflite", "quantization=ptq")


def test_a_full_disk_leaves_the_earlier_export(tmp_path, monkeypatch):
    for name, text in (("old", "old"), ("new", "new")):
        (tmp_path / name / "variables").mkdir(parents=True)
        (tmp_path / name / "saved_model.pb").write_text(text)
        (tmp_path / name / "variables" / "index").write_text(text)

    def full(source, target):
        (target.mkdir(), (target / "saved_model.pb").write_text("n"))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(writer.shutil, "copytree", full)
        writer.put(tmp_path / "new", tmp_path / "old")
    assert {p.name for p in tmp_path.iterdir()} == {"old", "new"}
    assert (tmp_path / "old" / "saved_model.pb").read_text() == "old"
    writer.put(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "variables" / "index").read_text() == "new"


def test_a_folder_on_another_disk(tmp_path):
    """As in a container: the folder is a mount point, so nothing is moved into it from the folder above."""
    elsewhere = Path(tempfile.mkdtemp(dir="/dev/shm")) if Path("/dev/shm").is_dir() else tmp_path
    if os.stat(elsewhere).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("this machine has one file system alone")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "model.tflite").write_text("new")
    (tmp_path / "out").symlink_to(elsewhere)
    try:
        writer.put(tmp_path / "new", tmp_path / "out")
        assert [path.name for path in elsewhere.iterdir()] == ["model.tflite"]
    finally:
        shutil.rmtree(elsewhere)


@pytest.mark.parametrize("quantize", ["none", "dynamic"])
def test_a_run_with_the_resize_of_the_zoo(small_run, tmp_path, quantize):
    """Its frames have levels between whole ones, but the file takes uint8: both sides see the same images."""
    run = edited(small_run[0], tmp_path / "run", detector__resize="zoo")
    call(f"run={run}", "format=tflite", f"quantization={quantize}", f"output={tmp_path}/out", "timings=2", "compared=2")
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert report["settings"]["resize"] == "zoo" and report["parity"]["within"]


def test_a_run_whose_last_stage_has_no_weights_yet(small_run, tmp_path, caplog):
    """It was killed before the first evaluation of that stage."""
    caplog.set_level("INFO")
    run = edited(small_run[0], tmp_path / "run")
    (run / "quantized").mkdir()
    assert Detector.load(run).architecture is not None
    assert "the stage quantized has no weights yet, so this is the stage detector" in caplog.text


def test_a_quantised_stage_that_never_trained(small_run, tmp_path):
    run = edited(small_run[0], tmp_path / "run", quantize__enabled=True)
    with pytest.raises(WeightsError, match="no quantized/best"):
        call(f"run={run}", "format=tflite", "quantization=qat")


def test_an_empty_representative_set(small_run, tmp_path, monkeypatch):
    from dataclasses import replace

    from detect.runs.dataset import own_dataset

    def without_training_images(run, decode):
        dataset = own_dataset(run, decode)
        return replace(dataset, splits={**dataset.splits, "train": ()})

    monkeypatch.setattr(images, "own_dataset", without_training_images)
    with pytest.raises(DataError, match="the representative set is empty; it needs at least one training image"):
        call(f"run={small_run[0]}", "format=tflite", "quantization=ptq", f"output={tmp_path}/x")
    assert not (tmp_path / "x").exists()


def test_a_file_that_scores_otherwise_is_not_written(small_run, tmp_path, monkeypatch):
    from detect.tflite import accuracy

    monkeypatch.setattr(accuracy, "LIMIT", -1.0)
    settings = [f"run={small_run[0]}", "format=tflite", "timings=10", "compared=1", f"output={tmp_path}/x"]
    with pytest.raises(ConfigError, match=r"not written: the file's AP on 4 test images is .*; strict=false"):
        call(*settings)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", ["tflite", "saved_model"])
def test_a_file_that_computes_otherwise_is_not_scored(small_run, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(writer.comparison, "score", lambda *_: pytest.fail("this takes minutes"))
    for module in (writer.package, writer.comparison):
        monkeypatch.setattr(module, "disagreement", lambda found: "the scores differ")
    with pytest.raises(ConfigError, match="the file is not written: the scores differ; strict=false"):
        call(f"run={small_run[0]}", f"format={kind}", "timings=2", "compared=1", f"output={tmp_path}/x")
    assert not (tmp_path / "x").exists()


class Planted:
    """A detector that finds the same in each image."""

    size = (100, 100)

    def __init__(self, boxes, classes):
        scores = np.linspace(0.9, 0.5, len(classes))
        self.found = SimpleNamespace(boxes=np.array(boxes, float).reshape(-1, 4), scores=scores, classes=classes)

    def __call__(self, frames):
        return [self.found for _ in frames]


def test_a_fake_quantised_saved_model_with_other_classes_or_boxes_is_told(caplog):
    """Rounding may move some of its boxes by a step."""
    cfg, boxes = SimpleNamespace(quantization="qat"), [[0, 0, 20, 20], [30, 30, 60, 60], [0, 50, 9, 90]]
    run, kinds = Planted(boxes, np.array([1, 2, 2])), np.array([2, 1, 1])
    moved = [boxes[0], boxes[1], [0, 52, 9, 90]]
    others = [Planted(moved, run.found.classes), Planted(boxes, kinds), Planted(np.add(boxes, 3), run.found.classes)]
    found = [writer.comparison.parity(cfg, run, other, [None, None]) for other in others]
    told = [writer.comparison.disagreement(one) for one in found]
    assert told[0] is None and all("both find 0% of" in one and "50%" in one for one in told[1:])


def test_a_test_split_without_boxes_gives_way_to_val(small_run, tmp_path, monkeypatch):
    """All of its photographs may be unlabelled, and then it has no AP."""
    own = images.own_dataset

    def unlabelled(run, **given):
        dataset = own(run, **given)
        bare = tuple(replace(one, boxes=one.boxes[:0], classes=one.classes[:0], crowd=one.crowd[:0], areas=None)
                     for one in dataset.splits["test"])  # fmt: skip
        return replace(dataset, splits={**dataset.splits, "test": bare})

    monkeypatch.setattr(images, "own_dataset", unlabelled)
    call(f"run={small_run[0]}", "format=tflite", "timings=2", "compared=1", f"output={tmp_path}/x")
    scores = json.loads((tmp_path / "x/export.json").read_text())["scores"]
    assert scores["split"] == "val" and scores["file"]["AP"] is not None


def test_a_file_that_is_not_for_its_target_is_not_scored(small_run, tmp_path, monkeypatch):
    run = edited(small_run[0], tmp_path / "run", detector__resize="keep_aspect")
    monkeypatch.setattr(writer.comparison, "score", lambda *_: pytest.fail("this takes minutes"))
    words = [f"run={run}", "format=tflite", "nms=in_graph", "target=mediapipe", "timings=2", "compared=1"]
    with pytest.raises(ConfigError, match="not written: MediaPipe does not take the file"):
        call(*words, f"output={tmp_path}/x")
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def quantised_run(small_run, tmp_path_factory):
    """The small run with a third stage: random biases and batch norms in place of twelve steps', and calibrated.

    After so few steps each layer's noise is larger than what it tells the next one.
    """
    from detect.data.image_file import read_image
    from detect.geometry.frame import Frame
    from detect.quantization.calibrate import calibrate
    from detect.quantization.rewrite import fake_quant
    from detect.runs.dataset import open_dataset
    from detect.runs.folder import RunFolder
    from detect.training import build
    from detect.training.finished import load_architecture
    from detect.weights import checkpoint

    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        quantize = OmegaConf.to_container(hydra.compose("train", ["quantize=int8"]).quantize)
    run = edited(small_run[0], tmp_path_factory.mktemp("quantised") / "run", quantize=quantize)
    detector, cfg = load_architecture(RunFolder(run), "detector"), RunFolder(run).saved_config()
    random = np.random.default_rng(0)
    for variable in detector.model.variables:
        if any(part in variable.name for part in ("gamma", "variance")):
            variable.assign(random.uniform(0.5, 2, variable.shape))
        elif len(variable.shape) == 1:
            variable.assign(random.normal(0, 0.2, variable.shape))
    detector.adopt(fake_quant(detector.model, build.quantization(cfg)))
    frame, examples = Frame(detector.size), open_dataset(cfg, decode=False).splits["train"]
    images = np.stack([frame.fit(read_image(example.path)) for example in examples[:8]])
    calibrate(detector.model, [images], detector.detect)
    values = {variable.name.removesuffix(":0"): variable for variable in detector.model.variables}
    checkpoint.write(run / "quantized" / "best", values)
    return run


@pytest.mark.slow
def test_a_quantised_run(quantised_run):
    """Its int8 file is the evaluation graph; beside it, AP of the float stage."""
    from detect.detector import Detector
    from detect.tflite import flatbuffer

    call(f"run={quantised_run}", "format=tflite", "quantization=qat", "timings=10", "compared=4")
    folder = quantised_run / "tflite_qat"
    report = json.loads((folder / "export.json").read_text())
    assert report["parity"]["within"] and report["parity"]["limit"] == {"near": 0.99, "most": 3}
    assert sum(report["parity"]["logits"]["quanta"]) == 4 * 204 * 11
    assert abs(report["scores"]["difference"]) <= 0.002 and report["scores"]["float_stage"] == "detector"
    assert set(report["scores"]) >= {"run", "file", "float"}
    types = {kind for kinds in report["operators"].values() for kind in kinds}
    assert types <= {"int8", "uint8"} and report["inputs"]["image"] == {
        "shape": [1, 96, 96, 3], "type": "uint8", "step": 1.0, "zero": 0,
    }  # fmt: skip
    assert len(report["layers"]) > 40 and report["bytes"] < report["float32_bytes"] / 2
    assert Detector.load(folder).classes == Detector.load(quantised_run).classes
    assert flatbuffer.metadata(flatbuffer.read((folder / "model.tflite").read_bytes()))["detect.json"]
    call(f"run={quantised_run}", "quantization=qat", "timings=10")
    saved = json.loads((quantised_run / "saved_model_qat" / "export.json").read_text())
    assert saved["parity"]["limit"] is None and saved["operators"]["FakeQuantWithMinMaxVars"]


@pytest.mark.slow
def test_other_kinds_of_a_quantised_run_are_of_its_float_stage(quantised_run, small_run, tmp_path):
    call(f"run={quantised_run}", "format=tflite", "timings=10", f"output={tmp_path}/x")
    ap = json.loads((small_run[0] / "summary.json").read_text())["scores"]["test"]["AP"]
    assert json.loads((tmp_path / "x" / "export.json").read_text())["scores"]["run"]["AP"] == pytest.approx(
        ap, abs=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "variable, value, message",
    [
        ("range_seen", 0.0, "codes/fake_quant: the range has seen no data"),
        ("range_max", np.nan, r"codes/fake_quant/range_max has NaN"),
    ],
)
def test_a_range_that_is_of_no_use(quantised_run, tmp_path, variable, value, message):
    from detect.weights import checkpoint

    run = tmp_path / "run"
    shutil.copytree(quantised_run, run, ignore=shutil.ignore_patterns("tflite*", "saved_model*"))
    values = checkpoint.read(run / "quantized" / "best")
    name = f"codes/fake_quant/{variable}"
    values[name] = np.full_like(values[name], value)
    checkpoint.write(run / "quantized" / "best", values)
    with pytest.raises((ConfigError, WeightsError), match=message):
        call(f"run={run}", "format=tflite", "quantization=qat")


@pytest.mark.slow
def test_a_data_set_that_has_other_classes_now(small_run, tmp_path, caplog):
    run = edited(small_run[0], tmp_path / "run")
    (run / "classes.json").write_text(json.dumps([*"abcdefghij"]))
    with pytest.raises(DataError, match=r"was trained on \['a', .*\]. its data set now has \['0', "):
        call(f"run={run}", "format=tflite", "quantization=ptq")
    call(f"run={run}", "format=tflite", "timings=10")
    report = json.loads((run / "tflite" / "export.json").read_text())
    assert report["scores"] is None and report["parity"]["source"] == "photographs of scikit-image"
    assert "nothing is scored, and photographs are compared" in caplog.text


@pytest.mark.parametrize(
    "settings, told",
    [
        (["target=mediapipe"], "target=mediapipe: it takes a TFLite file; give format=tflite"),
        (["target=mediapipe", "format=tflite"], "target=mediapipe: it wants detections; give nms=in_graph"),
        (["target=mediapipe", "format=tflite", "quantization=ptq", "nms=in_graph", "input=int8"], "leave input=null"),
        (["target=edge_tpu", "format=tflite"], "target=edge_tpu quantize=none: it computes in int8"),
        (["target=edge_tpu", "format=tflite", "quantization=ptq", "batch=null"], "leave batch=1"),
    ],
)
def test_a_target_refuses_settings_before_the_work(settings, told):
    cfg = composed("export", *settings, "run=x")
    with pytest.raises(ConfigError, match=told):
        options.check(cfg)


def test_the_page_of_the_run_is_written_again_after_any_export(tmp_path, monkeypatch):
    """Also after one of the Python API."""
    pages = []
    monkeypatch.setattr(Detector, "load", lambda *_, **__: SimpleNamespace(architecture="network"))
    monkeypatch.setattr(writer.run_page, "refresh", pages.append)
    monkeypatch.setitem(writer.WRITERS, "saved_model", lambda *_: None)
    options = {"run": "run", "format": "saved_model", "quantization": "none", "class_agnostic": None}
    writer.write(OmegaConf.create(options), tmp_path)
    assert pages == [tmp_path]
