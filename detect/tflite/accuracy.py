"""AP of a run beside that of the file that was made of it, on the same images."""

from collections.abc import Mapping
from typing import Any

LIMIT = 0.002  # of AP, between a float or fake-quantised run and its file
LIMITED = ("none", "qat")  # what must keep to it; of other kinds the difference is what one wants to know


def compared(split: str, images: int, figures: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    """What `export.json` has of scores. figures: the twelve of `run` and `file`, and of `float` where that is a third.

    `difference` is AP of the file minus that of the run; None where there was nothing to score.
    """
    run, file = figures["run"]["AP"], figures["file"]["AP"]
    difference = None if run is None or file is None else file - run
    return {"split": split, "images": images, "difference": difference, **figures}


def complaint(scores: Mapping[str, Any] | None, quantize: str) -> str | None:
    """What is wrong where a file scores otherwise than it may."""
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
    if scores.get("float_stage") == "quantized":  # not what a float training gives: these weights suit their rounding
        names["float"] = "without rounding"
    shown = [f"{name} {_figure(scores[key]['AP'])}" for key, name in names.items() if key in scores]
    return f"AP on {scores['images']} {scores['split']} images: {', '.join(shown)}"


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
