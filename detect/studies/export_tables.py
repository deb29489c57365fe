"""The tables of exported models and of other measurements, made only from the rows of their CSV."""

import itertools
import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median

from detect.errors import first_few
from detect.studies.blocks import Block, Table
from detect.studies.cells import TextRow, figure
from detect.studies.csv_file import NO_FIGURE
from detect.studies.statistics import Estimate, detectable, estimate
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
KIND = ("cell", "split", "arm", "file", "seeds")
CHANGE = ("AP before", "AP", "change", "95% interval", "resolved", "resolvable")
SEED_NOTE = (
    "Mean over seeds ± half of its 95% interval (Student's t). AP before: of the run that the file was made from; of a "
    "fake-quantised run, of the float detector that it started from, if a file of that one is in the report for any "
    "seed; then seeds without it are left out. Resolved: the interval of the change does not hold 0. "
    "Resolvable: a true change of this size is resolved in 80% of studies with so many seeds (paired t-test, 5%); a "
    "smaller one mostly is not, and then `no` does not mean that there is none."
)
TIMES = ("ms 1 thread", "ms 2 threads")
COST_NOTE = (
    "MB: mean over seeds. Time: milliseconds of the file divided by those of the float32 file that was timed in turns "
    "with it, median over seeds and range."
)


@dataclass(frozen=True)
class Seeds:
    """The files of one kind that the seeds of a cell have. place: the split and its images; change: of AP."""

    cell: str
    place: str
    arm: str
    file: str
    rows: Sequence[TextRow]
    before: Estimate
    after: Estimate
    change: Estimate


def export_tables(rows: Sequence[TextRow]) -> list[Block]:
    """A row for each exported file; for files of several seeds, tables of their changes, and of size and time.

    With these, the table of the single files is on the page alone.
    """
    over = over_seeds(rows)
    return [*_seed_tables(over), _each(rows, page_only=bool(over))]


def _each(rows: Sequence[TextRow], page_only: bool) -> Table:
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
    return Table(heads, tuple(lines), caption, EXPORT_NOTE, page_only)


def _place(row: TextRow) -> str:
    return f"{row['split']} ({row['images']} images)"


def _on(places: Collection[str]) -> str:
    return f" on {', '.join(places)}" if places else ""


def over_seeds(rows: Sequence[TextRow]) -> list[Seeds]:
    """The kinds of files that at least two seeds of a cell have, on the same images.

    If the float detector that a file started from is known of some seeds, the others are left out: one row has one
    kind of change.
    """
    groups: dict[tuple[str, ...], list[TextRow]] = {}
    for row in rows:
        if row.get("seed") and figure(row, "AP of the run") is not None and figure(row, "AP") is not None:
            groups.setdefault((row["cell"], _place(row), row["arm"], row["file"]), []).append(row)
    found = []
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
        means = [estimate(starts), estimate(ends), estimate([e - s for s, e in zip(starts, ends, strict=True)])]
        found.append(Seeds(cell, place, arm, file, of, *(mean for mean in means if mean is not None)))
    return found


def _seed_tables(over: Sequence[Seeds]) -> list[Table]:
    """The changes with what the seeds can resolve, and size and time; none without files of several seeds."""
    if not over:
        return []
    timed = [name for name in TIMES if any(_shares_of_float(of.rows, name) for of in over)]
    changes, costs = [], []
    for of in over:
        change = of.change
        told = (f"{change.mean:+.3f}", f"[{change.low:+.3f}, {change.high:+.3f}]", "yes" if change.resolved else "no")
        resolvable = f"{detectable(change.deviation or 0.0, change.count):.3f}"
        changes.append((interval(of.before), interval(of.after), *told, resolvable))
        size = sum(float(row["MB"]) for row in of.rows) / len(of.rows)
        costs.append((f"{size:.2f}", *(_middle(_shares_of_float(of.rows, name)) for name in timed)))
    heads = ("MB", *(name.replace("ms", "time,") for name in timed))
    return [
        _kinds(over, CHANGE, changes, "**Over seeds**", SEED_NOTE),
        _kinds(over, heads, costs, "**Size and time**", COST_NOTE if timed else ""),
    ]


def _shares_of_float(rows: Sequence[TextRow], column: str) -> list[float]:
    """The times of the files, each as a share of that of the float32 file that was timed with it."""
    times = [(figure(row, column), figure(row, f"{column} float32")) for row in rows]
    return [time / other for time, other in times if time is not None and other]


def _middle(shares: Sequence[float]) -> str:
    return f"{median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})" if shares else ""


def _kinds(
    over: Sequence[Seeds], heads: Sequence[str], cells: Sequence[Sequence[str]], caption: str, note: str
) -> Table:
    """A row for each kind of file, with what tells it from the others first."""
    unlike = what_differs([of.cell for of in over])
    labels = [(cell, of.place, of.arm, of.file, str(len(of.rows))) for cell, of in zip(unlike, over, strict=True)]
    shown = [k for k in range(len(KIND)) if k > 1 or len({label[k] for label in labels}) > 1]
    rows = ((*(label[k] for k in shown), *of) for label, of in zip(labels, cells, strict=True))
    places = "" if 1 in shown else _on(dict.fromkeys(of.place for of in over))
    return Table((*(KIND[k] for k in shown), *heads), tuple(rows), caption + places, note)


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
