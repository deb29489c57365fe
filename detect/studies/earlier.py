"""The rows of an earlier report whose folders are not here: they are on another machine, or were removed."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detect.config.resume import EXTENDABLE
from detect.errors import DataError
from detect.studies import csv_file
from detect.studies.cells import Cell, TextRow, cell_of, figure
from detect.studies.commands import Member, last_part, settings
from detect.studies.csv_file import NO_FIGURE, Row
from detect.studies.curves import WATCHED, Curve
from detect.studies.export_tables import NUMBER
from detect.studies.rows import Reported

RECORDED = ("study", "file", "split", "seed")
NAMES = ("study", "run", "file", "split", "record")
"""Columns whose numbers are names."""


def others(results: Path, curves: Path, here: Sequence[Member]) -> list[Reported]:
    """The training runs of a results.csv that are not among the runs `here`, with their curves in curves.csv.

    None of them without a results.csv, or if it is one of exports or measurements. Raises DataError for a file that a
    report did not write.
    """
    rows = csv_file.read_csv(results) if results.is_file() else []
    if not rows or list(rows[0])[:3] != ["arm", "seed", "split"]:
        return []
    left_out = () if "name" in rows[0] else ("name",)  # a CSV of an earlier version has no names
    known = {_identity(one, folder, left_out) for one in here for folder in (Path(one.place).name, "")}
    by_run: dict[tuple[Cell, str, str], list[TextRow]] = defaultdict(list)
    try:
        points = _curves(csv_file.read_csv(curves) if curves.is_file() else [])
        for row in rows:
            by_run[cell_of(row), row["seed"], row.get("run") or ""].append(row)
        found = []
        for (cell, seed, name), of in by_run.items():
            member = _member(of[0], f"{results}: {name}")
            if _identity(member, name, left_out) not in known:
                found.append(Reported(member, tuple(map(dict, of)), points.get((cell, seed))))
    except (KeyError, ValueError) as error:
        raise DataError(f"{results} does not have the columns of a report: {type(error).__name__}: {error}") from error
    return found


def other_rows(before: Iterable[TextRow], here: Iterable[Row]) -> list[Row]:
    """The rows of an earlier table of exports or measurements that are not among the rows `here`.

    A row is known by its record, which a CSV of an earlier version has not, or by its words. The names of its run may
    have changed since then, as they tell it from the other runs.
    """
    known = {words for row in here for words in (_words(row), _words({**row, "record": ""}))}
    records = {_record(row, short) for row in here if row.get("record") for short in (False, True)}
    return [dict(row) for row in before if _words(row) not in known and _record(row) not in records]


def _record(row: Row | TextRow, short: bool = False) -> tuple[str, ...]:
    """What tells a row from others. short: with the two last parts of its record, as a CSV of an earlier version."""
    told = ["" if (value := row.get(column)) is None else str(value) for column in ("record", *RECORDED)]
    return ("/".join(told[0].split("/")[-2:]) if short else told[0], *told[1:])


def _words(row: Row | TextRow) -> frozenset[tuple[str, str]]:
    cells = {column: str(value) for column, value in row.items() if column not in ("host", "versions")}
    return frozenset(
        (column, text)
        for column, text in cells.items()
        if text and (column in NAMES or not (text == NO_FIGURE or NUMBER.fullmatch(text)))
    )


def _member(row: TextRow, place: str) -> Member:
    words = shlex.split(row.get("command") or "")[2:]
    name = row.get("name") or row["arm"]  # a CSV of an earlier version has neither names nor folders
    return Member(replace(cell_of(row), variant=""), int(row["seed"]), settings(words, name), place)


def _identity(member: Member, folder: str, left_out: tuple[str, ...]) -> tuple:
    """What a run has in common with its rows in results.csv, without the settings `left_out`. Rows of single runs do
    not have share and budget. A run in its folder may have been extended since then."""
    cell = member.cell if member.cell.study else replace(member.cell, fraction=1.0, budget=0)
    cell = replace(cell, budget=0) if folder else cell
    left_out = (*left_out, *(EXTENDABLE if folder else ()))
    chosen = {key: last_part(value) for key, value in member.settings.items() if key not in left_out}
    return cell, member.seed, folder, tuple(sorted(chosen.items()))


def _curves(points: Sequence[TextRow]) -> dict[tuple[Cell, str], Curve]:
    """The curves of all runs in curves.csv."""
    by_run: dict[tuple[Cell, str], list[TextRow]] = defaultdict(list)
    for row in points:
        by_run[cell_of(row), row["seed"]].append(row)
    return {key: _curve(rows) for key, rows in by_run.items()}


def _curve(rows: Sequence[TextRow]) -> Curve:
    def column(name: str) -> np.ndarray:
        return np.array([figure(row, name) for row in rows], float)  # an empty cell becomes NaN

    steps = np.array([int(row["step"]) for row in rows])
    scores = {name: column(name) for name in ("AP", "AP50")}
    middles = (steps + np.append(0, steps[:-1])) / 2  # a figure of training is a mean since the last evaluation
    watched = {name: column(name) for name in WATCHED.values()}
    kept = {name: (middles, values) for name, values in watched.items() if not np.isnan(values).any()}
    return Curve(rows[0]["split"], steps, column("seconds"), scores, kept)
