"""Axes, curves and rendering for all figures, with matplotlib but without its global state."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detect.reporting import fonts
from detect.reporting.text import color_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[np.ndarray, np.ndarray]  # steps and values, float64 [n] each
DPI = 110
MOST_LINES = 10  # of a panel that have a colour and a name


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    """A new matplotlib figure and its axes (one, or an array of them); width and height in inches."""
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


def render(figure: "Figure") -> np.ndarray:
    """The figure as RGB uint8 [h, w, 3], cropped to its content with an even white margin."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    texts: list[Any] = figure.findobj(Text)
    families = fonts.families("".join(text.get_text() for text in texts))
    for text in texts if len(families) > 1 else ():
        text.set_fontfamily(families)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3]
    inked = picture.min(axis=2) < 255
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    margin = 14  # square cells leave white space at the sides
    picture = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)


def series_of(rows: list[dict[str, Any]]) -> dict[str, Curve]:
    """Steps and values of metrics rows by key, without null values."""
    keys = dict.fromkeys(key for row in rows for key in row if key not in ("stage", "kind", "step", "time"))
    series = {}
    for key in keys:
        points = np.array([(row["step"], row[key]) for row in rows if row.get(key) is not None], float)
        if len(points):
            series[key] = points[:, 0], points[:, 1]
    return series


def draw_curves(axis: "Axes", title: str, lines: Mapping[str, Curve]) -> None:
    """Draws one panel of named curves, from 0 upwards. A curve of 40 points or more is pale, with its running mean."""
    single, drawn = len(lines) == 1, []
    top = 0.0
    for number, (key, (steps, values)) in enumerate(list(lines.items())[:MOST_LINES], 1):
        color, label = line_color(number), short(key.split("/", 1)[-1])
        top = max(top, float(np.percentile(values, 99)))  # the first steps may be far above the others
        if len(values) >= 40 and key != "rate":
            axis.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
            steps, values = smooth(steps, values)
        marker = "o" if len(values) <= 30 else ""
        (line,) = axis.plot(steps, values, color=color, linewidth=1.7, marker=marker, markersize=3)
        drawn.append((line, label))
    title = f"{title} ({MOST_LINES} of {len(lines)})" if len(lines) > MOST_LINES else title
    axis.set(title=title, xlabel="step", ylim=(0, 1.12 * top if top > 0 else 1))
    if not single:
        # Beside the curves, because a curve can cross every corner.
        handles, labels = zip(*drawn, strict=True)  # named one by one, as a label with _ before it would be left out
        axis.legend(handles, labels, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)


def layers_figure(
    names: Sequence[str],
    alone: Sequence[float],
    network: Sequence[float],
    imbalance: Sequence[float],
    dead: Sequence[float],
    limit: float,
) -> np.ndarray:
    """The effect of rounding on each layer, one row per layer from top to bottom, as RGB uint8 [h, w, 3].

    alone, network: SQNR in dB. Layers with `alone` below `limit` are red. These, and at least the three lowest layers,
    show their value. imbalance: of the kernel's channels, at least 1. dead: share of the kernel's channels.
    """
    places = np.arange(len(names))
    values = np.clip(np.nan_to_num(np.array([alone, network]), posinf=99), -10, 70)
    ruined = values[0] < limit
    colors = np.where(ruined, "tab:red", "tab:blue")
    beside: dict[str, Any] = {"xytext": (6, -3), "textcoords": "offset points", "fontsize": 8}
    figure, (left, right) = new_figure(1, 2, 12, 1.4 + 0.17 * len(names))
    left.hlines(places, min(0, values.min()), values[0], colors=colors, linewidth=1)
    left.scatter(values[0], places, c=colors, s=16, label="network's outputs, only this layer rounded")
    left.scatter(values[1], places, c="0.55", s=9, marker="D", label="layer's output, all layers rounded")
    left.axvline(limit, color="0.3", linewidth=1, linestyle="--", label=f"{limit:.0f} dB: layers below are red")
    for place in np.argsort(values[0], kind="stable")[: max(3, ruined.sum())].tolist():
        left.annotate(f"{values[0][place]:.1f}", (values[0][place], place), **beside)
    right.hlines(places, 1, imbalance, colors=colors, linewidth=1)
    right.scatter(imbalance, places, c=colors, s=16)
    for place in np.flatnonzero(np.asarray(dead) > 0).tolist():
        right.annotate(f"{dead[place]:.1%} dead", (imbalance[place], place), **beside)
    left.set_yticks(places, [short(name, 44) for name in names], fontsize=8)
    for place, label in enumerate(left.get_yticklabels()):
        label.set(color="tab:red" if ruined[place] else "0.2")
    right.set_yticks(places, [])
    for axis in (left, right):
        axis.set_ylim(len(names) - 0.4, -0.6)
    left.set(xlabel="SQNR, dB", title="noise of rounding")
    right.set(xscale="log", xlabel="largest channel / median channel of the kernel", title="imbalance")
    right.set_xlim(0.9, 3 * max(3, *imbalance))
    figure.legend(loc="outside lower center", fontsize=8, ncols=3, frameon=False)
    return render(figure)


def smooth(steps: np.ndarray, values: np.ndarray) -> Curve:
    """The running mean over a 25th of the curve, each mean at the middle of its window."""
    width = max(1, len(values) // 25)
    means = np.convolve(values, np.full(width, 1 / width), mode="valid")
    start = (width - 1) // 2
    return steps[start : start + len(means)], means


def line_color(kind: int) -> tuple[float, float, float]:
    """The colour of a class for lines on white, a little darker than on photographs."""
    red, green, blue = (0.82 * channel / 255 for channel in color_of(kind))
    return red, green, blue


def short(text: str, length: int = 24) -> str:
    """The text as matplotlib draws it literally, shortened to a length with two dots at its end."""
    text = fonts.visible(text)
    text = text if len(text) <= length else text[: length - 2] + ".."
    return text.replace("$", r"\$")  # else it begins a formula


def bands_figure(groups: Mapping[str, Mapping[str, Any]], watched: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
    """AP of each arm over the steps and over the seconds of training, in one row of panels per group of a study.

    groups: title -> arm -> detect.studies.curves.Band, drawn as a line with its interval. The title begins with the
    data set, and all panels of a data set have the same AP scale, which shows the intervals up to twice the highest
    mean. watched: title -> figure -> arm -> steps and values, in further panels. Each figure has one scale, but a group
    whose lines are far above the others has its own (`common_top`). A group without the figure has an empty panel.
    """
    further = list(dict.fromkeys(key for figures in watched.values() for key in figures))
    columns = 2 + len(further)
    figure, axes = new_figure(len(groups), columns, 4.6 * columns, 3.7 * len(groups))
    arms = sorted({arm for bands in groups.values() for arm in bands})
    colors = {arm: line_color(number) for number, arm in enumerate(arms, 1)}
    tops: dict[str, float] = {}
    for title, bands in groups.items():
        highest = max(float(np.nanmax(band.mean, initial=0)) for band in bands.values())
        ends = max(float(np.nanmax(band.high, initial=0)) for band in bands.values())
        tops[_data_set(title)] = max(tops.get(_data_set(title), 0), highest, min(ends, 2 * highest))
    of_key = {key: [figures.get(key, {}) for figures in watched.values()] for key in further}
    shared = {key: common_top([end for lines in of_key[key] for end in _ends(lines)]) for key in further}
    for row, (title, bands) in zip(np.atleast_1d(axes).reshape(len(groups), columns), groups.items(), strict=True):
        for axis, unit in zip(row, ("steps", "seconds"), strict=False):
            _draw_bands(axis, unit, bands, colors, tops[_data_set(title)])
        row[0].set_title(textwrap.fill(short(title, 200), 50), loc="left", fontsize=10)
        row[0].legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=3, frameon=False)
        for axis, key in zip(row[2:], further, strict=True):
            _draw_watched(axis, key, watched.get(title, {}).get(key, {}), colors, shared[key])
    return render(figure)


def _draw_bands(axis: "Axes", unit: str, bands: Mapping[str, Any], colors: Mapping[str, Any], top: float) -> None:
    """Draws AP of each arm with its interval. unit: `steps` or `seconds`. top: the highest AP of the panels."""
    for arm, band in bands.items():
        places, label = getattr(band, unit), f"{short(arm)}, n = {band.count}"
        axis.plot(places, band.mean, color=colors[arm], linewidth=1.7, marker="o", markersize=3, label=label)
        axis.fill_between(places, band.low, band.high, color=colors[arm], alpha=0.15, linewidth=0)
    axis.set(xlabel=unit, ylabel="AP", ylim=(0, 1.1 * top or 1))


def _draw_watched(axis: "Axes", key: str, lines: Mapping[str, Curve], colors: Mapping[str, Any], shared: float) -> None:
    """Draws a watched figure of each arm; without lines, the panel is empty. shared: the top of its panels."""
    if not lines:
        axis.axis("off")
        return
    for arm, (steps, values) in lines.items():
        axis.plot(steps, values, color=colors[arm], linewidth=1.5)
    own = _ends(lines)
    top = max(own) if min(own) > shared else shared
    axis.set(xlabel="steps", ylabel="loss" if "loss" in key else "recall", ylim=(0, 1.1 * top or 1))
    axis.set_title(short(key, 40), loc="left", fontsize=10)


def _ends(lines: Mapping[str, Curve]) -> list[float]:
    """Of each line, the value that one in twenty exceeds."""
    return [float(np.nanpercentile(values, 95)) for _, values in lines.values()]


def compute_figure(groups: Mapping[str, Mapping[str, Sequence[tuple[float, Any]]]], split: str) -> np.ndarray:
    """AP of each arm over the multiply-accumulates of its training, one panel per group of a study.

    groups: title -> arm -> (cost, detect.studies.statistics.Estimate of AP on `split`), drawn as a point with its
    interval; the budgets of one arm are joined by a line. Arms of equal cost stand side by side.
    """
    columns = min(len(groups), 3)
    rows = -(-len(groups) // columns)
    figure, axes = new_figure(rows, columns, 5.2 * columns, 4.2 * rows)
    arms = sorted({arm for of in groups.values() for arm in of})
    colors = {arm: line_color(number) for number, arm in enumerate(arms, 1)}
    panels = np.atleast_1d(axes).ravel()
    for axis, (title, of) in zip(panels, groups.items(), strict=False):
        widest = max(cost for found in of.values() for cost, _ in found) / 1e12
        for number, (arm, found) in enumerate(of.items()):
            aside = 0.008 * widest * (number - (len(of) - 1) / 2)
            costs, scores = [cost / 1e12 + aside for cost, _ in found], [scored.mean for _, scored in found]
            halves = [scored.half or 0 for _, scored in found]
            label = f"{short(arm)}, n = {', '.join(str(scored.count) for _, scored in found)}"
            axis.errorbar(costs, scores, halves, color=colors[arm], marker="o", markersize=5, capsize=3, label=label)
        top = max(scored.mean for found in of.values() for _, scored in found)
        axis.set(xlabel="multiply-accumulates of training, 10^12", ylabel=f"AP on {split}")
        axis.set(xlim=(0, 1.08 * widest), ylim=(0, 1.25 * top or 1))
        axis.set_title(textwrap.fill(short(title, 200), 50), loc="left", fontsize=10)
        axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2, frameon=False)
    for axis in panels[len(groups) :]:
        axis.axis("off")
    return render(figure)


def common_top(ends: Sequence[float]) -> float:
    """The top of a scale that shows all lines but those that end above four times the median: [1, 2, 90] gives 2."""
    return max((end for end in ends if end <= 4 * float(np.nanmedian(ends))), default=0.0)


def _data_set(title: str) -> str:
    return title.partition(",")[0]


def exports_figure(rows: Sequence[tuple[str, Mapping[str, float | None]]], timed: str) -> np.ndarray:
    """AP, size and milliseconds of exported files, one bar per file in each panel.

    rows: label, and the figures AP, `AP of the run` (drawn as a mark), MB and ms; None values are left out.
    timed: the title of the milliseconds, which tells their threads.
    """
    figure, axes = new_figure(1, 3, 13, 1.2 + 0.32 * len(rows))
    places = np.arange(len(rows))[::-1]

    def known(key: str) -> list[tuple[Any, Any]]:
        pairs = zip(places, rows, strict=True)
        return [(figures[key], place) for place, (_, figures) in pairs if figures.get(key) is not None]

    titles = {"AP": "AP (mark: of the run)", "MB": "MB", "ms": timed}
    for axis, (key, title), color in zip(axes, titles.items(), (2, 8, 3), strict=True):
        for value, place in known(key):
            axis.barh(place, value, height=0.62, color=line_color(color))
        axis.set(title=title, ylim=(-0.7, len(rows) - 0.3))
        axis.set_yticks(places, [short(label, 44) for label, _ in rows] if key == "AP" else [])
    for value, place in known("AP of the run"):
        axes[0].plot(value, place, "|", color="0.1", markersize=13, markeredgewidth=2)
    return render(figure)
