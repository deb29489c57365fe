"""Real MLflow (a folder as store) and real Weights & Biases (offline): what a run leaves there, and after a resume."""

import importlib.util
import json
import struct
import time
from types import SimpleNamespace

import numpy as np
import pytest

from detect.loggers.interface import Described, Loggers
from detect.loggers.mlflow import MLflow
from detect.loggers.wandb import WandB
from detect.reporting.logger import RunLogger


def needs(package):
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"needs the package {package}: pip install -e '.[{package}]'")


def train(folder, service, first, last, resume_at=None, parameters=None, stop=False):
    """Steps of a stage with an evaluation at the last one, and the results unless the run is stopped."""
    parameters = {"schedule.rate": 0.5, "resume": None} | (parameters or {})
    services = Loggers({"it": service})
    run = Described(folder, folder / "loggers.json", "demo", "study of three", parameters)
    try:
        with services.running(run), RunLogger(folder / "detector", 9, "detector", False, services=services) as logger:
            logger.resume_at(first - 1 if resume_at is None else resume_at)
            for step in range(first, last + 1):
                logger.train(step, {"loss/total": step / 4})
            logger.evaluation(last, {"val/AP": last / 8, "val_AP/red, ripe": None}, "")
            logger.images("confusion", last, np.full((8, 8, 3), 200, np.uint8))
            if stop:
                raise KeyboardInterrupt
            (folder / "summary.json").write_text("{}")
            services.results("", {"val/AP": last / 8}, [folder / "summary.json"])
    except KeyboardInterrupt:
        pass
    assert services._each, "the logger has failed"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_ENTITY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@needs("mlflow")
def test_mlflow_has_one_run_with_each_row_once(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    train(folder, MLflow(), 1, 3, stop=True)
    client = MlflowClient((tmp_path / "mlruns").as_uri())
    number = json.loads((folder / "loggers.json").read_text())["mlflow"]
    assert client.get_run(number).info.status == "KILLED"
    # The state is of step 2: step 3 and its evaluation run again, and 4 is new.
    train(folder, MLflow(), 3, 4, resume_at=2, parameters={"schedule.rate": 0.25, "schedule.new": "x"})
    (run,) = client.search_runs([client.get_experiment_by_name("study of three").experiment_id])
    assert run.info.run_id == number and run.info.status == "FINISHED" and run.info.run_name == "run"
    assert run.data.params == {"schedule.rate": "0.5", "schedule.new": "x"}
    assert run.data.tags["changed.schedule.rate"] == "0.25"
    history = client.get_metric_history(number, "detector/train/loss/total")
    assert [(point.step, point.value) for point in history] == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]
    assert [p.step for p in client.get_metric_history(number, "detector/eval/val/AP")] == [3, 4]
    assert run.data.metrics["final/val/AP"] == 0.5
    assert {file.path for file in client.list_artifacts(number)} == {"images", "summary.json"}
    pictures = [file.path for file in client.list_artifacts(number, "images") if file.path.endswith(".png")]
    assert len(pictures) == 2 and "confusion" in pictures[0]


@needs("mlflow")
def test_an_experiment_that_another_cell_made_meanwhile_is_taken():
    from mlflow.exceptions import MlflowException

    answers = iter([None, SimpleNamespace(experiment_id="7"), None, None])

    def create(name):
        raise MlflowException("RESOURCE_ALREADY_EXISTS")

    client = SimpleNamespace(get_experiment_by_name=lambda name: next(answers), create_experiment=create)
    assert MLflow._experiment(client, "study") == "7"
    with pytest.raises(MlflowException):
        MLflow._experiment(client, "study")


@needs("mlflow")
def test_mlflow_gets_all_rows_of_a_run_that_began_without_it(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    with RunLogger(folder / "detector", 9, "detector", console=False) as logger:
        for step in (1, 2, 3):
            logger.train(step, {"loss/total": 1.0})
    train(folder, MLflow(experiment="mine", pictures=False, files=False), 3, 3, resume_at=2)
    client = MlflowClient((tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert [p.step for p in client.get_metric_history(run.info.run_id, "detector/train/loss/total")] == [1, 2, 3]
    assert client.list_artifacts(run.info.run_id) == []


@needs("mlflow")
def test_a_server_that_nobody_answers_costs_one_warning(folder, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with Loggers({"mlflow": MLflow()}).running(Described(folder, folder / "loggers.json", "demo")):
        pass
    assert [record.levelname for record in caplog.records if record.name == "detect"] == ["WARNING"]
    assert "logger.mlflow" in caplog.text and not (folder / "loggers.json").exists()


@needs("wandb")
def test_wandb_offline_goes_on_with_the_same_run(folder):
    train(folder, WandB(mode="offline"), 1, 3, stop=True)
    number = json.loads((folder / "loggers.json").read_text())["wandb"]
    first = records(folder)
    assert [row["detector/train/loss/total"] for row in first["history"] if "detector/train/loss/total" in row] == [
        0.25, 0.5, 0.75,
    ]  # fmt: skip
    assert first["config"]["schedule.rate"] == 0.5 and first["run"] == number and first["exit"] == 130
    for file in (folder / "wandb").glob("offline-run-*/*.wandb"):
        file.rename(file.with_suffix(".before"))
    train(folder, WandB(mode="offline"), 3, 4, resume_at=2)
    again = records(folder)
    assert again["run"] == number and again["exit"] == 0 and again["project"] == "study of three"
    losses = [
        (r["detector/step"], r["detector/train/loss/total"])
        for r in again["history"]
        if "detector/train/loss/total" in r
    ]
    assert losses == [(4, 1.0)]
    assert [row["detector/eval/val/AP"] for row in again["history"] if "detector/eval/val/AP" in row] == [0.5]
    assert any(key.startswith("detector/confusion/") for row in again["history"] for key in row)
    assert again["summary"]["final/val/AP"] == 0.5
    assert list((folder / "wandb").glob("offline-run-*/files/summary.json"))


def scanned(content):
    """The records of a W&B file: blocks of 32768 bytes of pieces, each with a head of checksum, length and kind.

    This is LevelDB's log format after a head of seven bytes (github.com/google/leveldb, doc/log_format.md).
    """
    place, parts = 7, []
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield b"".join(parts)
            parts = []


def records(folder):
    """The content of the only W&B file. W&B's own process writes its end a little after the run has ended."""
    for _ in range(300):
        if "exit" in (found := records_now(folder)):
            break
        time.sleep(0.1)
    return found


def records_now(folder):
    from wandb.proto import wandb_internal_pb2

    (file,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    found = {"history": [], "config": {}, "summary": {}}
    for data in scanned(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            found["history"].append(values_of(record.history.item))
        found["config"] |= values_of(record.config.update)
        found["summary"] |= values_of(record.summary.update)
        if record.HasField("run"):
            found |= {"run": record.run.run_id, "project": record.run.project}
            found["config"] |= values_of(record.run.config.update)
        if record.HasField("exit"):
            found["exit"] = record.exit.exit_code
    return found


def values_of(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
