"""`logger=csv`: the figures of each stage as a table that pandas and spreadsheets read."""

import csv
from collections.abc import Sequence
from pathlib import Path

from detect.files import append_csv, write_csv
from detect.loggers.interface import PLACES, Logger, Row

NAME = "metrics.csv"
HEAD = [place for place in PLACES if place != "stage"]


class Csv(Logger):
    """Writes metrics.csv in the folder of each stage: a line for each row, a column for each figure.

    Columns come in the order in which figures are first seen; the file is then written again with the new ones. A
    cell is empty if a row has no such figure.
    """

    def __init__(self) -> None:
        self._file, self._columns = Path(), list[str]()

    def begin_stage(self, stage: str, folder: Path, kept: Sequence[Row], undone: Sequence[Row]) -> None:
        self._file = folder / NAME
        self._columns = list(dict.fromkeys([*HEAD, *(key for row in kept for key in row if key != "stage")]))
        write_csv(self._file, self._columns, (self._cells(row) for row in kept))

    def row(self, row: Row) -> None:
        new = [key for key in row if key != "stage" and key not in self._columns]
        if new:
            self._widen(new)
        append_csv(self._file, self._cells(row))

    def _cells(self, row: Row) -> list[object]:
        return [row.get(column) for column in self._columns]

    def _widen(self, new: Sequence[str]) -> None:
        with self._file.open(newline="", encoding="utf-8") as file:
            _, *lines = csv.reader(file)
        self._columns += new
        write_csv(self._file, self._columns, ([*line, *[""] * len(new)] for line in lines))
