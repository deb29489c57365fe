"""Finds the cell of the committed studies that is most similar to a data set, and the start that it recommends."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, mode
from typing import Any

from detect.studies import csv_file
from detect.studies.cells import CROPS, GENERIC, MATCHED, Cell, Study, TextRow, figure, study_of
from detect.studies.tables import difference, interval

_PACKAGE = Path(__file__).resolve().parent.parent
STUDIES = _PACKAGE / "experiments" if (_PACKAGE / "experiments").is_dir() else _PACKAGE.parent / "experiments"
"""The folder of the committed studies: inside the package in a wheel, at the top in a checkout."""
SHARE_KEY = "box share"
RATE = re.compile(r"(?:schedule\.)?rate=([\d.e-]+)")


@dataclass(frozen=True)
class Neighbour:
    """The arms of a study on one share of one data set. images, boxes, box_share: see `statistics.outline`.

    distance: to the given data set: Euclidean, of log2 of images, of boxes per image and of box side.
    """

    study: str
    dataset: str
    fraction: float
    network: str
    images: float
    boxes: float
    box_share: float
    distance: float
    arms: Study

    def cell(self, arm: str) -> Cell | None:
        return next((cell for cell in self.arms.cells if cell.arm == arm), None)

    @property
    def best_arm(self) -> str:
        """`crops` if stage 1 gained more than extra steps of the detector (resolved difference), else `generic`."""
        crops = self.cell(CROPS)
        gain = crops and self.arms.difference(crops, arm=MATCHED)
        return CROPS if gain and gain.resolved and gain.mean > 0 else GENERIC

    def lines(self) -> list[str]:
        """Lines with the study, AP of its arms on test, and the gain from stage 1; at most 80 columns."""
        place = f"{self.study}: {self.dataset}, {100 * self.fraction:.6g}% of the images, {self.network}"
        size = f"{self.images:.0f} images, {self.boxes:.0f} boxes, median side {self.box_share:.2f} of the image's"
        rows = [(cell.label, interval(self.arms.mean(cell, "AP"))) for cell in self.arms.cells]
        lines = [place, size, *(f"  {name:20} AP {value}" for name, value in rows)]
        if (crops := self.cell(CROPS)) is not None:
            gains = {"B": self.arms.difference(crops, arm=GENERIC), "B+": self.arms.difference(crops, arm=MATCHED)}
            lines += [f"  C - {name:2} {difference(gain)}" for name, gain in gains.items() if gain is not None]
        return lines


def nearest(about: Mapping[str, Any], network: str, folder: Path = STUDIES) -> Neighbour | None:
    """The nearest cell, of the same meta-architecture (first word of `network`) if there is one; None without studies.

    about: `detect.data.statistics.outline` of a data set with boxes.
    """
    tables = [csv_file.read_csv(file) for file in sorted(folder.glob("*/results.csv"))]
    found = [one for rows in tables for one in _neighbours(rows, about)]
    kind = network.split()[0]
    return min(found, key=lambda one: (one.network.split()[0] != kind, one.distance), default=None)


def best_rate(network: str, folder: Path = STUDIES) -> float | None:
    """The learning rate that had the best AP on val most often where a study compares rates and nothing else: of this
    network, or else of its meta-architecture. None without such a comparison."""
    compared: dict[tuple[str, ...], dict[float, list[float]]] = {}
    for file in sorted(folder.glob("*/results.csv")):
        for row in csv_file.read_csv(file):
            rate, score = RATE.fullmatch(row.get("variant") or ""), figure(row, "AP")
            if rate and row["split"] == "val" and score is not None:
                key = (row["network"], row["study"], row["dataset"], row["fraction"], row["budget"], row["arm"])
                compared.setdefault(key, {}).setdefault(float(rate[1]), []).append(score)
    best = {key: max(of, key=lambda rate: fmean(of[rate])) for key, of in compared.items() if len(of) > 1}
    own = [rate for key, rate in best.items() if key[0] == network]
    kind = [rate for key, rate in best.items() if key[0].split()[0] == network.split()[0]]
    return mode(sorted(own or kind)) if kind else None


def _neighbours(rows: Sequence[TextRow], about: Mapping[str, Any]) -> list[Neighbour]:
    """One neighbour for each data set, share and budget of a study that compares stage 1 with further steps, on test.

    Variants are left out, and so are studies without this comparison, such as one whose backbone does not learn.
    """
    groups: dict[tuple[str, ...], list[TextRow]] = {}
    for row in rows:
        if row.get("split") == "test" and row.get(SHARE_KEY) and not row.get("variant"):
            key = row["study"], row["dataset"], row["fraction"], row["network"], row["budget"]
            groups.setdefault(key, []).append(row)
    found = []
    for (study, dataset, fraction, network, _), members in groups.items():
        if not {MATCHED, CROPS} <= {row["arm"] for row in members}:
            continue
        images, boxes, share = (_mean(members, column) for column in ("images", "boxes", SHARE_KEY))
        mine = (about["images"], about["boxes"] / about["images"], about["box_share"])
        apart = [math.log2(a / b) for a, b in zip(mine, (images, boxes / images, share), strict=True)]
        arms = study_of(members, "test")
        found.append(
            Neighbour(study, dataset, float(fraction), network, images, boxes, share, math.hypot(*apart), arms)
        )
    return found


def _mean(rows: Sequence[TextRow], column: str) -> float:
    values = [value for row in rows if (value := figure(row, column)) is not None]
    return sum(values) / len(values)
