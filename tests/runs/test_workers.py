"""The workers of a run, as TF_CONFIG or a job of submitit tells them."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from detect.cli.overrides import prepare, read
from detect.errors import ConfigError, InUse
from detect.runs import summary
from detect.runs.folder import RunFolder
from detect.runs.workers import ALONE, Worker, worker

MULTI = OmegaConf.create({"distribute": {"kind": "multi_worker"}})


def tf_config(role: str, index: int, **cluster: list[str]) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": role, "index": index}})


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    for name in ("TF_CONFIG", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_reads_no_variable(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    assert worker(OmegaConf.create({"distribute": {"kind": "mirrored"}})) == ALONE == Worker(0, 1)


@pytest.mark.parametrize(
    ("role", "index", "cluster", "expected"),
    [
        ("worker", 0, {"worker": ["a:1", "b:1"]}, Worker(0, 2)),
        ("worker", 1, {"worker": ["a:1", "b:1"]}, Worker(1, 2)),
        ("chief", 0, {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, Worker(0, 3)),
        ("worker", 1, {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, Worker(2, 3)),
    ],
)
def test_tf_config(role, index, cluster, expected, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config(role, index, **cluster))
    found = worker(MULTI)
    assert found == expected and found.is_chief == (expected.index == 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither TF_CONFIG nor a job of Slurm"),
        ("{", "TF_CONFIG: JSONDecodeError"),
        ("[]", "TF_CONFIG: TypeError"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG: KeyError: 'task'"),
        (tf_config("worker", 1, worker=["a:1"]), "task worker 1 is not in the cluster"),
        (tf_config("worker", -1, worker=["a:1"]), "task worker -1 is not in the cluster"),
        (tf_config("ps", 0, worker=["a:1"], ps=["b:1"]), "cluster.ps: the roles of a run are chief and worker"),
        (tf_config("chief", 0, chief=["a:1", "b:1"]), "task chief 0 is not in the cluster"),
    ],
)
def test_what_is_no_cluster_is_refused(text, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match=message):
        worker(MULTI)


def test_a_job_of_submitit(monkeypatch):
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    for name, value in (("JOB_ID", "77"), ("NTASKS", "3"), ("GLOBALID", "2"), ("LOCALID", "2")):
        monkeypatch.setenv(f"SUBMITIT_LOCAL_{name}", value)
    assert worker(MULTI) == Worker(2, 3)
    addresses = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
    assert worker(MULTI) == Worker(2, 3) and len(set(addresses)) == 3


def test_further_workers_have_folders_of_their_own(tmp_path):
    run = RunFolder(tmp_path)
    assert run.of_worker(ALONE) is run
    other = run.of_worker(Worker(1, 2))
    assert other.path == tmp_path / "workers" / "1"
    stage = other.stage("detector")
    assert stage.metrics == tmp_path / "workers/1/detector/metrics.jsonl"  # its own figures, the run's states
    assert stage.best == Path(tmp_path / "detector/best") and stage.last == tmp_path / "detector/last"


def test_a_further_worker_starts_while_the_first_one_trains(tmp_path):
    words = ["dataset=digits", "init=none", f"hydra.run.dir={tmp_path / 'run'}"]
    with RunFolder(tmp_path / "run").claim():
        with pytest.raises(InUse):
            prepare(read(words, "train"))
        prepare(read([*words, "distribute.kind=multi_worker"], "train"))
        RunFolder(tmp_path / "run").of_worker(Worker(1, 2)).claim().close()
        with pytest.raises(InUse):  # a second worker 0 is refused when it has read its data
            RunFolder(tmp_path / "run").of_worker(ALONE).claim()


def test_only_the_first_worker_has_results(tmp_path):
    """Of a stage that ended before there was a second worker, too."""
    run = SimpleNamespace(worker=Worker(1, 2), loggers=None)
    place = RunFolder(tmp_path).of_worker(run.worker)
    summary.tell(run, place.stage("classify"))
    summary.write_summary(place.summary, run, {}, {}, {})
    assert not list(tmp_path.iterdir())
