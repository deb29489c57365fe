"""Measures why MobileNet collapses at 8 bits, and which changes correct it, for experiments/mobilenet_collapse.

Usage: python scripts/mobilenet_collapse.py OUTPUT --data GROCERY10 --mobilenet CHECKPOINT --inception H5 --graph PB
A network without given weights is left out. Every variant writes OUTPUT/NETWORK/NUMBER/measured.json, and so does every
layer in a table. A variant with such a file is not measured again. The pictures go to OUTPUT, too.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from mobilenet_collapse_nets import Net, Photographs, inception, mobilenet, zoo
from mobilenet_collapse_variants import CURED, STANDARD, Variant, build

from detect.quantization.equalise import dead_channels
from detect.quantization.layer_pairs import sides
from detect.quantization.sensitivity import layer_damage
from detect.quantization.spec import Spec
from detect.reporting import pictures
from detect.reporting.figures import new_figure, render
from detect.runs import provenance

MEASURED = "measured.json"
CALIBRATED, PROBED = 16, 4  # frames of the layer report: for the ranges, and for the noise
NAMED = 6  # layers in its table
SPECS = {"per tensor": Spec(per_channel=False, ranges="calibrated"), "per channel": Spec(ranges="calibrated")}


@dataclass(frozen=True)
class Study:
    """One network. caption: of its table. option: the argument for its weights. folder: of its rows. load: builds the
    network from the weights. variants: the measured variants. report: whether its layers are reported."""

    caption: str
    option: str
    folder: str
    load: Callable[[Path, Photographs], Net]
    variants: tuple[Variant, ...]
    report: bool = True


STUDIES = (
    Study("MobileNet v1, ImageNet weights", "mobilenet", "1_mobilenet_v1", mobilenet, (*STANDARD, *CURED)),
    Study("Inception v3, generic weights", "inception", "3_inception_v3", inception, STANDARD),
    Study("SSDLite MobileNet v2, the zoo's graph", "graph", "5_ssdlite", zoo, (*STANDARD, *CURED), report=False),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the missing variants, network by network, and draws the pictures."""
    asked = parse(arguments)
    photographs = Photographs(asked.data, asked.photographs)
    reports = {}
    for study in STUDIES:
        weights = getattr(asked, study.option)
        if weights is not None:
            net = Later(lambda study=study, weights=weights: study.load(weights, photographs))
            measure(study, net, asked.output, asked.threads)
            if study.report:
                reports[study] = layer_report(study, net, asked.output)
                print(f"{study.caption}: {widths(reports[study])}", flush=True)
    if reports:
        pictures.save(asked.output / "layers.png", layers_figure(reports))
        pictures.save(asked.output / "channels.png", channels_figure(reports))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of the command line. Ends the program if a path does not exist."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="folder for the measurements")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/CLASS and test/CLASS")
    for study in STUDIES:
        parser.add_argument(f"--{study.option}", type=Path, help=f"weights of {study.caption}")
    parser.add_argument("--photographs", type=int, help="how many test photographs; all of them")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the interpreter")
    asked = parser.parse_args(arguments)
    for path in (asked.data, *(getattr(asked, study.option) for study in STUDIES)):
        if path is not None and not path.parent.exists():
            parser.error(f"{path}: no such file or folder")
    return asked


class Later:
    """A network that is loaded when it is first needed."""

    def __init__(self, load: Callable[[], Net]):
        self._load, self._net = load, None

    def __call__(self) -> Net:
        self._net = self._net or self._load()
        return self._net


def measure(study: Study, net: Later, output: Path, threads: int) -> None:
    """Measures the variants that have no measured.json yet."""
    for number, variant in enumerate(study.variants):
        folder = output / study.folder / f"{number:02d}"
        if (folder / MEASURED).exists():
            print(f"{folder}: measured before", flush=True)
            continue
        start = time.perf_counter()
        predict, size = build(net().model, variant, net().representative, threads)
        figures = net().measure(predict(net().frames))
        columns = variant.columns | {"MB": None if size is None else size / 1e6} | figures
        write(folder, study.caption, columns)
        print(f"{folder} after {time.perf_counter() - start:.0f} s: {columns}", flush=True)


def write(folder: Path, study: str, columns: dict[str, Any]) -> None:
    """Writes measured.json atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"study": study, "columns": columns, **provenance.collect()}
    new = folder / f"{MEASURED}.new"
    new.write_text(json.dumps(content, indent=2) + "\n")
    new.replace(folder / MEASURED)


def layer_report(study: Study, net: Later, output: Path) -> list[dict[str, Any]]:
    """The damage of rounding to each layer of the network, in its order: rows, which layers.json holds. Each of the
    worst layers with one scale for a kernel gets a measured.json."""
    folder = output / f"{study.folder}_layers"
    if not (folder / "layers.json").exists():
        model, frames = net().model, np.stack(net().representative[:CALIBRATED])
        damage = {
            name: {row.name: row for row in layer_damage(model, frames, spec, PROBED)} for name, spec in SPECS.items()
        }
        dead = dead_channels(model)
        variances = {s.layer.name: s.norm.moving_variance.numpy() for s in sides(model) if s.norm is not None}
        rows = []
        for row in sorted(damage["per tensor"].values(), key=lambda row: row.place):
            widest = list(row.worst_channels)
            smallest = float(variances[row.name][widest].min()) if row.name in variances else None
            rows.append(
                {
                    "layer": row.name,
                    "kind": row.kind,
                    **{f"dB {name}": damage[name][row.name].sqnr_db for name in SPECS},
                    "imbalance": row.imbalance,
                    "channels": len(row.channel_ranges),
                    "dead": dead.get(row.name, np.zeros(0, int)).tolist(),
                    "widest": widest,
                    "least variance": smallest,
                    "ranges": row.channel_ranges.tolist(),
                }
            )
        for number, row in enumerate(sorted(rows, key=lambda row: row["dB per tensor"])[:NAMED]):
            write(folder / f"{number:02d}", f"{study.caption}: the layers that lose most", named(row))
        (folder / "layers.json").write_text(json.dumps(rows) + "\n")
    return json.loads((folder / "layers.json").read_text())


def named(row: dict[str, Any]) -> dict[str, Any]:
    """The columns of a layer."""
    return {
        "layer": row["layer"],
        "dB alone, per tensor": row["dB per tensor"],
        "dB alone, per channel": row["dB per channel"],
        "widest over median channel": row["imbalance"],
        "dead channels": f"{len(row['dead'])} of {row['channels']}",
        "widest channels": ", ".join(f"{c}{' (dead)' if c in row['dead'] else ''}" for c in row["widest"]),
        "their least variance": row["least variance"],
    }


def widths(rows: list[dict[str, Any]]) -> str:
    """How wide the channels of the depthwise layers with dead channels are, from the rows of layers.json."""
    found = []
    for row in rows:
        if row["kind"] == "depthwise" and row["dead"]:
            live = np.delete(row["ranges"], row["dead"])
            middle = np.median(live)
            found.append((row["imbalance"], 127 * middle / max(row["ranges"]), live.max() / middle, len(row["dead"])))
    if not found:
        return "no dead channels in depthwise layers"
    *ends, dead = zip(*found, strict=True)
    widest, steps, live = (f"{min(values):.0f} to {max(values):.0f}" for values in ends)
    return (
        f"{sum(dead)} dead channels in {len(found)} depthwise layers; the widest channel is {widest} times as wide as "
        f"the median one, the median live channel has {steps} of 127 steps, the widest live one is {live} times as wide"
    )


def layers_figure(reports: dict[Study, list[dict[str, Any]]]) -> np.ndarray:
    """Signal-to-noise ratio of each layer alone, with one panel for each network."""
    figure, axes = new_figure(len(reports), 1, 10, 2.6 * len(reports))
    labels: dict[str, Any] = {}
    for axis, (study, rows) in zip(np.atleast_1d(axes), reports.items(), strict=True):
        for name, color in zip(SPECS, ("tab:red", "tab:blue"), strict=True):
            values = np.array([row[f"dB {name}"] for row in rows])
            axis.plot(values, color=color, linewidth=0.8, alpha=0.5)
            for kind, marker in {"depthwise": "o", "conv": "s"}.items():
                chosen = [i for i, row in enumerate(rows) if row["kind"] == kind]
                if chosen:
                    dots = axis.scatter(chosen, values[chosen], color=color, marker=marker, s=18)
                    labels[f"kernels {name}, {kind}"] = dots
        axis.set(title=study.caption, xlabel="layer", ylabel="SQNR of the outputs, dB", ylim=(0, 80))
    figure.legend(labels.values(), labels, fontsize=8, loc="outside lower center", ncols=4, frameon=False)
    return render(figure)


def channels_figure(reports: dict[Study, list[dict[str, Any]]]) -> np.ndarray:
    """Ranges of the channels in the worst layer with dead channels, with half a step of the whole kernel's scale."""
    rows = [row | {"of": study.caption} for study, report in reports.items() for row in report]
    worst = min(rows, key=lambda row: (not row["dead"], row["dB per tensor"]))
    ranges = np.array(worst["ranges"])
    is_dead = np.isin(np.arange(len(ranges)), worst["dead"])
    figure, axis = new_figure(1, 1, 10, 3.4)
    order = np.argsort(-ranges, kind="stable")
    for dead, color, label in ((True, "tab:red", "dead"), (False, "tab:blue", "live")):
        chosen = np.flatnonzero(is_dead[order] == dead)
        axis.bar(chosen, ranges[order][chosen], color=color, label=label, width=0.8)
    axis.axhline(ranges.max() / 254, color="0.3", linestyle="--", linewidth=1, label="half a step: below, all is 0")
    axis.set(
        yscale="log",
        title=f"{worst['layer']} of {worst['of']}",
        xlabel="channels, widest first",
        ylabel="largest folded weight",
    )
    axis.legend(fontsize=8)
    return render(figure)


if __name__ == "__main__":
    main()
