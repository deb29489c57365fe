"""Several devices and several processes train as one device does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("ssd", "classifier+sync")
MORE = ("ssd+sync", "faster_rcnn", "fcos", "fake_quant+sync")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Small pictures as a data set on disk."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    words = ["dataset=digits", "dataset.images={train:24,val:5,test:4}", "dataset.sides=[64,96]", "to=yolo"]
    subprocess.run([sys.executable, "-m", "detect.cli", "convert", *words, f"output={folder}"], check=True, cwd=ROOT)
    return folder


def begin(data: Path, kind: str, devices: int | None, cluster: str | None = None, parts=PARTS, more=()):
    """Begins tests.training.distributed in a process."""
    words = [str(data), kind, "null" if devices is None else str(devices), ",".join(parts), *more]
    env = os.environ | ({"TF_CONFIG": cluster} if cluster else {})
    command = [sys.executable, "-m", "tests.training.distributed", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)


def result(process) -> dict:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out)


def clusters(workers: int) -> list[str]:
    """TF_CONFIG of each worker, on free ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}) for i in range(workers)
    ]


@pytest.fixture(scope="module")
def alone(data) -> dict:
    return result(begin(data, "none", None))


@pytest.fixture(scope="module")
def more_alone(data) -> dict:
    return result(begin(data, "none", None, parts=MORE))


def check(found: dict, alone: dict) -> None:
    assert found.keys() == alone.keys()
    for part, one in alone.items():
        losses, norms = np.array(found[part]["losses"]), np.array(found[part]["norms"])
        assert losses[0] == pytest.approx(one["losses"][0], rel=1e-5), part
        assert losses == pytest.approx(np.array(one["losses"]), rel=1e-3), part
        assert norms[0] == pytest.approx(one["norms"][0], rel=1e-3), part
        for name, score in one["scores"].items():
            if isinstance(score, float) and "quant" not in part:
                assert found[part]["scores"][name] == pytest.approx(score, abs=0.02), (part, name)


def test_two_devices(data, alone):
    check(result(begin(data, "mirrored", 2)), alone)


def workers(data: Path, count: int, parts=PARTS) -> dict:
    """What worker 0 of so many processes finds; the others find the same losses, weights and scores."""
    first, *others = map(result, [begin(data, "multi_worker", None, cluster, parts) for cluster in clusters(count)])
    assert all(other == first for other in others)
    return first


def test_two_processes(data, alone):
    check(workers(data, 2), alone)


@pytest.mark.slow
def test_more_networks_on_two_devices(data, more_alone):
    check(result(begin(data, "mirrored", 2, parts=MORE)), more_alone)


@pytest.mark.slow
def test_more_networks_in_two_processes(data, more_alone):
    check(workers(data, 2, MORE), more_alone)


@pytest.mark.slow
def test_four(data, alone):
    check(result(begin(data, "mirrored", 4)), alone)
    check(workers(data, 4), alone)


def test_accumulated_batches_are_one_batch(data, alone):
    """With frozen batch norm; two batches of four are a batch of eight."""
    given = ["schedule.batch_size=4", "schedule.accumulate=2"]
    found = result(begin(data, "none", None, parts=("ssd",), more=given))["ssd"]
    assert found["losses"] == pytest.approx(alone["ssd"]["losses"], rel=1e-5)
