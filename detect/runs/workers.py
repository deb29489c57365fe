"""The processes that train one run together, as TF_CONFIG or the queue tells them, before TensorFlow is imported.

TF_CONFIG is the JSON of `tf.distribute`: Kubernetes' training operator and Ray Train set it, or a user does. In a job
of submitit, which runs Slurm and processes of this machine, it is made from the numbers of the job.
"""

import json
import os
import zlib
from dataclasses import dataclass

from omegaconf import DictConfig

from detect.errors import ConfigError

VARIABLE = "TF_CONFIG"
ROLES = ("chief", "worker")
FIRST_PORT, PORTS = 20_000, 10_000
"""The ports of a job of submitit: one is drawn from its number, and further workers of a host take the next ones."""


@dataclass(frozen=True)
class Worker:
    """This process among the workers of a run. Worker 0 is the chief: it writes the run folder."""

    index: int = 0
    count: int = 1

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    @property
    def shard(self) -> tuple[int, int]:
        """(index, count): this worker's part of a batch, or of a split."""
        return self.index, self.count


ALONE = Worker()
"""The only process of a run."""


def worker(cfg: DictConfig) -> Worker:
    """This process, as `distribute.kind` says. Raises ConfigError if nothing tells the workers, or not in its form."""
    if cfg.distribute.kind != "multi_worker":
        return ALONE
    text = os.environ.get(VARIABLE) or _of_submitit()
    if not text:
        raise ConfigError(
            f"distribute.kind=multi_worker: neither {VARIABLE} nor a job of Slurm tells the workers; set, for each "
            """process, TF_CONFIG='{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", """
            """"index": 0}}\'"""
        )
    os.environ[VARIABLE] = text
    return _read(text)


def _read(text: str) -> Worker:
    form = f'legal is {{"cluster": {{"worker": ["HOST:PORT", ...]}}, "task": {{"type": "worker", "index": 0}}}}: {text}'
    try:
        given = json.loads(text)
        cluster = {str(role): list(hosts) for role, hosts in given["cluster"].items()}
        role, index = given["task"]["type"], int(given["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{VARIABLE}: {type(error).__name__}: {error}; {form}") from None
    if other := sorted(set(cluster) - set(ROLES)):
        raise ConfigError(f"{VARIABLE}: cluster.{other[0]}: the roles of a run are {' and '.join(ROLES)}; {form}")
    if role not in cluster or not 0 <= index < len(cluster[role]) or len(cluster.get("chief", ())) > 1:
        raise ConfigError(f"{VARIABLE}: task {role} {index} is not in the cluster; {form}")
    before = len(cluster.get("chief", ())) if role == "worker" else 0
    return Worker(before + index, sum(map(len, cluster.values())))


def _of_submitit() -> str | None:
    """TF_CONFIG for a task of a submitit job; None outside of one."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return None
    import submitit

    job = submitit.JobEnvironment()
    tasks, hosts = job.num_tasks, list(job.hostnames)
    per_host = -(-tasks // len(hosts))
    first = FIRST_PORT + zlib.crc32(job.job_id.encode()) % PORTS
    addresses = [f"{hosts[task // per_host]}:{first + task % per_host}" for task in range(tasks)]
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": job.global_rank}})
