"""The side of a timed program that answers: `Worker` of `bench_peers.py` asks. It needs nothing but Python."""

import json
import sys
from collections.abc import Callable, Mapping


def answer(about: Mapping[str, object], step: Callable[[], float], used: Callable[[], dict] = dict) -> None:
    """Prints a json line when the program is ready; then, for each line N on standard input, steps N times.

    about: the first line. step: returns its seconds. used: what is told beside them, such as the peak memory.
    """
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": [step() for _ in range(int(line))], **used()}), flush=True)
