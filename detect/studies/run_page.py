"""The page of one run, `RUN/report.html`: what was trained on what, how good it is, where it fails, what was exported.

It is made from the files in the folder of the run alone: no image of the data set is read, and nothing is run.
"""

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import yaml

from detect.config.tree import plain
from detect.data.image_file import read_image
from detect.errors import DataError, UserError, first_few, score_text
from detect.evaluation.bootstrap import COVERAGE, RESAMPLES, Resampled, resampled
from detect.evaluation.coco import FIGURES
from detect.evaluation.error_split import KINDS, ErrorSplit, error_split
from detect.evaluation.matching import rank
from detect.evaluation.scored_files import TRUTH, Scored
from detect.evaluation.suspected_labels import contradicted
from detect.evaluation.thresholds import Thresholds
from detect.files import csv_text, unswollen, write_text
from detect.reporting import suspects
from detect.runs import forms
from detect.runs.folder import CLASSIFY, RunFolder, chosen_split
from detect.runs.stage_folder import RESULTS
from detect.studies.blocks import Figure, Listing, Part, Table
from detect.studies.commands import command
from detect.studies.csv_file import host, versions
from detect.studies.export_rows import file_kind, latencies
from detect.studies.html import page
from detect.studies.records import FinishedRun, collect
from detect.studies.rows import commit

log = logging.getLogger("detect")

PAGE = "report.html"
PHOTOGRAPHS = (1280, 82)
"""Of sheets of photographs in the page: the largest width in pixels, and the quality of the JPEG."""
LARGEST = 300_000  # bytes of a PNG that is shown as it is
MOST_CLASSES, MOST_SUSPECTS = 40, 10
TO_FILL_IN = "to be filled in"
BY_PEOPLE = ("Licence of the data", "Licence of the weights", "Intended use", "Not intended for", "Known limits")
"""Facts of a model card that no file of a run tells."""
CARD_HEAD = "# What only people know about this detector. `detect report run=RUN` writes it into report.html.\n"
LEDGER: forms.Form = {"source": "text", "totals": {"*": {"variables": "count", "parameters": "count"}}}


@dataclass(frozen=True)
class Evidence:
    """What the files of a run say about one split.

    scores: of the summary. scored, figures, errors: None if the files of the split are missing.
    """

    split: str
    scores: dict[str, Any]
    scored: Scored | None = None
    figures: Resampled | None = None
    errors: ErrorSplit | None = None

    @classmethod
    def of(cls, run: FinishedRun, split: str) -> "Evidence":
        scores = run.summary["scores"][split]
        if not (run.folder / f"{split}{TRUTH}").is_file():
            return cls(split, scores)
        scored = Scored.read(run.folder, split)
        data = scored.examples, scored.detections, scored.classes
        return cls(split, scores, scored, resampled(*data), error_split(*data))


def write_page(folder: Path) -> Path:
    """Writes the page of a finished run into its folder, and returns its path. A missing card.yaml is made, too.

    Raises DataError for a folder without a finished run, and for a damaged file in it.
    """
    records = collect(folder)
    run = next((run for run in records.runs if run.folder.resolve() == folder.resolve()), None)
    if run is None:
        raise DataError(f"run={folder}: there is no finished run; it has a summary.json with scores of a detector")
    card = RunFolder(folder).card
    if not card.exists():
        write_text(card, CARD_HEAD + "".join(f"{fact}: {TO_FILL_IN}\n" for fact in BY_PEOPLE))
    write_text(folder / PAGE, page(run.summary["name"], parts(run, records.exports)))
    return folder / PAGE


def leave(folder: Path) -> None:
    """Writes the page of a finished run. A page that can't be made is a warning, as the run itself is complete."""
    try:
        log.info("the page of the run is %s", write_page(folder))
    except (UserError, OSError) as error:
        log.warning("the run has no page: %s", error)


def refresh(made: Path) -> None:
    """Writes the page again of the run in whose folder something new was made, if the run has a page."""
    run = next((folder for folder in made.absolute().parents[:2] if (folder / PAGE).is_file()), None)
    if run is not None and RunFolder(run).is_run:
        leave(run)


def parts(run: FinishedRun, exports: dict[Path, dict[str, Any]]) -> list[Part]:
    """The tables and pictures of the page, in their order."""
    splits = [split for split in ("test", "val", "train") if split in run.summary["scores"]]
    if not splits:
        raise DataError(f"{run.folder}: its summary has scores of no split; legal are test, val and train")
    evidence = [Evidence.of(run, split) for split in splits]
    first, thresholds = evidence[0], chosen(run, evidence)
    found: list[Part | None] = [
        facts(run, splits),
        data(run, evidence),
        *starts(run),
        scores(evidence),
        Listing("**Score to show from**", tuple(thresholds.lines()), code=False) if thresholds else None,
        classes(first, thresholds),
        errors(first),
        plot(run.folder / RESULTS, "Training: losses, scores over the steps, rate and speed"),
        plot(run.folder / f"{first.split}_pr_curves.png", f"Precision over recall on {first.split}"),
        plot(
            run.folder / f"{first.split}_f1_curves.png",
            f"F1, precision and recall over the score on {first.split}, with the threshold; and reliability",
        ),
        plot(run.folder / f"{first.split}_errors.png", f"Errors on {first.split} that cost AP50"),
        plot(run.folder / f"{first.split}_confusion.png", f"Confusion on {first.split}; the title has the thresholds"),
        photographs(run.folder / f"{first.split}_worst.png", f"The images of {first.split} with most faults"),
        photographs(run.folder / f"{first.split}_predictions.png", f"Images of {first.split}, evenly spread"),
        suspected(run.folder, first),
        exported(run, exports),
        Listing("**Command**", (command(run),)) if command(run) else None,
        Listing("**Where it ran**", tuple(origin(run)), code=False),
    ]
    return [part for part in found if part is not None]


def facts(run: FinishedRun, splits: Sequence[str]) -> Table:
    """The facts of a model card (Mitchell et al. 2019). What only people know is taken from card.yaml."""
    about, folder = run.summary, RunFolder(run.folder)
    dataset = about["dataset"]
    detector = plain(folder.saved_config()).get("detector") if folder.is_run else None
    size = detector.get("size") if isinstance(detector, dict) else None
    frame = f", frame of {' x '.join(map(str, size))} pixels" if isinstance(size, list) else ""
    minutes = run.seconds / 60
    stages = [name for name, stage in ((CLASSIFY, run.stage_1), ("float detector", run.float_stage)) if stage]
    rows = [
        ("Task", "object detection: boxes, classes and scores in photographs"),
        ("Network", f"{about.get('network') or 'a detector'}{frame}"),
        ("Classes", str(dataset.get("classes") or "")),
        ("Data", f"{dataset.get('name') or ''} (fingerprint {dataset['fingerprint']}), scored on {', '.join(splits)}"),
        ("Training", f"{about['steps']} steps, seed {run.seed}, {minutes:.1f} minutes; best at {about['best_step']}"),
        ("Stages before", ", ".join(stages) or "none"),
        *(dict.fromkeys(BY_PEOPLE, TO_FILL_IN) | by_people(folder.card)).items(),
    ]
    return Table(("fact", "of this detector"), tuple(rows), "**Model card**")


def by_people(card: Path) -> dict[str, str]:
    """The facts in a card.yaml, which people write; {} if it is missing. All values are read as text."""
    if not card.is_file():
        return {}
    try:
        found = yaml.load(unswollen(card.read_text(encoding="utf-8")), Loader=yaml.BaseLoader) or {}
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        raise DataError(f"{card}: malformed yaml ({first_few(str(error).splitlines(), 1)})") from error
    forms.check(found, {"*": "text"}, card)
    return {str(fact): text for fact, text in found.items()}


def data(run: FinishedRun, evidence: Sequence[Evidence]) -> Table:
    """Images and boxes of each split."""
    about = run.summary["dataset"]
    rows = [("train", str(about.get("images") or "?"), str(about.get("boxes") or "?"))]
    for one in evidence:
        if one.scored and one.split != "train":
            boxes = sum(int((~example.crowd).sum()) for example in one.scored.examples)
            rows.append((one.split, str(len(one.scored.examples)), str(boxes)))
    share = about.get("box_share")
    note = f"The median side of a box is {share:.0%} of its image's side." if share else ""
    return Table(("split", "images", "boxes"), tuple(rows), "**Data**", note)


def starts(run: FinishedRun) -> list[Part]:
    """Where the weights of each stage come from: the totals of their ledgers."""
    rows = []
    folder = RunFolder(run.folder)
    for stage in (CLASSIFY, "detector", "quantized"):
        path = folder.stage(stage).ledger
        if path.is_file():
            ledger = forms.read(path, LEDGER)
            counts = [f"{t['variables']} ({t['parameters']:,})" for t in ledger["totals"].values()]
            rows.append((stage, ledger["source"], *counts))
    heads = ("stage", "source", "loaded", "skipped", "missing", "unexpected", "mismatched")
    caption = "**Start of the weights**"
    if not rows or any(len(row) != len(heads) for row in rows):
        told = (run.summary.get("init") or {}).get("weights") or "random values"
        return [Listing(caption, (str(told),), code=False)]
    return [Table(heads, tuple(rows), caption, "Variables of the network, and their parameters in brackets.")]


def chosen(run: FinishedRun, evidence: Sequence[Evidence]) -> Thresholds | None:
    """The thresholds, chosen on the split that chose the weights, as scoring did; None without its files."""
    rankings = {
        one.split: rank(one.scored.examples, one.scored.detections, one.scored.classes)
        for one in evidence
        if one.scored
    }
    split = chosen_split(run.summary["scores"]) or ""
    return Thresholds.choose(rankings, split) if split in rankings else None


def scores(evidence: Sequence[Evidence]) -> Table:
    """COCO's figures on each split, AP and AP50 with their intervals."""
    rows = []
    for one in evidence:
        cells = [score_text(one.scores.get(name)) for name in FIGURES]
        if one.figures:
            cells[:2] = [str(one.figures.interval(name)) for name in ("AP", "AP50")]
        rows.append((one.split, *cells))
    note = f"In brackets: {COVERAGE:.0%} interval of {RESAMPLES} resamples of the images, of the same training."
    return Table(("split", *FIGURES), tuple(rows), "**Scores**", note)


def classes(one: Evidence, thresholds: Thresholds | None) -> Table:
    """AP with its interval, the threshold and what it reaches, for each class."""
    rows = []
    listed = sorted(one.scores["per_class"].items(), key=lambda item: -int(item[1].get("boxes") or 0))[:MOST_CLASSES]
    for name, row in listed:
        cells = [score_text(row["AP"]), score_text(row["AP50"])]
        if one.figures and name in one.figures.figures["AP"]:
            cells = [str(one.figures.interval(key, name)) for key in ("AP", "AP50")]
        own = thresholds.reached[one.split][1].get(name) if thresholds and one.split in thresholds.reached else None
        shares = [f"{v:.3f}" for v in (own.score, own.f1, own.precision, own.recall)] if own else ["n/a"] * 4
        worst = ""
        if one.errors and name in one.errors.by_class:
            gains = one.errors.by_class[name]
            kind = max(KINDS, key=lambda kind: gains[kind])
            worst = f"{kind} {gains[kind]:.3f}" if gains[kind] > 0 else ""
        rows.append((name, *cells, str(row.get("boxes") or ""), *shares, worst))
    heads = ("class", "AP", "AP50", "boxes", "score from", "F1", "precision", "recall", "loses most by")
    left = len(one.scores["per_class"]) - len(listed)
    note = f"{left} classes with fewer boxes are left out." if left else ""
    return Table(heads, tuple(rows), f"**Classes on {one.split}**", note)


def errors(one: Evidence) -> Table | None:
    """TIDE's split."""
    if one.errors is None:
        return None
    found = one.errors
    rows = [
        (kind, str(found.counts[kind]), *(f"{gains[kind]:.3f}" for gains in (found.gains, *found.by_size.values())))
        for kind in KINDS
    ]
    rows += [("false positives", "", f"{found.false_positives:.3f}", "", "", "")]
    rows += [("false negatives", "", f"{found.false_negatives:.3f}", "", "", "")]
    note = "What AP50 gains if the errors of a kind are corrected, in all and at objects of each size (TIDE, 2020)."
    return Table(
        ("error", "number", "AP50", "small", "medium", "large"), tuple(rows), f"**Errors on {one.split}**", note
    )


def _older(file: Path, other: Path) -> bool:
    """Whether a file was made before another one: a run that was extended has other weights since then."""
    return other.is_file() and file.stat().st_mtime_ns < other.stat().st_mtime_ns


def suspected(folder: Path, one: Evidence) -> Table | None:
    """The first suspected labels: of `detect evaluate` if it has made a list, else what the detections contradict."""
    listed = folder / "evaluation" / suspects.CSV
    caption, heads = "**Suspected labels**", ("file", "reason", "label", "found", "suspicion")
    if listed.is_file() and not _older(listed, RunFolder(folder).summary):
        try:
            found = list(csv.DictReader(listed.read_text(encoding="utf-8").splitlines()))
            keys = ("file", "reason", "label", "found", "score")
            rows = [tuple(csv_text(row[key] or "") for key in keys) for row in found[:MOST_SUSPECTS]]
        except (ValueError, KeyError, csv.Error) as error:
            raise DataError(f"{listed} is not a list of suspected labels: {type(error).__name__}: {error}") from error
        split = next((row["split"] for row in found if row.get("split")), None)  # an older list does not tell it
        caption = f"**Suspected labels on {split}**" if split else caption
        return Table(heads, tuple(rows), caption, f"The first of {len(found)} in evaluation/{suspects.CSV}.")
    if one.scored is None:
        return None
    names = ("", *one.scored.classes)
    every = contradicted(one.scored.examples, one.scored.detections)
    rows = [
        (one.scored.examples[s.place].path.as_posix(), s.reason, names[s.label], names[s.found], f"{s.score:.3f}")
        for s in every[:MOST_SUSPECTS]
    ]
    note = (
        f"The first of {len(every)} on {one.split}. detect evaluate run=RUN writes all, and compares near-duplicates."
    )
    return Table(heads, tuple(rows), caption, note) if rows else None


def exported(run: FinishedRun, exports: dict[Path, dict[str, Any]]) -> Table | None:
    """The exported files of the run, with AP on the same images, size and time."""
    rows = []
    for folder, about in exports.items():
        if not folder.resolve().is_relative_to(run.folder.resolve()):
            continue
        ap = about.get("scores") or {}
        times = latencies(about.get("latency_ms"))
        ms = next((f"{value:.1f}" for name, value in times.items() if not name.endswith("float32")), "n/a")
        values = [score_text((ap.get(key) or {}).get("AP")) for key in ("file", "run")]
        kind = file_kind(about, folder)
        earlier = about.get("steps") not in (None, run.summary["steps"])  # the run was extended
        name = f"{folder.name} (after {about['steps']} steps)" if earlier else folder.name
        rows.append((name, kind, *values, str(ap.get("images", "")), f"{about['bytes'] / 1e6:.2f}", ms))
    heads = ("folder", "kind", "AP", "AP of the run", "images", "MB", "ms")
    note = (
        "AP of file and run on the same images of the same split; ms of one image: of a TFLite file with one thread, "
        "of other formats with all cores."
    )
    return Table(heads, tuple(rows), "**Exported files**", note) if rows else None


def plot(path: Path, caption: str) -> Figure | None:
    """A plot as it is; a very large one as a photograph."""
    if not path.is_file():
        return None
    if path.stat().st_size > LARGEST:
        return photographs(path, caption)
    return Figure(caption, path.read_bytes())


def photographs(path: Path, caption: str) -> Figure | None:
    """A sheet of photographs, smaller and as JPEG; None if it is missing or can't be read."""
    if not path.is_file():
        return None
    try:
        image = read_image(path)
    except UserError:
        return None
    width, quality = PHOTOGRAPHS
    if image.shape[1] > width:
        size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return Figure(caption, data.tobytes()) if ok else None


def origin(run: FinishedRun) -> list[str]:
    """Host, versions and commit."""
    about = run.summary
    texts = {"host": host(about), "versions": versions(about), "commit": commit(about)}
    return [f"{title}: {text}" for title, text in texts.items() if text]
