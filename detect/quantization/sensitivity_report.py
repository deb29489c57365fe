"""The report of `detect inspect quantize` about each layer: for the console, as CSV, and in TensorBoard."""

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detect import files
from detect.quantization.sensitivity import RUIN_DB, LayerDamage, culprits
from detect.reporting.figures import layers_figure
from detect.reporting.tensorboard import EventWriter

SHOWN = 10  # layers in the table
EVEN = 3.0  # an imbalance below this value does not ruin a layer
NAMED = 5  # layers that ruin the model, with one line for each
CURVES = (
    *("sqnr_db", "layer_sqnr_db", "kernel_sqnr_db", "network_sqnr_db", "dead_share", "imbalance"),
    *("kernel_low", "kernel_high", "output_low", "output_high"),
)


def table(damage: Sequence[LayerDamage]) -> list[str]:
    """The worst layers, in 80 columns. damage: worst first."""
    lines = [f"{'layer':<33}{'SQNR dB':>8}{'in net':>8}{'kernel':>9}{'output':>8}{'dead':>6}{'imbal.':>8}"]
    for row in damage[:SHOWN]:
        name = row.name if len(row.name) <= 32 else ".." + row.name[-30:]
        kernel, output = max(-row.kernel_low, row.kernel_high), max(-row.output_low, row.output_high)
        figures = f"{row.sqnr_db:>8.1f}{row.network_sqnr_db:>8.1f}{kernel:>9.3g}{output:>8.3g}"
        lines.append(f"{name:<33}{figures}{row.dead_share:>6.0%}{row.imbalance:>8.1f}")
    return [*lines, *LEGEND]


LEGEND = (
    "SQNR: of the network's outputs when this layer alone is rounded; in net: of the",
    "layer's output when all are. kernel, output: largest magnitude; kernel folded.",
    "dead: channels without variance. imbal.: largest channel of the kernel / median.",
)


def verdict(damage: Sequence[LayerDamage]) -> list[str]:
    """Names the layers that ruin the model and the channels that cause it, or says that there are none; 80 columns."""
    guilty = culprits(damage)
    if not guilty:
        worst, end = damage[0], min(damage, key=lambda row: row.network_sqnr_db)
        text = (
            f"no layer ruins the model: the worst leaves {worst.sqnr_db:.1f} dB when it is rounded alone (the limit is "
            f"{RUIN_DB:.0f} dB); all together leave {end.network_sqnr_db:.1f} dB at {end.name}"
        )
        return textwrap.wrap(text, 80, subsequent_indent="  ")
    told = "1 layer ruins" if len(guilty) == 1 else f"{len(guilty)} layers ruin"
    lines = [f"{told} the model: rounded alone, less than {RUIN_DB:.0f} dB is left of its outputs"]
    for row in guilty[:NAMED]:
        text = f"{row.name}: {row.sqnr_db:.1f} dB; {_blame(row)}"
        lines += textwrap.wrap(text, 80, initial_indent="  ", subsequent_indent="    ")
    rest = [row.name for row in guilty[NAMED:]]
    lines += textwrap.wrap(f"and {', '.join(rest)}", 80, initial_indent="  ", subsequent_indent="    ") if rest else []
    return lines


def write_csv(path: Path, damage: Sequence[LayerDamage]) -> None:
    """One row for each layer, in the given order, without `channel_ranges`. Spaces separate numbers of channels."""
    columns = [field.name for field in dataclasses.fields(LayerDamage) if field.name != "channel_ranges"]
    files.write_csv(path, columns, ([_cell(getattr(row, column)) for column in columns] for row in damage))


def picture(damage: Sequence[LayerDamage]) -> np.ndarray:
    """All layers in the network's order: `detect.reporting.figures.layers_figure`."""
    rows = sorted(damage, key=lambda row: row.place)
    return layers_figure(
        names=[row.name for row in rows],
        alone=[row.sqnr_db for row in rows],
        network=[row.network_sqnr_db for row in rows],
        imbalance=[row.imbalance for row in rows],
        dead=[row.dead_share for row in rows],
        limit=RUIN_DB,
    )


def write_board(folder: Path, damage: Sequence[LayerDamage], picture: np.ndarray) -> None:
    """Writes TensorBoard's files: each figure as a curve over the layers in order, the channels of the kernels as
    histograms, the table and the picture. They replace an earlier report in the folder."""
    writer = EventWriter(folder)
    writer.restart(0)
    for row in sorted(damage, key=lambda row: row.place):
        figures = {f"layers/{name}": getattr(row, name) for name in CURVES}
        writer.scalars(row.place, {tag: value for tag, value in figures.items() if np.isfinite(value)})
        ranges = row.channel_ranges[row.channel_ranges > 0]
        writer.histogram(f"log2_of_channel_ranges/{row.name}", 0, np.log2(ranges))
    places = "\n".join(f"{row.place} {row.name}" for row in sorted(damage, key=lambda row: row.place))
    writer.text("layers", "\n".join(["```", *table(damage), "", *verdict(damage), "", places, "```"]))
    writer.image("quantize_layers", 0, picture)
    writer.close()


def _blame(row: LayerDamage) -> str:
    """A sentence: which channels set the range of the kernel, and whether they are dead."""
    if row.imbalance < EVEN:
        return f"no channel of its kernel stands out: the largest is {row.imbalance:.1f} times the median"
    channels = ", ".join(map(str, row.worst_channels))
    dead = set(row.worst_channels) <= set(row.dead_channels)
    one = len(row.worst_channels) == 1
    told = f"the {'dead ' * dead}channel{'s' * (not one)} {channels} set{'s' * one} the range of its kernel"
    return f"{told}, {row.imbalance:.1f} times that of the median channel"


def _cell(value: object) -> object:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else value
