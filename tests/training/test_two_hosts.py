"""Two hosts train one run: two network namespaces with a cable between them. They need root, and `ip` of iproute2."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.training import test_distribution
from tests.training.test_distribution import ROOT, RUN, after, ends, outcome

pytestmark = pytest.mark.slow
data, whole = test_distribution.data, test_distribution.whole


@dataclass(frozen=True)
class Hosts:
    """Two namespaces, which are named after this process."""

    names: tuple[str, str]
    addresses: tuple[str, str] = ("10.77.0.1", "10.77.0.2")

    def start(self, data: Path, run: Path) -> list[subprocess.Popen]:
        """Begins `scripts/cluster/host.sh` on each host."""
        workers = ",".join(f"{address}:20001" for address in self.addresses)
        given = [f"dataset.root={data}", *(word for word in RUN if not word.startswith("distribute."))]
        return [
            subprocess.Popen(
                ["ip", "netns", "exec", name, "scripts/cluster/host.sh", str(i), workers, str(run), *given],
                env=os.environ | {"DETECT": f"{sys.executable} -m detect.cli"},
                cwd=ROOT,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for i, name in enumerate(self.names)
        ]

    def cable(self, state: str) -> None:
        """Pulls the cable (`down`), or puts it back (`up`)."""
        ip("-n", self.names[0], "link", "set", "cable0", state)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if shutil.which("ip") is None:
        pytest.skip("needs `ip` of iproute2")
    made = Hosts((f"detect-{os.getpid()}-0", f"detect-{os.getpid()}-1"))
    try:
        try:
            for name in made.names:
                ip("netns", "add", name)
            ip("-n", made.names[0], "link", "add", "cable0", "type", "veth", "peer", "cable1", "netns", made.names[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"needs the right to make network namespaces: {error.stderr.strip()}")
        for i, (name, address) in enumerate(zip(made.names, made.addresses, strict=True)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", f"cable{i}")
            ip("-n", name, "link", "set", f"cable{i}", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield made
    finally:
        for name in made.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def test_two_hosts_train_as_two_processes_of_one(hosts, data, whole, tmp_path):
    found = ends(hosts.start(data, tmp_path / "run"))
    assert [code for code, _ in found] == [0, 0], found[0][1][-2000:]
    assert outcome(tmp_path / "run") == outcome(whole)


def test_a_signal_at_one_host_ends_both_at_the_same_step(hosts, data, whole, tmp_path):
    run = tmp_path / "run"
    processes = hosts.start(data, run)
    after(run, "detector", 6)
    processes[1].send_signal(signal.SIGTERM)
    found = ends(processes)
    steps = [re.findall(r"stopped at step (\d+)", text) for _, text in found]
    assert [code for code, _ in found] == [130, 130] and steps[0] == steps[1] != [], found[0][1][-2000:]
    assert [code for code, _ in ends(hosts.start(data, run))] == [0, 0]
    assert outcome(run) == outcome(whole)


def test_a_cable_that_is_pulled(hosts, data, whole, tmp_path):
    """Both hosts say that the other one has ended; with the cable in place they go on, and end with the same bits."""
    run = tmp_path / "run"
    processes = hosts.start(data, run)
    after(run, "detector", 7)
    hosts.cable("down")
    begun = time.monotonic()
    try:
        found = ends(processes)
    finally:
        hosts.cable("up")
    assert time.monotonic() - begun < 120
    for code, text in found:
        assert code == 2 and text.splitlines()[-1].startswith("detect train: another worker of the run has ended or"), (
            text
        )
    assert [code for code, _ in ends(hosts.start(data, run))] == [0, 0]
    assert outcome(run) == outcome(whole)
