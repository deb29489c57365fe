"""The pictures of a study and their data: curves of its arms, exported files, means for TensorBoard."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from detect.files import file_name
from detect.reporting import figures as plots
from detect.reporting import pictures
from detect.studies import csv_file, tensorboard_layout
from detect.studies.cells import Cell, Study, TextRow, cell_of, figure, study_of
from detect.studies.curves import WATCHED, Band, Curve, mean_curve, mean_figure
from detect.studies.records import FinishedRun
from detect.studies.rows import Reported
from detect.studies.statistics import Estimate

log = logging.getLogger("detect")
CURVES, CURVES_DATA, COMPUTE, EXPORTS = "curves.png", "curves.csv", "compute.png", "exports.png"
FILES = CURVES, CURVES_DATA, COMPUTE, EXPORTS
CAPTIONS = {
    CURVES: "AP over steps and over seconds of training; bands are 95% intervals over seeds.",
    COMPUTE: "AP over the multiply-accumulates of all training steps, both stages; bars are 95% intervals over seeds.",
    EXPORTS: "Exported files: AP (the mark is that of the run), size, and time of an image; of n seeds the medians.",
}
DIFFERENT = 0.05
"""Of the smaller cost. The further steps that replace stage 1 are a whole number, so such costs differ a little."""
MOST = 20
"""Groups in one picture. More of them are too high to be looked at."""
CELL = "study", "dataset", "fraction", "budget", "variant", "arm", "seed"
Groups = dict[str, dict[str, list[Curve]]]


def found(folder: Path) -> list[tuple[str, Path]]:
    """The captions and paths of the pictures in a study's folder."""
    captions = CAPTIONS if (folder / CURVES_DATA).is_file() else CAPTIONS | {CURVES: "Curves of the runs over steps."}
    return [(caption, folder / name) for name, caption in captions.items() if (folder / name).is_file()]


def runs(finished: Sequence[FinishedRun], reported: Sequence[Reported], output: Path, board: Path | None) -> list[str]:
    """Writes curves.png; for cells of a study also curves.csv, and TensorBoard's layout and means into `board`. Returns
    the names of the files.

    reported: `finished` and the runs of an earlier report.
    """
    groups = by_group(reported)
    if not groups:
        save(output / CURVES, pictures.study_figure(labelled(finished)))
        return [CURVES]
    csv_file.write_csv(output / CURVES_DATA, points(reported))  # first: pictures can be drawn again
    bands = {title: {arm: mean_curve(of) for arm, of in arms.items()} for title, arms in groups.items()}
    watched = {
        title: {
            name: {arm: mean_figure(of, name) for arm, of in arms.items() if any(name in c.watched for c in of)}
            for name in dict.fromkeys(WATCHED.values())
            if any(name in curve.watched for of in arms.values() for curve in of)
        }
        for title, arms in groups.items()
    }
    drawn = _best(bands)
    save(output / CURVES, plots.bands_figure(drawn, {title: watched[title] for title in drawn}))
    if board is not None:
        tags = _distinct(bands, lambda title: title.replace("/", "_"))
        folders = _distinct((arm for of in bands.values() for arm in of), file_name)
        try:
            tensorboard_layout.write_layout(board, list(tags.values()))
            means = {tags[title]: {folders[arm]: band for arm, band in of.items()} for title, of in bands.items()}
            tensorboard_layout.write_means(board, means)
        except OSError as error:
            log.warning("no means for TensorBoard beside the runs: %s", error)
    return [CURVES, CURVES_DATA]


def _best(bands: Mapping[str, Mapping[str, Band]]) -> dict[str, Mapping[str, Band]]:
    """The groups that end with the highest AP, `MOST` of them, in their order."""

    def end(title: str) -> float:
        return max(float(np.nanmax(band.mean[-1:], initial=0)) for band in bands[title].values())

    chosen = sorted(bands, key=end, reverse=True)[:MOST]
    if len(chosen) < len(bands):
        told = "%s shows %d of %d groups, those with the highest AP: %s has all"
        log.info(told, CURVES, MOST, len(bands), CURVES_DATA)
    return {title: of for title, of in bands.items() if title in chosen}


def _distinct(texts: Iterable[str], plain: Callable[[str], str]) -> dict[str, str]:
    """A name for each text: what `plain` makes of it, and a number where this is the name of another text."""
    names: dict[str, str] = {}
    for text in dict.fromkeys(texts):
        name, number = plain(text), 1
        while name in names.values():
            name, number = f"{plain(text)}_{number + 1}", number + 1
        names[text] = name
    return names


def labelled(runs: Sequence[FinishedRun]) -> dict[str, Path]:
    """Label of the curve -> metrics.jsonl. If labels are equal, the folder comes first, with as many parts of its path
    as tell it from the others."""
    labels = [run.label for run in runs]
    places = [run.folder.resolve().parts for run in runs]
    count = next((n for n in range(1, 20) if len({place[-n:] for place in places}) == len(places)), 20)
    return {
        (f"{'/'.join(place[-count:])}: {run.label}" if labels.count(run.label) > 1 else run.label): run.metrics
        for run, place in zip(runs, places, strict=True)
        if run.metrics.is_file()
    }


def by_group(runs: Sequence[Reported]) -> Groups:
    """{title: {arm: curves}}. Arms in a group are compared; a title names the settings that differ between groups."""
    drawn = [(cell_of(run.rows[0]), run.member.seed, run.curve) for run in runs if run.curve is not None]
    titles = titles_of([cell for cell, *_ in drawn])
    groups: Groups = {}
    for cell, _, curve in sorted(drawn, key=lambda one: (-one[0].fraction, one[0].letter, one[0].arm, one[1])):
        groups.setdefault(titles[cell], {}).setdefault(cell.label, []).append(curve)
    return dict(sorted(groups.items(), key=lambda group: group[0].partition(",")[0]))


def titles_of(cells: Iterable[Cell], budget: bool = True) -> dict[Cell, str]:
    """The title of each cell's group: its data set, its share of the images, and the settings that differ between
    cells, with the number of steps among them if `budget`."""
    settings = {
        cell: (
            cell.study,
            cell.dataset,
            f"{cell.share} of the images",
            f"{cell.budget} steps" * budget,
            cell.variant,
        )
        for cell in cells
    }
    constant = [len(set(values)) == 1 for values in zip(*settings.values(), strict=True)]
    return {
        cell: ", ".join(text for k, text in enumerate(texts) if text and (k in (1, 2) or not constant[k]))
        for cell, texts in settings.items()
    }


def spent(study: Study) -> dict[str, dict[str, list[tuple[float, Estimate]]]]:
    """{title: {arm: [(multiply-accumulates of a run, AP)]}}, the smallest cost first; only groups whose costs differ
    by more than DIFFERENT."""
    groups: dict[str, dict[str, list[tuple[float, Estimate]]]] = {}
    titles = titles_of(study.cells, budget=False)
    for cell in study.cells:
        detector, first, scored = (study.mean(cell, name) for name in ("MACs detector", "MACs stage 1", "AP"))
        if detector is not None and scored is not None:
            cost = detector.mean + (first.mean if first else 0)
            groups.setdefault(titles[cell], {}).setdefault(cell.label, []).append((cost, scored))
    spread = {title: [cost for of in arms.values() for cost, _ in of] for title, arms in groups.items()}
    return {
        title: {arm: sorted(of, key=lambda one: one[0]) for arm, of in arms.items()}
        for title, arms in groups.items()
        if max(spread[title]) > (1 + DIFFERENT) * min(spread[title])
    }


def compute(rows: Sequence[csv_file.Row], splits: Sequence[str], output: Path) -> list[str]:
    """Writes compute.png from the rows of the CSV, for the first of the splits; no file if all costs are equal. Returns
    the names of the files."""
    lines = [{column: str(value) for column, value in row.items()} for row in rows if row.get("study")]
    split = next((split for split in splits if any(row["split"] == split for row in lines)), None)
    if split is None or not (groups := spent(study_of(lines, split))):
        return []
    save(output / COMPUTE, plots.compute_figure(groups, split))
    return [COMPUTE]


def points(runs: Sequence[Reported]) -> list[csv_file.Row]:
    """A row for each evaluation of each run: its scores, and the figures of training since the one before it."""
    rows = []
    for run in runs:
        if curve := run.curve:
            cell = {column: run.rows[0][column] for column in CELL}
            figures = curve.scores | {name: curve.between(name) for name in curve.watched}
            for k, (step, seconds) in enumerate(zip(curve.steps.tolist(), curve.seconds.tolist(), strict=True)):
                row = cell | {"split": curve.split, "step": step, "seconds": round(seconds, 1)}
                rows.append(row | {name: round(float(values[k]), 4) for name, values in figures.items()})
    return rows


def exports(rows: Sequence[csv_file.Row], output: Path) -> list[str]:
    """Writes exports.png from the rows of the CSV: a bar for each file, or for the median of its seeds. Returns its
    name."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    used = set()
    for row in ({column: str(value) for column, value in row.items()} for row in rows):
        columns = [column for column in row if column.startswith("ms") and not column.endswith("float32")]
        column = next((column for column in columns if figure(row, column) is not None), "ms")
        used |= {column} if figure(row, column) is not None else set()
        name = row["arm"] if row.get("seed") else row["run"]
        groups.setdefault((row.get("cell", ""), name, row["file"]), []).append(row | {"ms": row.get(column, "")})
    shown = [
        (
            f"{name if len(files) > 1 else files[0]['run']}: {file}"
            + (f", n = {len(files)}" if len(files) > 1 else ""),
            {key: _median(files, key) for key in ("AP", "AP of the run", "MB", "ms")},
        )
        for (_, name, file), files in groups.items()
    ]
    save(output / EXPORTS, plots.exports_figure(shown, timed(used)))
    return [EXPORTS]


def _median(rows: Sequence[TextRow], column: str) -> float | None:
    known = [value for row in rows if (value := figure(row, column)) is not None]
    return median(known) if known else None


def timed(columns: Collection[str]) -> str:
    """The title of milliseconds from these columns of the CSV: those of TFLite files name their threads, and `ms` is of
    a file that is timed with all cores."""
    threads = [column.removeprefix("ms ") for column in sorted(set(columns)) if column != "ms"]
    others = ["others all cores" if threads else "all cores"] if "ms" in columns else []
    return ", ".join(["milliseconds", *threads, *others])


def save(path: Path, picture: np.ndarray) -> None:
    """Writes a PNG with 256 colours. It has a third of the size; it is committed and embedded in the page."""
    Image.fromarray(picture).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
