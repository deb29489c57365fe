"""The tables of exported models and of other measurements, made only from the rows of their CSV."""

import itertools
import logging
import re
from collections.abc import Collection, Sequence

from detect.errors import first_few
from detect.studies.blocks import Block, Table
from detect.studies.cells import TextRow, figure
from detect.studies.csv_file import NO_FIGURE
from detect.studies.statistics import estimate
from detect.studies.tables import interval, show

log = logging.getLogger("detect")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?")
WHOLE = re.compile(r"[-+]?\d+")
ORIGIN = ("study", "folder", "record", "command", "host", "versions", "commit")
"""Columns of measurements that no table shows. A CSV of an earlier version has a record in place of the folder."""
EXPORT_NOTE = (
    "AP of the file as it ships; AP of the run: of what it was made from (of qat the evaluation graph), on the same "
    "images; in brackets the float32 file, timed in turns with it. Minutes are those of the run's training."
)

FLOAT = "AP of the float detector"
SEED_HEADS = ("cell", "split", "arm", "file", "seeds", "AP before", "AP", "change", "95% interval", "resolved")
SEED_NOTE = (
    "Mean over seeds ± half of its 95% interval (Student's t). AP before: of the run that the file was made from; of a "
    "fake-quantised run, of the float detector that it started from, if a file of that one is in the report for any "
    "seed; then seeds without it are left out. Resolved: the interval of the change does not hold 0."
)


def export_tables(rows: Sequence[TextRow]) -> list[Block]:
    """A table with a row for each exported file, and before it, with files of several seeds, a table of their means."""
    timed = [c for c in rows[0] if c.startswith("ms") and not c.endswith(" float32") and any(row[c] for row in rows)]
    lines = []
    for row in rows:
        scores = [show(row[name]) for name in ("AP", "AP50", "AP of the run")]
        times = [_beside(figure(row, column), figure(row, f"{column} float32")) for column in timed]
        minutes = figure(row, "minutes")
        lines.append((
            row["run"], row["file"], *scores, _change(row), f"{float(row['MB']):.2f}", *times,
            NO_FIGURE if minutes is None else f"{minutes:.1f}",
        ))  # fmt: skip
    heads = ("run", "file", "AP", "AP50", "AP of the run", "change", "MB", *timed, "minutes")
    caption = "**Exported files**" + _on(dict.fromkeys(_place(row) for row in rows if row["split"]))
    each = Table(heads, tuple(lines), caption, EXPORT_NOTE)
    return [means, each] if (means := _means(rows)) else [each]


def _place(row: TextRow) -> str:
    return f"{row['split']} ({row['images']} images)"


def _on(places: Collection[str]) -> str:
    return f" on {', '.join(places)}" if places else ""


def _means(rows: Sequence[TextRow]) -> Table | None:
    """A row for each kind of file that at least two seeds of a cell have, on the same images.

    If the float detector that a file started from is known of some seeds, the others are left out: one row has one
    kind of change.
    """
    groups: dict[tuple[str, ...], list[TextRow]] = {}
    for row in rows:
        if row.get("seed") and figure(row, "AP of the run") is not None and figure(row, "AP") is not None:
            groups.setdefault((row["cell"], _place(row), row["arm"], row["file"]), []).append(row)
    lines = []
    for (cell, place, arm, file), files in groups.items():
        known = [row for row in files if figure(row, FLOAT) is not None]
        source, of = (FLOAT, known) if known else ("AP of the run", files)
        if len({row["seed"] for row in of}) < len(of):
            names = first_few(row.get("folder") or row["run"] for row in of)
            log.warning(
                "%s, %s: a seed has several files of this kind, so that they have no mean: %s", arm, file, names
            )
            continue
        if len(of) < 2:
            continue
        starts = [figure(row, source) or 0.0 for row in of]
        ends = [figure(row, "AP") or 0.0 for row in of]
        change = estimate([end - start for start, end in zip(starts, ends, strict=True)])
        assert change is not None  # there are two files
        told = (f"{change.mean:+.3f}", f"[{change.low:+.3f}, {change.high:+.3f}]", "yes" if change.resolved else "no")
        lines.append(
            (cell, place, arm, file, str(len(of)), interval(estimate(starts)), interval(estimate(ends)), *told)
        )
    if not lines:
        return None
    unlike = what_differs([line[0] for line in lines])
    lines = [(cell, *line[1:]) for cell, line in zip(unlike, lines, strict=True)]
    shown = [k for k in range(len(SEED_HEADS)) if k > 1 or len({line[k] for line in lines}) > 1]
    cells = [tuple(line[k] for k in shown) for line in (SEED_HEADS, *lines)]
    places = dict.fromkeys(line[1] for line in lines)
    return Table(cells[0], tuple(cells[1:]), "**Over seeds**" + (_on(places) if 1 not in shown else ""), SEED_NOTE)


def what_differs(cells: Sequence[str]) -> list[str]:
    """The cells without the parts that all of them share: `25% of the images` of `cats, 25% of the images`."""
    parts = [cell.split(", ") for cell in cells]
    if len({len(of) for of in parts}) > 1:
        return list(cells)
    unlike = [len(set(values)) > 1 for values in zip(*parts, strict=True)]
    return [", ".join(itertools.compress(of, unlike)) for of in parts]


def measured_tables(rows: Sequence[TextRow]) -> list[Block]:
    """Tables with a row for each measurement: one table for each study and set of columns."""
    groups: dict[tuple[str, tuple[str, ...]], list[TextRow]] = {}
    for row in rows:
        columns = tuple(name for name, text in row.items() if text and name not in ORIGIN)
        groups.setdefault((row.get("study") or "", columns), []).append(row)
    named = len({study for study, _ in groups}) > 1
    tables: list[Block] = []
    for (study, columns), members in groups.items():
        shown = [measured([row[name] for row in members]) for name in columns]
        tables.append(Table(columns, tuple(zip(*shown, strict=True)), f"**{study}**" if named else ""))
    return tables


def measured(column: Sequence[str]) -> list[str]:
    """The figures of a column, with digits that fit its largest figure. Whole numbers and words do not change."""
    largest = max((abs(float(text)) for text in column if NUMBER.fullmatch(text)), default=0.0)
    digits = 3 if largest < 10 else 2 if largest < 100 else 1
    return [_shown(float(text), digits) if _is_fraction(text) else text for text in column]


def _is_fraction(text: str) -> bool:
    return bool(NUMBER.fullmatch(text)) and not WHOLE.fullmatch(text)


def _shown(value: float, digits: int) -> str:
    """The value as text. A very small value gets an exponent, as its digits would all be 0."""
    return f"{value:.1e}" if value and abs(value) < 0.0005 else f"{value:.{digits}f}"


def _change(row: TextRow) -> str:
    """AP of the file minus AP of the run that it was made from."""
    shipped, start = figure(row, "AP"), figure(row, "AP of the run")
    return NO_FIGURE if shipped is None or start is None else f"{shipped - start:+.3f}"


def _beside(time: float | None, other: float | None) -> str:
    if time is None:
        return ""
    return f"{time:.2f}" + ("" if other is None else f" ({other:.2f})")
