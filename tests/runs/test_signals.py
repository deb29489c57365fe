"""What stops a program: Ctrl-C, SIGTERM, and the end of the terminal."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest

from detect.runs.signals import STOPPING, handled


@pytest.mark.parametrize("number", STOPPING)
def test_a_handler_gets_its_signals(hangup, number):
    got, before = [], signal.getsignal(number)
    with handled(lambda received, _: got.append(received), *STOPPING):
        os.kill(os.getpid(), number)
    assert got == [number]
    assert signal.getsignal(number) == (signal.SIG_IGN if number == signal.SIGHUP else before)


def test_nohup_stays(hangup):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with handled(lambda *_: pytest.fail("handled"), *STOPPING):
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


PROGRAM = """
import sys, time
from pathlib import Path
from detect.runs.signals import STOPPING, handled

got = []
with handled(lambda number, _: got.append(number), *STOPPING):
    print("ready", flush=True)
    while not got:
        time.sleep(0.01)
    time.sleep(0.3)
    for _ in range(3):
        print("saving", flush=True)
    Path(sys.argv[1]).write_text(str(len(got)))
"""


def test_a_terminal_that_closes_stops_a_program_once(tmp_path):
    """The kernel sends SIGHUP, the shell may send another one, and to print is an error then."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "saved")],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: (fcntl.ioctl(0, termios.TIOCSCTTY, 0), signal.signal(signal.SIGHUP, signal.SIG_DFL)),
    )  # fmt: skip
    os.close(slave)
    assert os.read(master, 5) == b"ready"
    process.send_signal(signal.SIGHUP)
    os.close(master)
    assert process.wait(timeout=20) == 0
    assert (tmp_path / "saved").read_text() == "1"
