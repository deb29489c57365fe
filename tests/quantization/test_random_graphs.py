"""What `fake_quant` accepts, converts, computes in integers, agrees with its file, and can be copied: random graphs."""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tf_keras
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st

from detect.errors import ConfigError
from detect.quantization.calibrate import calibrate
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from tests.quantization import files
from tests.quantization.graphs import CHANNELS, KINDS, SIDE, Builder

IMAGES = np.random.default_rng(0).integers(0, 256, (16, SIDE, SIDE, CHANNELS)).astype(np.float32)  # whole levels
SAME = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
"""The deadline is named here for `main`, which runs without tests/conftest.py."""


def check(data: st.DataObject, copies: tuple[str, ...] = ("clone", "keras")) -> Builder:
    """Builds a graph, and asserts all of the above. copies: the ways to copy it. Returns its builder."""
    tf_keras.backend.clear_session()
    builder = Builder(lambda options: data.draw(st.sampled_from(options)))
    twin = fake_quant(builder.model(), Spec())
    calibrate(twin, [IMAGES])
    try:
        file = files.runner(twin)
    except ConfigError as error:  # by ranges that only a few random graphs have: another graph is drawn
        assume("steps of its output" not in str(error))
        raise
    assert not files.float_operations(file)
    files.assert_agrees(twin, file, IMAGES)
    with tempfile.TemporaryDirectory() as folder:
        files.assert_copies_agree(twin, IMAGES, Path(folder), copies)
    return builder


@settings(SAME, max_examples=3)
@given(st.data())
def test_some_graphs(data):
    check(data, copies=("clone",))


PARTS, GRAPHS = 10, 30


@pytest.mark.slow
def test_300_graphs():
    """More than 1500 layers, every kind among them. A process draws 30 graphs: TensorFlow keeps memory of each."""

    def draw(part: int) -> Counter[str]:
        command = [sys.executable, "-m", "tests.quantization.test_random_graphs", str(part)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return Counter(json.loads(done.stdout))

    with ThreadPoolExecutor(2) as pool:
        counts = sum(pool.map(draw, range(PARTS)), Counter[str]())
    assert set(counts) == set(KINDS) and counts.total() > 1500, counts


def main() -> None:
    """Checks the graphs of one part, and prints how many layers of each kind they have."""
    counts: Counter[str] = Counter()

    @seed(int(sys.argv[1]))
    @settings(SAME, derandomize=False, max_examples=GRAPHS)
    @given(st.data())
    def run(data):
        counts.update(check(data).counts)

    run()
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
