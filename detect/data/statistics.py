"""Figures about the boxes of a data set, and which of them no anchor can match: what `detect inspect` prints."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from detect.data.dataset import SPLITS, DetectionDataset, class_counts
from detect.geometry.boxes import area, iou

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SIZE_EDGES = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Statistics:
    """`figures`: plain numbers, fit for json, as `statistics` describes them; `lines()`: tables for the console."""

    figures: dict[str, Any]

    def lines(self) -> list[str]:
        """At most 80 columns each."""
        figures = self.figures
        lines = ["training set, quantiles:".ljust(30) + "".join(f"{_percent(q):>7}" for q in QUANTILES)]
        for key, title in (
            ("image_width", "image width, pixels"),
            ("image_height", "image height, pixels"),
            ("boxes_per_image", "boxes an image"),
        ):
            lines.append(_row(title, figures[key], "{:7.0f}"))
        for key, title, form in (
            ("side", "box side (root of the area), pixels", "{:7.1f}"),
            ("share", "box side as a share of the image's", "{:7.3f}"),
            ("aspect", "box width / height", "{:7.2f}"),
        ):
            lines.append(title)
            lines += [_row(f"  {name}", values, form) for name, values in figures[key].items()]
        if any(figures["crowd"].values()):
            lines.append("crowd or difficult: " + ", ".join(f"{s} {n}" for s, n in figures["crowd"].items()))
        return lines


def statistics(dataset: DetectionDataset) -> Statistics:
    """Counts of all splits, and quantiles (at `QUANTILES`) of the training boxes.

    Keys: images, empty, crowd (by split); boxes (by split and class); image_width, image_height, boxes_per_image;
    side (root of the area, pixels of the file), share (side over the root of the image's area) and aspect (width over
    height), each by class. Quantiles are None where there is nothing to count.
    """
    train = dataset.splits["train"]
    boxes = np.concatenate([e.boxes for e in train] or [np.zeros((0, 4), np.float32)])
    labels = np.concatenate([e.classes for e in train] or [np.zeros(0, np.int32)])
    picture = np.repeat([float(e.width * e.height) for e in train], [len(e.boxes) for e in train])
    keep = area(boxes) > 0
    boxes, labels, picture = boxes[keep], labels[keep], picture[keep]
    side = np.sqrt(area(boxes))
    figures = {
        "side": side,
        "share": side / np.sqrt(picture),
        "aspect": (boxes[:, 3] - boxes[:, 1]) / (boxes[:, 2] - boxes[:, 0]),
    }
    counts = {s: class_counts(dataset.splits[s], dataset.num_classes).tolist() for s in SPLITS}
    return Statistics({
        "images": {s: len(dataset.splits[s]) for s in SPLITS},
        "empty": {s: sum(len(e.boxes) == 0 for e in dataset.splits[s]) for s in SPLITS},
        "crowd": {s: int(sum(e.crowd.sum() for e in dataset.splits[s])) for s in SPLITS},
        "boxes": {s: dict(zip(dataset.classes, counts[s], strict=True)) for s in SPLITS},
        "image_width": _quantiles([e.width for e in train]),
        "image_height": _quantiles([e.height for e in train]),
        "boxes_per_image": _quantiles([len(e.boxes) for e in train]),
        **{
            key: {name: _quantiles(values[labels == i]) for i, name in enumerate(dataset.classes, 1)}
            for key, values in figures.items()
        },
    })  # fmt: skip


def outline(dataset: DetectionDataset) -> dict[str, Any]:
    """What the training images are like in four figures: classes, images, boxes, and box_share.

    box_share: the median side of a box (root of its area) over the root of its image's area; None without boxes.
    """
    train = dataset.splits["train"]
    shares = [np.sqrt(area(e.boxes) / (e.width * e.height)) for e in train]
    every = np.concatenate(shares or [np.zeros(0)])
    return {
        "classes": dataset.num_classes,
        "images": len(train),
        "boxes": len(every),
        "box_share": round(float(np.median(every)), 4) if len(every) else None,
    }


@dataclass(frozen=True)
class Coverage:
    """How many of `boxes` boxes no anchor matches; (unmatched, all) by class and by side, and what to change."""

    boxes: int
    unmatched: int
    threshold: float
    by_class: dict[str, tuple[int, int]]
    by_side: dict[str, tuple[int, int]]
    advice: tuple[str, ...]
    rule: str = ""

    def lines(self) -> list[str]:
        """For the console, at most 80 columns apart from long class names."""
        share = self.unmatched / max(self.boxes, 1)
        rule = self.rule or f"match no anchor at IoU {self.threshold:g}"
        lines = [f"{self.unmatched} of {self.boxes} boxes ({share:.1%}) {rule}"]
        for title, table in (("by class", self.by_class), ("by side in network pixels", self.by_side)):
            lines.append(f"  {title}")
            lines += [f"    {k:24} {u:6d} of {n:6d} {u / n:7.1%}" for k, (u, n) in table.items() if n]
        return lines + [f"  {line}" for line in self.advice]


def coverage(
    boxes: np.ndarray,
    classes: np.ndarray,
    names: Sequence[str],
    anchors: np.ndarray,
    threshold: float = 0.5,
    unmatched: tuple[np.ndarray, str] | None = None,
) -> Coverage:
    """Which boxes have no anchor with an IoU of at least `threshold`, and why.

    boxes: [n, 4] in pixels of the network's frame. classes: [n] in 1..C of `names`. anchors: [A, 4] in the same
    frame.
    unmatched: which boxes are missed, bool [n], and why, where the IoU is not what decides.
    The force-match gives such a box its best anchor all the same, but one anchor alone teaches little.
    """
    boxes, anchors = (np.asarray(b, np.float32).reshape(-1, 4) for b in (boxes, anchors))
    classes = np.asarray(classes, np.int32).reshape(-1)
    missed, rule = (_best(boxes, anchors) < threshold, "") if unmatched is None else unmatched
    side = np.sqrt(area(boxes))
    bins = np.digitize(side, SIZE_EDGES)
    between = (f"{low} to {high}" for low, high in pairwise(SIZE_EDGES))
    titles = (f"under {SIZE_EDGES[0]}", *between, f"{SIZE_EDGES[-1]} and more")
    return Coverage(
        len(boxes),
        int(missed.sum()),
        threshold,
        {n: _share(missed, classes == i) for i, n in enumerate(names, 1)},
        {t: _share(missed, bins == i) for i, t in enumerate(titles)},
        tuple(_advice(boxes[missed], anchors, threshold)) if unmatched is None else (),
        rule,
    )


def _share(missed: np.ndarray, these: np.ndarray) -> tuple[int, int]:
    return int(missed[these].sum()), int(these.sum())


def _best(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """The highest IoU [n] of each box with any anchor, a few hundred boxes at a time to bound the memory."""
    if not len(anchors):
        return np.zeros(len(boxes), np.float32)
    parts = [iou(boxes[i : i + 256], anchors).max(axis=1) for i in range(0, len(boxes), 256)]
    return np.concatenate(parts or [np.zeros(0, np.float32)])


def _advice(boxes: np.ndarray, anchors: np.ndarray, threshold: float) -> list[str]:
    """Why boxes [m, 4] were missed, in order: too small, too large, too slender, or between the anchors' places."""
    if not len(boxes) or not len(anchors):
        return []
    sides, anchor_sides = np.sqrt(area(boxes)), np.sqrt(area(anchors))
    aspects, anchor_aspects = _aspects(boxes), _aspects(anchors)
    reach = np.sqrt(threshold)  # of two concentric boxes of one shape, IoU = (ratio of sides) squared
    small = sides < anchor_sides.min() * reach
    large = sides > anchor_sides.max() / reach
    slender = ~small & ~large & (
        (aspects < anchor_aspects.min() * threshold) | (aspects > anchor_aspects.max() / threshold)
    )  # fmt: skip
    fits = _best(_centred(boxes), np.unique(_centred(anchors).round(2), axis=0)) >= threshold
    apart = ~small & ~large & ~slender & fits
    shape = ~(small | large | slender | apart)
    lines = [
        (small, f"smaller than any anchor (smallest side {anchor_sides.min():.0f}, theirs {_median(sides, small)}): "
                "raise the input size, or lower the smallest anchor scale"),
        (large, f"larger than any anchor (largest side {anchor_sides.max():.0f}, theirs {_median(sides, large)}): "
                "raise the largest anchor scale"),
        (slender, f"of a width/height out of reach (anchors {anchor_aspects.min():.2f} to {anchor_aspects.max():.2f}, "
                  f"theirs {_median(aspects, slender, 2)}): add such an aspect ratio"),
        (shape, f"between the anchors' shapes (side {_median(sides, shape)}, "
                f"width/height {_median(aspects, shape, 2)}): add a scale or an aspect ratio near these"),
        (apart, f"of a fitting shape, but between the anchors' places (side {_median(sides, apart)}): "
                "the feature map is too coarse for their size; raise the input size or use a finer feature map"),
    ]  # fmt: skip
    return [line for which, text in lines if which.any() for line in _wrapped(f"{int(which.sum())} are {text}")]


def _wrapped(text: str, width: int = 76) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent="  ")


def _median(values: np.ndarray, which: np.ndarray, digits: int = 0) -> str:
    return f"{np.median(values[which]):.{digits}f}" if which.any() else ""


def _aspects(boxes: np.ndarray) -> np.ndarray:
    high, wide = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6).T
    return wide / high


def _centred(boxes: np.ndarray) -> np.ndarray:
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.concatenate([-half, half], axis=1)


def _quantiles(values: Sequence[float] | np.ndarray) -> list[float] | None:
    return np.quantile(np.asarray(values, np.float64), QUANTILES).round(4).tolist() if len(values) else None


def _percent(q: float) -> str:
    return {0.0: "least", 0.5: "median", 1.0: "most"}.get(q, f"{q:.0%}")


def _row(title: str, values: list[float] | None, form: str) -> str:
    cells = "".join(form.format(v) for v in values) if values else "  n/a"
    return f"{title[:30]:30}{cells}"
