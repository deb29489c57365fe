"""Several devices and several processes train as one device does."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from detect.errors import UserError
from detect.studies.records import collect
from tests import program
from tests.training.test_resume import weights

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("ssd+sync",)
MORE = ("classifier+sync", "ssd", "faster_rcnn", "fcos", "fake_quant+sync")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Small pictures as a data set on disk."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    words = ["dataset=digits", "dataset.images={train:24,val:5,test:4}", "dataset.sides=[64,96]", "to=yolo"]
    program.run("convert", *words, f"output={folder}").check_returncode()
    return folder


def begin(data: Path, kind: str, devices: int | None, cluster: str | None = None, parts=PARTS, more=()):
    """Begins tests.training.distributed in a process."""
    words = [str(data), kind, "null" if devices is None else str(devices), ",".join(parts), *more]
    environment = {"TF_CONFIG": cluster} if cluster else {}
    return program.begin(*words, module="tests.training.distributed", **environment)


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
    for part, one in [(part, alone[part]) for part in found]:
        losses, norms = np.array(found[part]["losses"]), np.array(found[part]["norms"])
        assert losses[0] == pytest.approx(one["losses"][0], rel=1e-5), part
        assert losses == pytest.approx(np.array(one["losses"]), rel=1e-3), part
        rounding = 1e-3 if "quant" in part else 1e-5  # a value at the edge of a step is rounded to its other side
        assert norms[0] == pytest.approx(one["norms"][0], rel=rounding), part
        for name, score in one["scores"].items():
            if isinstance(score, float) and "quant" not in part:
                assert found[part]["scores"][name] == pytest.approx(score, abs=0.02), (part, name)


def test_two_devices(data, alone):
    check(result(begin(data, "mirrored", 2)), alone)


ENDS = """
import itertools, threading
import numpy as np, tensorflow as tf
parts = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
from detect.training.distribution import Replicas

class Numbers:
    batch_size, spec, failure = 4, {"index": ((), np.int32, -1)}, None
    def iterate(self, start_step):
        return ({"index": np.arange(4, dtype=np.int32) + step} for step in itertools.count(start_step))

batches = Replicas(strategy=tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])).batches(Numbers(), 7)
print([part.numpy().tolist() for part in next(batches)["index"].values])
next(batches)
print(type(batches).__name__)
del batches
print([thread.name for thread in threading.enumerate() if thread.name.startswith("detect")])
"""


@pytest.mark.slow
def test_the_batches_of_two_devices_end_at_once():
    """They are no iterator of tf.data: one that was twelve seconds old took half a minute to end."""
    done = subprocess.run([sys.executable, "-c", ENDS], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.stdout.splitlines() == ["[[7, 8], [9, 10]]", "generator", "[]"], done.stderr[-2000:]


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


@pytest.mark.slow
def test_accumulated_batches_are_one_batch(data, more_alone):
    """With frozen batch norm; two batches of four are a batch of eight."""
    given = ["schedule.batch_size=4", "schedule.accumulate=2"]
    found = result(begin(data, "none", None, parts=("ssd",), more=given))["ssd"]
    assert found["losses"] == pytest.approx(more_alone["ssd"]["losses"], rel=1e-5)


@pytest.mark.slow
def test_xla_compiles_the_same_step(data, more_alone, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")  # XLA tells when it compiles
    process = begin(data, "none", None, parts=("ssd",), more=["jit_compile=true"])
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0 and "Compiled cluster using XLA" in err, err[-3000:]
    assert json.loads(out)["ssd"]["losses"] == pytest.approx(more_alone["ssd"]["losses"], rel=1e-4)


RUN = (
    *("dataset=yolo", "init=none", "backbone._target_=tests.tiny_backbone.Tiny", "trust=[tests]", "threads=1"),
    *("detector.size=[96,96]", "detector.neck.channels=[]", "classify.classifier.size=[32,32]", "augment=none"),
    *("schedule.steps=24", "schedule.batch_size=4", "schedule.warmup=2", "schedule.log_every=2"),
    *("schedule.evaluate_every=6", "schedule.checkpoint_every=4", "classify.schedule.steps=8"),
    *("classify.schedule.batch_size=4", "classify.schedule.warmup=1", "classify.schedule.evaluate_every=4"),
    *("classify.schedule.checkpoint_every=4", "quantize=int8", "quantize.calibrate=2", "quantize.schedule.steps=6"),
    *("quantize.schedule.batch_size=4", "quantize.schedule.warmup=1", "quantize.schedule.evaluate_every=3"),
    *("quantize.schedule.checkpoint_every=2", "distribute.kind=multi_worker"),
)


def start(data: Path, run: Path, *more: str, count: int = 2) -> list[subprocess.Popen]:
    """Begins `detect train` on each worker."""
    given = (*RUN, *more, f"dataset.root={data}", f"hydra.run.dir={run}")
    words = [sys.executable, "-m", "detect.cli", "train", *given]
    return [
        subprocess.Popen(
            words,
            env=os.environ | {"TF_CONFIG": c},
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for c in clusters(count)
    ]


def ends(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    texts = [p.communicate(timeout=400)[0] for p in processes]
    return [(p.returncode, text) for p, text in zip(processes, texts, strict=True)]


def after(run: Path, stage: str, rows: int) -> None:
    """Waits until a stage has written so many rows of figures."""
    file, end = run / stage / "metrics.jsonl", time.monotonic() + 200
    while not (file.exists() and file.read_text().count("\n") >= rows) and time.monotonic() < end:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """A run of three stages by two workers that nothing happened to."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert [code for code, _ in ends(start(data, run))] == [0, 0]
    return run


def outcome(run: Path) -> tuple:
    """The bits of the last states of all stages, and the scores."""
    states = [weights(run, stage) for stage in ("classify", "detector", "quantized")]
    bits = [{name: value.tobytes() for name, value in state.items()} for state in states]
    return bits, json.loads((run / "summary.json").read_text())["scores"]


@pytest.mark.slow
def test_further_workers_leave_the_run_folder_to_the_first(whole):
    assert {path.name for path in (whole / "workers").iterdir()} == {"1"}
    assert (whole / "workers/1/train.log").exists() and not (whole / "workers/1/detector/last").exists()
    assert [run.folder for run in collect(whole).runs] == [whole]


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "rows"), [("classify", 2), ("detector", 6), ("quantized", 2)])
def test_a_signal_to_one_worker_ends_all_at_the_same_step(data, whole, tmp_path, stage, rows):
    run, processes = tmp_path / "run", []
    processes = start(data, run)
    after(run, stage, rows)
    processes[1].send_signal(signal.SIGTERM)
    found = ends(processes)
    steps = [re.findall(r"stopped at step (\d+)", text) for _, text in found]
    assert [code for code, _ in found] == [130, 130] and steps[0] == steps[1] != [], found[0][1][-2000:]
    assert [code for code, _ in ends(start(data, run))] == [0, 0]
    assert outcome(run) == outcome(whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_worker_that_is_killed(data, whole, tmp_path, number):
    """The other one says so and ends; both together go on, and end with the same bits. One device goes on, too."""
    run = tmp_path / "run"
    processes = start(data, run)
    after(run, "detector", 7)
    processes[number].kill()
    begun = time.monotonic()
    (code, text) = ends(processes)[1 - number]
    assert time.monotonic() - begun < 30
    assert code == 2 and text.splitlines()[-1].startswith("detect train: another worker of the run has ended"), text
    shutil.copytree(run, alone := tmp_path / "alone")
    assert [code for code, _ in ends(start(data, run))] == [0, 0]
    assert outcome(run) == outcome(whole)
    words = ["train", f"resume={alone}", "trust=[tests]", "distribute.kind=mirrored", "distribute.devices=2"]
    done = subprocess.run([sys.executable, "-m", "detect.cli", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "resumed at step 8" in done.stdout + done.stderr, done.stderr[-2000:]


@pytest.mark.slow
def test_workers_that_differ_are_refused(data, tmp_path):
    """Another seed at one of them: both say which figure differs, and leave no run."""
    cluster, other = clusters(2)
    words = [sys.executable, "-m", "detect.cli", "train", *RUN, f"dataset.root={data}", f"hydra.run.dir={tmp_path}/run"]
    processes = [
        subprocess.Popen([*words, f"seed={i}"], env=os.environ | {"TF_CONFIG": c}, cwd=ROOT, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for i, c in enumerate((cluster, other))
    ]  # fmt: skip
    for code, text in ends(processes):
        assert code == 2 and "the fingerprint of the configuration of worker 1" in text, text[-2000:]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_the_images_of_all_workers(data, tmp_path):
    run = tmp_path / "run"
    poison = "hooks=[{_target_: tests.training.poison.Poison}]"
    found = ends(start(data, run, poison, "classify.enabled=false", "quantize.enabled=false"))
    for code, text in found:
        message = text.splitlines()[-1]
        assert code == 2 and "step 7: " in message and "is not finite" in message, text[-2000:]
        assert len(set(re.findall(r"images/train/\w+\.jpg", message))) == 4, message
    assert [len(np.load(file)["index"]) for file in run.rglob("diverged_at_7.npz")] == [2, 2]


def test_too_little_memory_on_a_device_is_one_message_that_names_what_helps():
    import tensorflow as tf

    from detect.training.distribution import enough_memory

    full = "failed to allocate memory [Op:Conv2D]"
    named = r"Conv2D.*schedule\.batch_size, .*schedule\.accumulate .*detector\.size, .*precision=bfloat16, "
    with pytest.raises(UserError, match=rf"{named}.*schedule\.evaluate_batch.*classify\.schedule"), enough_memory():
        raise tf.errors.ResourceExhaustedError(None, None, f"{full}\n\t [[{{{{node x}}}}]]")
    disk = tf.errors.ResourceExhaustedError(None, None, "last/ckpt-new.index; No space left on device")
    with pytest.raises(tf.errors.ResourceExhaustedError) as passed, enough_memory():
        raise disk
    assert passed.value is disk, "the disk has a message of its own"
