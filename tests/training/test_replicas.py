"""What needs no second device: the shares of a batch, what workers send each other, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest

from detect.errors import ConfigError
from detect.modeling.replicas import SynchronizedBatchNorm
from detect.runs.workers import Worker
from detect.training import distribution
from detect.training.distribution import Distribution, Replicas


class Two:
    """A strategy of two replicas in each of two workers, as far as `Replicas.part` asks it."""

    num_replicas_in_sync = 4


def test_a_batch_that_does_not_divide_is_refused():
    replicas = Replicas(Worker(1, 2), Two())
    assert replicas.part(16) == 8 and replicas.here == 2 and replicas.shard == (1, 2)
    with pytest.raises(ConfigError, match=r"batch_size=6 is the batch of all devices, and 4 of them"):
        replicas.part(6)


@pytest.mark.parametrize(
    "value", [None, 3, "é", [1.5, None], {"a": np.arange(6, dtype=np.int64).reshape(2, 3), "b": [np.zeros((0, 4))]}]
)
def test_what_workers_send_comes_back(value):
    found = distribution._unpacked(distribution._packed(value))
    assert repr(found) == repr(value)


def test_one_device_gathers_nothing():
    array = np.arange(3)
    assert Replicas().gather(array)[0] is array
    Replicas().agree("the seed", 1)


@pytest.mark.parametrize(("kind", "devices"), [("several", None), ("mirrored", 0)])
def test_legal_values(kind, devices):
    with pytest.raises(ConfigError, match=r"distribute\.(kind|devices)=.* is not legal"):
        Distribution(kind, devices)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        pytest.param(
            "tf.zeros(1)",
            "Distribution('mirrored', 2)",
            "TensorFlow already runs in this process",
            marks=pytest.mark.slow,
        ),
        ("replicas(Distribution('mirrored', 2))", "Distribution('mirrored', 1)", "another setting already"),
    ],
)
def test_what_a_process_can_not_do_is_one_message(first, second, message):
    code = (
        "import tensorflow as tf\nfrom detect.errors import ConfigError\n"
        f"from detect.training.distribution import Distribution, replicas\n{first}\n"
        f"try: replicas({second})\nexcept ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert message in done.stdout, done.stderr[-2000:]


def test_a_copy_of_a_batch_norm_synchronises_as_the_first_one():
    for synchronized in (True, False):
        layer = SynchronizedBatchNorm(synchronized, name="x")
        assert type(layer).from_config(layer.get_config()).synchronized is synchronized
