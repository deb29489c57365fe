"""Compares AP of a run with AP of its exported file, on the same images."""

from collections.abc import Mapping
from typing import Any

from detect.errors import score_text

LIMIT = 0.002  # of AP, between a float or fake-quantised run and its file
LIMITED = ("none", "qat")  # kinds of files with this limit; for other kinds the difference is only reported


def compared(split: str, images: int, figures: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    """The scores in `export.json`. figures: COCO's twelve metrics of `run`, of `file`, and of `float` if it differs.

    `difference` is AP of the file minus AP of the run; None if there was nothing to score.
    """
    run, file = figures["run"]["AP"], figures["file"]["AP"]
    difference = None if run is None or file is None else file - run
    return {"split": split, "images": images, "difference": difference, **figures}


def complaint(scores: Mapping[str, Any] | None, quantize: str) -> str | None:
    """The problem, if the scores of a file and its run differ by more than the limit."""
    if not scores or scores["difference"] is None or quantize not in LIMITED:
        return None
    if abs(scores["difference"]) <= LIMIT:
        return None
    return (
        f"the file's AP on {scores['images']} {scores['split']} images is {scores['file']['AP']:.4f}, the run's "
        f"{scores['run']['AP']:.4f}; {LIMIT} is the limit of the difference"
    )


def line(scores: Mapping[str, Any]) -> str:
    """For the console, in 80 columns."""
    names = {"file": "file", "run": "run", "float": "float"}
    if scores.get("float_stage") == "quantized":  # not the result of float training: these weights fit their rounding
        names["float"] = "without rounding"
    shown = [f"{name} {score_text(scores[key]['AP'], 4)}" for key, name in names.items() if key in scores]
    return f"AP on {scores['images']} {scores['split']} images: {', '.join(shown)}"
