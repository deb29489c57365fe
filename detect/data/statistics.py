"""Statistics of the boxes of a data set, and the boxes that no anchor matches. `detect inspect` prints them."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from detect.data.dataset import DetectionDataset, class_counts
from detect.data.examples import Examples
from detect.data.split import SPLITS
from detect.errors import printable
from detect.geometry.boxes import area, iou
from detect.geometry.frame import Frame

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SIZE_EDGES = (8, 16, 32, 64, 128, 256)
MATCHED = 0.5  # the IoU with an anchor from which a box is matched


@dataclass(frozen=True)
class Statistics:
    """`figures`: plain numbers for json, as `statistics` describes them. `lines()`: tables for the console."""

    figures: dict[str, Any]

    def lines(self) -> list[str]:
        """Lines of at most 80 columns."""
        figures = self.figures
        lines = ["training set, quantiles:".ljust(30) + "".join(f"{_percent(q):>7}" for q in QUANTILES)]
        for key, title in (
            ("image_width", "image width, pixels"),
            ("image_height", "image height, pixels"),
            ("boxes_per_image", "boxes per image"),
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
    height), each by class. Quantiles are None without boxes.
    """
    parts = {split: Examples.of(dataset.splits[split]) for split in SPLITS}
    train = parts["train"]
    keep = area(train.boxes) > 0
    boxes, labels, picture = train.boxes[keep], train.classes[keep], _image_areas(train)[keep]
    side = np.sqrt(area(boxes))
    figures = {
        "side": side,
        "share": side / np.sqrt(picture),
        "aspect": (boxes[:, 3] - boxes[:, 1]) / (boxes[:, 2] - boxes[:, 0]),
    }
    counts = {split: class_counts(part, dataset.num_classes).tolist() for split, part in parts.items()}
    return Statistics({
        "images": {split: len(part) for split, part in parts.items()},
        "empty": {split: int((part.counts == 0).sum()) for split, part in parts.items()},
        "crowd": {split: int(part.crowd.sum()) for split, part in parts.items()},
        "boxes": {s: dict(zip(dataset.classes, counts[s], strict=True)) for s in SPLITS},
        "image_width": _quantiles(train.sizes[:, 0]),
        "image_height": _quantiles(train.sizes[:, 1]),
        "boxes_per_image": _quantiles(train.counts),
        **{
            key: {name: _quantiles(values[labels == i]) for i, name in enumerate(dataset.classes, 1)}
            for key, values in figures.items()
        },
    })  # fmt: skip


def outline(dataset: DetectionDataset) -> dict[str, Any]:
    """Four figures that describe the training images: classes, images, boxes and box_share.

    box_share: the median side of a box (root of its area) over the root of its image's area; None without boxes.
    """
    train = Examples.of(dataset.splits["train"])
    shares = np.sqrt(area(train.boxes) / _image_areas(train))
    return {
        "classes": dataset.num_classes,
        "images": len(train),
        "boxes": len(shares),
        "box_share": round(float(np.median(shares)), 4) if len(shares) else None,
    }


def _image_areas(examples: Examples) -> np.ndarray:
    """The area of each box's image, square pixels, float64 [m]."""
    areas: np.ndarray = examples.box_sizes().prod(axis=1, dtype=np.float64)
    return areas


@dataclass(frozen=True)
class Coverage:
    """The number of boxes that no anchor matches, (unmatched, all) by class and by side, and advice."""

    boxes: int
    unmatched: int
    by_class: dict[str, tuple[int, int]]
    by_side: dict[str, tuple[int, int]]
    advice: tuple[str, ...]
    rule: str = ""

    def lines(self) -> list[str]:
        """Lines for the console, of at most 80 columns except for long class names."""
        share = self.unmatched / max(self.boxes, 1)
        rule = self.rule or f"match no anchor at IoU {MATCHED:g}"
        lines = [f"{self.unmatched} of {self.boxes} boxes ({share:.1%}) {rule}"]
        for title, table in (("by class", self.by_class), ("by side in network pixels", self.by_side)):
            lines.append(f"  {title}")
            lines += [f"    {printable(k):24} {u:6d} of {n:6d} {u / n:7.1%}" for k, (u, n) in table.items() if n]
        return lines + [f"  {line}" for line in self.advice]


def in_frame(examples: Examples, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """The boxes that training learns from, in pixels of a network's frame, [n, 4], and their classes [n]."""
    learned, boxes = examples.learned(), [np.zeros((0, 4), np.float32)]
    for (width, height), (first, end) in zip(learned.sizes.tolist(), pairwise(learned.ends.tolist()), strict=True):
        boxes.append(frame.from_image(learned.boxes[first:end], height, width))
    return np.concatenate(boxes), learned.classes


def coverage(
    boxes: np.ndarray,
    classes: np.ndarray,
    names: Sequence[str],
    anchors: np.ndarray,
    unmatched: tuple[np.ndarray, str] | None = None,
) -> Coverage:
    """The boxes that have no anchor with an IoU of at least MATCHED, and the reasons.

    boxes: [n, 4] in pixels of the network's frame. classes: [n] in 1..C of `names`. anchors: [A, 4] in the same
    frame.
    unmatched: which boxes are missed, bool [n], and why, where the IoU does not decide.
    The force-match still gives such a box its best anchor, but a box learns little from one anchor.
    """
    boxes, anchors = (np.asarray(b, np.float32).reshape(-1, 4) for b in (boxes, anchors))
    classes = np.asarray(classes, np.int32).reshape(-1)
    missed, rule = (_best(boxes, anchors) < MATCHED, "") if unmatched is None else unmatched
    side = np.sqrt(area(boxes))
    bins = np.digitize(side, SIZE_EDGES)
    between = (f"{low} to {high}" for low, high in pairwise(SIZE_EDGES))
    titles = (f"under {SIZE_EDGES[0]}", *between, f"{SIZE_EDGES[-1]} and more")
    return Coverage(
        len(boxes),
        int(missed.sum()),
        {n: _share(missed, classes == i) for i, n in enumerate(names, 1)},
        {t: _share(missed, bins == i) for i, t in enumerate(titles)},
        tuple(_advice(boxes[missed], anchors)) if unmatched is None else (),
        rule,
    )


def _share(missed: np.ndarray, these: np.ndarray) -> tuple[int, int]:
    return int(missed[these].sum()), int(these.sum())


def _best(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """The highest IoU [n] of each box with any anchor, computed for 256 boxes at a time to limit the memory."""
    if not len(anchors):
        return np.zeros(len(boxes), np.float32)
    parts = [iou(boxes[i : i + 256], anchors).max(axis=1) for i in range(0, len(boxes), 256)]
    return np.concatenate(parts or [np.zeros(0, np.float32)])


def _advice(boxes: np.ndarray, anchors: np.ndarray) -> list[str]:
    """The reasons why boxes [m, 4] match no anchor, in order: size, width / height, shape, position."""
    if not len(boxes) or not len(anchors):
        return []
    sides, anchor_sides = np.sqrt(area(boxes)), np.sqrt(area(anchors))
    aspects, anchor_aspects = _aspects(boxes), _aspects(anchors)
    reach = np.sqrt(MATCHED)  # two concentric boxes of the same shape have IoU = (ratio of sides) squared
    small = sides < anchor_sides.min() * reach
    large = sides > anchor_sides.max() / reach
    slender = ~small & ~large & (
        (aspects < anchor_aspects.min() * MATCHED) | (aspects > anchor_aspects.max() / MATCHED)
    )  # fmt: skip
    fits = _best(_centred(boxes), np.unique(_centred(anchors).round(2), axis=0)) >= MATCHED
    apart = ~small & ~large & ~slender & fits
    shape = ~(small | large | slender | apart)
    lines = [
        (small, f"smaller than any anchor (smallest anchor side {anchor_sides.min():.0f}, "
                f"median box side {_median(sides, small)}): "
                "raise the input size, or lower the smallest anchor scale"),
        (large, f"larger than any anchor (largest anchor side {anchor_sides.max():.0f}, "
                f"median box side {_median(sides, large)}): "
                "raise the largest anchor scale"),
        (slender, f"too wide or too high (width/height of anchors {anchor_aspects.min():.2f} to "
                  f"{anchor_aspects.max():.2f}, median of boxes {_median(aspects, slender, 2)}): add an aspect ratio"),
        (shape, f"between the shapes of the anchors (median side {_median(sides, shape)}, "
                f"width/height {_median(aspects, shape, 2)}): add a similar scale or aspect ratio"),
        (apart, f"of a suitable shape, but between the positions of the anchors (median side {_median(sides, apart)}): "
                "the feature map is too coarse; raise the input size or use a finer feature map"),
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
    return f"{printable(title)[:30]:30}{cells}"
