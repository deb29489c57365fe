"""ONNX and OpenVINO exports of a small run: they find what the run finds. Skipped where the packages are missing."""

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from detect.detector import Detector
from detect.errors import ConfigError, WeightsError
from detect.portable import packages, runner
from detect.runs.folder import DETECTOR
from tests.outside import python_blocks
from tests.verbs import call

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}


@pytest.mark.parametrize("wanted", ["onnx", "openvino"])
def test_an_operation_that_onnx_lacks_is_named(wanted):
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed: pip install -e '.[onnx]'")
    import tensorflow as tf

    from detect.portable import convert

    def detect(image):
        boxes = tf.math.betainc(image + 1.0, image + 1.0, image / 300.0)[:, 0, :, :1] + tf.zeros((1, 1, 4))
        scores = boxes[..., 0]
        return {"boxes": boxes, "scores": scores, "classes": scores, "count": tf.reduce_sum(scores, axis=1)}

    network = SimpleNamespace(size=(8, 8), detect=detect)
    with pytest.raises(ConfigError, match=rf"format={wanted}: .*Betainc"):
        convert.to_onnx(network, {}, wanted)


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def exported(request, small_run, tmp_path_factory) -> Path:
    """The folder of an export."""
    for name in ("tf2onnx", "onnx", PACKAGES[request.param]):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install -e '.[{request.param}]'")
    folder = tmp_path_factory.mktemp("portable") / request.param
    call("export", f"run={small_run[0]}", f"format={request.param}", f"output={folder}", "timings=10", "compared=4")
    return folder


def test_the_export_is_described(exported):
    report = json.loads((exported / "export.json").read_text())
    kind = report["format"]
    assert kind == exported.name and (exported / packages.MODEL[kind]).is_file()
    assert report["parity"]["relative"] < 1e-4 and report["operators"]["Conv"]["none"] > 10
    assert report["scores"]["difference"] == pytest.approx(0, abs=1e-4)
    assert report["versions"]["tf2onnx"] and report["latency_ms"] > 0
    assert (exported / "labels.txt").read_text().split() == [str(digit) for digit in range(10)]


def test_it_finds_what_the_run_finds(exported, small_run):
    images = [np.random.default_rng(i).integers(0, 256, (90 + 40 * i, 200, 3), np.uint8) for i in range(3)]
    run, file = (
        Detector.load(small_run[0], DETECTOR),
        Detector.load(exported / packages.MODEL[exported.name], threads=1),
    )
    assert (file.classes, file.size, file.category_ids) == (run.classes, run.size, run.category_ids)
    for ours, theirs in zip(run(images), file(images), strict=True):
        assert len(ours.scores) == len(theirs.scores) > 0
        np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-5)


NOISE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)


@pytest.mark.parametrize(
    ("resize", "image"),  # images that every kernel resizes alike
    [("stretch", NOISE), ("keep_aspect", NOISE[:40]), ("keep_aspect", np.full((1, 700, 3), 90, np.uint8))],
)
def test_the_program_of_the_documentation_needs_onnxruntime_alone(exported, tmp_path, resize, image):
    if exported.name != "onnx":
        pytest.skip("it is about ONNX")
    model = with_resize(exported, tmp_path, resize)
    cv2.imwrite(str(tmp_path / "photo.png"), image[..., ::-1])
    printed = the_program(tmp_path).stdout.splitlines()
    (found,) = Detector.load(model)([image])
    assert len(printed) == len(found.scores) > 0
    for line, name, score, box in zip(printed, found.names, found.scores, found.boxes, strict=True):
        told, *numbers = line.split()
        assert told == name
        np.testing.assert_allclose([float(number) for number in numbers], [score, *box], rtol=1e-3, atol=1e-2)


def test_the_program_of_the_documentation_refuses_another_kernel(exported, tmp_path):
    if exported.name != "onnx":
        pytest.skip("it is about ONNX")
    with_resize(exported, tmp_path, "zoo")
    cv2.imwrite(str(tmp_path / "photo.png"), NOISE)
    assert "between() of scripts/pi_detect.py" in the_program(tmp_path).stderr


def with_resize(exported, folder, resize):
    """The model with another value in its description."""
    import onnx

    model = onnx.load(exported / "model.onnx")
    (entry,) = model.metadata_props
    entry.value = json.dumps(json.loads(entry.value) | {"resize": resize})
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def the_program(folder):
    """The second program of the page, which prints all detections here, in a process without this package."""
    _, code = python_blocks("docs/ship/server.md")
    blocked = "import sys; sys.modules |= dict.fromkeys(('detect', 'tensorflow', 'cv2'))\n"
    code = code.replace('about["threshold"]["score"] if about["threshold"] else 0.5', "0.0")
    return subprocess.run([sys.executable, "-c", blocked + code], cwd=folder, capture_output=True, text=True)


def test_a_file_may_be_renamed(exported, tmp_path):
    model = exported / packages.MODEL[exported.name]
    for file in exported.glob("model.*"):
        shutil.copy(file, tmp_path / f"cards{file.suffix}")
    if (exported / "detector.json").exists():
        shutil.copy(exported / "detector.json", tmp_path)
    assert Detector.load(tmp_path / f"cards{model.suffix}").size == Detector.load(model).size


def test_verbs_take_it(exported, small_run, tmp_path):
    model = exported / packages.MODEL[exported.name]
    ap = call(
        "evaluate", f"model={model}", "dataset=digits", "dataset.images={train:16,val:4,test:4}", f"output={tmp_path}"
    )
    run = call("evaluate", f"run={small_run[0]}", f"output={tmp_path / 'run'}")
    assert ap == pytest.approx(run, abs=1e-4)


def test_a_damaged_file_is_refused(exported, tmp_path):
    source = packages.MODEL[exported.name]
    for file in exported.glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = (exported / source).read_bytes()
    (tmp_path / source).write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=source):
        Detector.load(tmp_path / source)


def test_a_changed_description_is_refused(exported):
    if exported.name == "onnx":
        import onnx

        model = onnx.load(exported / "model.onnx")
        del model.metadata_props[:]
        bare = exported.parent / "bare.onnx"
        onnx.save(model, bare)
        with pytest.raises(WeightsError, match="an ONNX file of another program"):
            Detector.load(bare)
        model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
        outside = model.graph.initializer[0].external_data.add()
        outside.key, outside.value = "location", "../secret"
        bare.write_bytes(model.SerializeToString())
        with pytest.raises(WeightsError, match="keeps numbers in other files"):
            Detector.load(bare)
    else:
        about = json.loads((exported / "detector.json").read_text())
        about["sha256"]["model.bin"] = "0" * 64
        (exported / "detector.json").write_text(json.dumps(about))
        with pytest.raises(WeightsError, match=r"model\.bin: it is not what it was"):
            Detector.load(exported)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_missing_package_names_the_command(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"format={kind}: tf2onnx, onnx, .* pip install -e '\.\[{kind}\]'"):
        call("export", f"format={kind}", "run=x")
    file = tmp_path / packages.MODEL[kind]
    file.write_bytes(b"")
    with pytest.raises(ConfigError, match=rf"pip install -e '\.\[{kind}\]'"):
        runner.open_file(file, 1)


@pytest.mark.parametrize("setting", ["quantization=ptq", "nms=none", "input=int8", "nms=tflite_op"])
def test_what_is_for_tflite_alone(setting):
    with pytest.raises(ConfigError, match="is for format=tflite; format=onnx is float, with its NMS inside"):
        call("export", "format=onnx", "run=x", setting)


def test_a_run_with_the_resize_of_the_zoo(small_run, tmp_path):
    """Its frames have levels between whole ones, but the file takes uint8: both sides see the same images."""
    for name in ("tf2onnx", "onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install -e '.[onnx]'")
    run = tmp_path / "run"
    shutil.copytree(small_run[0], run, ignore=shutil.ignore_patterns("last", "tensorboard", "classify", "*.png"))
    cfg = OmegaConf.load(run / "config.yaml")
    cfg.detector.resize = "zoo"
    OmegaConf.save(cfg, run / "config.yaml")
    call("export", f"run={run}", "format=onnx", f"output={tmp_path}/out", "timings=2", "compared=2")
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert report["settings"]["resize"] == "zoo" and abs(report["scores"]["difference"]) <= 0.002
