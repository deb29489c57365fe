"""What an exported model says of itself, in `detector.json` and in the metadata of an ONNX file."""

from collections.abc import Sequence
from typing import Any

from detect.evaluation.thresholds import Shipped
from detect.modeling.interface import Detector


def describe(
    architecture: Detector,
    classes: Sequence[str],
    origin: str,
    category_ids: Sequence[int] | None,
    threshold: Shipped | None = None,
) -> dict[str, Any]:
    """Class names, their numbers in the user's files (None: 1..C), frame, run, thresholds, and whether an object gets
    one class."""
    return {
        "classes": list(classes),
        "category_ids": list(category_ids or range(1, len(classes) + 1)),
        "size": [int(side) for side in architecture.size],
        "resize": architecture.resize,
        "run": origin,
        "class_agnostic": bool(architecture.postprocess.class_agnostic),
        "threshold": threshold.to_dict() if threshold else None,
    }
