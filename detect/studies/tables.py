"""The tables of the training runs, made only from the rows of results.csv."""

from collections.abc import Collection, Iterable, Sequence
from statistics import median

from detect.errors import counted
from detect.runs.folder import DETECTOR
from detect.studies.blocks import Block, Listing, Table
from detect.studies.cells import (
    CROPS,
    LETTERS,
    NEVER,
    PAID_BY,
    Cell,
    Study,
    TextRow,
    cell_of,
    figure,
    label,
    rivals,
    study_of,
)
from detect.studies.curves import WATCHED
from detect.studies.rows import SHARES
from detect.studies.statistics import Estimate, detectable, median_time

FIGURES = ("AP", "AP50", "AP75", "AR100")
SEEDS = (3, 5, 10, 20)
"""Numbers of seeds whose power is shown."""
ORIGINS, DIFFERENCES = "**Where it ran**", "**Differences"
LEGEND = "AP: mean over seeds ± half of its 95% interval (Student's t). Minutes are those of training in all stages."
PAIRED = "AP of the arm minus AP of the other, paired by seed. Resolved: the 95% interval does not hold 0."
TRAINING = ("study", "data", "cell", "fraction", "budget", "variant", "arm", "seed", "run", "minutes")
"""Columns that tell the rows of one training from those of others, in results.csv or in the CSV of exports."""
USUAL = {"images": ["100%"]}
"""Settings that are shown even if they are constant, unless they are these."""


def run_tables(rows: Sequence[TextRow]) -> list[Block]:
    """A row for each single run; for a study with cells, the tables of means over seeds and the further tables."""
    alone = [row for row in rows if not row.get("study")]
    blocks: list[Block] = [each_run(alone)] if alone else []
    rows = [row for row in rows if row.get("study")]
    if not rows:
        return blocks
    splits = sorted({row["split"] for row in rows})
    for split in splits:
        cells, last = study_of(rows, split), split == splits[-1]
        blocks.append(means(cells, f"**On {split}**", LEGEND if last else ""))
        compared = differences(cells, f"{DIFFERENCES} on {split}**", PAIRED if last else "")
        blocks += [compared] if compared else []
    firsts = {cell_of(row): row["split"] for row in sorted(rows, key=lambda row: row["split"], reverse=True)}
    each = study_of([row for row in rows if row["split"] == firsts[cell_of(row)]])
    extra = [
        resolution(study_of(rows, splits[0]), splits[0]),
        reach(each),
        ending(each),
        *per_class(study_of(rows, splits[0]), splits[0]),
        extra_compute(each),
        commands(each),
    ]
    return [*blocks, *(block for block in extra if block is not None)]


def each_run(rows: Sequence[TextRow]) -> Table:
    """A row for each run: the main figures, AP and AP50 of each class, minutes of training."""
    classes = _classes(rows)
    staged = any(row.get("stage", "detector") != "detector" for row in rows)
    named = any(row.get("run") for row in rows)  # a CSV of an earlier version does not name the folders
    further = [key for key, there in (("run", named), ("stage", staged)) if there]
    heads = ["split", "arm", *further, "seed", *FIGURES, *classes, "minutes"]
    lines = []
    for row in rows:
        cells = [row["split"], row["arm"], *(row.get(key) or "" for key in further), row["seed"]]
        cells += [show(row[name]) for name in FIGURES]
        cells += [" / ".join(show(row[f"{name} {key}"]) for key in ("AP", "AP50")).strip(" /") for name in classes]
        lines.append((*cells, f"{float(row['minutes']):.1f}"))
    return Table(tuple(heads), tuple(lines))


def means(study: Study, caption: str, note: str) -> Table:
    """AP, AP50 and minutes of every cell, and its steps if they are not those that were configured."""
    changed = any(_plain_steps(row) not in (None, cell.budget) for cell, runs in study.cells.items() for row in runs)
    lines = []
    for cell, runs in study.cells.items():
        figures = [interval(study.mean(cell, name), len(runs)) for name in ("AP", "AP50")]
        spent = [(study.mean(cell, "steps"), 0)] * changed + [(study.mean(cell, "minutes"), 1)]
        shown = (f"{of.mean:.{digits}f}" if of else "" for of, digits in spent)
        lines.append((cell.label, str(len(runs)), *figures, *shown))
    heads = ("arm", "seeds", "AP", "AP50", *(["trained steps"] * changed), "minutes")
    return _placed(study.cells, heads, lines, caption, note)


def differences(study: Study, caption: str, note: str) -> Table | None:
    """Each arm against the baseline, C against B+, each variant against its arm without one, and against the variant
    that is the baseline; None without any."""
    lines, cells = [], []
    for cell in study.cells:
        for name, found in _differences(study, cell).items():
            cells.append(cell)
            bounds = "" if found is None or found.half is None else f"[{found.low:+.3f}, {found.high:+.3f}]"
            shown = ("no pair", "", "0") if found is None else (f"{found.mean:+.3f}", bounds, str(found.count))
            lines.append((cell.label, name, *shown, "yes" if found is not None and found.resolved else "no"))
    heads = ("arm", "minus", "AP", "95% interval", "pairs", "resolved")
    return _placed(cells, heads, lines, caption, note) if lines else None


def resolution(study: Study, split: str) -> Table | None:
    """The difference in AP that numbers of seeds can resolve, for each comparison with two pairs; None without one."""
    lines, cells = [], []
    for cell in study.cells:
        for name, found in _differences(study, cell).items():
            if found is not None and (spread := found.deviation) is not None:
                cells.append(cell)
                sizes = (f"{detectable(spread, count):.3f}" for count in SEEDS)
                lines.append((cell.label, name, str(found.count), f"{spread:.3f}", *sizes))
    heads = ("arm", "minus", "pairs", "deviation of a pair", *(f"{count} seeds" for count in SEEDS))
    note = (
        "A true difference in AP of this size is resolved in 80% of studies with so many pairs (paired t-test, 5%). A "
        "smaller one mostly is not, and then `no` does not mean that there is none. The deviation is that of the pairs "
        "here; that of two or three pairs is itself inexact."
    )
    caption = f"**Which difference the seeds can resolve on {split}**"
    return _placed(cells, heads, lines, caption, note) if lines else None


def reach(study: Study) -> Table | None:
    """The time to reach shares of the baseline's AP (first evaluation, median over seeds); None without a baseline."""
    if not any(row.get(f"steps to {SHARES[0]}%") for runs in study.cells.values() for row in runs):
        return None
    lines = []
    for cell, runs in study.cells.items():
        cells = []
        for unit in ("steps", "seconds"):
            for share in SHARES:
                times = [time for row in runs if (time := _time(row, f"{unit} to {share}%")) is not None]
                middle = median_time(times)
                cells.append(f"{middle:.0f}" if middle is not None else NEVER if times else "")
        lines.append((cell.label, *cells))
    heads = ("arm", *(f"{unit} to {share}%" for unit in ("steps", "seconds") for share in SHARES))
    name = LETTERS.get(study.baseline, study.baseline)
    note = (
        f"Of the AP that {name} ends with (mean of its seeds, same images and steps), on the split that chooses the "
        "checkpoint. The first evaluation that got there, median over seeds; - where half of them did not. Steps are "
        "the detector's; seconds are those of training, stage 1 included."
    )
    return _placed(study.cells, heads, lines, f"**Steps and seconds to a share of {name}'s AP**", note)


def ending(study: Study) -> Table | None:
    """The training figures at the end, which show what a detector did not learn; None for rows without them."""
    names = [name for name in dict.fromkeys(WATCHED.values()) if any(study.mean(cell, name) for cell in study.cells)]
    lines = [(cell.label, *(interval(study.mean(cell, name)) for name in names)) for cell in study.cells]
    note = "Of training batches, mean over the last tenth of the steps; the loss is that of the last stage's classes."
    return _placed(study.cells, ("arm", *names), lines, "**The end of training**", note) if names else None


def per_class(study: Study, split: str) -> list[Table]:
    """AP of each class, mean over seeds; one table for each data set."""
    tables = []
    for data in dict.fromkeys(cell.dataset for cell in study.cells):
        cells = [cell for cell in study.cells if cell.dataset == data]
        classes = _classes([row for cell in cells for row in study.cells[cell]])
        lines = [(cell.label, *(interval(study.mean(cell, f"{name} AP")) for name in classes)) for cell in cells]
        tables.append(_placed(cells, ("arm", *classes), lines, f"**AP per class on {split}**", ""))
    return tables


def extra_compute(study: Study) -> Table | None:
    """Compares the time of further steps with the time of the stage 1 that they replace; None without such an arm."""
    lines, cells = [], []
    for cell in study.cells:
        extra = study.by_seed(cell, "extra seconds")
        rival = study.rival(cell, arm=PAID_BY.get(cell.arm, CROPS))
        if not extra or rival is None:
            continue
        first = study.by_seed(rival, "seconds stage 1")
        ratios = [seconds / first[seed] for seed, seconds in extra.items() if first.get(seed)]
        counted = (study.values(cell, "extra steps"), extra.values(), first.values())
        cells.append(cell)
        lines.append((cell.label, *(_middle(of, 0) for of in counted), rival.label, _middle(ratios, 2)))
    heads = ("arm", "extra steps", "their seconds", "seconds of stage 1", "of arm", "ratio")
    note = "The steps are counted from MACs. The seconds check them. Seconds and ratio are medians over seeds."
    return (
        _placed(cells, heads, lines, "**Compute of the further steps against that of stage 1**", note)
        if lines
        else None
    )


def commands(study: Study) -> Listing | None:
    """The command of each cell's first seed, and all seeds of the cell."""
    lines = []
    for cell, runs in study.cells.items():
        seeds = ", ".join(row["seed"] for row in runs)
        place = [cell.dataset, f"{cell.share} of the images", f"{cell.budget} steps", cell.variant, cell.label]
        if runs[0].get("command"):
            lines += [f"# {', '.join(part for part in place if part)}: seeds {seeds}", runs[0]["command"]]
    return (
        Listing("**Commands** (each for its first seed; results.csv has those of all runs)", tuple(lines))
        if lines
        else None
    )


def all_commands(rows: Sequence[TextRow]) -> list[Listing]:
    """The command of each single run; empty if the CSV has no commands."""
    lines = dict.fromkeys(row["command"] for row in rows if row.get("command") and not row.get("study"))
    return [Listing("**Commands**", tuple(lines))] if lines else []


def origins(rows: Sequence[TextRow]) -> list[Listing]:
    """The compute, hosts, versions and commits of runs, exports and measurements."""
    lines = compute(rows)
    for title, column in (("host", "host"), ("versions", "versions"), ("commit", "commit")):
        found = dict.fromkeys(row[column] for row in rows if row.get(column))
        lines += [f"{title}: {text}" for text in found]
    return [Listing(ORIGINS, tuple(lines), code=False)] if lines else []


def compute(rows: Sequence[TextRow]) -> list[str]:
    """`compute: 19 trainings, 14.4 hours in all`. A training has a row for each split or file, and counts once."""
    runs = {tuple(row.get(column) for column in TRAINING): time for row in rows if (time := figure(row, "minutes"))}
    total = sum(runs.values())
    told = f"{total:.1f} minutes" if total < 60 else f"{total / 60:.1f} hours"
    return [f"compute: {counted(len(runs), 'training')}, {told} in all"] if runs else []


def show(text: str) -> str:
    """A figure with three digits; other text does not change."""
    try:
        return f"{float(text):.3f}"
    except ValueError:
        return text


def interval(value: Estimate | None, of: int | None = None) -> str:
    """`0.538 ± 0.012`; a single value has no interval. If only some of the `of` values are known, their number."""
    if value is None:
        return "n/a"
    some = f" ({value.count} of {of})" if of not in (None, value.count) else ""
    return f"{value.mean:.3f}" + ("" if value.half is None else f" ± {value.half:.3f}") + some


def difference(value: Estimate | None) -> str:
    """`+0.021 [+0.004, +0.038], n = 3`, with `unresolved` if it is not resolved."""
    if value is None:
        return "no pair"
    bounds = "" if value.half is None else f" [{value.low:+.3f}, {value.high:+.3f}]"
    return f"{value.mean:+.3f}{bounds}, n = {value.count}" + ("" if value.resolved else ", unresolved")


def _differences(study: Study, cell: Cell) -> dict[str, Estimate | None]:
    """What the cell is compared with -> the difference in AP; None without a common seed."""
    arms = [arm for arm in rivals(cell.arm, study.baseline) if study.rival(cell, arm=arm)]
    found = {label(arm): study.difference(cell, arm=arm) for arm in arms}
    others = {"no variant": "", study.baseline: study.baseline}
    return found | {
        name: study.difference(cell, variant=v) for name, v in others.items() if study.rival(cell, variant=v)
    }


def _placed(
    cells: Iterable[Cell], heads: Sequence[str], lines: Sequence[Sequence[str]], caption: str, note: str
) -> Table:
    """A table whose rows begin with the data set of their cells, and with the other settings that differ."""
    cells = list(cells)
    columns = {
        "study": [cell.study for cell in cells],
        "data": [cell.dataset for cell in cells],
        "images": [cell.share for cell in cells],
        "steps": [str(cell.budget) for cell in cells],
        "variant": [cell.variant for cell in cells],
    }
    kept = [name for name, values in columns.items() if name == "data" or len({*values, *USUAL.get(name, ())}) > 1]
    rows = [(*(columns[name][k] for name in kept), *line) for k, line in enumerate(lines)]
    return Table((*kept, *heads), tuple(rows), caption, note)


def _classes(rows: Sequence[TextRow]) -> list[str]:
    """The classes with a figure in at least one row."""
    names = (column.removesuffix(" AP50") for column in rows[0] if column.endswith(" AP50"))
    return [name for name in names if any(row[f"{name} AP50"] for row in rows)]


def _plain_steps(row: TextRow) -> float | None:
    """The steps of a run's float detector without the extra steps of its arm; None if another stage came after it."""
    steps = figure(row, "steps") if row.get("stage", DETECTOR) == DETECTOR else None
    return None if steps is None else steps - (figure(row, "extra steps") or 0)


def _middle(values: Collection[float], digits: int) -> str:
    return f"{median(values):.{digits}f}" if values else ""


def _time(row: TextRow, column: str) -> float | None:
    return float("inf") if row.get(column) == NEVER else figure(row, column)
