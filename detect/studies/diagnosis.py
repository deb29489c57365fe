"""Why a detector finds nothing: the numbers of its run folder, in the order in which they should be read.

A fault early in the order makes the later numbers wrong, too: labels that no anchor matches give a loss that falls and
a detector that finds nothing. So the first number that is out of its range is the one to mend.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from detect.config.tree import plain
from detect.errors import ConfigError, DataError
from detect.quantization.spec import Spec
from detect.runs.folder import DETECTOR, QUANTIZED, RunFolder
from detect.runs.forms import check, read
from detect.runs.stage_folder import METRICS, StageFolder
from detect.studies import forms
from detect.studies.curves import read_rows
from detect.studies.metrics_rows import Row, best_ap50, ends, evaluations, figure, figures
from detect.weights.class_heads import is_class_head
from detect.weights.transfer import is_head

REACHED, POINTS = "anchors/recall_50", "points/positives_per_image"
CLASSIFICATION, OF_BOXES, POSITIVES = "loss/classification", "loss/box_classification", "box/positives_per_image"
RECALL = "rpn/recall_50"
SCORED = ("val/AP50", "test/AP50", "train/AP50")
"""AP50 on the split that chooses the checkpoint."""

SCHEDULE = "schedule."
"""How the keys of a remedy begin, if the detector was trained in float."""

LEAST_REACHED = 0.5
FEWEST_POINTS = 1.0
LEAST_FALL = 0.1
MOST_OF_A_GUESS = 0.65
NO_BETTER = 0.95
LEAST_RECALL = 0.8
FROZEN_RATE = 5e-4
LEAST_AP50 = 0.3
MOST_FIXED = 0.5
LEAST_KEPT = 0.8
"""The limits. `docs/questions/faster_rcnn_detects_nothing.md` names the run that a limit comes from; FEWEST_POINTS,
LEAST_FALL, NO_BETTER, LEAST_AP50 and LEAST_KEPT are judgements, which no run tests, and MOST_FIXED is one between runs
with .41 and 1."""


@dataclass(frozen=True)
class Finding:
    """One question to the run.

    row: its number in the table of docs/verbs/doctor.md; a question that does not belong to a run is left out.
    found: what its files say. wanted: the range of a run that detects. right: None if the run does not tell.
    remedy: what to change if it is not right.
    """

    row: int
    question: str
    found: str
    wanted: str
    right: bool | None
    remedy: str


@dataclass(frozen=True)
class Diagnosis:
    """All findings of a run, in the order in which they should be read. ap50: of the evaluation with the best AP, whose
    weights are used. last: of the last one. Both are None without an evaluation.

    split: what was scored. Without val and test images, it is train, whose scores tell nothing of other images.
    stage: that of the rows.
    """

    findings: tuple[Finding, ...]
    ap50: float | None
    last: float | None
    split: str = "val"
    stage: str = DETECTOR

    @property
    def detects(self) -> bool:
        """Whether the best evaluation has found a good part of the objects."""
        return self.ap50 is not None and self.ap50 >= LEAST_AP50

    @property
    def first_wrong(self) -> Finding | None:
        """The finding to act on."""
        return next((finding for finding in self.findings if finding.right is False), None)

    def verdict(self) -> str:
        """The conclusion in one or two sentences."""
        score = "It was not scored yet." if self.ap50 is None else f"AP50 on {self.split} is {self.ap50:.3f}."
        if self.ap50 is not None and self.last is not None and self.last < LEAST_KEPT * self.ap50:
            score += f" That is of the best weights; at the end it is {self.last:.3f}."
        first = self.first_wrong
        if self.detects:
            score += " The detector detects."
        if first is not None:
            return f"{score} Row {first.row} is the first that is not as it should be: {first.remedy}."
        if self.detects:
            return score
        return f"{score} No row is out of its range: train longer, and look at {self.stage}/first_batch.png."


def diagnose(folder: Path) -> Diagnosis:
    """Reads the folder of a run, finished or not; nothing is trained and no image is read.

    Raises ConfigError for a folder that is no run, and DataError for one whose detector has not begun or whose files
    are damaged.
    """
    run = RunFolder(folder)
    if not run.is_run:
        raise ConfigError(f"run={folder}: legal is the folder of a run, which has a config.yaml")
    stage = next((run.stage(name) for name in (DETECTOR, QUANTIZED) if run.stage(name).metrics.exists()), None)
    if stage is None:
        raise DataError(f"run={folder}: its detector is not trained yet; there is no {DETECTOR}/{METRICS}")
    rows, cfg = read_rows(stage.metrics), plain(run.saved_config())
    if stage.name == QUANTIZED:  # of a run that trains nothing else
        cfg |= {"schedule": (cfg.get("quantize") or {}).get("schedule")}
    check(cfg, forms.CONFIG, run.config)
    ledger = read(stage.ledger, forms.LEDGER) if stage.ledger.exists() else {}
    trained = [row for row in rows if row["kind"] == "train"]
    ap50 = next((key for row in rows for key in row if key in SCORED), SCORED[0])
    split = ap50.partition("/")[0]
    begins = _first_rounded(cfg)
    scored = evaluations(rows, ap50, begins if stage.name == QUANTIZED else 0)
    findings = (
        _matches(trained, cfg),
        _finite(stage, trained),
        _weights(ledger),
        _learning(ledger, cfg),
        _rate(ledger, cfg),
        _guess(trained, cfg, len(run.class_names())) or _falls(trained, ledger),
        *_proposals(trained),
        _steps(scored, split),
    )
    if stage.name == QUANTIZED:
        own = f"quantize.{SCHEDULE}"
        findings = tuple(replace(found, remedy=found.remedy.replace(SCHEDULE, own)) for found in findings)
    elif run.stage(QUANTIZED).metrics.exists():
        rounded = evaluations(read_rows(run.stage(QUANTIZED).metrics), ap50, begins)
        findings = (*findings, _rounding(best_ap50(scored, split), best_ap50(rounded, split)))
        scored = rounded or scored
    return Diagnosis(
        findings, best_ap50(scored, split), figure(scored[-1], ap50) if scored else None, split, stage.name
    )


def _first_rounded(cfg: Mapping[str, Any]) -> int:
    """The first step of fake-quant training at which the network rounds; scores before it are those of a float one."""
    quantize = cfg.get("quantize") or {}
    steps, delay = ((quantize.get(part) or {}).get(key) for part, key in (("schedule", "steps"), ("spec", "delay")))
    return int(Spec(delay=delay or 0).over(steps or 0).delay)


def _matches(rows: Sequence[Row], cfg: Mapping[str, Any]) -> Finding:
    """Matches that are forced do not count: they are there for any anchors.

    They are enough for a network of proposals, whose boxes a second stage corrects.
    """
    reached, points = figures(rows, REACHED), figures(rows, POINTS)
    matcher = (cfg["detector"].get("rpn_target_assigner") or {}).get("matcher") or {}
    if reached:
        found, wanted = f"{fmean(reached):.0%} of the boxes have one of IoU .5", f"at least {LEAST_REACHED:.0%}"
    else:
        found = f"{fmean(points):.1f} points in an image" if points else "not known"
        wanted = f"at least {FEWEST_POINTS:g}"
    right = fmean(reached) >= LEAST_REACHED if reached else fmean(points) >= FEWEST_POINTS if points else None
    if right is False and matcher.get("force_match"):
        found, right = f"{found}; the best one of each is matched by force", None
    return Finding(
        1,
        "Do anchors match the boxes?",
        found,
        wanted,
        right,
        "fit the anchors or the frame to the boxes, and check the labels: detect inspect, detect advise",
    )


def _finite(stage: StageFolder, rows: Sequence[Row]) -> Finding:
    """A run that was resumed may have got over a loss that was not finite: then it has steps behind that one."""
    losses, end = figures(rows, "loss/total"), max((row["step"] for row in rows), default=0)
    steps = (path.stem.rpartition("_")[2] for path in stage.path.glob("diverged_at_*.npz"))
    diverged = [stage.diverged(int(step)).name for step in steps if step.isdecimal() and int(step) > end]
    return Finding(
        2,
        "Is the loss a number?",
        f"not finite: {diverged[0]}" if diverged else f"{losses[-1]:.3g}" if losses else "not known",
        "finite",
        not diverged if losses or diverged else None,
        "divide schedule.rate by three",
    )


def _weights(ledger: Mapping[str, Mapping[str, Any]]) -> Finding:
    """Heads do not count: they may have other classes. An earlier version did not tell what was skipped."""
    lost = [name for kind in ("missing", "mismatched", "kept") for name in ledger.get(kind) or () if not is_head(name)]
    loaded = len(ledger.get("loaded", ()))
    known = not ledger or "kept" in ledger or not ledger["skipped"]
    return Finding(
        3,
        "Did all weights load?",
        f"{loaded} of {loaded + len(lost)} variables loaded" if loaded or lost else "none: random weights",
        "all variables of the backbone",
        (loaded > 0 and not lost) if known or lost else None,
        "give weights that fill the whole backbone: init=FILE, without init.skip",
    )


def _learning(ledger: Mapping[str, Mapping[str, Any]], cfg: Mapping[str, Any]) -> Finding:
    until = cfg["schedule"].get("freeze_until")
    shapes = ledger.get("loaded", {})
    if "box_sampler" in cfg["detector"]:  # two stages: the layers on the crops stand between those before them
        shapes = {name: shapes[name] for name in sorted(shapes, key=_numbered)}
    share = _fixed_share(shapes, until) if until else 0.0
    known = "a part that is not known" if share is None else f"{share:.0%} of its parameters"
    return Finding(
        4,
        "Does the backbone learn?",
        f"{known} fixed, up to {until}" if until else "all of it",
        f"at most {MOST_FIXED:.0%} of its parameters fixed",
        None if share is None else share <= MOST_FIXED,
        "let the backbone learn: schedule.freeze_until=null",
    )


def _numbered(name: str) -> list[str | int]:
    """A key that sorts layers by their numbers: Mixed_5b, Mixed_6e, Mixed_7a, conv2, conv10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _fixed_share(shapes: Mapping[str, Sequence[int]], until: str) -> float | None:
    """The share of the parameters up to a layer, in the order of the network; None without variables of that layer."""
    places = [place for place, name in enumerate(shapes) if name.startswith(until.split("/")[0] + "/")]
    sizes = [math.prod(shape) for shape in shapes.values()]
    return sum(sizes[: places[-1] + 1]) / max(sum(sizes), 1) if places else None


def _rate(ledger: Mapping[str, Mapping[str, Any]], cfg: Mapping[str, Any]) -> Finding:
    schedule, loaded = cfg["schedule"], ledger.get("loaded", {})
    frozen, rate = schedule["batch_norm"] == "frozen", float(schedule["rate"])
    without = bool(loaded) and not any(name.endswith("/moving_variance") for name in loaded)  # as VGG
    return Finding(
        5,
        "Does the rate suit batch norm?",
        f"{'no batch norm' if without else 'frozen' if frozen else 'trained'}, rate {rate:g}",
        f"a frozen one: at most {FROZEN_RATE:g}",
        without or not (frozen and rate > FROZEN_RATE),
        "train batch norm (schedule.batch_norm=trainable), or divide schedule.rate by three",
    )


def _guess(rows: Sequence[Row], cfg: Mapping[str, Any], classes: int) -> Finding | None:
    """The box head's loss beside that of a guess, which knows only how often there is an object; None without one.

    The guess is the entropy of the drawn examples, with all classes equally often.
    """
    losses, positives, detector = figures(rows, OF_BOXES), figures(rows, POSITIVES), cfg["detector"]
    size, weight = (detector.get("box_sampler") or {}).get("size"), detector.get("box_classification_weight", 1.0)
    if not losses or not positives or not size or not weight:
        return None
    share = min(max(ends(positives)[1] / size, 1e-6), 1 - 1e-6)
    guess = -share * math.log(share / classes) - (1 - share) * math.log(1 - share)
    last = ends(losses)[1] / weight
    own_crops = not str((detector.get("roi") or {}).get("_target_", "detect.")).startswith("detect.")
    blind = "look at the unit in which detector.roi takes boxes" if own_crops else "divide schedule.rate by ten"
    return Finding(
        6,
        "Do classes beat a guess?",
        f"loss {last:.3f}, that of a guess is {guess:.3f}",
        f"at most {MOST_OF_A_GUESS:.0%} of a guess",
        last <= MOST_OF_A_GUESS * guess,
        f"the head is no better than a guess: {blind}"
        if last >= NO_BETTER * guess
        else "mend the rows above first; then train longer, or divide schedule.rate by three",
    )


def _falls(rows: Sequence[Row], ledger: Mapping[str, Mapping[str, Any]]) -> Finding:
    """The loss of heads that were loaded, too, may be low from the beginning."""
    found, tuned = figures(rows, CLASSIFICATION), any(map(is_class_head, ledger.get("loaded", ())))
    first, last = ends(found) if found else (0.0, 0.0)
    fell = last <= (1 - LEAST_FALL) * first if len(found) > 1 else None
    return Finding(
        6,
        "Does the loss of the classes fall?",
        f"from {first:.3f} to {last:.3f}" + ("; the heads were loaded, too" if tuned else "") if found else "not known",
        f"by {LEAST_FALL:.0%} or more",
        None if tuned and not fell else fell,
        "divide schedule.rate by three; detect advise rate measures a suitable one",
    )


def _proposals(rows: Sequence[Row]) -> Iterator[Finding]:
    found = figures(rows, RECALL)
    if found:
        last = ends(found)[1]
        yield Finding(
            7,
            "Do proposals reach the boxes?",
            f"recall {last:.2f} at IoU .5",
            f"at least {LEAST_RECALL:g}",
            last >= LEAST_RECALL,
            "train longer, and fit detector.anchors to the boxes; the box head can't find what is not proposed",
        )


def _rounding(before: float | None, after: float | None) -> Finding:
    """AP50 of the fake-quantised twin beside that of the float detector that it started from."""
    known, told = None, "not known"
    if before is not None and after is not None:
        known, told = after >= LEAST_KEPT * before, f"best AP50 {after:.3f}, in float {before:.3f}"
    return Finding(
        9,
        "Does rounding keep it?",
        told,
        f"at least {LEAST_KEPT:.0%} of float",
        known,
        "detect inspect quantize run=RUN names the layers; give each channel a scale, or train longer",
    )


def _steps(scored: Sequence[Row], split: str) -> Finding:
    scores = figures(scored, f"{split}/AP")
    best = max(range(len(scores)), key=scores.__getitem__) if scores else 0
    rising = len(scores) > 2 and best == len(scores) - 1 and scores[-1] > 1.1 * scores[-2]
    return Finding(
        8,
        "Has it stopped getting better?",
        f"best at evaluation {best + 1} of {len(scores)}" if scores else "not known",
        "AP of the last two alike",
        None if len(scores) < 3 else not rising,
        "train longer: schedule.steps",
    )
