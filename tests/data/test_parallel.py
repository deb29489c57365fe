"""Slow functions run in threads, fast ones do not; the results are those of `map`."""

import threading
import time

import pytest

from detect.data import parallel
from detect.data.parallel import BLOCK, SLOW, each


@pytest.mark.parametrize("count", [0, 1, BLOCK, BLOCK + 1, 5 * BLOCK + 3])
@pytest.mark.parametrize("slow", [0.0, 1.0])
def test_the_results_are_those_of_map(count, slow, monkeypatch):
    monkeypatch.setattr(parallel, "SLOW", -slow)  # below zero, every block is slow
    assert each(lambda k: k * k, range(count)) == [k * k for k in range(count)]


def test_a_fast_function_stays_in_this_thread():
    assert set(each(lambda k: threading.get_ident(), range(10 * BLOCK))) == {threading.get_ident()}


def test_a_slow_function_runs_in_threads_after_three_blocks():
    together = threading.Barrier(2)

    def where(k):
        time.sleep(2 * SLOW)
        if k in (3 * BLOCK, 4 * BLOCK):  # the first items of the two blocks that are left
            together.wait(60)
        return threading.get_ident()

    found = each(where, range(5 * BLOCK), threads=4)  # as few photographs must not wait for one thread
    assert set(found[: 3 * BLOCK]) == {threading.get_ident()} and threading.get_ident() not in found[3 * BLOCK :]
    assert len(set(found)) == 3


@pytest.mark.parametrize("slow", [0.0, 1.0])
def test_the_first_error_is_raised(slow, monkeypatch):
    monkeypatch.setattr(parallel, "SLOW", -slow)
    with pytest.raises(ZeroDivisionError):
        each(lambda k: 1 // (k - 3 * BLOCK), range(5 * BLOCK))
