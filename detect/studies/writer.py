"""Writes a study from its run folders or from its CSV: CSV, Markdown, pictures, page and TensorBoard's layout."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from detect.errors import DataError, counted, first_few
from detect.files import expanded, write_text
from detect.runs.folder import EXPORT, MEASURED, RunFolder
from detect.studies import csv_file, pictures, unlike
from detect.studies.blocks import Block, Figure, Listing, Table, console, markdown
from detect.studies.cells import cell_of
from detect.studies.earlier import other_rows, others
from detect.studies.export_rows import export_rows, measured_rows, run_folder
from detect.studies.export_tables import export_tables, measured_tables
from detect.studies.html import page
from detect.studies.records import Records, collect
from detect.studies.rows import Reported, completed, reported, run_rows
from detect.studies.tables import DIFFERENCES, ORIGINS, all_commands, origins, run_tables

log = logging.getLogger("detect")
MARKS = "<!-- table -->", "<!-- end of table -->"
KINDS = {"runs": run_tables, "measured": measured_tables, "exports": export_tables}
"""Kinds of rows -> the function that makes their tables. The first kind that a study has is in its results.csv."""
HEADS = {"runs": ("arm", "seed", "split"), "measured": ("study",), "exports": ("run", "file")}
"""The first columns of each kind in a CSV."""
CAPTIONS = {"runs": "Training runs", "measured": "Measured", "exports": "Exported files"}
RESULTS, TABLE, PAGE = "results.csv", "table.md", "report.html"


def write(
    runs: str | Path | Sequence[str | Path],
    output: Path,
    *,
    splits: Sequence[str] = ("test", "val"),
    rows: str | None = None,
    baseline: str | None = None,
    keep: bool | None = False,
) -> str:
    """Reads everything finished in `runs` and below, and writes CSV, table.md, pictures and report.html.

    output: folder of the study; it may be the folder of the runs. The marked table of a README.md in it is replaced.
    rows: only `runs`, `exports` or `measured`. baseline: the arm, or the variant, that others are compared
        with; None is `generic`.
    keep: whether rows of an earlier report in `output` stay if their folders are not in `runs`; None raises DataError.
    If `runs` is one folder, TensorBoard's layout of the arms is written to it.
    Returns the leading tables for the console. Raises DataError if there is nothing to report, and for a file in
    `output` that is not of a report and would be lost.
    """
    records, output = collect(runs), Path(output)
    tried = [run for run in records.runs if run.debugs]
    if tried:
        log.info("%d debug runs are left out: %s", len(tried), first_few(run.folder.name for run in tried))
    kept = [run for run in records.runs if run not in tried and any(s in run.summary["scores"] for s in splits)]
    tried_out = {run.folder.resolve() for run in tried}
    exports = {
        folder: about
        for folder, about in records.exports.items()
        if not tried_out & {folder.resolve().parent, run_folder(about, folder).resolve()}
    }
    records = Records(kept, exports, records.measured)
    asked = [kind for kind in KINDS if rows in (None, kind)]
    wanted = [kind for kind in asked if getattr(records, kind)]
    if not wanted:
        what = {"measured": MEASURED, "exports": EXPORT}.get(rows or "", "finished run with scores on ")
        told = f"; {len(tried)} runs with debug= are left out" if tried else ""
        raise DataError(f"runs={runs}: no {what}{', '.join(splits) if what.endswith(' ') else ''}{told}")
    _refuse_foreign(output)
    reported_runs = [reported(run, splits) for run in records.runs]
    lines = {"measured": measured_rows(records), "exports": export_rows(records)}
    if keep is not False:
        reported_runs += _runs_elsewhere(output, reported_runs, keep, "runs" in wanted)
        for kind, here in lines.items():
            here += _rows_elsewhere(output, kind, here, keep, kind in asked)
        lines["exports"].sort(key=lambda row: str(row["run"]))
    if "runs" in wanted:
        reported_runs = completed(reported_runs, baseline)
        _warn(records, reported_runs, baseline)
    lines["runs"] = run_rows(reported_runs)
    wanted = [kind for kind in asked if lines[kind]]
    output.mkdir(parents=True, exist_ok=True)
    written = [f"{kind}.csv" if number else RESULTS for number, kind in enumerate(wanted)]
    for name, kind in zip(written, wanted, strict=True):
        csv_file.write_csv(output / name, lines[kind])
    if "runs" in wanted:
        board = expanded(runs) if isinstance(runs, str | Path) else None
        written += pictures.runs(records.runs, reported_runs, output, board)
        written += pictures.compute(lines["runs"], splits, output)
    if "exports" in wanted:
        written += pictures.exports(lines["exports"], output)
    for name in {RESULTS, *pictures.FILES, *(f"{kind}.csv" for kind in KINDS)}.difference(written):
        (output / name).unlink(missing_ok=True)  # of an earlier report
    return rewrite(output)


def _warn(records: Records, reported_runs: Sequence[Reported], baseline: str | None) -> None:
    """Warns of runs of one cell that are not alike, and of a baseline that no run has."""
    cells = {run.member.place: cell_of(run.rows[0]) for run in reported_runs}
    for message in unlike.warnings(records.runs, [cells[str(run.folder)] for run in records.runs]):
        log.warning(message)
    known = {run.member.cell.arm for run in reported_runs}
    known |= {run.rows[0].get("variant") or "" for run in reported_runs if run.rows}
    if baseline is not None and baseline not in known:
        told = "baseline=%s: no run has this arm or variant, so nothing is compared; there are %s"
        log.warning(told, baseline, first_few(sorted(filter(None, known))))


def _refuse_foreign(output: Path) -> None:
    """Raises DataError for a file that a report would replace or remove, and that is not of a report.

    A CSV is known by its first columns, and other files by a results.csv beside them.
    """
    known: dict[str, list[tuple[str, ...]]] = {RESULTS: [*HEADS.values()], pictures.CURVES_DATA: [pictures.CELL]}
    known |= {f"{kind}.csv": [head] for kind, head in HEADS.items()}
    heads = {name: csv_file.head(output / name) for name in known if (output / name).is_file()}
    foreign = [name for name, own in heads.items() if own and not any(own[: len(h)] == h for h in known[name])]
    if not heads.get(RESULTS):
        others = {TABLE, PAGE, *pictures.FILES} - {pictures.CURVES_DATA, PAGE if RunFolder(output).is_run else ""}
        foreign += sorted(name for name in others if (output / name).exists())
    if foreign:
        raise DataError(
            f"output={output}: a report would replace or remove {first_few(foreign)} there, which no report wrote; "
            "name another folder, or move these files away"
        )


def _runs_elsewhere(output: Path, here: Sequence[Reported], keep: bool | None, listed: bool) -> list[Reported]:
    """The runs of the earlier report in `output` that are not `here`. listed: whether this report has runs."""
    found = others(output / RESULTS, output / pictures.CURVES_DATA, [run.member for run in here])
    names = [run.rows[0].get("run") or f"{run.member.cell.arm} (seed {run.member.seed})" for run in found]
    _tell(output / RESULTS, "training run", names, keep, listed)
    return found


def _rows_elsewhere(
    output: Path, kind: str, here: Sequence[csv_file.Row], keep: bool | None, listed: bool
) -> list[csv_file.Row]:
    """The rows of exports or measurements in the earlier report in `output` that are not `here`."""
    for path in (output / RESULTS, output / f"{kind}.csv"):
        rows = csv_file.read_csv(path) if path.is_file() else []
        if rows and kind_of(rows[0]) == kind:
            found = other_rows(rows, here)
            names = [row.get("folder") or row.get("record") or " ".join(list(row.values())[:2]) for row in found]
            _tell(path, {"exports": "exported file"}.get(kind, "measurement"), names, keep, listed)
            return found
    return []


def _tell(path: Path, noun: str, names: Sequence[str], keep: bool | None, listed: bool) -> None:
    """Logs what is kept of an earlier report. Raises DataError if `keep` is None, and if this report has no such table.

    names: of what the rows are about.
    """
    if not names:
        return
    told = f"{path} has {counted(len(names), noun)} whose folders are not here"
    if not listed:
        raise DataError(
            f"{told}, and this report has no table of {noun}s: name another output, or lose them with keep=false"
        )
    if keep is None:
        raise DataError(f"{told}: {first_few(names)}. keep=true keeps these rows; keep=false leaves them out")
    log.info("kept from the earlier report: %s: %s", counted(len(names), noun), first_few(names))


def rewrite(folder: Path) -> str:
    """Writes table.md, the marked table of README.md and report.html from the CSV files; returns the leading tables for
    the console.

    Raises DataError for a folder without results.csv, and for a CSV file that a report did not write.
    """
    blocks = tables(folder)
    text = markdown(blocks)
    write_text(folder / TABLE, text)
    _renew(folder / "README.md", text)
    if not RunFolder(folder).is_run:  # the page of a run is its own
        write_text(folder / PAGE, report_page(folder, blocks))
    return "\n\n".join(console(block).rstrip("\n") for block in leading(blocks)) + "\n"


def _renew(readme: Path, text: str) -> None:
    """Puts `text` between the marks of a README.md, if it has any. One that can't be read is named in a warning."""
    if not readme.exists():
        return
    try:
        before = readme.read_bytes().decode("utf-8")  # keeps the ends of lines
    except (OSError, UnicodeDecodeError) as error:
        log.warning("%s: its table stays as it is: %s", readme, error)
        return
    if (marked := readme_with(before, text)) is not None:
        write_text(readme, marked)


def report_page(folder: Path, blocks: Sequence[Block]) -> str:
    """The HTML page of a study: its tables and pictures, and for single runs also commands and origins."""
    rows = csv_file.read_csv(folder / RESULTS)
    further: list[Block] = [*all_commands(rows), *([] if _tells_origin(blocks) else origins(rows))]
    figures = [Figure(caption, path.read_bytes()) for caption, path in pictures.found(folder)]
    first = leading(blocks)
    return page(folder.resolve().name, [*first, *figures, *blocks[len(first) :], *further])


def leading(blocks: Sequence[Block]) -> Sequence[Block]:
    """The blocks that answer the question of a study: the first table, and the differences between its rows."""
    return blocks[: 2 if len(blocks) > 1 and blocks[1].caption.startswith(DIFFERENCES) else 1]


def tables(folder: Path) -> list[Block]:
    """All tables of a study, made only from its CSV files."""
    if not (folder / RESULTS).is_file():
        raise DataError(f"{folder} has no {RESULTS}")
    files = [folder / RESULTS, *(folder / f"{kind}.csv" for kind in KINDS)]
    found = {path: csv_file.read_csv(path) for path in files if path.is_file()}
    blocks: list[Block] = []
    for path, rows in found.items():
        if not rows:
            raise DataError(f"{path} has no rows: write the report again from its run folders")
        try:
            made = KINDS[kind_of(rows[0])](rows)
        except (KeyError, ValueError, IndexError) as error:
            raise DataError(f"{path} does not have the columns of a report: {type(error).__name__}: {error}") from error
        if len(found) > 1 and isinstance(made[0], Table) and not made[0].caption:
            made[0] = replace(made[0], caption=f"**{CAPTIONS[kind_of(rows[0])]}**")
        blocks += made
    together = [row for rows in found.values() for row in rows]
    alone = len(found) == 1 and kind_of(together[0]) == "runs" and not any(row.get("study") for row in together)
    return blocks if alone else [*blocks, *origins(together)]


def _tells_origin(blocks: Sequence[Block]) -> bool:
    return any(isinstance(block, Listing) and block.caption == ORIGINS for block in blocks)


def kind_of(row: Mapping[str, str]) -> str:
    """The key of KINDS for a CSV, from the names of its columns."""
    return next((kind for kind in ("runs", "exports") if tuple(row)[: len(HEADS[kind])] == HEADS[kind]), "measured")


def readme_with(readme: str, text: str) -> str | None:
    """The README with `text` between its marks, with the ends of lines that the first mark has; None without marks."""
    if any(readme.count(mark) != 1 for mark in MARKS):
        return None
    before, rest = readme.split(MARKS[0])
    table = f"\n{text}".replace("\n", "\r\n" if rest.startswith("\r\n") else "\n")
    return f"{before}{MARKS[0]}{table}{MARKS[1]}{rest.split(MARKS[1])[1]}"
