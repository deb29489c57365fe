"""The side of a timed program that answers: `Worker` of `bench_peers.py` asks. It needs nothing but Python."""

import json
import sys
import time
from collections.abc import Callable, Mapping


def answer(about: Mapping[str, object], step: Callable[[], object], used: Callable[[], dict] = dict) -> None:
    """Prints a json line when the program is ready; then, for each line N on standard input, the seconds of N steps.

    about: the first line. used: what is told beside the seconds, such as the peak memory.
    """
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": [_seconds(step) for _ in range(int(line))], **used()}), flush=True)


def _seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began
