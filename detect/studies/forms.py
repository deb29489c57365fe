"""The forms (`detect.runs.forms`) of the json files that a report reads."""

from detect.evaluation.coco import FIGURES
from detect.runs.forms import FIGURE, Form

ANY: Form = ("number", "text", "truth", "null")
KIND = {"AP?": "number", "AP50?": "number"}
HOST: dict[str, Form] = {
    "host?": {"cpu?": ANY, "cores?": ANY, "memory_gb?": ANY, "gpus?": [ANY]},
    "versions?": {"*": ANY},
}
SCORES = {**dict.fromkeys(FIGURES, FIGURE), "per_class": {"*": {"AP": FIGURE, "AP50": FIGURE, "boxes?": "count"}}}
COST: Form = {"extra_steps?": "number", "stage_1_macs?": "number", "detector_macs?": "number"}
STAGE: Form = {"seconds?": "amount", "steps?": "count", "cost?": COST}
RUN: Form = {
    "scores": {"*": SCORES},
    "name": "text",
    "seed": "count",
    "seconds": "amount",
    "steps": "count",
    "best_step": "count",
    "images_per_second": "amount",
    "dataset": {
        "fingerprint": "text", "name?": "text", "classes?": "count", "images?": "count", "boxes?": "count",
        "box_share?": "number",
    },
    **dict.fromkeys(("study?", "arm?", "network?", "command?"), "text"),
    "fraction?": "amount",
    "budget?": "count",
    "schedule?": {"steps?": "count"},
    "git?": {"commit?": "text", "dirty?": "truth"},
    "init?": {"weights?": "text"},
    "cost?": COST,
    **HOST,
}  # fmt: skip
EXPORT: Form = {
    "bytes": "count",
    "format?": "text",
    "by?": "text",
    "command?": "text",
    "options?": {"quantize?": "text", "weights?": "text", "nms?": "text", "batch?": "count"},
    "scores?": {"split?": "text", "images?": "count", "file?": KIND, "run?": KIND, "float?": KIND},
    "latency_ms?": ("amount", {"*": {"file": "amount", "float32?": "amount"}}),
    **HOST,
}
MEASURED: Form = {"columns": {"*": ANY}, "study?": "text", **HOST}
LEDGER: Form = {"loaded": {"*": ["count"]}, "skipped": {}, "missing": {}, "mismatched": {}, "kept?": {}}
CONFIG: Form = {
    "schedule": {"rate": "number", "batch_norm": "text", "freeze_until?": "text"},
    "quantize?": {"schedule?": {"steps?": "count"}, "spec?": {"delay?": "number"}},
    "detector": {"box_sampler?": {"size": "count"}, "rpn_target_assigner?": {"matcher?": {"force_match?": "truth"}}},
}
ROW: Form = {"kind": "text", "step": "count", "images_per_second?": "amount", "*": FIGURE}
