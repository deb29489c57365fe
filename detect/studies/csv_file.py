"""The CSV files of a study. They hold everything that tables and page show, as both are made only from these files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detect import files

Row = dict[str, Any]
NO_FIGURE = "n/a"


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes the rows. There is a column for every key of any row, in the order of appearance."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    files.write_csv(path, columns, ([row.get(column, "") for column in columns] for row in rows))


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows as text."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{files.csv_text(key): files.csv_text(value) for key, value in row.items()} for row in rows]


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
