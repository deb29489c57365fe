import json
from pathlib import Path

import numpy as np
import pytest

from detect.data.dataset import DetectionDataset
from detect.data.examples import Example, Examples
from detect.data.statistics import coverage, in_frame, outline, statistics
from detect.geometry.frame import Frame


def example(name, boxes, classes, crowd=False):
    n = len(classes)
    return Example(Path(name), 200, 100, np.array(boxes), np.array(classes), np.full(n, crowd), name)


def toy():
    train = [example("a", [[0, 0, 10, 40], [0, 0, 20, 20]], [1, 1]), example("b", [], [])]
    return DetectionDataset("toy", ("cat", "dog"), {"train": train, "val": [example("c", [[0, 0, 1, 1]], [2], True)]})


def test_no_object_is_made_of_an_image(monkeypatch):
    data = toy()
    train = Examples.of(data.splits["train"])
    monkeypatch.delattr(Examples, "_example")
    assert statistics(data).figures["images"]["train"] == outline(data)["images"] == 2
    boxes, classes = in_frame(train, Frame((50, 50)))
    assert boxes.tolist() == [[0, 0, 5, 10], [0, 0, 10, 5]] and classes.tolist() == [1, 1]


def test_figures_by_hand():
    figures = statistics(toy()).figures
    assert figures["images"] == {"train": 2, "val": 1, "test": 0}
    assert figures["empty"] == {"train": 1, "val": 0, "test": 0}
    assert figures["crowd"] == {"train": 0, "val": 1, "test": 0}
    assert figures["boxes"]["train"] == {"cat": 2, "dog": 0}
    assert figures["boxes"]["val"] == {"cat": 0, "dog": 1}
    assert figures["boxes"]["test"] == {"cat": 0, "dog": 0}
    assert figures["boxes_per_image"][0] == 0 and figures["boxes_per_image"][-1] == 2
    assert figures["side"]["cat"] == [20] * 7 and figures["side"]["dog"] is None
    assert figures["share"]["cat"][3] == pytest.approx(20 / np.sqrt(20000), abs=1e-4)
    assert (figures["aspect"]["cat"][0], figures["aspect"]["cat"][-1]) == (1, 4)
    json.dumps(figures, allow_nan=False)


def test_outline_by_hand():
    """Boxes of 10x40 and 20x20 pixels on 100x200: both have a side of 20, a root of 20000 is the image's."""
    assert outline(toy()) == {"classes": 2, "images": 2, "boxes": 2, "box_share": 0.1414}
    assert outline(DetectionDataset("none", ("cat",), {}))["box_share"] is None


def test_lines_fit_the_console():
    lines = statistics(toy()).lines()
    assert max(map(len, lines)) <= 80
    assert "  dog                           n/a" in [line.rstrip() for line in lines]
    assert lines[-1] == "crowd or difficult: train 0, val 1, test 0"


def grid(side, stride=50, frame=300, aspect=1.0):
    """Anchors of one shape on a grid: their centres are stride/2, stride/2 + stride, ..."""
    centres = np.arange(stride / 2, frame, stride)
    y, x = (v.ravel() for v in np.meshgrid(centres, centres, indexing="ij"))
    high, wide = side / np.sqrt(aspect), side * np.sqrt(aspect)
    return np.stack([y - high / 2, x - wide / 2, y + high / 2, x + wide / 2], axis=1)


def around(y, x, height, width):
    return [y - height / 2, x - width / 2, y + height / 2, x + width / 2]


@pytest.mark.parametrize(
    ("box", "advice"),
    [
        (around(75, 75, 40, 40), None),
        (around(75, 75, 10, 10), "1 are smaller than any anchor (smallest anchor side 40, median box side 10)"),
        (around(75, 75, 80, 80), "1 are larger than any anchor (largest anchor side 40, median box side 80)"),
        (
            around(75, 75, 20, 90),
            "1 are too wide or too high (width/height of anchors 1.00 to 1.00, median of boxes 4.50)",
        ),
        (
            around(100, 100, 40, 40),
            "1 are of a suitable shape, but between the positions of the anchors (median side 40)",
        ),
    ],
)
def test_coverage_says_why(box, advice):
    report = coverage(np.array([box, around(25, 25, 40, 40)]), np.array([2, 1]), ("cat", "dog"), grid(40))
    assert (report.boxes, report.unmatched) == (2, 0 if advice is None else 1)
    assert report.by_class == {"cat": (0, 1), "dog": (report.unmatched, 1)}
    assert sum(n for _, n in report.by_side.values()) == 2
    text = " ".join(" ".join(report.advice).split())
    assert text == "" if advice is None else advice in text
    assert max(map(len, report.lines())) <= 80


def test_coverage_between_the_shapes():
    # IoU with side 40: 1600 / 6400; with side 120: 6400 / 14400
    anchors = np.concatenate([grid(40), grid(120)])
    report = coverage(np.array([around(75, 75, 80, 80)]), np.array([1]), ("cat",), anchors)
    assert report.advice[0].startswith("1 are between the shapes of the anchors (median side 80, width/height 1.00)")


def test_coverage_counts_by_side():
    boxes = np.array([around(75, 75, 10, 10), around(75, 75, 40, 40), around(75, 75, 15, 15)])
    report = coverage(boxes, np.array([1, 1, 1]), ("cat",), grid(40))
    assert report.by_side["8 to 16"] == (2, 2) and report.by_side["32 to 64"] == (0, 1)
    assert report.lines()[0] == "2 of 3 boxes (66.7%) match no anchor at IoU 0.5"


def test_coverage_of_nothing():
    report = coverage(np.zeros((0, 4)), np.zeros(0), ("cat",), grid(40))
    assert (report.boxes, report.unmatched, report.advice) == (0, 0, ())
    assert report.lines()[0].startswith("0 of 0 boxes (0.0%)")
