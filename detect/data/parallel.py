"""A function of each of many files: in threads if that is faster."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 8
BLOCK = 4
"""Items of one task of a thread."""
SLOW = 1e-3
"""Seconds of an item from which threads help: it waits for a disk or a network, or it decodes a photograph."""


def each(function: Callable[[Item], Result], items: Sequence[Item], threads: int = THREADS) -> list[Result]:
    """The results of a function, in the order of the items; it may run in threads.

    Only one thread runs Python at a time, and those that wait for their turn slow it down: eight of them took three
    times as long as one to read the headers of 118,000 files of a fast disk. So the items are done in this thread
    until three blocks in a row are slow.
    """
    found: list[Result] = []
    slow = 0
    for place in range(0, len(items), BLOCK):
        started = time.perf_counter()
        found.extend(map(function, items[place : place + BLOCK]))
        slow = slow + 1 if time.perf_counter() - started > SLOW * BLOCK else 0
        if slow == 3:
            break
    rest = [items[place : place + BLOCK] for place in range(len(found), len(items), BLOCK)]
    if rest:
        with ThreadPoolExecutor(threads) as pool:
            found.extend(chain.from_iterable(pool.map(lambda block: list(map(function, block)), rest)))
    return found
