"""The Python API: the whole way on a small net, and what it costs to import."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from detect import api
from detect.config.tree import plain
from detect.config.trust import trusting
from detect.data.examples import Example
from detect.errors import ConfigError, DataError
from detect.runs.folder import RunFolder


def test_it_is_imported_without_tensorflow():
    code = (
        "import sys, detect.api as api; print(sorted({'tensorflow', 'tf_keras'} & set(sys.modules)), len(api.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] 13\n"


def test_every_public_name_is_there():
    assert all(hasattr(api, name) for name in api.__all__)
    assert all(getattr(api, name).__doc__ for name in api.__all__)
    with pytest.raises(AttributeError, match="Detektor"):
        api.Detektor  # noqa: B018


OWN_HOOK = """
from pathlib import Path
from detect.api import Hook

class Diary(Hook):
    every = 1

    def __init__(self, file):
        self.file = Path(file)

    def after_steps(self, fit, scalars):
        with self.file.open("a") as file:
            print(fit.name, fit.step, scalars["loss/total"] > 0, file=file)
"""


WHOLE_WAY = """
import sys
from detect import api

folder, *overrides = sys.argv[1:]
own = ["own_hook", "tests.tiny_backbone"]
cfg = api.compose(*overrides, f"hooks=[{{_target_:own_hook.Diary,file:'{folder}/diary'}}]", trust=own)
score = api.train(cfg, f"{folder}/run", trust=own)
assert api.train(cfg, f"{folder}/run") == score, "a run that has ended is not trained again"
detector = api.Detector.load(f"{folder}/run", trust=own)
digits = api.read_dataset("digits", images={"train": 16, "val": 4, "test": 4})
assert abs(api.evaluate(detector, digits, "val").summary["AP"] - score) < 0.02
exported = api.export(f"{folder}/run", format="tflite", timings=1, compared=1, scored=2, trust=own)
assert api.Detector.load(exported).classes == digits.classes
"""


@pytest.mark.slow
def test_the_whole_way(small_overrides, tmp_path):
    """A hook and a backbone of one's own, a data set, training, scores of the run and of the exported file."""
    (tmp_path / "own_hook.py").write_text(OWN_HOOK)
    steps = ["schedule.steps=2", "schedule.evaluate_every=2", "schedule.checkpoint_every=2", "classify.enabled=false"]
    own = [line for line in small_overrides if not line.startswith("backbone.")]
    own.append("backbone._target_=tests.tiny_backbone.Tiny")
    command = [sys.executable, "-c", WHOLE_WAY, str(tmp_path), *own, *steps]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "diary").read_text().splitlines() == ["detector 1 True", "detector 2 True"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [(["shedule.steps=3"], r"schedule\.steps"), (["schedule.steps=0"], r"schedule\.steps=0"), (["dataset=vok"], "voc")],
)
def test_a_wrong_override_is_refused(overrides, said):
    with pytest.raises(ConfigError, match=said):
        api.compose(*overrides)


@pytest.mark.parametrize(
    ("hook", "said"),
    [("_target_:own_hook.Dairy", "own_hook.Dairy"), ("_target_:own_hook.Diary", "file"), ("_target_:pathlib.Path", "")],
)
def test_a_wrong_hook_is_refused(tmp_path, monkeypatch, hook, said):
    from detect.training import build

    (tmp_path / "own_hook.py").write_text(OWN_HOOK)
    monkeypatch.syspath_prepend(tmp_path)
    own = ["own_hook", "pathlib"]
    with pytest.raises(ConfigError, match=said or r"hooks\.0\._target_=pathlib\.Path: .*Hook"), trusting(own):
        build.hooks(api.compose("dataset=digits", f"hooks=[{{{hook}}}]", trust=own))


def test_a_wrong_data_set_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    cfg = api.compose("dataset=voc", f"dataset.root={tmp_path}/data")
    with pytest.raises(DataError, match=f"{tmp_path}/data"):
        api.train(cfg, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"folder=.*/data/run is below dataset\.root=.*/data"):
        api.train(cfg, tmp_path / "data" / "run")
    cfg.schedule.batch_norm = "forzen"
    with pytest.raises(ConfigError, match=r"schedule\.batch_norm=forzen"):
        api.train(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists() and not (tmp_path / "data" / "run").exists()
    with pytest.raises(DataError, match=str(tmp_path)):
        api.read_dataset("voc", root=tmp_path)
    with pytest.raises(ConfigError, match=r"dataset\.rot"):
        api.read_dataset("voc", rot=tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (None, "null"), (True, "true"), ("a b", "'a b'"), ([1, 2], "[1,2]"), ({"train": 2}, "{train:2}")],
)
def test_values_are_written_as_overrides(value, text):
    assert api._value(value) == text


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: api.compose(["dataset=digits"]), "compose takes overrides.*; this is list: .*dataset=digits"),
        (lambda: api.compose({"dataset": "digits"}), "this is dict"),
        (lambda: api.compose(config_dir=5), "compose takes config_dir, the path of a folder; this is int: 5"),
        (lambda: api.Detector.load("runs/x", threads=-1), "threads=-1 is not legal: expected a whole number from 1"),
        (lambda: api.Detector.load("runs/x", threads="4"), "threads='4' is not legal"),
        (lambda: api.train({"dataset": "digits"}, "x"), "train takes a configuration of `compose`; this is dict"),
        (lambda: api.evaluate("runs/x", None), "evaluate takes a detector of `Detector.load`; this is str: runs/x"),
    ],
)
def test_an_argument_of_another_type_is_refused(call, said):
    with pytest.raises(ConfigError, match=said):
        call()


def test_a_detector_finds_the_boxes_of_one_thread_after_the_other():
    inside, together = [], []

    def find(images):
        inside.append(images)
        together.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        return [(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)) for _ in images]

    detector = api.Detector(find, ("cat",), (8, 8), "planted")
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(detector, [np.zeros((8, 8, 3), np.uint8)] * 8))) == 8
    assert together == [1] * 8


def test_a_detector_and_a_data_set_are_compared_by_the_names_of_classes(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    box = np.array([[4, 4, 40, 40]], np.float32)
    cat = Example(tmp_path / "a.png", 64, 48, box, np.array([2]), np.zeros(1, bool), "a")
    dataset = api.DetectionDataset("toy", ("dog", "cat"), {"val": [cat]})
    found = (box, np.ones(1, np.float32), np.ones(1, np.int32))
    detector = api.Detector(lambda images: [found for _ in images], ("cat", "dog"), (8, 8), "planted")
    assert (
        detector.evaluate(dataset, "val")[0].summary["AP"] == api.evaluate(detector, dataset, "val").summary["AP"] == 1
    )


def test_a_run_is_extended_where_it_was_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(api, "_train", lambda cfg, folder: RunFolder(folder).extensions(cfg))
    cfg, longer = (api.compose("dataset=digits", f"schedule.steps={steps}") for steps in (1000, 2000))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
    assert api.train(longer, run, extend=True) == {"schedule.steps": (1000, 2000)} and longer.resume is None
    with pytest.raises(ConfigError, match=r"another configuration .*extend=True in Python"):
        api.train(longer, run)
    with pytest.raises(ConfigError, match=r"begun in Python .* with train\(cfg, folder\)"):
        api.compose(f"resume={run}", "schedule.steps=2000")
    longer.resume = str(run)
    with pytest.raises(ConfigError, match=rf"resume={run}: .* the folder is {tmp_path}/other"):
        api.train(longer, tmp_path / "other")


NAMES = ("person (sitting)", "chaise à bras", "it's", "a:b", "a,b", "true", "null", "1", "a.b")


def test_names_of_classes_that_are_keys(tmp_path):
    """Hydra's grammar can't write all of them as keys, and takes some for numbers or switches."""
    rows = [f'"{name}.jpg",64,48,"{name}",1,1,20,20' for name in NAMES]
    (tmp_path / "train.csv").write_text(
        "\n".join(["filename,width,height,class,xmin,ymin,xmax,ymax", *rows]).replace("a:b.jpg", "colon.jpg") + "\n",
        encoding="utf-8",
    )
    for name in NAMES:
        Image.new("RGB", (64, 48)).save(tmp_path / f"{name.replace('a:b', 'colon')}.jpg")
    rename = {name: f"new {number}" for number, name in enumerate(NAMES)}
    data = api.read_dataset("csv", root=tmp_path, rename=rename, val_fraction=0, test_fraction=0)
    assert sorted(data.classes) == sorted(rename.values())
    with pytest.raises(ConfigError, match=r"dataset\.renames"):
        api.read_dataset("csv", root=tmp_path, renames=rename)
