"""The cells of a study, from the rows of its results.csv: means over seeds, and comparisons of arms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from detect.studies.csv_file import NO_FIGURE
from detect.studies.statistics import Estimate, estimate, paired

GENERIC, MATCHED, CROPS = "generic", "generic_extra", "crops"
NEVER = "-"
LETTERS = {
    "random": "A",
    "random_extra": "A+",
    "generic": "B",
    "generic_extra": "B+",
    "crops": "C",
    "random_crops": "D",
    "images": "E",
}
"""The letters of the arms in the protocol of the two-stage ablation."""
EQUAL_COST = {(CROPS, GENERIC): MATCHED, ("random_crops", "random"): "random_extra"}
"""The arm of equal compute, by an arm with stage 1 and the baseline with the same first weights."""
PAID_BY = {extra: arm for (arm, _), extra in EQUAL_COST.items()}
"""The arm whose stage 1 an arm of equal compute replaces."""

TextRow = Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """The settings that the runs in one row of the table share. These runs differ only in their seeds."""

    study: str
    dataset: str
    fraction: float
    budget: int
    variant: str
    arm: str

    @property
    def order(self) -> tuple:
        """The key for the order of the table: the largest share of images first, arms by letter."""
        return self.study, self.dataset, -self.fraction, self.budget, self.variant, self.letter, self.arm

    @property
    def letter(self) -> str:
        """The letter of the arm; one after all letters for other arms."""
        return LETTERS.get(self.arm, "~")

    @property
    def label(self) -> str:
        return label(self.arm)

    @property
    def share(self) -> str:
        """The share of the training images: `100%`, `12.5%`."""
        return f"{100 * self.fraction:.6g}%"


@dataclass(frozen=True)
class Study:
    """The cells of one split with their rows, in the table's order. baseline: the arm, or the variant, that others are
    compared with."""

    cells: dict[Cell, list[TextRow]]
    baseline: str

    def values(self, cell: Cell, column: str) -> list[float]:
        """The figures of a cell in a column; missing ones are left out."""
        return [number for row in self.cells[cell] if (number := figure(row, column)) is not None]

    def mean(self, cell: Cell, column: str) -> Estimate | None:
        return estimate(self.values(cell, column))

    def rival(self, cell: Cell, **other: str) -> Cell | None:
        """The cell with another arm or variant; all other settings are equal."""
        rival = replace(cell, **other)  # type: ignore[arg-type]  # arm and variant are text
        return rival if rival in self.cells and rival != cell else None

    def difference(self, cell: Cell, **other: str) -> Estimate | None:
        """Mean AP of cell - rival over the seeds that both have on the same data; None without such a seed."""
        rival = self.rival(cell, **other)
        return None if rival is None else paired(self.by_seed(cell, "AP"), self.by_seed(rival, "AP"))

    def by_seed(self, cell: Cell, column: str) -> dict[tuple[str, str], float]:
        """The figures of a cell in a column, by seed and data; missing ones are left out."""
        rows = ((row, figure(row, column)) for row in self.cells[cell])
        return {(row["seed"], row["data"]): value for row, value in rows if value is not None}


def study_of(rows: Sequence[TextRow], split: str | None = None) -> Study:
    """The cells of results.csv for one split; without one, of all rows."""
    cells: dict[Cell, list[TextRow]] = {}
    for row in rows:
        if split in (None, row["split"]):
            cells.setdefault(cell_of(row), []).append(row)
    ordered = {cell: sorted(cells[cell], key=lambda row: int(row["seed"])) for cell in sorted(cells, key=_order)}
    return Study(ordered, next((row["baseline"] for row in rows if row.get("baseline")), GENERIC))


def label(arm: str) -> str:
    """The name of the arm after its letter."""
    return f"{LETTERS[arm]} {arm}" if arm in LETTERS else arm


def rivals(arm: str, baseline: str) -> list[str]:
    """The arms that an arm is compared with: the baseline, and with stage 1 also the arm of equal compute."""
    matched = EQUAL_COST.get((arm, baseline))
    return [*([] if arm == baseline else [baseline]), *([matched] if matched else [])]


def figure(row: TextRow, column: str) -> float | None:
    """A cell of the CSV as a number; None if it is empty, n/a or never reached."""
    value = row.get(column)
    return None if value in (None, "", NO_FIGURE, NEVER) else float(value)


def _order(cell: Cell) -> tuple:
    return cell.order


def cell_of(row: Mapping[str, Any]) -> Cell:
    """The cell of a row of results.csv or of curves.csv."""
    return Cell(
        row.get("study") or "",
        row.get("dataset") or "",
        float(row.get("fraction") or 1),
        int(row.get("budget") or row["steps"]),
        row.get("variant") or "",
        row["arm"],
    )
