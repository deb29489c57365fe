"""Axes, curves and rendering that the figures of `detect.draw` share; matplotlib without its global state."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from detect.labels import color_of

Curve = tuple[np.ndarray, np.ndarray]  # steps and values, float64 [n] each
DPI = 110


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    """A matplotlib figure of its own and its axes (one, or an array of them); width and height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns)
    for axis in np.atleast_1d(axes).ravel():
        axis.grid(True, color="0.92")
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=9)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return figure, axes


def render(figure: Any) -> np.ndarray:
    """The figure as RGB uint8 [h, w, 3], cut to what is drawn with an even white margin."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3]
    inked = picture.min(axis=2) < 255
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    margin = 14  # a layout with square cells leaves white at its sides
    picture = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)


def series_of(rows: list[dict[str, Any]]) -> dict[str, Curve]:
    """Figures of metrics rows by key: steps and values, without those that are null."""
    keys = dict.fromkeys(key for row in rows for key in row if key not in ("stage", "kind", "step", "time"))
    series = {}
    for key in keys:
        points = np.array([(row["step"], row[key]) for row in rows if row.get(key) is not None], float)
        if len(points):
            series[key] = points[:, 0], points[:, 1]
    return series


def draw_curves(axis: Any, title: str, lines: Mapping[str, Curve], most: int = 10) -> None:
    """One panel of named curves, from 0 up; a long noisy curve is pale under its running mean."""
    single = len(lines) == 1
    top = 0.0
    for number, (key, (steps, values)) in enumerate(list(lines.items())[:most], 1):
        color, label = line_color(number), short(key.split("/", 1)[-1])
        top = max(top, float(np.percentile(values, 99)))  # the first steps may be far above all others
        if len(values) >= 40 and key != "rate":
            axis.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
            steps, values = smooth(steps, values)
        marker = "o" if len(values) <= 30 else ""
        axis.plot(
            steps, values, color=color, linewidth=1.7, marker=marker, markersize=3, label=None if single else label
        )
    axis.set(title=title, xlabel="step", ylim=(0, 1.12 * top if top > 0 else 1))
    if not single:
        axis.legend(fontsize=8, loc="best", framealpha=0.8)


def smooth(steps: np.ndarray, values: np.ndarray) -> Curve:
    """The running mean over a 25th of the curve, each mean at the middle of its window."""
    width = max(1, len(values) // 25)
    means = np.convolve(values, np.full(width, 1 / width), mode="valid")
    start = (width - 1) // 2
    return steps[start : start + len(means)], means


def line_color(kind: int) -> tuple[float, float, float]:
    """The colour of a class for lines on white: a shade darker than on photographs."""
    red, green, blue = (0.82 * channel / 255 for channel in color_of(kind))
    return red, green, blue


def short(text: str, length: int = 24) -> str:
    """The text, cut to a length with two dots at its end."""
    return text if len(text) <= length else text[: length - 2] + ".."
