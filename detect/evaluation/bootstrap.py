"""How sure AP is: its interval over resamples of the images (Efron 1979), and of the difference of two detectors.

A resample draws as many images as there are, with replacement. All detectors get the same resamples, so that images
that are hard for both do not widen the interval of their difference. An interval tells what very many test images of
the same kind would give, not what another training would give.

AP of few images is too high on average, and AP of their resamples is higher again, by about as much. So the interval is
the pivotal one (Davison & Hinkley 1997, section 5.2): the value less the distances of the resamples' percentiles from
it. On drawn detectors it holds the AP of very many images in 80 to 87 of 100 cases of 30 to 80 images; the interval of
percentiles itself does in 60.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from detect.evaluation.average_precision import IOU_THRESHOLDS, Ranked
from detect.evaluation.coco_json import image_numbers
from detect.evaluation.matching import NOTHING, Detections, matched

if TYPE_CHECKING:
    from detect.data.examples import Example

RESAMPLES, SEED, COVERAGE = 1000, 0, 0.95
HELD = 0.9  # the share of resamples that must hold a box of a class: those of three images do, of two mostly not
FIGURES = ("AP", "AP50")
ALL = ""
"""The name under which the mean over classes stands."""


@dataclass(frozen=True)
class Interval:
    """A figure on the images, and the bounds of its interval. value: None if it is n/a; bounds: None without resamples,
    where so few images decide that many resamples hold none of them, and for a figure that all resamples have, such as
    1.000 if each object is found: they do not tell how sure it is."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def resolved(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        if self.value is None:
            return "n/a"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]" if self.low is not None else f"{self.value:.3f}"

    def signed(self) -> str:
        """As a difference."""
        if self.value is None:
            return "n/a"
        return (
            f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]" if self.low is not None else f"{self.value:+.3f}"
        )

    def to_dict(self) -> dict[str, float | None]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Resampled:
    """A detector's figures on the images (row 0) and on R resamples of them.

    figures: {AP or AP50: {class name, or ALL: float64 [1 + R]}}; NaN where a class has no box.
    """

    figures: Mapping[str, Mapping[str, np.ndarray]]

    def interval(self, figure: str, name: str = ALL) -> Interval:
        """The interval of a figure of a class, or of the mean over classes; no bounds if all resamples have it, too."""
        found = _interval(self.figures[figure][name], 0.0)
        return found if found.low != found.high else Interval(found.value, None, None)

    def difference(self, other: "Resampled", figure: str, name: str = ALL) -> Interval:
        """The interval of this detector's figure minus that of another one with the same resamples."""
        return _interval(self.figures[figure][name] - other.figures[figure][name], -1.0)


def resampled(
    examples: "Sequence[Example]",
    detections: Detections,
    classes: Sequence[str],
    count: int = RESAMPLES,
    drawn: np.ndarray | None = None,
) -> Resampled:
    """Scores detections by image id on the images and on `count` resamples, always the same for as many images.

    drawn: these `resamples` of the images, if they are known.
    """
    drawn = resamples(len(examples), count) if drawn is None else drawn
    drawn = drawn[: len(drawn) if len(examples) > 1 else 0]  # all resamples of one image are that image
    whole = np.ones((1, len(examples)), drawn.dtype)
    found: dict[str, dict[str, np.ndarray]] = {figure: {} for figure in FIGURES}
    for name, ranked in zip(classes, ranked_classes(examples, detections, classes), strict=True):
        ap = np.concatenate([ranked.ap(whole), ranked.ap(drawn)])
        found["AP"][name], found["AP50"][name] = ap.mean(axis=1), ap[:, 0]
    for rows in found.values():
        rows[ALL] = _mean(np.array(list(rows.values())))
    return Resampled(found)


def resamples(images: int, count: int, seed: int = SEED) -> np.ndarray:
    """How often each of `count` resamples holds each image, uint16 [count, images]."""
    drawn, generator = np.zeros((count, images), np.uint16), np.random.default_rng(seed)
    shares = np.full(images, 1 / max(1, images))
    for row in drawn if images else ():  # one at a time: numpy's own numbers take four times the memory
        row[:] = generator.multinomial(images, shares)
    return drawn


def ranked_classes(examples: "Sequence[Example]", detections: Detections, classes: Sequence[str]) -> list[Ranked]:
    """The detections of each class, matched at COCO's ten IoU thresholds, best first."""
    boxes = np.zeros((len(classes) + 1, len(examples)), np.int64)
    nothing = np.zeros((len(IOU_THRESHOLDS), 0), bool)
    parts = [(NOTHING[1], NOTHING[2], nothing, nothing)]
    images = [np.zeros(0, np.int64)]
    for place in np.argsort(image_numbers(examples), kind="stable").tolist():  # COCO's order of equal scores
        example = examples[place]
        np.add.at(boxes[:, place], example.classes[~example.crowd], 1)
        if example.id in detections:
            parts.append(matched(example, *detections[example.id], IOU_THRESHOLDS.tolist()))
            images.append(np.full(len(parts[-1][0]), place))
    scores, kinds, hits, counted = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    order = np.argsort(-scores, kind="stable")
    kinds, hits, counted, places = kinds[order], hits[:, order], counted[:, order], np.concatenate(images)[order]
    found = []
    for kind in range(1, len(classes) + 1):
        own = kinds == kind
        found.append(Ranked(places[own], hits[:, own], counted[:, own], boxes[kind]))
    return found


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over classes [C, R] of those that have a box in a resample, NaN if none has one."""
    there = ~np.isnan(values)
    total = np.where(there, values, 0).sum(axis=0)
    count = there.sum(axis=0)
    mean: np.ndarray = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return mean


def _interval(values: np.ndarray, least: float) -> Interval:
    value, others = values[0], values[1:][~np.isnan(values[1:])]
    if np.isnan(value):
        return Interval(None, None, None)
    if len(others) <= HELD * (len(values) - 1):
        return Interval(float(value), None, None)
    low, high = np.quantile(others, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(float(value), float(max(2 * value - high, least)), float(min(2 * value - low, 1.0)))
