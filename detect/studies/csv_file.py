"""The CSV files of a study. They hold everything that tables and page show, as both are made only from these files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detect import files
from detect.errors import DataError, counted

Row = dict[str, Any]
NO_FIGURE = "n/a"


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes the rows. There is a column for every key of any row, in the order of appearance."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    files.write_csv(path, columns, ([row.get(column, "") for column in columns] for row in rows))


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows as text. Raises DataError for a row of another length than the head, and for text that is not UTF-8."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # Excel marks UTF-8
            reader = csv.reader(file, strict=True)
            lines = [([files.csv_text(cell) for cell in row], reader.line_num) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}") from error
    if not lines:
        return []
    head = lines[0][0]
    if len(head) == 1 and (sign := next((sign for sign in ";\t" if sign in head[0]), None)):
        raise DataError(f"{path}: its cells are separated by {sign!r}: save it with commas")
    for row, number in lines:
        if len(row) != len(head):
            raise DataError(f"{path}:{number}: the row has {counted(len(row), 'cell')}, and the head has {len(head)}")
    return [dict(zip(head, row, strict=True)) for row, _ in lines[1:]]


def head(path: Path) -> tuple[str, ...]:
    """The names of the columns of any CSV file; none if its first line is empty."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        return tuple(next(csv.reader([file.readline(100_000)]), ()))


def host(about: Mapping[str, Any]) -> str:
    """`AMD EPYC, 2 cores, 25.3 GB`."""
    machine = about.get("host") or {}
    parts = [machine.get("cpu"), f"{machine.get('cores')} cores", f"{machine.get('memory_gb')} GB"]
    return ", ".join(str(part) for part in [*parts, *machine.get("gpus", [])]) if machine else ""


def versions(about: Mapping[str, Any]) -> str:
    """`python 3.11.7, tensorflow 2.20.0`."""
    return ", ".join(f"{name} {value}" for name, value in (about.get("versions") or {}).items() if value)


def rounded(value: float | None) -> float | str:
    """The value with four digits; n/a if there was nothing to score."""
    return NO_FIGURE if value is None else round(value, 4)
