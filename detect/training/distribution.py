"""Several devices and several processes: the strategy of a run, its shares of batches, and what its workers exchange.

`schedule.batch_size` is the global batch. Worker i of n reads the i-th part of it, and each of its replicas an equal
share of that part, so that the global batch depends on seed and step alone. All workers run the same program, step by
step: what one of them reads from variables of all replicas, all of them read. Worker 0 writes the run folder.
"""

import contextlib
import functools
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tensorflow as tf

from detect.config.legal_values import demand, whole
from detect.data.interface import Batch, Stream
from detect.data.pipeline import to_tf
from detect.errors import ConfigError, UserError, one_line
from detect.evaluation.evaluators import Alone
from detect.evaluation.interface import Detect, Value
from detect.modeling.interface import Architecture, Tensor
from detect.modeling.replicas import SynchronizedBatchNorm
from detect.runs import disk
from detect.runs.workers import ALONE, VARIABLE, Worker

Kind = Literal["none", "mirrored", "multi_worker", "tpu"]
Devices = Annotated[int, whole(1)] | None
Tensors = dict[str, Tensor]
LOST = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError
)  # fmt: skip
"""The errors of TensorFlow for a worker that has ended, and for one behind a cable that was pulled."""


@dataclass(frozen=True)
class Distribution:
    """The devices of a run: `distribute` in the configuration.

    kind: `none` is one device; `mirrored` all devices of this process; `multi_worker` those of several processes, which
        TF_CONFIG or Slurm names (`detect.runs.workers`); `tpu` the cores of a TPU.
    devices: how many devices of this process; null is all GPUs, or one CPU. On a machine without a GPU, the number of
        parts that the CPU is divided into, for tests.
    sync_batch_norm: batch norm uses the statistics of the global batch; false: those of the part of each replica.
    """

    kind: Kind = "none"
    devices: Devices = None
    sync_batch_norm: bool = True

    def __post_init__(self) -> None:
        demand("distribute.kind", self.kind, Kind)
        demand("distribute.devices", self.devices, Devices)


@dataclass(frozen=True)
class Replicas:
    """The replicas that train together, of all workers. The default is one device."""

    worker: Worker = ALONE
    strategy: tf.distribute.Strategy = field(default_factory=tf.distribute.get_strategy)
    sync_batch_norm: bool = True

    @property
    def count(self) -> int:
        """The number of replicas of all workers."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def shard(self) -> tuple[int, int]:
        """(i, n): this worker is number i of n."""
        return self.worker.shard

    @property
    def here(self) -> int:
        """The number of replicas of this worker."""
        return self.count // self.worker.count

    def part(self, batch_size: int, key: str = "schedule.batch_size") -> int:
        """The images of this worker in a global batch. Raises ConfigError if the batch does not divide.

        key: of the batch size, for the message.
        """
        if batch_size % self.count:
            raise ConfigError(
                f"{key}={batch_size} is the batch of all devices, and {self.count} of them share it; legal are "
                f"multiples of {self.count}"
            )
        return batch_size // self.worker.count

    def prepare(self, architecture: Architecture) -> None:
        """Lets each replica normalise its own part of the batch, if `sync_batch_norm` is false."""
        for layer in architecture.model.layers:
            if isinstance(layer, SynchronizedBatchNorm):
                layer.synchronized = self.sync_batch_norm

    def batches(self, stream: Stream, step: int) -> Iterator[Tensors]:
        """The batches of this worker from a step on, each divided among its replicas for `strategy.run`.

        For several replicas they do not come through tf.data: its iterators of several devices tune themselves, which
        no option of the data set prevents, and wait at their end for the thread that tunes, up to a minute.
        """
        if self.count == 1:
            return iter(self.strategy.experimental_distribute_dataset(to_tf(stream, step)))
        return _ahead(map(self.divided, stream.iterate(step)))

    def divided(self, batch: Batch) -> Tensors:
        """A batch of this worker, divided among its replicas for `strategy.run`. Its rows divide by their number."""
        if self.count == 1:
            return {name: tf.convert_to_tensor(rows) for name, rows in batch.items()}
        devices = self.strategy.extended.worker_devices

        def share(context: tf.distribute.experimental.ValueContext) -> Tensors:
            place = context.replica_id_in_sync_group % self.here
            with tf.device(devices[place]):
                return {name: tf.convert_to_tensor(np.split(rows, self.here)[place]) for name, rows in batch.items()}

        values: Tensors = self.strategy.experimental_distribute_values_from_function(share)
        return values

    def rows(self, values: Tensors) -> Batch:
        """The rows of this worker of what has a part on each of its replicas."""
        parts = {name: self.strategy.experimental_local_results(value) for name, value in values.items()}
        return {name: np.concatenate([part.numpy() for part in rows]) for name, rows in parts.items()}

    def inference(self, detect: Detect) -> Detect:
        """`detect` as a graph function, run on the replicas of this worker; no other worker takes part."""
        if self.count == 1:
            return Alone().inference(detect)
        return detect if isinstance(detect, _Inference) else _Inference(detect, self)

    def gather(self, value: Value) -> list[Value]:
        """The values that all workers give, in their order; all workers call it. Plain values and numpy's arrays."""
        if self.worker.count == 1:
            return [value]
        content = np.frombuffer(_packed(value), np.uint8)
        sizes = self._gather(tf.constant([[len(content)]], tf.int32))[:, 0]
        padded = np.zeros(math.ceil(max(sizes) / 4) * 4, np.uint8)
        padded[: len(content)] = content
        rows = self._gather(tf.constant(padded.view(np.int32)[np.newaxis]))
        return [_unpacked(row.view(np.uint8)[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]

    def _gather(self, row: tf.Tensor) -> np.ndarray:
        """[1, n] of each worker -> [workers, n]."""

        def everyone() -> tf.Tensor:
            return tf.distribute.get_replica_context().all_gather(row, axis=0)

        found = self.strategy.experimental_local_results(self.strategy.run(tf.function(everyone, autograph=False)))[0]
        return np.ascontiguousarray(found.numpy()[:: self.here])

    def agree(self, what: str, value: object) -> None:
        """Raises ConfigError if a value, such as a fingerprint, is not the same on all workers."""
        found = self.gather(value)
        for number, other in enumerate(found):
            if other != found[0]:
                raise ConfigError(f"{what} of worker {number} is {other}, and that of worker 0 is {found[0]}")


def _ahead(batches: Iterator[Tensors]) -> Iterator[Tensors]:
    """The batches, each of which a thread sends to its devices while the one before it is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="detect-devices") as pool:
        waiting = pool.submit(next, batches, None)
        while (ready := waiting.result()) is not None:
            waiting = pool.submit(next, batches, None)
            yield ready


class _Inference:
    """An inference on the replicas of a worker: each has a part of the batch."""

    def __init__(self, detect: Detect, replicas: Replicas):
        strategy = replicas.strategy
        self._run = tf.function(lambda batch: strategy.run(detect, args=(batch["image"],)), autograph=False)
        self._replicas = replicas

    def __call__(self, image: Tensor) -> Tensors:
        padding = -len(image) % self._replicas.here
        padded = np.concatenate([image, np.repeat(image[-1:], padding, axis=0)])
        found = self._replicas.rows(self._run(self._replicas.divided({"image": padded})))
        return {name: tf.convert_to_tensor(rows[: len(image)]) for name, rows in found.items()}


@contextlib.contextmanager
def lost_worker(worker: Worker, run: Path) -> Iterator[None]:
    """Inside this context, the error of TensorFlow for a worker that has ended is a UserError."""
    try:
        yield
    except LOST as error:
        if worker.count == 1:
            raise
        raise UserError(
            f"another worker of the run has ended or can't be reached: see its console and {run}/workers. Start all "
            f"workers again with the same command, or with resume={run}: they go on from the last saved state"
        ) from error


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """Inside this context, the error of TensorFlow for a device whose memory is full is a UserError."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if disk.problem(error) is not None:
            raise
        raise UserError(
            f"the memory of the device is too small for this run ({one_line(error)}). Any of these needs less: a "
            "smaller schedule.batch_size, with schedule.accumulate for as many images in a step; a smaller "
            "detector.size, or another network; on a GPU precision=bfloat16, as `detect doctor` says; and for scores a "
            "smaller schedule.evaluate_batch. Stages 1 and 3 have classify.schedule and quantize.schedule"
        ) from error


@functools.cache
def _made(kind: str, devices: int | None) -> tf.distribute.Strategy:
    told = f"distribute.kind={kind} distribute.devices={'null' if devices is None else devices}"
    if _made.cache_info().currsize:
        raise ConfigError(f"{told}: this process trains with another setting already; start a new one")
    try:
        return _strategy(kind, devices)
    except RuntimeError as error:  # devices can't be changed any more
        raise ConfigError(f"{told}: TensorFlow already runs in this process ({error}); start a new one") from error
    except (tf.errors.OpError, ValueError) as error:  # a port that is taken, no TPU
        where = f" with TF_CONFIG={os.environ.get(VARIABLE)}" if kind == "multi_worker" else ""
        raise ConfigError(f"{told}{where}: {one_line(error)}") from error


def _strategy(kind: str, devices: int | None) -> tf.distribute.Strategy:
    if kind == "multi_worker":
        _limit(devices)
        return tf.distribute.MultiWorkerMirroredStrategy()
    if kind == "tpu":
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        return tf.distribute.TPUStrategy(resolver)
    return tf.distribute.MirroredStrategy(_limit(devices))


def replicas(distribution: Distribution, worker: Worker = ALONE) -> Replicas:
    """The replicas of a run. Call it before the first operation; a process has one strategy."""
    if distribution.kind == "none":
        return Replicas()
    strategy = _made(distribution.kind, distribution.devices)
    return Replicas(worker, strategy, distribution.sync_batch_norm)


def _limit(devices: int | None) -> list[str]:
    """The names of so many devices of this process. A CPU is divided into so many parts."""
    gpus = tf.config.list_physical_devices("GPU")
    if devices is not None and gpus:
        if devices > len(gpus):
            raise ConfigError(f"distribute.devices={devices}: this machine has {len(gpus)} GPUs")
        tf.config.set_visible_devices(gpus[:devices], "GPU")
    elif devices is not None:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    kind, number = ("GPU", devices or len(gpus)) if gpus else ("CPU", devices or 1)
    return [f"{kind}:{i}" for i in range(number)]


def _packed(value: Any) -> bytes:
    """JSON with arrays as lists of their type, shape and bytes in hexadecimal digits."""

    def array(x: object) -> object:
        if isinstance(x, np.ndarray):
            return {"dtype": str(x.dtype), "shape": x.shape, "hex": x.tobytes().hex()}
        raise TypeError(f"{type(x).__name__} can't be sent to other workers")

    return json.dumps(value, default=array).encode()


def _unpacked(content: bytes) -> Any:
    def array(x: dict[str, Any]) -> Any:
        if x.keys() == {"dtype", "shape", "hex"}:
            return np.frombuffer(bytes.fromhex(x["hex"]), x["dtype"]).reshape(x["shape"]).copy()
        return x

    return json.loads(content, object_hook=array)
