"""What stops a program: Ctrl-C, SIGTERM, and the end of the terminal."""

import os
import signal

import pytest

from detect.runs.signals import STOPPING, handled


@pytest.mark.parametrize("number", STOPPING)
def test_a_handler_gets_its_signals_and_leaves(number):
    got, before = [], signal.getsignal(number)
    with handled(lambda received, _: got.append(received), *STOPPING):
        os.kill(os.getpid(), number)
    assert got == [number] and signal.getsignal(number) == before


def test_nohup_stays():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled(lambda *_: pytest.fail("handled"), *STOPPING):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
