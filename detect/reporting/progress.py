"""The progress line of the console."""

import math
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from detect.errors import printable_lines

if TYPE_CHECKING:
    from rich.live import Live

COLUMNS = 80
PLAIN = "dumb", "unknown"
"""Terminals (TERM) on which rich redraws nothing."""


class ProgressLine:
    """One line of at most 80 columns: redrawn in place on a terminal, else printed at most every `every` seconds.

    total_steps: 0 if unknown. unit: unit of a step, written after the total (" MB").
    """

    def __init__(self, stage: str, total_steps: int, every: float, unit: str = ""):
        self.stage, self.total_steps, self.every, self.unit = stage, total_steps, every, unit
        self._live: Live | None = None
        self._first: tuple[int, float] | None = None
        self._step = 0
        self._figures: dict[str, float] = {}
        self._line, self._printed, self._last_print = "", "", -math.inf

    def update(self, step: int, scalars: Mapping[str, float | None]) -> None:
        """Take the newest figures and show the line if it is due."""
        now = time.monotonic()
        self._step, self._first = step, self._first or (step, now)
        self._figures |= {key: float(value) for key, value in scalars.items() if value is not None}
        self._line = self.render(step, now)
        if sys.stdout.isatty() and os.environ.get("TERM") not in PLAIN:
            self._draw()
        elif now - self._last_print >= self.every:
            self._print(now)

    def render(self, step: int, now: float) -> str:
        """The line for a step; the remaining time comes from the speed since the first update (with evaluations)."""
        first_step, started = self._first or (step, now)
        left = "-:--:--"
        if step > first_step and self.total_steps:
            left = clock((now - started) / (step - first_step) * max(self.total_steps - step, 0))
        parts = [f"{step}/{self.total_steps or '?'}{self.unit}"]
        for key, text in (("loss/total", "loss {:.4g}"), ("images_per_second", "{:.1f} images/s")):
            if key in self._figures:
                parts.append(text.format(self._figures[key]))
        if "data_wait_share" in self._figures:
            parts.append(f"data wait {self._figures['data_wait_share']:.0%}")
        parts.append(f"ETA {left}")
        while len(parts) > 2 and len("  ".join([self.stage[:12], *parts])) > COLUMNS:
            del parts[-2]  # the step and the remaining time stay
        tail = "  ".join(parts)
        return f"{self.stage[: COLUMNS - len(tail) - 2]}  {tail}"

    def say(self, text: str) -> None:
        """Print text above the line. The speed counts from here, if no step was done since the first update."""
        print(printable_lines(text), flush=True)  # on a terminal, the live display redraws the line below this text
        if self._first and self._first[0] == self._step:
            self._first = (self._step, time.monotonic())

    def close(self) -> None:
        """Leave the last state of the line on the console."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._line and self._line != self._printed:
            self._print(time.monotonic())

    def _draw(self) -> None:
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            self._live = Live(auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(Text(self._line, no_wrap=True, overflow="crop"), refresh=True)

    def _print(self, now: float) -> None:
        self._printed, self._last_print = self._line, now
        print(self._line, flush=True)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or as days from 100 hours."""
    whole = round(seconds)
    if whole >= 100 * 3600:
        return f"{whole / 86400:.0f} days"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
