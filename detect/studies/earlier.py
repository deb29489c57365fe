"""The rows of an earlier report whose folders are not here: they are on another machine, or were removed."""

import itertools
import os
import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detect.config.resume import EXTENDABLE, PATIENCE
from detect.errors import DataError
from detect.studies import csv_file
from detect.studies.cells import Cell, TextRow, cell_of, figure
from detect.studies.commands import Member, last_part, settings
from detect.studies.csv_file import NO_FIGURE, Row
from detect.studies.curves import WATCHED, Curve
from detect.studies.export_tables import NUMBER
from detect.studies.rows import Reported, final_ap

SAME = ("study", "seed")
"""What tells rows of equal folders from each other: two machines may call the folders of a sweep alike."""
NO_WORDS = ("folder", "command", "host", "versions")
"""Columns that an earlier version did not have, or that another machine fills otherwise."""
NAMES = ("study", "run", "file", "split")
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
    known: dict[tuple, set[tuple | None]] = defaultdict(set)
    for one, told in itertools.product(here, (True, False)):
        for folder in (Path(one.place).name, ""):
            any_length = {None} if one.extended and folder else set()
            known[_identity(one, folder, told, left_out)] |= {_length(one, told), *any_length}
    by_run: dict[tuple[Cell, str, str, str], list[TextRow]] = defaultdict(list)
    try:
        points = _curves(csv_file.read_csv(curves) if curves.is_file() else [])
        for row in rows:
            by_run[cell_of(row), row["seed"], row.get("run") or "", row.get("command") or ""].append(row)
        found = []
        for (cell, seed, name, _), of in by_run.items():
            member, told = _member(of[0], f"{results}: {name}"), bool(of[0].get("budget"))
            if not {None, _length(member, told)} & known[_identity(member, name, told, left_out)]:
                curve = points.get((cell, seed))
                found.append(Reported(member, tuple(map(dict, of)), curve, final_ap(of, curve)))
    except (KeyError, ValueError) as error:
        raise DataError(f"{results} does not have the columns of a report: {type(error).__name__}: {error}") from error
    return found


def other_rows(before: Iterable[TextRow], here: Sequence[Row]) -> list[Row]:
    """The rows of an earlier table of exports or measurements whose folders are not among those of the rows `here`.

    In place of the folder, a CSV of an earlier version has a record, the last parts of it, or only its words.
    """
    known, words = {_told(row, "folder", *SAME) for row in here}, set(map(_words, here))
    places = defaultdict(list)
    for row in here:
        places[_cells(row)].append(os.path.abspath(row["folder"]))
    records = set()
    for row, count in itertools.product(here, (2, 3)):
        record = "/".join(row["folder"].split("/")[-count:])
        records.add(_told({**row, "record": record}, "record", "file", "split", *SAME))

    def is_here(row: TextRow) -> bool:
        if row.get("folder"):
            if _told(row, "folder", *SAME) in known:
                return True
            end = "/" + row["folder"].replace("../", "")  # told from another working directory
            return any(place.endswith(end) for place in places[_cells(row)])
        return _told(row, "record", "file", "split", *SAME) in records if row.get("record") else _words(row) in words

    return [dict(row) for row in before if not is_here(row)]


def _told(row: Row | TextRow, *columns: str) -> tuple[str, ...]:
    return tuple("" if (value := row.get(column)) is None else str(value) for column in columns)


def _cells(row: Row | TextRow) -> frozenset[tuple[str, str]]:
    """All cells of a row but those of `NO_WORDS`; empty ones are left out."""
    cells = {column: str(value) for column, value in row.items() if column not in NO_WORDS and value is not None}
    return frozenset((column, text) for column, text in cells.items() if text)


def _words(row: Row | TextRow) -> frozenset[tuple[str, str]]:
    """The cells of a row that are words, and not figures."""
    return frozenset(
        (column, text)
        for column, text in _cells(row)
        if column in NAMES or not (text == NO_FIGURE or NUMBER.fullmatch(text))
    )


def _member(row: TextRow, place: str) -> Member:
    words = shlex.split(row.get("command") or "")[2:]
    name = row.get("name") or row["arm"]  # a CSV of an earlier version has neither names nor folders
    return Member(replace(cell_of(row), variant=""), int(row["seed"]), settings(words, name), place)


def _identity(member: Member, folder: str, told: bool, left_out: tuple[str, ...]) -> tuple:
    """What a run has in common with its rows in results.csv, however long it is, without the settings `left_out`.

    told: whether the rows have share and budget. Those of single runs in a CSV of an earlier version have not.
    """
    cell = replace(member.cell, budget=0, fraction=member.cell.fraction if told else 1.0)
    chosen = {key: last_part(v) for key, v in member.settings.items() if key not in (*left_out, *EXTENDABLE)}
    return cell, member.seed, folder, tuple(sorted(chosen.items()))


def _length(member: Member, told: bool) -> tuple:
    """What `resume=RUN` may change of a run, which tells runs of one identity from each other if it did not."""
    return member.cell.budget if told else 0, member.settings.get(PATIENCE)


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
