"""Compares detectors on the same test images: paired intervals of differences, and the images where they differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detect.data.examples import Example
from detect.errors import DataError, counted, first_few, shortened
from detect.evaluation.bootstrap import ALL, FIGURES, RESAMPLES, Resampled, resampled
from detect.evaluation.bootstrap import resamples as drawn_resamples
from detect.evaluation.matching import NOTHING, Detections
from detect.evaluation.scored_files import Scored
from detect.evaluation.suspected_labels import Faults, image_faults


@dataclass(frozen=True)
class Contender:
    """A detector with what it found. name: for tables. level: the lowest score that counts for faults of images."""

    name: str
    scored: Scored
    level: float


@dataclass(frozen=True)
class ImageDifference:
    """An image and the faults of each detector in it, in their order. difference: that which is farthest from 0 of the
    numbers of faults of the others, each less that of the first."""

    example: Example
    faults: tuple[Faults, ...]
    difference: int


@dataclass(frozen=True)
class Comparison:
    """Detectors on the same images. The others are compared with the first one.

    examples, classes: of the first one. detections: of each detector, by the ids of `examples`. images: those with
    different numbers of faults, the farthest first.
    """

    contenders: tuple[Contender, ...]
    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    detections: tuple[Detections, ...]
    figures: tuple[Resampled, ...]
    images: tuple[ImageDifference, ...]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each figure, of all classes first: values, and differences of the other detectors with bounds."""
        first, *others = zip((c.name for c in self.contenders), self.figures, strict=True)
        rows = []
        for figure in FIGURES:
            for name in (ALL, *self.classes):
                row: dict[str, Any] = {"figure": figure, "class": name or "all classes"}
                row |= {who: one.interval(figure, name).value for who, one in (first, *others)}
                for who, one in others:
                    found = one.difference(first[1], figure, name)
                    row |= {f"{who} difference": found.value, f"{who} low": found.low, f"{who} high": found.high}
                    row |= {f"{who} resolved": found.resolved}
                rows.append(row)
        return rows

    def lines(self, most_classes: int = 20) -> list[str]:
        """For the console, in 80 columns: a table for each other detector."""
        first, *others = self.contenders
        out = [f"{counted(len(self.examples), 'image')}; 95% intervals of {RESAMPLES} resamples of the images"]
        kinds = np.concatenate([np.zeros(0, int), *(example.classes for example in self.examples)])
        boxes = np.bincount(kinds, minlength=len(self.classes) + 1)[1:]
        ranked = np.argsort(-boxes, kind="stable")[:most_classes]
        listed = {ALL: "all classes"} | {name: name for k, name in enumerate(self.classes) if k in ranked}
        width = min(20, max(map(len, listed.values())))
        for number, other in enumerate(others, 1):
            out += ["", f"A: {first.name[-70:]}", f"B: {other.name[-70:]}"]
            out.append(f"  {'':<{width + 6}}{'A':>7}{'B':>7}   B - A")
            for name, shown in listed.items():
                for figure in FIGURES:
                    a, b = (self.figures[k].interval(figure, name).value for k in (0, number))
                    found = self.figures[number].difference(self.figures[0], figure, name)
                    label = f"{figure:<5} {shortened(shown, width):<{width}}"
                    told = "" if found.value is None or found.resolved else "  unresolved"
                    out.append(f"  {label}{_shown(a)}{_shown(b)}   {found.signed()}{told}")
        if len(self.classes) > most_classes:
            out.append(f"  ... and {len(self.classes) - most_classes} more classes, in comparison.csv")
        return out


def compare(contenders: Sequence[Contender], resamples: int = RESAMPLES) -> Comparison:
    """Compares detectors. Raises DataError, which names what differs, if their test data are not the same."""
    first, *others = contenders
    problems = [line for other in others for line in differing(first, other)]
    if problems:
        raise DataError("the test data differ, so that scores can't be compared:\n  " + "\n  ".join(problems))
    examples, classes = first.scored.examples, first.scored.classes
    found = tuple(_aligned(examples, one.scored) for one in contenders)
    drawn = drawn_resamples(len(examples), resamples)
    figures = tuple(resampled(examples, detections, classes, drawn=drawn) for detections in found)
    images = []
    for example in examples:
        pairs = zip(contenders, found, strict=True)
        faults = tuple(image_faults(example, own.get(example.id, NOTHING), one.level) for one, own in pairs)
        farthest = max((one.count - faults[0].count for one in faults[1:]), key=abs, default=0)
        if farthest:
            images.append(ImageDifference(example, faults, farthest))
    images.sort(key=lambda image: (-abs(image.difference), image.example.path.as_posix()))
    return Comparison(tuple(contenders), examples, classes, found, figures, tuple(images))


def differing(first: Contender, other: Contender) -> list[str]:
    """What differs between the test data of two detectors, a line each: classes, images, sizes of images, boxes."""
    a, b = first.scored, other.scored
    names = f"{first.name} and {other.name}"
    if a.classes != b.classes:
        only = [
            f"{first_few(sorted(set(x) - set(y)))} only in {who}"
            for x, y, who in _both(first, other)
            if set(x) - set(y)
        ]
        return [f"classes of {names}: " + ("; ".join(only) or "the same in another order")]
    ours, theirs = ({e.path.as_posix(): e for e in one.examples} for one in (a, b))
    lines = []
    for left, right, who in ((ours, theirs, first.name), (theirs, ours, other.name)):
        if alone := sorted(left.keys() - right.keys()):
            lines.append(f"{len(alone)} images are only in {who}: {first_few(alone)}")
    shared = sorted(ours.keys() & theirs.keys())
    sizes = [n for n in shared if (ours[n].width, ours[n].height) != (theirs[n].width, theirs[n].height)]
    boxes = [n for n in sorted(set(shared) - set(sizes)) if _boxes(ours[n]) != _boxes(theirs[n])]
    for what, which in (("another size", sizes), ("other boxes", boxes)):
        if which:
            lines.append(f"{len(which)} images have {what} in {names}: {first_few(which)}")
    return lines


def _both(first: Contender, other: Contender) -> list[tuple[tuple[str, ...], tuple[str, ...], str]]:
    a, b = first.scored.classes, other.scored.classes
    return [(a, b, first.name), (b, a, other.name)]


def _boxes(example: Example) -> list[tuple[float | int | bool, ...]]:
    """The boxes of an image, to a hundredth of a pixel, in an order of their own."""
    rows = zip(example.boxes.round(2).tolist(), example.classes.tolist(), example.crowd.tolist(), strict=True)
    return sorted((*box, kind, crowd) for box, kind, crowd in rows)


def _aligned(examples: Sequence[Example], scored: Scored) -> Detections:
    """The detections of another file by the ids of `examples`: images are the same if their file names are."""
    names = {example.path.as_posix(): example.id for example in scored.examples}
    return {e.id: scored.detections[names[e.path.as_posix()]] for e in examples}


def _shown(value: float | None) -> str:
    return f"{'n/a':>7}" if value is None else f"{value:>7.3f}"
