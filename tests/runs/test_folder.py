"""The run folder: the thresholds of a stage while others begin, and what continues a run that Python extended."""

import json

import pytest
from omegaconf import OmegaConf

from detect.runs.folder import DETECTOR, QUANTIZED, RunFolder


@pytest.fixture
def run(tmp_path):
    """A run of two classes that has begun its float stage."""
    (tmp_path / "detector").mkdir()
    (tmp_path / "classes.json").write_text('[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]')
    return RunFolder(tmp_path)


def write_threshold(path, score):
    path.write_text(json.dumps({"shipped": {"value": score, "source": "val", "f1": 0.5}}))


def test_a_float_stage_has_its_threshold_before_the_next_stage_has_a_folder(run, monkeypatch):
    read = []
    monkeypatch.setattr("detect.evaluation.thresholds.Shipped.read", lambda said, classes: read.append(said["value"]))
    write_threshold(run.path / "detector/thresholds.json", 0.3)
    run.threshold(DETECTOR)
    (run.path / "quantized").mkdir()
    run.threshold(DETECTOR)
    assert read == [0.3, 0.3] and run.threshold(QUANTIZED) is None
    write_threshold(run.path / "thresholds.json", 0.4)
    run.threshold(DETECTOR)
    run.threshold(QUANTIZED)
    assert read == [0.3, 0.3, 0.3, 0.4]


def test_the_only_stage_has_the_threshold_of_the_run(run, monkeypatch):
    read = []
    monkeypatch.setattr("detect.evaluation.thresholds.Shipped.read", lambda said, classes: read.append(said["value"]))
    write_threshold(run.path / "thresholds.json", 0.4)
    run.threshold(DETECTOR)
    assert read == [0.4]


def test_what_continues_a_run_that_python_extended(run):
    """The files that `resume=RUN` reads are those of the command that began the run."""
    begun = {"schedule": {"steps": 1000, "patience": None}}
    run.hydra.mkdir()
    OmegaConf.save(OmegaConf.create(begun), run.hydra / "config.yaml")
    OmegaConf.save(OmegaConf.create(begun), run.config)
    assert run.continuation(by_command=True) == f"detect train resume={run.path}"
    OmegaConf.save(OmegaConf.create({"schedule": {"steps": 2000, "patience": 4}}), run.config)
    assert run.continuation(by_command=True) == (
        f"detect train resume={run.path} schedule.steps=2000 schedule.patience=4"
    )
    OmegaConf.save(OmegaConf.create({"schedule": {"steps": 1000, "patience": 4}}), run.hydra / "config.yaml")
    OmegaConf.save(OmegaConf.create(begun), run.config)
    assert run.continuation(by_command=True) == f"detect train resume={run.path} schedule.patience=null"
